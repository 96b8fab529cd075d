//! What is kept of a torrent between runs: its .torrent, without trackers, and how it was added.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::metainfo::Metainfo;
use crate::{Error, InfoHash};

/// A torrent that was active when the node stopped.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Saved {
    /// Infohash, 40 hexadecimal digits.
    pub infohash: String,
    /// Its name.
    pub name: String,
    /// 0 to 3.
    pub hops: u8,
    /// The folder its files are put into.
    pub out: PathBuf,
    /// Its trackers.
    pub trackers: Vec<String>,
    /// Peers the user or the magnet named, as `host:port`.
    pub peers: Vec<String>,
    /// Whether it goes on seeding when all is there.
    pub seed_after: bool,
    /// Where it listened for peers.
    pub listen: Option<SocketAddr>,
}

/// The folder all of it is in.
pub(crate) struct Shelf {
    folder: PathBuf,
}

impl Shelf {
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { folder: state_dir.join("torrents") }
    }

    /// Where a torrent's .torrent is, once it is known.
    pub(crate) fn torrent_file(&self, infohash: InfoHash) -> PathBuf {
        self.folder.join(format!("{infohash}.torrent"))
    }

    fn note(&self, infohash: InfoHash) -> PathBuf {
        self.folder.join(format!("{infohash}.json"))
    }

    /// The metadata of a torrent that was here before.
    pub(crate) fn metainfo(&self, infohash: InfoHash) -> Option<Metainfo> {
        let bytes = std::fs::read(self.torrent_file(infohash)).ok()?;
        Metainfo::parse(&bytes).ok().filter(|metainfo| metainfo.infohash == infohash)
    }

    /// Keeps a torrent.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn keep(&self, metainfo: &Metainfo, saved: &Saved) -> Result<(), Error> {
        let folder = &self.folder;
        private_folder(folder).map_err(Error::io("making", folder))?;
        let text = serde_json::to_vec_pretty(saved)
            .map_err(|error| Error::Engine(format!("writing down a torrent: {error}")))?;
        for (path, bytes) in [
            (self.torrent_file(metainfo.infohash), &metainfo.bare()[..]),
            (self.note(metainfo.infohash), &text[..]),
        ] {
            // A crash leaves the old file or the new one, never half of one.
            let new = path.with_extension("new");
            std::fs::write(&new, bytes).map_err(Error::io("writing", &new))?;
            std::fs::rename(&new, &path).map_err(Error::io("writing", &path))?;
        }
        Ok(())
    }

    /// Forgets a torrent, but not its files.
    pub(crate) fn forget(&self, infohash: InfoHash) -> Result<(), Error> {
        for path in [self.note(infohash), self.torrent_file(infohash)] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::io("removing", path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// All that are kept; what cannot be read is left out.
    pub(crate) fn all(&self) -> Vec<Saved> {
        let Ok(entries) = self.folder.read_dir() else { return Vec::new() };
        let notes = entries.flatten().map(|entry| entry.path());
        let notes = notes.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
        let read = |path| serde_json::from_slice(&std::fs::read(path).ok()?).ok();
        let mut all: Vec<Saved> = notes.filter_map(read).collect();
        all.sort_by(|a, b| a.infohash.cmp(&b.infohash));
        all
    }
}

fn private_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_read_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        std::fs::write(&file, b"hello").unwrap();
        let metainfo = crate::create::create(&file).unwrap();
        let shelf = Shelf::new(&folder.path().join("state"));
        assert!(shelf.all().is_empty() && shelf.metainfo(metainfo.infohash).is_none());
        let saved = Saved {
            infohash: metainfo.infohash.to_string(),
            name: "x".into(),
            hops: 3,
            out: "out".into(),
            trackers: vec!["udp://t.example:1".into()],
            peers: vec!["1.2.3.4:5".into()],
            seed_after: true,
            listen: None,
        };
        shelf.keep(&metainfo, &saved).unwrap();
        assert_eq!(shelf.all(), [saved]);
        assert_eq!(shelf.metainfo(metainfo.infohash), Some(metainfo.clone()));
        std::fs::write(shelf.torrent_file(metainfo.infohash), b"d4:info").unwrap();
        assert_eq!(shelf.metainfo(metainfo.infohash), None, "a broken one counts as none");
        shelf.forget(metainfo.infohash).unwrap();
        shelf.forget(metainfo.infohash).unwrap();
        assert!(shelf.all().is_empty());
    }
}

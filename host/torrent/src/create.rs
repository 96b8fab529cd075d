//! Making a torrent of a file or a folder.
//!
//! Not librqbit's own: that one adds a hash too many when the bytes fill the last piece exactly, and
//! loses one when the last file is empty.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};

use crate::Error;
use crate::bencode::{put_bytes, put_int};
use crate::metainfo::Metainfo;

const READ: usize = 256 * 1024;
/// What a torrent may list.
const MAX_FILES: usize = 100_000;

struct Entry {
    path: PathBuf,
    names: Vec<String>,
    length: u64,
}

/// Reads everything at `path` and makes the info dictionary of it. Takes as long as hashing does.
///
/// # Errors
/// When there is nothing there, a name is not UTF-8, or a file cannot be read or changes meanwhile.
pub(crate) fn create(path: &Path) -> Result<Metainfo, Error> {
    let name = path.file_name().ok_or_else(|| Error::NothingToShare(path.to_owned()))?;
    let name = utf8(name)?;
    let is_folder = path.metadata().map_err(Error::io("reading", path))?.is_dir();
    let mut entries = Vec::new();
    if is_folder {
        walk(path, &mut Vec::new(), &mut entries)?;
    } else {
        let length = path.metadata().map_err(Error::io("reading", path))?.len();
        entries.push(Entry { path: path.to_owned(), names: Vec::new(), length });
    }
    let total = entries.iter().map(|entry| entry.length).sum();
    if total == 0 {
        return Err(Error::NothingToShare(path.to_owned()));
    }
    let piece = piece_length(total);
    let pieces = hash(&entries, piece)?;
    Metainfo::from_info(&encode(&name, is_folder, &entries, piece, &pieces))
}

/// About a thousand pieces, each 64 KiB to 4 MiB.
fn piece_length(total: u64) -> u64 {
    (total / 1024).next_power_of_two().clamp(64 << 10, 4 << 20)
}

/// Every regular file below, in the order of names; links are not followed.
fn walk(folder: &Path, names: &mut Vec<String>, out: &mut Vec<Entry>) -> Result<(), Error> {
    let mut children = Vec::new();
    for child in folder.read_dir().map_err(Error::io("reading", folder))? {
        children.push(child.map_err(Error::io("reading", folder))?);
    }
    children.sort_by_key(std::fs::DirEntry::file_name);
    for child in children {
        let path = child.path();
        let kind = child.file_type().map_err(Error::io("reading", &path))?;
        names.push(utf8(&child.file_name())?);
        if kind.is_dir() && names.len() < 64 {
            walk(&path, names, out)?;
        } else if kind.is_file() && out.len() < MAX_FILES {
            let length = child.metadata().map_err(Error::io("reading", &path))?.len();
            out.push(Entry { path, names: names.clone(), length });
        }
        names.pop();
    }
    Ok(())
}

fn utf8(name: &std::ffi::OsStr) -> Result<String, Error> {
    name.to_str().map(str::to_owned).ok_or_else(|| Error::UnsafeName(name.to_string_lossy().into_owned()))
}

fn hash(entries: &[Entry], piece: u64) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0; READ];
    let mut pieces = Vec::new();
    let (mut digest, mut left) = (Context::new(&SHA1_FOR_LEGACY_USE_ONLY), piece);
    for entry in entries {
        let mut file = File::open(&entry.path).map_err(Error::io("reading", &entry.path))?;
        let mut unread = entry.length;
        while unread > 0 {
            let want = usize::try_from(left.min(unread)).unwrap_or(READ).min(READ);
            let part = buffer.get_mut(..want).unwrap_or_default();
            let got = read(&mut file, part).map_err(Error::io("reading", &entry.path))?;
            digest.update(part.get(..got).unwrap_or_default());
            let got = u64::try_from(got).unwrap_or_default();
            (unread, left) = (unread.saturating_sub(got), left.saturating_sub(got));
            if left == 0 {
                let full = std::mem::replace(&mut digest, Context::new(&SHA1_FOR_LEGACY_USE_ONLY));
                pieces.extend_from_slice(full.finish().as_ref());
                left = piece;
            }
        }
    }
    if left < piece {
        pieces.extend_from_slice(digest.finish().as_ref());
    }
    Ok(pieces)
}

fn read(file: &mut File, part: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match file.read(part) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn encode(name: &str, is_folder: bool, entries: &[Entry], piece: u64, pieces: &[u8]) -> Vec<u8> {
    let mut out = vec![b'd'];
    if is_folder {
        put_bytes(&mut out, b"files");
        out.push(b'l');
        for entry in entries {
            out.extend_from_slice(b"d6:length");
            put_int(&mut out, entry.length);
            out.extend_from_slice(b"4:pathl");
            entry.names.iter().for_each(|name| put_bytes(&mut out, name.as_bytes()));
            out.extend_from_slice(b"ee");
        }
        out.push(b'e');
    } else {
        put_bytes(&mut out, b"length");
        put_int(&mut out, entries.iter().map(|entry| entry.length).sum());
    }
    put_bytes(&mut out, b"name");
    put_bytes(&mut out, name.as_bytes());
    put_bytes(&mut out, b"piece length");
    put_int(&mut out, piece);
    put_bytes(&mut out, b"pieces");
    put_bytes(&mut out, pieces);
    out.push(b'e');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_full_pieces_and_empty_files_count_right() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("share");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("a"), vec![1; 65_536]).unwrap();
        std::fs::write(root.join("sub/b"), vec![2; 65_536]).unwrap();
        std::fs::write(root.join("z"), b"").unwrap();
        let meta = create(&root).unwrap();
        assert_eq!((meta.total, meta.is_folder, meta.name.as_str()), (131_072, true, "share"));
        assert_eq!(librqbit::torrent_from_bytes(&meta.bare()).unwrap().info_hash.0, meta.infohash.0);

        let one = create(&root.join("a")).unwrap();
        let pieces =
            crate::bencode::parse(&one.info).unwrap().get("pieces").unwrap().bytes().unwrap().to_vec();
        // SHA-1 of 65,536 bytes of value 1, by sha1sum.
        let hex: String = pieces.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "2f5534ad9a790c9c9fab479a187dbf3f961aa294");
    }

    #[test]
    fn nothing_to_share_is_said() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(create(folder.path()), Err(Error::NothingToShare(_))));
        assert!(matches!(create(&folder.path().join("absent")), Err(Error::Io { .. })));
    }
}

//! A torrent's info dictionary, checked before anything is made of it, and what came around it.

use bytes::Bytes;

use crate::bencode::{self, Item};
use crate::{Error, InfoHash};

/// The largest .torrent that is read, in bytes.
pub(crate) const MAX_LEN: usize = 16 << 20;
const MAX_TRACKERS: usize = 20;

/// What is kept of a .torrent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Metainfo {
    pub(crate) infohash: InfoHash,
    /// The info dictionary as it came, so that its hash stays what it is.
    pub(crate) info: Bytes,
    pub(crate) name: String,
    /// Bytes of all files.
    pub(crate) total: u64,
    /// A folder of files, or one file.
    pub(crate) is_folder: bool,
    /// In order of their tiers, each once.
    pub(crate) trackers: Vec<String>,
}

impl Metainfo {
    /// Reads a .torrent.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(torrent: &[u8]) -> Result<Self, Error> {
        if torrent.len() > MAX_LEN {
            return Err(Error::TooLarge(MAX_LEN));
        }
        let root = bencode::parse(torrent.trim_ascii_end())?;
        let info = root.get("info").filter(|info| info.is_dict()).ok_or(Error::InfoMissing)?;
        let mut metainfo = Self::of(info)?;
        metainfo.trackers = trackers(&root);
        Ok(metainfo)
    }

    /// Reads an info dictionary alone.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn from_info(info: &[u8]) -> Result<Self, Error> {
        Self::of(&bencode::parse(info)?)
    }

    fn of(info: &Item<'_>) -> Result<Self, Error> {
        let pieces = match info.get("pieces") {
            Some(pieces) => pieces.bytes().ok_or(Error::InfoInvalid("pieces is not a string"))?,
            None if info.get("file tree").is_some() => return Err(Error::TorrentV2Only),
            None => return Err(Error::InfoInvalid("no pieces")),
        };
        let name = info.get("name").and_then(Item::bytes).ok_or(Error::InfoInvalid("no name"))?;
        let name = file_name(name)?;
        let (total, is_folder) = match (info.get("length"), info.get("files")) {
            (Some(length), None) => (size(length)?, false),
            (None, Some(files)) => (folder_size(files)?, true),
            _ => return Err(Error::InfoInvalid("neither one file nor a folder of files")),
        };
        let piece = info.get("piece length").and_then(Item::int).and_then(|n| u32::try_from(n).ok());
        let piece = piece.filter(|n| (1..=1 << 27).contains(n)).ok_or(Error::InfoInvalid("piece length"))?;
        if total == 0 {
            return Err(Error::InfoInvalid("no bytes in it"));
        }
        if u64::try_from(pieces.len()).ok() != total.div_ceil(u64::from(piece)).checked_mul(20) {
            return Err(Error::InfoInvalid("pieces do not match the length"));
        }
        Ok(Self {
            infohash: InfoHash::of(info.raw),
            info: Bytes::copy_from_slice(info.raw),
            name,
            total,
            is_folder,
            trackers: Vec::new(),
        })
    }

    /// A .torrent with the info dictionary and nothing else: what the engine is given.
    pub(crate) fn bare(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.info.len() + 8);
        out.extend_from_slice(b"d4:info");
        out.extend_from_slice(&self.info);
        out.push(b'e');
        out.into()
    }
}

fn trackers(root: &Item<'_>) -> Vec<String> {
    let tiers = root.get("announce-list").map(Item::list).unwrap_or_default();
    let listed = tiers.iter().flat_map(Item::list);
    let mut trackers: Vec<String> = Vec::new();
    for url in listed.chain(root.get("announce")).filter_map(Item::text) {
        if trackers.len() < MAX_TRACKERS && !url.is_empty() && !trackers.iter().any(|t| t == url) {
            trackers.push(url.to_owned());
        }
    }
    trackers
}

fn size(item: &Item<'_>) -> Result<u64, Error> {
    item.int().and_then(|n| n.try_into().ok()).ok_or(Error::InfoInvalid("a file's length"))
}

fn folder_size(files: &Item<'_>) -> Result<u64, Error> {
    let mut total = 0_u64;
    for file in files.list() {
        let length = size(file.get("length").ok_or(Error::InfoInvalid("a file without length"))?)?;
        total = total.checked_add(length).ok_or(Error::InfoInvalid("more bytes than can be counted"))?;
        let path = file.get("path").map(Item::list).unwrap_or_default();
        if path.is_empty() {
            return Err(Error::InfoInvalid("a file without a name"));
        }
        for part in path {
            file_name(part.bytes().ok_or(Error::InfoInvalid("a file name that is not a string"))?)?;
        }
    }
    Ok(total)
}

/// A name that stays in its folder. Checked on the bytes: every encoding the engine may guess keeps
/// these bytes what they are in ASCII.
fn file_name(bytes: &[u8]) -> Result<String, Error> {
    let name = String::from_utf8_lossy(bytes).into_owned();
    let leaves = matches!(bytes, b"" | b"." | b"..") || bytes.iter().any(|b| matches!(b, b'/' | b'\\' | 0));
    let drive = cfg!(windows) && bytes.contains(&b':');
    if leaves || drive || bytes.len() > 255 { Err(Error::UnsafeName(name)) } else { Ok(name) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(middle: &str, piece: u32, pieces: usize) -> Vec<u8> {
        let mut out = format!("d{middle}12:piece lengthi{piece}e6:pieces{}:", pieces * 20).into_bytes();
        out.extend(vec![7; pieces * 20]);
        out.push(b'e');
        out
    }

    fn torrent(info: &[u8]) -> Vec<u8> {
        let mut out =
            b"d8:announce12:udp://t.e:8013:announce-listll12:udp://t.e:80el12:http://u.e/aee7:comment2:hi\
            4:info"
                .to_vec();
        out.extend_from_slice(info);
        out.extend_from_slice(b"8:url-list13:http://seed.ee");
        out
    }

    #[test]
    fn only_the_raw_info_is_kept() {
        // Keys out of order: writing it anew would change the infohash.
        let raw = info("4:name1:a6:lengthi40e7:privatei0e", 16, 3);
        let meta = Metainfo::parse(&torrent(&raw)).unwrap();
        assert_eq!(meta.infohash, InfoHash::of(&raw));
        assert_eq!(&meta.info[..], &raw[..]);
        assert_eq!(meta.trackers, ["udp://t.e:80", "http://u.e/a"]);
        assert_eq!((meta.name.as_str(), meta.total, meta.is_folder), ("a", 40, false));

        let bare = meta.bare();
        assert_eq!(bare.len(), raw.len() + 8);
        let again = Metainfo::parse(&bare).unwrap();
        assert_eq!(again.infohash, meta.infohash);
        assert!(again.trackers.is_empty());
        assert_eq!(librqbit::torrent_from_bytes(&bare).unwrap().info_hash.0, meta.infohash.0);
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for name in ["2:..", "1:.", "0:", "3:a/b", "3:a\\b", "3:a\0b"] {
            let raw = info(&format!("6:lengthi40e4:name{name}"), 16, 3);
            assert!(matches!(Metainfo::from_info(&raw), Err(Error::UnsafeName(_))), "{name:?}");
            let files = format!("5:filesld6:lengthi40e4:pathl1:x{name}eee4:name1:a");
            assert!(
                matches!(Metainfo::from_info(&info(&files, 16, 3)), Err(Error::UnsafeName(_))),
                "{name:?}"
            );
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        assert!(matches!(Metainfo::parse(b"d8:announce1:xe"), Err(Error::InfoMissing)));
        assert!(matches!(Metainfo::parse(b"d4:infoi1ee"), Err(Error::InfoMissing)));
        assert!(matches!(Metainfo::parse(b"le"), Err(Error::InfoMissing)));
        let v2 = b"d9:file treede12:meta versioni2e4:name1:a12:piece lengthi16384ee";
        assert!(matches!(Metainfo::from_info(v2), Err(Error::TorrentV2Only)));
        for bad in [
            info("6:lengthi40e4:name1:a", 16, 2),
            info("6:lengthi-1e4:name1:a", 16, 3),
            info("6:lengthi0e4:name1:a", 16, 0),
            info("6:lengthi40e4:name1:a", 0, 3),
            info("6:lengthi40e", 16, 3),
            info("4:name1:a", 16, 3),
            info("5:filesle6:lengthi40e4:name1:a", 16, 3),
            info("5:filesld6:lengthi40eee4:name1:a", 16, 3),
            info(
                "5:filesld6:lengthi9223372036854775807e4:pathl1:aeed6:lengthi9223372036854775807e4:pathl1:beed6:lengthi9e4:pathl1:ceee4:name1:a",
                16,
                3,
            ),
        ] {
            assert!(
                matches!(Metainfo::from_info(&bad), Err(Error::InfoInvalid(_))),
                "{}",
                String::from_utf8_lossy(&bad)
            );
        }
        let whole = torrent(&info("6:lengthi40e4:name1:a", 16, 3));
        for cut in 0..whole.len() {
            assert!(Metainfo::parse(&whole[..cut]).is_err());
        }
    }
}

//! What can go wrong that is ours or the user's to know.

use std::io;
use std::path::PathBuf;

use crate::InfoHash;

/// Why a torrent was not taken, or ended.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The link does not begin with `magnet:?`, or is longer than 64 KB.
    #[error("not a magnet link")]
    NotAMagnet,
    /// The magnet has no `xt`.
    #[error("the magnet link names no infohash (no xt=urn:btih:…)")]
    MagnetWithoutInfohash,
    /// The magnet names only a version 2 hash.
    #[error("the magnet link is for BitTorrent v2 only (urn:btmh), which is not supported")]
    MagnetV2Only,
    /// Its `urn:btih:` is neither 40 hexadecimal nor 32 base32 digits.
    #[error("the magnet link's infohash is neither 40 hexadecimal nor 32 base32 digits")]
    MagnetInfohash,
    /// Not bencoded, or cut off.
    #[error("the torrent is not well-formed: {what}, at byte {at}")]
    Bencode {
        /// What was found.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// No `info` dictionary.
    #[error("the torrent has no info dictionary")]
    InfoMissing,
    /// Only the file tree of version 2.
    #[error("the torrent is for BitTorrent v2 only, which is not supported")]
    TorrentV2Only,
    /// The `info` dictionary contradicts itself, or lacks something.
    #[error("the torrent's info is not valid: {0}")]
    InfoInvalid(&'static str),
    /// A file name that would leave the download's folder, or that no file can have.
    #[error("the torrent has a file name that is not allowed: {0:?}")]
    UnsafeName(String),
    /// More bytes than a torrent file may have.
    #[error("the torrent file is larger than {0} bytes")]
    TooLarge(usize),
    /// What peers gave is another torrent than asked for.
    #[error("the metadata belongs to another infohash")]
    WrongMetadata,
    /// No tracker and no peer is known, so that nothing could ever come.
    #[error("no way to find peers: no tracker and no peer (x.pe) is named")]
    NoPeerSource,
    /// The torrent file could not be fetched.
    #[error("the torrent file could not be fetched: {0}")]
    Fetch(String),
    /// The same torrent is there already.
    #[error("torrent {0} is active already")]
    Active(InfoHash),
    /// The configured limit is reached.
    #[error("{0} torrents are active, which is the limit")]
    TooMany(usize),
    /// Hop counts go from 0 to 3.
    #[error("{0} hops: must be 0 to 3")]
    Hops(u8),
    /// A listener for peers would give away where we are.
    #[error("listening for peers is possible with 0 hops only")]
    ListenNeedsDirect,
    /// librqbit takes no other characters in a proxy's password.
    #[error("the SOCKS token may hold letters, digits, '-', '.', '_' and '~' only")]
    Token,
    /// A file or folder.
    #[error("{doing} {}: {reason}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// There is nothing to share at this path.
    #[error("{} has nothing to share: no regular file with bytes in it", .0.display())]
    NothingToShare(PathBuf),
    /// The engine failed: storage that cannot be written, a full disk, and the like.
    #[error("{0}")]
    Engine(String),
    /// No randomness from the system.
    #[error("no randomness from the system")]
    Random,
    /// It was stopped before it was complete.
    #[error("stopped")]
    Stopped,
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { doing, path, reason: error.to_string() }
    }

    /// Whose fault it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotAMagnet
            | Self::MagnetWithoutInfohash
            | Self::MagnetV2Only
            | Self::MagnetInfohash
            | Self::Bencode { .. }
            | Self::InfoMissing
            | Self::TorrentV2Only
            | Self::InfoInvalid(_)
            | Self::UnsafeName(_)
            | Self::TooLarge(_)
            | Self::WrongMetadata
            | Self::NoPeerSource => Kind::Source,
            Self::Fetch(_) => Kind::Network,
            Self::Active(_)
            | Self::TooMany(_)
            | Self::Hops(_)
            | Self::ListenNeedsDirect
            | Self::Token
            | Self::NothingToShare(_) => Kind::Request,
            Self::Io { .. } | Self::Engine(_) | Self::Random => Kind::System,
            Self::Stopped => Kind::Stopped,
        }
    }
}

/// Whose fault an [`Error`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The torrent or magnet is broken or unsupported.
    Source,
    /// What was asked for cannot be.
    Request,
    /// The network's.
    Network,
    /// The disk's, or the machine's.
    System,
    /// Nobody's: it was asked for.
    Stopped,
}

//! Torrents through circuits: librqbit, fenced in.
//!
//! The engine is given one way out, our SOCKS server, and one tracker, which is this crate on the other
//! end of that way. Every peer it knows is an alias; a connection to an alias is dialled through the
//! torrent's circuits and its conversation filtered. The torrent's real trackers are asked by this
//! crate, through the same circuits.
//!
//! Not here: circuits, the SOCKS protocol, looking up peers in a DHT, the command line.
//!
//! I/O: files of torrents and of resuming; loopback TCP between engine and SOCKS server; what leaves
//! goes through [`warren_ports::Dial`] and [`warren_ports::Datagrams`] only. One exception, when a
//! person asked for 0 hops and named an address: a listener for peers. Runs on the tokio runtime that
//! [`Torrents::new`] was called in, which must be a multi-threaded one.

use std::net::SocketAddr;
use std::path::PathBuf;

mod alias;
mod bencode;
mod counters;
mod create;
mod download;
mod driver;
mod engine;
mod error;
mod filter;
mod hub;
mod infohash;
mod inner_tracker;
mod listener;
mod magnet;
mod metainfo;
mod peers;
mod saved;
mod storage;
mod torrent;
mod torrents;
mod trackers;

pub use counters::Counters;
pub use download::{Download, Finished, Progress, State};
pub use error::{Error, Kind};
pub use infohash::InfoHash;
pub use magnet::{Magnet, parse_peer};
pub use saved::Saved;
pub use torrents::Torrents;
use warren_ports::Target;

#[cfg(test)]
mod tests;

/// How torrents run on this node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where .torrent files and what is needed to resume are kept.
    pub state_dir: PathBuf,
    /// Our SOCKS listener. It must be on loopback, and give connections whose user name begins with
    /// `t-` to [`Torrents::serve`].
    pub socks: SocketAddr,
    /// The password that listener wants, if it wants one: letters, digits and `-._~`.
    pub socks_token: Option<String>,
    /// Torrents at a time, seeding ones included.
    pub max_active: usize,
    /// Lab: peers and trackers in private ranges and on loopback are asked too.
    pub allow_private: bool,
}

/// What to download.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// A magnet link.
    Magnet(String),
    /// The path of a .torrent.
    File(PathBuf),
    /// The bytes of a .torrent.
    Bytes(Vec<u8>),
    /// The address of a .torrent, http or https; fetched through the torrent's circuits.
    Url(String),
}

impl Source {
    /// What a person means on the command line: a magnet link, an address, or else a path.
    #[must_use]
    pub fn guess(text: &str) -> Self {
        let starts = |with: &str| text.get(..with.len()).is_some_and(|head| head.eq_ignore_ascii_case(with));
        if starts("magnet:") {
            Self::Magnet(text.to_owned())
        } else if starts("http://") || starts("https://") {
            Self::Url(text.to_owned())
        } else {
            Self::File(text.into())
        }
    }
}

/// How to download.
#[derive(Clone, Debug)]
pub struct AddOptions {
    /// 1 to 3; 0 is direct and gives this node's address away.
    pub hops: u8,
    /// Where files go; a torrent of several files gets a folder of its own in it.
    pub out: PathBuf,
    /// Peers to ask besides those that magnet and trackers name. Taken as they are.
    pub peers: Vec<Target>,
    /// Go on seeding when all is there, until stopped.
    pub seed_after: bool,
    /// With 0 hops: where to listen for peers. Port 0 takes a free one.
    pub listen: Option<SocketAddr>,
}

/// How to seed.
#[derive(Clone, Debug, Default)]
pub struct SeedOptions {
    /// 1 to 3; 0 is direct and gives this node's address away.
    pub hops: u8,
    /// Trackers to announce to, and to name in the magnet link.
    pub trackers: Vec<String>,
    /// Peers to dial.
    pub peers: Vec<Target>,
    /// With 0 hops: where to listen for peers. Port 0 takes a free one.
    pub listen: Option<SocketAddr>,
}

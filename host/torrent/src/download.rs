//! A torrent as its owner sees it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use warren_ports::Target;

use crate::torrent::{Outcome, Phase, Torrent};
use crate::{Counters, Error, InfoHash, Magnet};

/// What a torrent is doing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "reason")]
pub enum State {
    /// There is no circuit; the text says why. Goes on by itself.
    WaitingForCircuit(String),
    /// Fetching the .torrent, or asking peers for it.
    Metadata,
    /// Hashing what is on the disk.
    Checking,
    /// Fetching the rest.
    Downloading,
    /// All is there and others are served.
    Seeding,
    /// All is there and nobody is served any more.
    Done,
    /// Stopped on request.
    Stopped,
    /// Ended by an error; adding it again resumes.
    Failed(String),
}

/// How far a torrent is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Progress {
    /// Its name; the infohash as long as it is not known.
    pub name: String,
    /// Bytes of all files; 0 as long as it is not known.
    pub total: u64,
    /// Bytes that are there and right; while checking, bytes looked at.
    pub done: u64,
    /// Bytes a second, mean of some seconds.
    pub down_bps: u64,
    /// Bytes a second, mean of some seconds.
    pub up_bps: u64,
    /// Bytes of content sent to peers.
    pub uploaded: u64,
    /// Peers connected.
    pub peers: u32,
    /// Peers known.
    pub peers_known: usize,
    /// While no peer is connected: why the last tracker that was asked gave no answer.
    pub tracker_trouble: Option<String>,
    /// What it is doing.
    #[serde(flatten)]
    pub state: State,
}

/// A complete torrent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// The file, or the folder of files.
    pub path: PathBuf,
    /// Bytes of all files.
    pub total: u64,
}

/// A torrent that was added. It lives until it is stopped, whether this is dropped or not.
#[derive(Clone)]
pub struct Download {
    pub(crate) torrent: Arc<Torrent>,
    /// Its magnet link, when seeding.
    pub(crate) magnet: Option<Magnet>,
}

impl Download {
    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let torrent = &self.torrent;
        let phase = torrent.phase().clone();
        let stats = match &phase {
            Phase::Running(running) => running.stats(),
            _ => crate::engine::EngineStats::default(),
        };
        let state = match phase {
            Phase::Done => State::Done,
            Phase::Stopped => State::Stopped,
            Phase::Failed(error) => State::Failed(error.to_string()),
            Phase::Running(_) if stats.checking => State::Checking,
            Phase::Running(_) if stats.finished => self.unless_waiting(stats.peers, State::Seeding),
            Phase::Running(_) => self.unless_waiting(stats.peers, State::Downloading),
            Phase::Metadata => self.unless_waiting(0, State::Metadata),
        };
        let total = stats.total.max(torrent.total());
        Progress {
            name: torrent.name().or_else(|| self.infohash().map(|h| h.to_string())).unwrap_or_default(),
            total,
            done: if state == State::Done { total } else { stats.done },
            down_bps: stats.down,
            up_bps: stats.up,
            uploaded: stats.uploaded,
            peers: stats.peers,
            peers_known: torrent.hub.len(),
            tracker_trouble: torrent.trouble().filter(|_| stats.peers == 0 && state != State::Done),
            state,
        }
    }

    fn unless_waiting(&self, peers: u32, state: State) -> State {
        match self.torrent.waiting() {
            Some(reason) if peers == 0 => State::WaitingForCircuit(reason),
            _ => state,
        }
    }

    /// Waits until all is there and right.
    ///
    /// # Errors
    /// Why it never will be: a broken torrent, a disk that cannot be written, or [`Error::Stopped`].
    pub async fn finished(&self) -> Result<Finished, Error> {
        let mut outcome = self.torrent.outcome.subscribe();
        let settled = outcome.wait_for(|outcome| !matches!(outcome, Outcome::Pending)).await;
        match settled.as_deref() {
            Ok(Outcome::Complete(finished)) => Ok(finished.clone()),
            Ok(Outcome::Failed(error)) => Err(error.clone()),
            Ok(Outcome::Pending) | Err(_) => Err(Error::Stopped),
        }
    }

    /// Says goodbye to trackers and peers, and waits until that is done: at most about ten seconds.
    /// Adding the torrent again resumes it.
    pub async fn stop(self) {
        self.torrent.halt.cancel();
        self.torrent.gone.cancelled().await;
    }

    /// Adds peers, taken as they are.
    pub fn add_peers(&self, peers: impl IntoIterator<Item = Target>) {
        self.torrent.hub.add(peers, true);
    }

    /// Its infohash, as soon as it is known.
    #[must_use]
    pub fn infohash(&self) -> Option<InfoHash> {
        self.torrent.infohash.get().copied()
    }

    /// The link by which others find a torrent that is seeded.
    #[must_use]
    pub fn magnet(&self) -> Option<String> {
        self.magnet.as_ref().map(Magnet::format)
    }

    /// The key its circuits are isolated by: `core` lists them under it.
    #[must_use]
    pub fn isolation_key(&self) -> &str {
        &self.torrent.key
    }

    /// Where it takes peers, if it does.
    #[must_use]
    pub fn listening(&self) -> Option<SocketAddr> {
        self.torrent.listening
    }

    /// What was refused or dropped so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.torrent.tally.read()
    }
}

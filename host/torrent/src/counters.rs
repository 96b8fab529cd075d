//! What was refused or dropped.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::filter::DropReason;

/// What was refused or dropped, since the torrent was added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Connections the engine wanted to somewhere we never told it of.
    pub unknown: u64,
    /// Connections the engine wanted to an alias that has been replaced. Harmless.
    pub stale: u64,
    /// Connections to private places that a tracker or redirect named.
    pub private: u64,
    /// Connections dropped because a peer had one already.
    pub busy: u64,
    /// Peers that spoke no BitTorrent.
    pub not_bittorrent: u64,
    /// Peers of another swarm.
    pub wrong_infohash: u64,
    /// Peers with a message longer than any needs to be.
    pub too_long: u64,
    /// Peers whose extended handshake was no dictionary.
    pub malformed: u64,
}

#[derive(Default, Debug)]
pub(crate) struct Tally {
    unknown: AtomicU64,
    stale: AtomicU64,
    private: AtomicU64,
    busy: AtomicU64,
    not_bittorrent: AtomicU64,
    wrong_infohash: AtomicU64,
    too_long: AtomicU64,
    malformed: AtomicU64,
}

impl Tally {
    pub(crate) fn unknown(&self) {
        self.unknown.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stale(&self) {
        self.stale.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn private(&self) {
        self.private.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn busy(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self, reason: DropReason) {
        let counter = match reason {
            DropReason::NotBitTorrent => &self.not_bittorrent,
            DropReason::WrongInfohash => &self.wrong_infohash,
            DropReason::TooLong => &self.too_long,
            DropReason::Malformed => &self.malformed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            unknown: get(&self.unknown),
            stale: get(&self.stale),
            private: get(&self.private),
            busy: get(&self.busy),
            not_bittorrent: get(&self.not_bittorrent),
            wrong_infohash: get(&self.wrong_infohash),
            too_long: get(&self.too_long),
            malformed: get(&self.malformed),
        }
    }
}

//! What an exit dropped, by reason.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why something was not served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropReason {
    /// The policy denies the destination.
    Denied,
    /// Its name did not resolve.
    Unresolved,
    /// The destination is silent and was sent enough.
    Unanswered,
    /// Too many new destinations are silent.
    TooManySilent,
    /// A datagram larger than [`crate::MAX_PAYLOAD`], either way.
    Oversized,
    /// A bound on sockets, lookups or queued datagrams was reached.
    NoRoom,
    /// The operating system did not take it.
    SendFailed,
    /// It came from an address that the flow never sent to.
    Unsolicited,
}

impl DropReason {
    /// All of them, in the order of [`Counters::all`].
    pub const ALL: [Self; 8] = [
        Self::Denied,
        Self::Unresolved,
        Self::Unanswered,
        Self::TooManySilent,
        Self::Oversized,
        Self::NoRoom,
        Self::SendFailed,
        Self::Unsolicited,
    ];
}

/// One counter for each reason.
#[derive(Debug, Default)]
pub struct Counters([AtomicU64; DropReason::ALL.len()]);

impl Counters {
    pub(crate) fn add(&self, reason: DropReason) {
        if let Some(counter) = self.0.get(reason as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often it happened.
    #[must_use]
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// Each reason with its count.
    #[must_use]
    pub fn all(&self) -> [(DropReason, u64); DropReason::ALL.len()] {
        DropReason::ALL.map(|reason| (reason, self.get(reason)))
    }
}

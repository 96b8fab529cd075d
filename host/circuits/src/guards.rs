//! The few relays that first hops are taken from, kept for months: whoever runs one of the other
//! relays never sees where this node's circuits come from.

use std::time::Duration;

use warren_schemas::{PeerId, Timestamp};

/// How long a guard is kept (Tor's guard specification keeps one for 120 days).
const LIFETIME: Duration = Duration::from_secs(120 * 24 * 3600);
/// Most guards ever sampled at a time, so that blocking guards one after another does not lead
/// to a relay of the blocker's choice (Tor: 60, in a network of thousands).
pub(crate) const MAX_GUARDS: usize = 20;
/// Relays have arrived when none was new for this long: a neighbour answers with all it holds at
/// once, and the slowest of the first neighbours is a round trip behind the fastest.
pub(crate) const SETTLE_QUIET: Duration = Duration::from_millis(300);
/// Relays have arrived this long after the first one, whatever still comes: nobody can put off the
/// first circuit by announcing relays one after the other.
pub(crate) const SETTLE_MOST: Duration = Duration::from_secs(1);

/// A guard, as the caller keeps it from one run to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guard {
    /// Who.
    pub peer: PeerId,
    /// When it was chosen.
    pub since: Timestamp,
}

/// Whether enough was heard of relays to choose guards among them: whoever is heard of first is a
/// matter of chance or of whose neighbour one is, and a guard stays for months.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Settling {
    /// Nobody is known.
    Empty,
    /// When the first relay became known, and the newest one.
    Since { first: Timestamp, last: Timestamp },
    /// For good: relays that come later are taken into account when a guard is missing.
    Settled,
}

impl Settling {
    /// A relay that was not known before.
    pub(crate) fn heard(&mut self, now: Timestamp) {
        *self = match *self {
            Self::Empty => Self::Since { first: now, last: now },
            Self::Since { first, .. } => Self::Since { first, last: now },
            Self::Settled => Self::Settled,
        };
    }

    /// Time passed.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        if self.due().is_some_and(|due| due <= now) {
            *self = Self::Settled;
        }
    }

    /// When it settles, if it is about to.
    pub(crate) fn due(self) -> Option<Timestamp> {
        let Self::Since { first, last } = self else { return None };
        Some(first.after(SETTLE_MOST).min(last.after(SETTLE_QUIET)))
    }

    pub(crate) const fn is_settled(self) -> bool {
        matches!(self, Self::Settled)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Guards {
    /// Oldest first: the first ones that work are used.
    list: Vec<Guard>,
}

impl Guards {
    pub(crate) fn set(&mut self, guards: Vec<Guard>) {
        self.list = guards;
        self.list.truncate(MAX_GUARDS);
    }

    pub(crate) fn list(&self) -> &[Guard] {
        &self.list
    }

    pub(crate) fn contains(&self, peer: &PeerId) -> bool {
        self.list.iter().any(|guard| guard.peer == *peer)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= MAX_GUARDS
    }

    pub(crate) fn add(&mut self, now: Timestamp, peer: PeerId) {
        if !self.contains(&peer) && !self.is_full() {
            self.list.push(Guard { peer, since: now });
        }
    }

    pub(crate) fn expire(&mut self, now: Timestamp) {
        self.list.retain(|guard| now.since(guard.since) < LIFETIME);
    }
}

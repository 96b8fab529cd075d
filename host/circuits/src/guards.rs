//! The few relays that first hops are taken from, kept for months: whoever runs one of the other
//! relays never sees where this node's circuits come from.

use std::time::Duration;

use warren_schemas::{PeerId, Timestamp};

/// How long a guard is kept (Tor's guard specification keeps one for 120 days).
const LIFETIME: Duration = Duration::from_secs(120 * 24 * 3600);
/// Most guards ever sampled at a time, so that blocking guards one after another does not lead
/// to a relay of the blocker's choice (Tor: 60, in a network of thousands).
pub(crate) const MAX_GUARDS: usize = 20;

/// A guard, as the caller keeps it from one run to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guard {
    /// Who.
    pub peer: PeerId,
    /// When it was chosen.
    pub since: Timestamp,
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

//! The live view of what workers hold and counted, kept from their change frames.

use std::collections::BTreeMap;

use warren_schemas::CircuitHandle;
use warren_schemas::control::{CircuitEnd, CircuitState, Sync, SyncFrame, Told, TooMany};

/// By worker. What is kept of each is bounded by `warren_schemas::control::MOST_TOLD`.
#[derive(Default)]
pub(crate) struct View(BTreeMap<u8, Seen>);

#[derive(Default)]
struct Seen {
    told: Told,
    /// It told of too many: nothing more of it is taken in.
    excessive: bool,
}

impl View {
    /// A worker told what changed (SYNC).
    ///
    /// # Errors
    /// Once, when it tells of more circuit ends than it may.
    pub(crate) fn apply(&mut self, worker: u8, frame: &SyncFrame) -> Result<(), TooMany> {
        let seen = self.0.entry(worker).or_default();
        if seen.excessive {
            return Ok(());
        }
        seen.told.apply(frame).inspect_err(|_| seen.excessive = true)
    }

    /// A worker told that a circuit end is gone (CIRDEAD).
    pub(crate) fn circuit_dead(&mut self, worker: u8, handle: CircuitHandle) {
        if let Some(seen) = self.0.get_mut(&worker) {
            seen.told.forget(handle);
        }
    }

    /// A worker is gone with all it held; its successor tells everything anew.
    pub(crate) fn forget(&mut self, worker: u8) {
        self.0.remove(&worker);
    }

    /// What it has counted.
    pub(crate) fn of(&self, worker: u8) -> Option<&Sync> {
        self.0.get(&worker).map(|seen| seen.told.counts())
    }

    pub(crate) fn circuit(&self, worker: u8, handle: CircuitHandle) -> Option<&CircuitState> {
        self.0.get(&worker)?.told.circuit(handle)
    }

    /// Whether it has circuits of other nodes.
    pub(crate) fn serves_others(&self, worker: u8) -> bool {
        let last_hop = |circuit: &CircuitState| circuit.end == CircuitEnd::LastHop;
        self.0.get(&worker).is_some_and(|Seen { told, .. }| {
            told.counts().relayed_circuits > 0 || told.circuits().any(last_hop)
        })
    }
}

/// Handshake suites that this node's workers speak, for its descriptor; written by the keeper.
pub(crate) struct Suites(std::sync::RwLock<Vec<u8>>);

impl Suites {
    pub(crate) fn new(suites: Vec<u8>) -> Self {
        Self(std::sync::RwLock::new(suites))
    }

    pub(crate) fn get(&self) -> Vec<u8> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, suites: &[u8]) {
        *self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner) = suites.to_vec();
    }
}

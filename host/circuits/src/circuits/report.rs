//! What there is to tell.

use std::net::SocketAddr;
use std::time::Duration;

use warren_ports::Isolation;
use warren_schemas::{CircuitHandle, PeerId, Timestamp};

use super::{Circuits, isolation};
use crate::waiting::Waiting;

/// Where a circuit is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CircuitState {
    /// Asked for.
    Building,
    /// Usable.
    Ready,
    /// Waiting for its last stream to end.
    Closing,
}

/// One circuit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CircuitReport {
    /// Which worker.
    pub worker: u8,
    /// That worker's handle; none while it is built.
    pub handle: Option<CircuitHandle>,
    /// Peer ids, first hop first.
    pub path: Vec<PeerId>,
    /// The handshake suite of each hop.
    pub suites: Vec<u8>,
    /// Its state.
    pub state: CircuitState,
    /// Whom it serves; none for a spare.
    pub isolation: Option<Isolation>,
    /// Streams open on it.
    pub streams: u32,
    /// Since it stood, or was asked for.
    pub age: Duration,
}

impl Circuits {
    /// How many relays are known (exits among them), and how many exits.
    #[must_use]
    pub fn relays(&self) -> (usize, usize) {
        (self.relays.iter().count(), self.relays.iter().filter(|r| r.descriptor.exit).count())
    }

    /// Where the relays that are known take tunnel datagrams.
    pub fn tunnel_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.relays.iter().flat_map(|relay| relay.descriptor.addresses.iter().copied())
    }

    /// Every circuit.
    #[must_use]
    pub fn statuses(&self, now: Timestamp) -> Vec<CircuitReport> {
        let building = self.builds.values().map(|build| CircuitReport {
            worker: build.worker,
            handle: None,
            path: build.path.clone(),
            suites: build.suites.clone(),
            state: CircuitState::Building,
            isolation: build.owner.as_ref().map(isolation),
            streams: 0,
            age: now.since(build.started),
        });
        let standing = self.circuits.iter().map(|(&(worker, handle), circuit)| {
            let wanted = circuit.owner.as_ref().is_none_or(|owner| self.wants.contains_key(owner));
            let closing = !wanted || self.retiring(circuit);
            CircuitReport {
                worker,
                handle: Some(handle),
                path: circuit.path.clone(),
                suites: circuit.suites.clone(),
                state: if closing { CircuitState::Closing } else { CircuitState::Ready },
                isolation: circuit.owner.as_ref().map(isolation),
                streams: circuit.streams,
                age: now.since(circuit.ready),
            }
        });
        standing.chain(building).collect()
    }

    /// Every isolation that is wanted and has no circuit, and why. `now` may be later than what
    /// was last handled.
    #[must_use]
    pub fn waiting(&self, now: Timestamp) -> Vec<(Isolation, Waiting)> {
        let mut waiting = Vec::new();
        for owner in self.wants.keys() {
            let stands = self.circuits.values().any(|circuit| circuit.owner.as_ref() == Some(owner));
            if stands {
                continue;
            }
            let reason = if self.count(Some(owner)).1 > 0 {
                Waiting::Building
            } else {
                self.diagnose(owner.1).unwrap_or(Waiting::Turn)
            };
            waiting.push((isolation(owner), later(reason, now.since(self.now))));
        }
        waiting
    }
}

fn later(reason: Waiting, passed: Duration) -> Waiting {
    match reason {
        Waiting::Resting { relays, retry_in } => {
            Waiting::Resting { relays, retry_in: retry_in.saturating_sub(passed) }
        }
        Waiting::Own { retry_in } => Waiting::Own { retry_in: retry_in.saturating_sub(passed) },
        other => other,
    }
}

//! Counts, and the events that tell them.

use warren_schemas::control::{CircuitEnd, CircuitState, Event, Sync};
use warren_schemas::{CircuitHandle, RequestId};

use super::Tunnel;
use crate::circuit::Circuit;
use crate::drop_reason::DropReason;

/// Circuits in one `Sync`: with more, several are sent, each with the same counts. 256 take 15 KB.
const CIRCUITS_AN_EVENT: usize = 256;

/// What was counted since the start. 64 bits: none wraps.
#[derive(Debug)]
pub(super) struct Counts {
    pub cells_relayed: u64,
    pub bytes_relayed: u64,
    pub cells_originated: u64,
    pub cells_delivered: u64,
    pub relayed_circuits: u32,
    pub drops: [u64; 256],
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            cells_relayed: 0,
            bytes_relayed: 0,
            cells_originated: 0,
            cells_delivered: 0,
            relayed_circuits: 0,
            drops: [0; 256],
        }
    }
}

impl Counts {
    pub(super) fn drop(&mut self, reason: DropReason) {
        self.drop_many(reason, 1);
    }

    pub(super) fn drop_many(&mut self, reason: DropReason, count: u64) {
        if let Some(total) = self.drops.get_mut(usize::from(reason as u8)) {
            *total += count;
        }
    }
}

impl Tunnel {
    /// Tells everything: all counts, and every circuit end.
    pub(super) fn report(&mut self, request: RequestId) {
        let circuits = self.circuit_states();
        let mut groups: Vec<&[CircuitState]> = circuits.chunks(CIRCUITS_AN_EVENT).collect();
        if groups.is_empty() {
            groups.push(&[]);
        }
        for group in groups {
            let sync = self.sync(group);
            self.extras.event(request, &Event::Sync(sync));
        }
    }

    fn sync(&self, circuits: &[CircuitState]) -> Sync {
        let drops = (0u8..).zip(self.counts.drops).filter(|(_, count)| *count > 0).collect();
        Sync {
            links: u32::try_from(self.links.len()).unwrap_or(u32::MAX),
            relayed_circuits: self.counts.relayed_circuits,
            cells_relayed: self.counts.cells_relayed,
            bytes_relayed: self.counts.bytes_relayed,
            cells_originated: self.counts.cells_originated,
            cells_delivered: self.counts.cells_delivered,
            drops,
            circuits: circuits.to_vec(),
        }
    }

    fn circuit_states(&self) -> Vec<CircuitState> {
        let mut states: Vec<CircuitState> =
            self.circuits.iter().filter_map(|(handle, circuit)| state(*handle, circuit)).collect();
        states.sort_unstable_by_key(|state| state.handle);
        states
    }
}

fn state(handle: CircuitHandle, circuit: &Circuit) -> Option<CircuitState> {
    let (end, hops, bytes_in, bytes_out) = match circuit {
        Circuit::Origin(origin) if origin.building.is_none() => {
            (CircuitEnd::Originator, u8::try_from(origin.hops.len()).ok()?, origin.bytes_in, origin.bytes_out)
        }
        Circuit::Relay(relay) if relay.delivered => (CircuitEnd::LastHop, 0, relay.bytes_in, relay.bytes_out),
        _ => return None,
    };
    Some(CircuitState { handle, end, hops, bytes_in, bytes_out })
}

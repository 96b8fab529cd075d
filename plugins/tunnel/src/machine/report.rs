//! Counts, and the events that tell them.

use std::collections::HashMap;
use std::time::Duration;

use warren_schemas::control::{CircuitEnd, CircuitState, Event, Sync, SyncFrame};
use warren_schemas::{CircuitHandle, RequestId, Timestamp};

use super::Tunnel;
use crate::circuit::Circuit;
use crate::drop_reason::DropReason;

/// Circuits in one `Sync`: with more, several are sent. 256 take 15 KB.
const CIRCUITS_AN_EVENT: usize = 256;

/// Least time between two looks at which circuits are active.
const ACTIVE_PERIOD: Duration = Duration::from_secs(1);
/// Cells of a relayed circuit, either way, that are more than keeping it alive.
const ACTIVE_CELLS: u64 = 32;
/// The same of a circuit of our own, in bytes.
const ACTIVE_BYTES: u64 = 32 * 1024;

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

/// What was told, and when.
#[derive(Default)]
pub(super) struct Told {
    /// What a reader of all frames knows; none before the first.
    sync: Option<Sync>,
    looked: Timestamp,
    /// Bytes that each of our own circuits had carried then.
    carried: HashMap<CircuitHandle, u64>,
}

impl Tunnel {
    /// Tells everything: all counts, and every circuit end.
    pub(super) fn report(&mut self, now: Timestamp, request: RequestId) {
        let sync = self.sync(now);
        let whole = sync.whole();
        self.tell(request, whole);
        self.told.sync = Some(sync);
    }

    /// Tells what changed since the frame before, if anything did.
    pub(super) fn report_changes(&mut self, now: Timestamp) {
        let sync = self.sync(now);
        let frame = match &self.told.sync {
            Some(before) => sync.since(before),
            None => Some(sync.whole()),
        };
        if let Some(frame) = frame {
            self.tell(RequestId(0), frame);
            self.told.sync = Some(sync);
        }
    }

    fn tell(&mut self, request: RequestId, mut frame: SyncFrame) {
        loop {
            let rest = frame.circuits.split_off(frame.circuits.len().min(CIRCUITS_AN_EVENT));
            self.extras.event(request, &Event::Sync(frame));
            if rest.is_empty() {
                return;
            }
            frame = SyncFrame { circuits: rest, ..SyncFrame::default() };
        }
    }

    fn sync(&mut self, now: Timestamp) -> Sync {
        let drops = (0..=u8::MAX).zip(self.counts.drops).filter(|(_, count)| *count > 0).collect();
        let circuits = self.circuit_states();
        Sync {
            links: u32::try_from(self.links.len()).unwrap_or(u32::MAX),
            relayed_circuits: self.counts.relayed_circuits,
            active: self.active(now, &circuits),
            cells_relayed: self.counts.cells_relayed,
            bytes_relayed: self.counts.bytes_relayed,
            cells_originated: self.counts.cells_originated,
            cells_delivered: self.counts.cells_delivered,
            drops,
            circuits,
        }
    }

    /// Circuits that did more than stay alive since the look before, which is a second ago at least.
    fn active(&mut self, now: Timestamp, ends: &[CircuitState]) -> u32 {
        if now.since(self.told.looked) < ACTIVE_PERIOD {
            return self.told.sync.as_ref().map_or(0, |told| told.active);
        }
        self.told.looked = now;
        let own = ends.iter().filter(|end| end.end == CircuitEnd::Originator);
        let carried = own.map(|end| (end.handle, end.bytes_in.saturating_add(end.bytes_out))).collect();
        let before = std::mem::replace(&mut self.told.carried, carried);
        let own = self.told.carried.iter().filter(|(handle, carried)| {
            carried.saturating_sub(before.get(handle).copied().unwrap_or(0)) >= ACTIVE_BYTES
        });
        let mut active = own.count() as u64;
        for circuit in self.circuits.values_mut() {
            if let Circuit::Relay(relay) = circuit {
                let cells = relay.sealer.sealed() + relay.opener.opened();
                active += u64::from(cells.saturating_sub(relay.cells_seen) >= ACTIVE_CELLS);
                relay.cells_seen = cells;
            }
        }
        u32::try_from(active).unwrap_or(u32::MAX)
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

//! Gathers what one turn of a worker thread's loop hands to the worker.

use std::net::SocketAddr;

use warren_schemas::CircuitHandle;
use warren_schemas::batch::{Batch, MAX_SLOTS, SlotKind};

/// Up to [`MAX_SLOTS`] datagrams, then one batch just large enough for them.
#[derive(Default)]
pub(crate) struct Intake {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

struct Entry {
    kind: SlotKind,
    address: SocketAddr,
    handle: CircuitHandle,
    start: usize,
    end: usize,
}

impl Intake {
    /// How many more fit.
    pub(crate) fn room(&self) -> usize {
        MAX_SLOTS.saturating_sub(self.entries.len())
    }

    /// Whether nothing was taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes a datagram from a neighbour.
    pub(crate) fn received(&mut self, address: SocketAddr, datagram: &[u8]) {
        self.push(SlotKind::Received, address, CircuitHandle::default(), datagram);
    }

    /// Takes an inner datagram that is to go out on a circuit.
    pub(crate) fn outgoing(&mut self, handle: CircuitHandle, datagram: &[u8]) {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        self.push(SlotKind::Outgoing, nowhere, handle, datagram);
    }

    fn push(&mut self, kind: SlotKind, address: SocketAddr, handle: CircuitHandle, datagram: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(datagram);
        self.entries.push(Entry { kind, address, handle, start, end: self.bytes.len() });
    }

    /// Empties it into a batch.
    pub(crate) fn take(&mut self) -> Batch {
        let mut batch = Batch::with_slots(self.entries.len());
        for (index, entry) in self.entries.iter().enumerate() {
            let datagram = self.bytes.get(entry.start..entry.end).unwrap_or_default();
            batch.fill(index, entry.kind, entry.address, entry.handle, datagram);
        }
        self.entries.clear();
        self.bytes.clear();
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_holds_what_was_taken_in_order() {
        let mut intake = Intake::default();
        let source: SocketAddr = "192.0.2.1:9".parse().unwrap();
        intake.received(source, b"first");
        intake.outgoing(CircuitHandle(7), b"second");
        assert_eq!(intake.room(), MAX_SLOTS - 2);
        let batch = intake.take();
        let slots: Vec<_> = batch.slots().take(2).collect();
        assert_eq!((slots[0].kind, slots[0].address), (SlotKind::Received, source));
        assert_eq!(batch.bytes_of(&slots[0]), b"first");
        assert_eq!((slots[1].kind, slots[1].handle), (SlotKind::Outgoing, CircuitHandle(7)));
        assert_eq!(batch.bytes_of(&slots[1]), b"second");
        assert!(intake.is_empty());
    }
}

//! Gathers what one turn of a worker thread's loop hands to the worker.

use std::net::SocketAddr;

use warren_schemas::batch::{Batch, BatchWriter, MAX_SLOTS, SlotKind};
use warren_schemas::{Address, CircuitHandle};

/// The most datagrams of a turn: half of what a batch may have, which took less CPU than all of it, and than 24: what is
/// on its way through the worker is gone through several times (docs/benchmarks.md).
pub(crate) const SLOTS: usize = MAX_SLOTS / 2;

/// Up to [`SLOTS`] datagrams, written straight into the batch that is handed over.
#[derive(Default)]
pub(crate) struct Intake(BatchWriter);

impl Intake {
    /// How many more fit.
    pub(crate) fn room(&self) -> usize {
        SLOTS.saturating_sub(self.0.len())
    }

    /// Whether nothing was taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes a datagram from a neighbour.
    pub(crate) fn received(&mut self, address: SocketAddr, datagram: &[u8]) {
        self.0.push(SlotKind::Received, address, CircuitHandle::default(), datagram);
    }

    /// Takes an inner datagram that is to go out on a circuit.
    pub(crate) fn outgoing(&mut self, handle: CircuitHandle, datagram: &[u8]) {
        self.0.push(SlotKind::Outgoing, Address::NONE, handle, datagram);
    }

    /// Empties it into a batch.
    pub(crate) fn take(&mut self) -> Batch {
        self.0.take()
    }

    /// Takes the memory of an answer that was carried out.
    pub(crate) fn reuse(&mut self, answer: Batch) {
        self.0.reuse(answer);
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
        assert_eq!(intake.room(), SLOTS - 2);
        let batch = intake.take();
        let slots: Vec<_> = batch.slots().take(2).collect();
        assert_eq!((slots[0].kind, slots[0].address), (SlotKind::Received, source.into()));
        assert_eq!(batch.bytes_of(&slots[0]), b"first");
        assert_eq!((slots[1].kind, slots[1].handle), (SlotKind::Outgoing, CircuitHandle(7)));
        assert_eq!(batch.bytes_of(&slots[1]), b"second");
        assert!(intake.is_empty());
    }
}

//! What a relay sends a second: cells within the rate go straight through, the others wait.

use warren_schemas::cell::{HEADER_LEN, MAX_DATAGRAM};
use warren_schemas::{CircuitHandle, Timestamp};

use super::Tunnel;
use crate::bucket::Bucket;
use crate::drop_reason::DropReason;
use crate::limits::Bounds;
use crate::link::Leg;
use crate::queue::{Popped, Queue};

/// Bytes of waiting cells that one call lets go: leaves room in its answer for everything else.
const BYTES_A_CALL: usize = 96 * 1024;

/// The rate and those who wait for it.
#[derive(Debug)]
pub(super) struct Shaper {
    bucket: Bucket,
    queue: Queue,
}

impl Shaper {
    pub(super) const fn new() -> Self {
        Self { bucket: Bucket::unlimited(), queue: Queue::new(0, 0) }
    }

    pub(super) fn configure(&mut self, bounds: &Bounds) {
        self.bucket.set(bounds.bytes_per_second, bounds.burst());
        self.queue.set_bounds(bounds.queue_cells, bounds.queue_bytes);
    }

    /// Whether a cell with this body may go at once; it is then paid for.
    #[inline]
    pub(super) fn pass(&mut self, now: Timestamp, body: usize) -> bool {
        self.queue.is_empty() && self.bucket.take(now, cost(body))
    }

    /// The rate's bucket and the queues, for a successor or from a predecessor.
    pub(super) const fn parts(&mut self) -> (&mut Bucket, &mut Queue) {
        (&mut self.bucket, &mut self.queue)
    }

    /// The queues as they are.
    pub(super) const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The rate's bucket as it is.
    pub(super) const fn rate(&self) -> &Bucket {
        &self.bucket
    }

    pub(super) fn forget(&mut self, circuit: CircuitHandle) {
        self.queue.remove(circuit);
    }

    /// When the next waiting cell may go; none when no cell waits. Whose turn it will be is not
    /// known before it is taken, so the rate must allow the longest cell.
    pub(super) fn ready_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        (!self.queue.is_empty()).then(|| self.bucket.ready_at(now, MAX_DATAGRAM as u64))
    }

    fn pop(&mut self, now: Timestamp) -> Option<Popped> {
        if self.ready_at(now)? > now {
            return None;
        }
        let popped = self.queue.pop(now);
        if let Some((_, cell)) = &popped.cell {
            self.bucket.take(now, cost(cell.body.len()));
        }
        Some(popped)
    }
}

const fn cost(body: usize) -> u64 {
    (body + HEADER_LEN) as u64
}

impl Tunnel {
    /// Lets a cell wait for the rate.
    pub(super) fn enqueue(
        &mut self,
        now: Timestamp,
        circuit: CircuitHandle,
        leg: Leg,
        body: &[u8],
    ) -> Result<(), DropReason> {
        let gave_way = self.shaper.queue.push(now, circuit, (leg.link, leg.id), body);
        let gave_way = gave_way.map_err(|_| DropReason::QueueFull)?;
        self.counts.drop_many(DropReason::QueueMemory, gave_way);
        Ok(())
    }

    /// Sends what has waited and is within the rate now.
    pub(super) fn let_go(&mut self, now: Timestamp) {
        let end = self.extras.len() + BYTES_A_CALL;
        while self.extras.len() < end {
            let Some(popped) = self.shaper.pop(now) else { return };
            self.counts.drop_many(DropReason::QueueDelay, popped.late);
            let Some((_, cell)) = popped.cell else { return };
            let leg = Leg { link: cell.link, id: cell.id };
            if let Err(reason) = self.send_layer(leg, &cell.body) {
                self.counts.drop(reason);
            }
            self.shaper.queue.recycle(cell.body);
        }
    }
}

//! Datagrams that wait to be sent, in the buffers in which QUIC made them.

use std::collections::VecDeque;

use crate::Carrier;
use crate::settings::MTU;

/// Datagrams of one buffer.
pub(crate) const SEGMENTS: usize = 10;
/// Bytes of a buffer.
const BUFFER: usize = SEGMENTS * MTU as usize;
/// Buffers that are kept for what comes next. The last that was emptied is the first to be filled: it is likely to be in the
/// processor's cache.
const SPARES: usize = 16;

/// Datagrams, first in first out, each with the circuit it belongs to.
#[derive(Debug)]
pub(crate) struct Queue {
    runs: VecDeque<Run>,
    spare: Vec<Vec<u8>>,
    waiting: usize,
    limit: usize,
}

/// Datagrams of one circuit and one length, but for the last, which may be shorter.
#[derive(Debug)]
pub(crate) struct Run {
    carrier: Carrier,
    segment: usize,
    bytes: Vec<u8>,
    /// Where the first that was not taken starts.
    head: usize,
}

impl Run {
    /// Datagrams of `segment` bytes each but the last.
    pub(crate) fn new(carrier: Carrier, segment: usize, bytes: Vec<u8>) -> Self {
        Self { carrier, segment: segment.max(1), bytes, head: 0 }
    }

    pub(crate) fn datagrams(&self) -> usize {
        self.bytes.len().div_ceil(self.segment)
    }
}

impl Queue {
    /// One that is full when `limit` bytes wait.
    pub(crate) fn with_limit(limit: usize) -> Self {
        Self { runs: VecDeque::new(), spare: Vec::new(), waiting: 0, limit }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether nothing should be pushed. What is, is kept.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting >= self.limit
    }

    /// Full buffers for which there is room.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.waiting) / BUFFER
    }

    /// An empty buffer to fill.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BUFFER))
    }

    /// Takes a buffer back.
    pub(crate) fn give_back(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARES && buffer.capacity() >= BUFFER {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Takes the buffer from a `run` that is short: as much memory is to wait as bytes do, or four times that.
    pub(crate) fn shorten(&mut self, run: &mut Run) {
        if run.bytes.len() < BUFFER / 4 {
            let short = run.bytes.as_slice().to_vec();
            self.give_back(std::mem::replace(&mut run.bytes, short));
        }
    }

    /// Has `run` wait.
    pub(crate) fn push(&mut self, mut run: Run) {
        self.shorten(&mut run);
        if !run.bytes.is_empty() {
            self.waiting += run.bytes.len();
            self.runs.push_back(run);
        }
    }

    /// Gives the first datagram to `take`; none when there is none.
    pub(crate) fn pop<R>(&mut self, take: impl FnOnce(Carrier, &[u8]) -> R) -> Option<R> {
        let run = self.runs.front_mut()?;
        let rest = run.bytes.get(run.head..).unwrap_or_default();
        let datagram = rest.get(..run.segment).unwrap_or(rest);
        run.head += datagram.len();
        self.waiting -= datagram.len();
        let answer = take(run.carrier, datagram);
        if run.head >= run.bytes.len()
            && let Some(run) = self.runs.pop_front()
        {
            self.give_back(run.bytes);
        }
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use warren_schemas::CircuitHandle;

    use super::*;

    fn carrier(circuit: u32) -> Carrier {
        Carrier { worker: circuit as u8, circuit: CircuitHandle(circuit) }
    }

    fn push(queue: &mut Queue, circuit: u32, segment: usize, bytes: &[u8]) {
        queue.push(Run::new(carrier(circuit), segment, bytes.to_vec()));
    }

    #[test]
    fn datagrams_leave_in_order_with_their_circuits() {
        let mut queue = Queue::with_limit(1000);
        let pushed: [(u32, usize, &[u8]); 4] =
            [(1, 3, b"abcdefg"), (2, 4, b"hijk"), (1, 9, b"l"), (3, 3, b"")];
        for (circuit, segment, bytes) in pushed {
            push(&mut queue, circuit, segment, bytes);
        }
        let mut left = Vec::new();
        while let Some(one) = queue.pop(|from, bytes| (from, bytes.to_vec())) {
            left.push(one);
        }
        let expected: [(u32, &[u8]); 5] = [(1, b"abc"), (1, b"def"), (1, b"g"), (2, b"hijk"), (1, b"l")];
        assert_eq!(left, expected.map(|(circuit, bytes)| (carrier(circuit), bytes.to_vec())));
        assert!(queue.is_empty() && queue.waiting == 0);
    }

    #[test]
    fn a_queue_is_full_until_something_has_left() {
        let mut queue = Queue::with_limit(2 * BUFFER);
        assert_eq!((queue.is_full(), queue.room()), (false, 2));
        push(&mut queue, 1, 20, &[0; BUFFER]);
        push(&mut queue, 1, 20, &[0; BUFFER - 1]);
        assert_eq!((queue.is_full(), queue.room()), (false, 0));
        push(&mut queue, 1, 50, &[0; 50]);
        assert_eq!((queue.is_full(), queue.room()), (true, 0));
        assert_eq!(queue.pop(|_, bytes| bytes.len()), Some(20));
        assert!(queue.is_full());
        while queue.is_full() {
            assert_eq!(queue.pop(|_, bytes| bytes.len()), Some(20));
        }
    }

    #[test]
    fn memory_is_as_much_as_waits_and_some_buffers() {
        let mut queue = Queue::with_limit(usize::MAX);
        for length in [40, BUFFER / 4 - 1, BUFFER / 4, BUFFER] {
            (0..100).for_each(|_| {
                let mut bytes = queue.buffer();
                bytes.resize(length, 0);
                queue.push(Run::new(carrier(1), MTU.into(), bytes));
            });
        }
        let held: usize = queue.runs.iter().map(|run| run.bytes.capacity()).sum();
        assert!(held <= 4 * queue.waiting, "{held} of {}", queue.waiting);
        while queue.pop(|_, _| ()).is_some() {}
        assert_eq!(queue.spare.len(), SPARES);
        assert!(queue.spare.iter().all(|spare| spare.capacity() >= BUFFER && spare.is_empty()));
    }
}

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
struct Run {
    carrier: Carrier,
    segment: usize,
    bytes: Vec<u8>,
    /// Where the first that was not taken starts.
    head: usize,
}

impl Queue {
    /// One that gives out buffers as long as fewer than `limit` bytes wait.
    pub(crate) fn with_limit(limit: usize) -> Self {
        Self { runs: VecDeque::new(), spare: Vec::new(), waiting: 0, limit }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// An empty buffer to fill; none when as much waits as may.
    pub(crate) fn buffer(&mut self) -> Option<Vec<u8>> {
        (self.waiting < self.limit).then(|| self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BUFFER)))
    }

    /// Takes a buffer back.
    pub(crate) fn give_back(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARES {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Takes datagrams for `carrier`, each of `segment` bytes but the last.
    pub(crate) fn push(&mut self, carrier: Carrier, segment: usize, bytes: Vec<u8>) {
        if bytes.is_empty() {
            return self.give_back(bytes);
        }
        self.waiting += bytes.len();
        self.runs.push_back(Run { carrier, segment: segment.max(1), bytes, head: 0 });
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

    #[test]
    fn datagrams_leave_in_order_with_their_circuits() {
        let mut queue = Queue::with_limit(1000);
        let pushed: [(u32, usize, &[u8]); 4] =
            [(1, 3, b"abcdefg"), (2, 4, b"hijk"), (1, 9, b"l"), (3, 3, b"")];
        for (circuit, segment, bytes) in pushed {
            queue.push(carrier(circuit), segment, bytes.to_vec());
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
    fn a_full_queue_gives_no_buffer_until_there_is_room() {
        let mut queue = Queue::with_limit(100);
        let mut buffers = [(); 3].map(|()| queue.buffer().unwrap());
        buffers.iter_mut().for_each(|buffer| buffer.extend([0; 50]));
        let [one, two, three] = buffers;
        queue.push(carrier(1), 20, one);
        assert!(queue.buffer().is_some());
        queue.push(carrier(1), 50, two);
        assert!(queue.buffer().is_none());
        queue.give_back(three);
        assert!(queue.buffer().is_none());
        assert_eq!(queue.pop(|_, bytes| bytes.len()), Some(20));
        assert!(queue.buffer().is_some_and(|buffer| buffer.is_empty() && buffer.capacity() >= BUFFER));
    }

    #[test]
    fn few_emptied_buffers_are_kept() {
        let mut queue = Queue::with_limit(usize::MAX);
        (0..100).for_each(|_| queue.push(carrier(1), 10, vec![0; 10]));
        while queue.pop(|_, _| ()).is_some() {}
        assert_eq!(queue.spare.len(), SPARES);
    }
}

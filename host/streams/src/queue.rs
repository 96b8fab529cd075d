//! A bounded queue of datagrams in one buffer: nothing is allocated for a datagram.

use std::cell::Cell;
use std::collections::VecDeque;

use crate::Carrier;

/// Buffers that are kept for the next queue.
const SPARES: usize = 4;

thread_local! {
    /// Buffers of queues that were emptied on this thread, for the next that are filled: with many queues a
    /// buffer each would be more than the processor's cache holds.
    static SPARE: Cell<Vec<Vec<u8>>> = const { Cell::new(Vec::new()) };
}

/// Datagrams, first in first out, each with the circuit it belongs to. When it holds its limit
/// of bytes, `push` refuses.
#[derive(Debug)]
pub(crate) struct Queue {
    bytes: Vec<u8>,
    /// Where the first datagram starts.
    head: usize,
    entries: VecDeque<(Carrier, usize)>,
    limit: usize,
}

impl Queue {
    pub(crate) fn with_limit(limit: usize) -> Self {
        Self { bytes: Vec::new(), head: 0, entries: VecDeque::new(), limit }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that still fit.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.bytes.len() - self.head)
    }

    /// Answers whether it was kept.
    pub(crate) fn push(&mut self, carrier: Carrier, datagram: &[u8]) -> bool {
        if datagram.len() > self.room() {
            return false;
        }
        if self.bytes.capacity() == 0 {
            let mut spare = SPARE.take();
            self.bytes = spare.pop().unwrap_or_default();
            SPARE.set(spare);
        }
        if self.head > self.limit / 2 {
            self.bytes.drain(..self.head);
            self.head = 0;
        }
        self.bytes.extend_from_slice(datagram);
        self.entries.push_back((carrier, datagram.len()));
        true
    }

    /// Gives the first datagram to `take`; none when there is none.
    pub(crate) fn pop<R>(&mut self, take: impl FnOnce(Carrier, &[u8]) -> R) -> Option<R> {
        let (carrier, length) = self.entries.pop_front()?;
        Some(self.give(length, |bytes| take(carrier, bytes)))
    }

    /// Gives the first datagrams at once, with the length of each but the last, which may be shorter: of one
    /// circuit, at most `most` bytes. None when there is none, or the first has more.
    pub(crate) fn pop_run<R>(
        &mut self,
        most: usize,
        take: impl FnOnce(Carrier, usize, &[u8]) -> R,
    ) -> Option<R> {
        let (carrier, length) = *self.entries.front().filter(|(_, length)| *length <= most)?;
        let mut total = 0;
        while let Some((_, next)) = self
            .entries
            .pop_front_if(|(other, next)| *other == carrier && *next <= length && total + *next <= most)
        {
            total += next;
            if next < length {
                break;
            }
        }
        Some(self.give(total, |bytes| take(carrier, length, bytes)))
    }

    fn give<R>(&mut self, length: usize, take: impl FnOnce(&[u8]) -> R) -> R {
        let end = self.head + length;
        let answer = take(self.bytes.get(self.head..end).unwrap_or_default());
        self.head = end;
        if self.entries.is_empty() {
            self.bytes.clear();
            self.head = 0;
            let mut spare = SPARE.take();
            if spare.len() < SPARES {
                spare.push(std::mem::take(&mut self.bytes));
            }
            SPARE.set(spare);
        }
        answer
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
        let mut sent = Vec::new();
        let mut got = Vec::new();
        for index in 0..500u32 {
            let datagram = vec![index as u8; 1 + (index as usize * 7) % 90];
            assert!(queue.push(carrier(index), &datagram));
            sent.push((carrier(index), datagram));
            if index % 9 != 0 {
                got.extend(queue.pop(|circuit, bytes| (circuit, bytes.to_vec())));
            }
            if index % 50 == 0 {
                while let Some(one) = queue.pop(|circuit, bytes| (circuit, bytes.to_vec())) {
                    got.push(one);
                }
            }
            assert!(queue.bytes.len() <= 1500 + 90, "{}", queue.bytes.len());
        }
        while let Some(one) = queue.pop(|circuit, bytes| (circuit, bytes.to_vec())) {
            got.push(one);
        }
        assert_eq!(got, sent);
    }

    #[test]
    fn a_run_is_of_one_circuit_and_one_length() {
        let mut queue = Queue::with_limit(1000);
        let pushed: [(u32, &[u8]); 7] =
            [(1, b"abc"), (1, b"def"), (1, b"g"), (1, b"hij"), (2, b"klm"), (2, b"nop"), (2, b"qrst")];
        pushed.iter().for_each(|(circuit, bytes)| assert!(queue.push(carrier(*circuit), bytes)));
        let mut runs = Vec::new();
        while let Some(run) = queue.pop_run(7, |from, stride, bytes| (from.circuit.0, stride, bytes.to_vec()))
        {
            runs.push(run);
        }
        let expected: [(u32, usize, &[u8]); 4] =
            [(1, 3, b"abcdefg"), (1, 3, b"hij"), (2, 3, b"klmnop"), (2, 4, b"qrst")];
        assert_eq!(runs, expected.map(|(circuit, stride, bytes)| (circuit, stride, bytes.to_vec())));
        queue.push(carrier(1), b"too long");
        assert_eq!(queue.pop_run(7, |_, _, _| ()), None);
        assert_eq!(queue.pop(|_, bytes| bytes.len()), Some(8));
    }

    #[test]
    fn a_full_queue_refuses_until_there_is_room() {
        let mut queue = Queue::with_limit(100);
        assert!(queue.push(carrier(1), &[0; 60]));
        assert!(!queue.push(carrier(1), &[0; 41]));
        assert!(queue.push(carrier(1), &[0; 40]));
        assert_eq!(queue.room(), 0);
        assert_eq!(queue.pop(|_, bytes| bytes.len()), Some(60));
        assert!(queue.push(carrier(1), &[0; 60]));
    }
}

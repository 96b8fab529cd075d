//! What waits to be sent, gathered into runs that leave with one call each.

use std::collections::VecDeque;

use warren_schemas::Address;
use warren_schemas::cell::MAX_DATAGRAM;

/// Bytes of one run: UDP's limit of 65,507, less room for IPv6 options.
const MAX_RUN: usize = 64_000;
/// Datagrams of one run (Linux: UDP_MAX_SEGMENTS).
const MAX_SEGMENTS: usize = 64;
/// How many runs back a datagram may join one of its address.
const LOOK_BACK: usize = 32;
/// Buffers kept for the next runs.
const SPARE: usize = 64;
/// Bytes that wait by default, before datagrams are dropped.
const DEFAULT_LIMIT: usize = 4 << 20;

/// Datagrams that wait to be sent. Those of one address, one worker there and one length, the last perhaps
/// shorter, form a run that [`Socket::send`](crate::Socket::send) gives the kernel at once.
///
/// Order is kept for each worker of an address, not between them. When its limit is reached, new
/// datagrams are dropped and counted: what waits is older and was promised first.
#[derive(Debug)]
pub struct Outbox {
    runs: VecDeque<Run>,
    spare: Vec<Vec<u8>>,
    waiting: usize,
    limit: usize,
    dropped: u64,
}

/// Consecutive datagrams of one address.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) address: Address,
    /// The worker whose they are there: a kernel steers a whole run by its first datagram.
    worker: u8,
    /// Bytes of each datagram but the last.
    pub(crate) segment: usize,
    pub(crate) bytes: Vec<u8>,
    /// Bytes that have left already.
    pub(crate) sent: usize,
    open: bool,
    /// It was kept back once already.
    kept: bool,
}

impl Run {
    fn takes(&self, length: usize) -> bool {
        self.open && length <= self.segment
    }

    fn push(&mut self, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        let full = self.bytes.len() + self.segment > MAX_RUN.min(MAX_SEGMENTS * self.segment);
        self.open = datagram.len() == self.segment && !full;
    }
}

/// The top byte of the link id (docs/protocol.md, section 2); 0 where there is none.
fn worker_of(datagram: &[u8]) -> u8 {
    datagram.get(1).copied().unwrap_or_default()
}

impl Default for Outbox {
    fn default() -> Self {
        Self::with_limit(DEFAULT_LIMIT)
    }
}

impl Outbox {
    /// An outbox in which at most `limit` bytes wait.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self { runs: VecDeque::new(), spare: Vec::new(), waiting: 0, limit, dropped: 0 }
    }

    /// Takes a datagram of 1 to `MAX_DATAGRAM` bytes. Answers whether it was kept: not when its
    /// length is out of range or the outbox is full.
    pub fn push(&mut self, address: impl Into<Address>, datagram: &[u8]) -> bool {
        let (address, length) = (address.into(), datagram.len());
        if !(1..=MAX_DATAGRAM).contains(&length) || self.waiting + length > self.limit {
            self.dropped += 1;
            return false;
        }
        self.waiting += length;
        let worker = worker_of(datagram);
        let joins = |run: &&mut Run| run.address == address && run.worker == worker;
        let newest = self.runs.iter_mut().rev().take(LOOK_BACK).find(joins);
        match newest {
            Some(run) if run.takes(length) => run.push(datagram),
            newest => {
                // What comes later of this worker must not overtake it.
                if let Some(run) = newest {
                    run.open = false;
                }
                self.open_run(address, datagram);
            }
        }
        true
    }

    fn open_run(&mut self, address: Address, datagram: &[u8]) {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        let (worker, segment) = (worker_of(datagram), datagram.len());
        let mut run = Run { address, worker, segment, bytes, sent: 0, open: true, kept: false };
        run.push(datagram);
        let forgotten = self.runs.len().checked_sub(LOOK_BACK);
        if let Some(run) = forgotten.and_then(|index| self.runs.get_mut(index)) {
            run.open = false;
        }
        self.runs.push_back(run);
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Bytes that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Datagrams refused so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// A run, from 0 on.
    pub(crate) fn run(&mut self, index: usize) -> Option<&mut Run> {
        self.runs.get_mut(index)
    }

    /// The first run, from `index` on, that is not to be kept back for what may still join it. One that
    /// is will not be another time.
    pub(crate) fn closed(&mut self, index: usize) -> Option<usize> {
        (index..self.runs.len()).find(|index| {
            let run = self.runs.get_mut(*index);
            run.is_some_and(|run| !run.open || std::mem::replace(&mut run.kept, true))
        })
    }

    /// `bytes` more of a run have left or are lost.
    pub(crate) fn advance(&mut self, index: usize, bytes: usize) {
        let Some(run) = self.runs.get_mut(index) else { return };
        run.sent += bytes;
        run.open = false;
        self.waiting = self.waiting.saturating_sub(bytes);
        if run.sent < run.bytes.len() {
            return;
        }
        if let Some(run) = self.runs.remove(index)
            && self.spare.len() < SPARE
        {
            self.spare.push(run.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::new("192.0.2.1".parse().unwrap(), port)
    }

    fn lengths(outbox: &Outbox) -> Vec<(u16, usize, usize)> {
        outbox.runs.iter().map(|run| (run.address.port, run.segment, run.bytes.len())).collect()
    }

    #[test]
    fn interleaved_destinations_make_one_run_each() {
        let mut outbox = Outbox::default();
        for _ in 0..5 {
            assert!(outbox.push(address(1), &[1; 1300]));
            assert!(outbox.push(address(2), &[2; 1350]));
        }
        assert_eq!(lengths(&outbox), [(1, 1300, 6500), (2, 1350, 6750)]);
        assert_eq!(outbox.waiting(), 13_250);
    }

    #[test]
    fn workers_of_one_address_make_runs_of_their_own() {
        let mut outbox = Outbox::default();
        for number in 0..6u8 {
            let (worker, length) = (number % 2, if number < 4 { 100 } else { 50 });
            let mut datagram = vec![number; length];
            datagram[1] = worker;
            outbox.push(address(1), &datagram);
        }
        assert_eq!(lengths(&outbox), [(1, 100, 250), (1, 100, 250)]);
        let of = |run: &Run| -> Vec<u8> { run.bytes.iter().step_by(100).copied().collect() };
        assert_eq!(outbox.runs.iter().map(of).collect::<Vec<_>>(), [[0, 2, 4], [1, 3, 5]]);
    }

    #[test]
    fn a_shorter_datagram_ends_its_run_and_a_longer_one_starts_another() {
        let mut outbox = Outbox::default();
        for length in [100, 100, 50, 50, 60] {
            outbox.push(address(1), &vec![0; length]);
        }
        assert_eq!(lengths(&outbox), [(1, 100, 250), (1, 50, 50), (1, 60, 60)]);
    }

    #[test]
    fn a_run_ends_at_the_kernels_limits() {
        let mut outbox = Outbox::default();
        for _ in 0..65 {
            outbox.push(address(1), &[0; 100]);
        }
        for _ in 0..48 {
            outbox.push(address(2), &[0; 1350]);
        }
        let expected = [(1, 100, 6400), (1, 100, 100), (2, 1350, 63_450), (2, 1350, 1350)];
        assert_eq!(lengths(&outbox), expected);
    }

    #[test]
    fn a_run_is_kept_back_once_and_overtakes_nothing_of_its_own() {
        let mut outbox = Outbox::default();
        (0..47).for_each(|_| assert!(outbox.push(address(1), &[1; 1350])));
        assert!(outbox.push(address(2), &[2; 1350]));
        assert!(outbox.push(address(1), &[1; 1350]));
        assert_eq!((outbox.closed(0), outbox.closed(1)), (Some(0), None));
        outbox.advance(0, 47 * 1350);
        // It is still joined.
        assert!(outbox.push(address(2), &[2; 1350]));
        assert_eq!(lengths(&outbox), [(2, 1350, 2700), (1, 1350, 1350)]);
        assert_eq!((outbox.closed(0), outbox.closed(1)), (Some(0), Some(1)));
        // One that a longer datagram could not join does not wait behind it.
        let mut outbox = Outbox::default();
        assert!(outbox.push(address(1), &[1; 100]));
        assert!(outbox.push(address(1), &[1; 200]));
        assert_eq!((outbox.closed(0), outbox.closed(1)), (Some(0), None));
        // Nor does one that is no longer looked back to.
        let mut outbox = Outbox::default();
        (0..40).for_each(|port| assert!(outbox.push(address(port), &[1; 100])));
        assert_eq!((outbox.closed(7), outbox.closed(8)), (Some(7), None));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_counted() {
        let mut outbox = Outbox::with_limit(3000);
        assert!(!outbox.push(address(1), &[]));
        assert!(!outbox.push(address(1), &[0; MAX_DATAGRAM + 1]));
        assert!(outbox.push(address(1), &[0; 1350]));
        assert!(outbox.push(address(1), &[0; 1350]));
        assert!(!outbox.push(address(1), &[0; 1350]));
        assert_eq!((outbox.dropped(), outbox.waiting()), (3, 2700));
        outbox.advance(0, 1350);
        outbox.advance(0, 1350);
        assert!(outbox.is_empty());
        assert!(outbox.push(address(1), &[0; 1350]));
    }
}

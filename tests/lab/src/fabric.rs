//! All lines of a laboratory, and the datagrams on them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use warren_schemas::Timestamp;

use crate::way::{Conditions, Fate, Way};

/// Buffers kept for the next datagrams.
const SPARE: usize = 4096;

/// A node, by the order in which lines were added.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Node(pub usize);

/// What the line of a node is like.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Line {
    /// Away from the node.
    pub up: Conditions,
    /// To the node.
    pub down: Conditions,
}

/// What became of datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Arrived.
    pub delivered: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Found a queue full.
    pub full: u64,
    /// Found the box full.
    pub overflow: u64,
}

/// Where a datagram is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Leg {
    Up,
    Down,
}

#[derive(Debug)]
struct Parcel<T> {
    to: Node,
    leg: Leg,
    mark: T,
    bytes: Vec<u8>,
}

/// Lines in a star: what one node sends another goes up its own line and down the other's. The middle is
/// as fast as can be. `T` marks a datagram for the caller.
///
/// At most as many bytes as [`Fabric::new`] says are on their way; what comes on top is dropped and counted.
#[derive(Debug)]
pub struct Fabric<T> {
    lines: Vec<(Way, Way)>,
    /// By time, then by the order in which they came, then where the parcel is kept.
    due: BinaryHeap<Reverse<(Timestamp, u64, usize)>>,
    parcels: Vec<Option<Parcel<T>>>,
    free: Vec<usize>,
    spare: Vec<Vec<u8>>,
    order: u64,
    bytes: usize,
    limit: usize,
    counters: Counters,
}

impl<T> Fabric<T> {
    /// Without lines; at most `limit` bytes are on their way.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            lines: Vec::new(),
            due: BinaryHeap::new(),
            parcels: Vec::new(),
            free: Vec::new(),
            spare: Vec::new(),
            order: 0,
            bytes: 0,
            limit,
            counters: Counters { delivered: 0, lost: 0, full: 0, overflow: 0 },
        }
    }

    /// One more line; which datagrams get lost on it follows from `seed`.
    pub fn add(&mut self, line: Line, seed: u64) -> Node {
        self.lines.push((Way::new(line.up, seed), Way::new(line.down, !seed)));
        Node(self.lines.len() - 1)
    }

    /// Changes a line from the next datagram on.
    pub fn set(&mut self, node: Node, line: Line) {
        if let Some((up, down)) = self.lines.get_mut(node.0) {
            up.set(line.up);
            down.set(line.down);
        }
    }

    /// What was counted so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        self.counters
    }

    /// `from` sends `to` a datagram. A node that has no line is as near as can be.
    pub fn handle_datagram(&mut self, now: Timestamp, from: Node, to: Node, mark: T, datagram: &[u8]) {
        if self.bytes + datagram.len() > self.limit {
            self.counters.overflow += 1;
            return;
        }
        let Some(time) = self.pass(now, from, Leg::Up, datagram.len()) else { return };
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(datagram);
        self.bytes += bytes.len();
        self.keep(time, Parcel { to, leg: Leg::Up, mark, bytes });
    }

    /// When something is due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.due.peek().map(|Reverse((time, ..))| *time)
    }

    /// Gives `deliver` what has arrived by `now`, in the order of arrival.
    pub fn handle_timeout(&mut self, now: Timestamp, mut deliver: impl FnMut(&T, &[u8])) {
        while let Some(&Reverse((time, _, place))) = self.due.peek().filter(|due| due.0.0 <= now) {
            self.due.pop();
            self.free.push(place);
            let Some(mut parcel) = self.parcels.get_mut(place).and_then(Option::take) else { continue };
            if parcel.leg == Leg::Up {
                parcel.leg = Leg::Down;
                match self.pass(time, parcel.to, Leg::Down, parcel.bytes.len()) {
                    Some(arrival) => self.keep(arrival, parcel),
                    None => self.drop_parcel(parcel),
                }
                continue;
            }
            self.counters.delivered += 1;
            deliver(&parcel.mark, &parcel.bytes);
            self.drop_parcel(parcel);
        }
    }

    fn pass(&mut self, now: Timestamp, node: Node, leg: Leg, length: usize) -> Option<Timestamp> {
        let Some((up, down)) = self.lines.get_mut(node.0) else { return Some(now) };
        let way = if leg == Leg::Up { up } else { down };
        match way.take(now, length) {
            Fate::Arrives(time) => return Some(time),
            Fate::Lost => self.counters.lost += 1,
            Fate::Full => self.counters.full += 1,
        }
        None
    }

    fn keep(&mut self, time: Timestamp, parcel: Parcel<T>) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.parcels.push(None);
            self.parcels.len() - 1
        });
        if let Some(slot) = self.parcels.get_mut(place) {
            *slot = Some(parcel);
        }
        self.order += 1;
        self.due.push(Reverse((time, self.order, place)));
    }

    fn drop_parcel(&mut self, parcel: Parcel<T>) {
        self.bytes -= parcel.bytes.len();
        if self.spare.len() < SPARE {
            self.spare.push(parcel.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn delayed(millis: u64) -> Conditions {
        Conditions { delay: Duration::from_millis(millis), ..Conditions::default() }
    }

    /// Everything that arrives, with its time.
    fn run(fabric: &mut Fabric<u32>) -> Vec<(u64, u32)> {
        let mut arrived = Vec::new();
        while let Some(time) = fabric.poll_timeout() {
            fabric.handle_timeout(time, |mark, _| arrived.push((time.as_micros(), *mark)));
        }
        arrived
    }

    #[test]
    fn a_datagram_goes_up_one_line_and_down_another() {
        let mut fabric = Fabric::new(1 << 20);
        let one = fabric.add(Line { up: delayed(1), down: delayed(20) }, 1);
        let two = fabric.add(Line { up: delayed(300), down: delayed(4000) }, 2);
        fabric.handle_datagram(at(0), one, two, 7, b"there");
        fabric.handle_datagram(at(0), two, one, 8, b"back");
        assert_eq!(run(&mut fabric), [(320_000, 8), (4_001_000, 7)]);
        assert_eq!(fabric.counters(), Counters { delivered: 2, ..Counters::default() });
    }

    #[test]
    fn what_meets_on_a_line_shares_its_rate_in_the_order_in_which_it_comes() {
        let narrow = Conditions { bits_per_second: 8_000_000, queue_bytes: 1 << 20, ..Conditions::default() };
        let mut fabric = Fabric::new(1 << 20);
        let near = fabric.add(Line { up: delayed(1), ..Line::default() }, 1);
        let far = fabric.add(Line { up: delayed(2), ..Line::default() }, 2);
        let sink = fabric.add(Line { down: narrow, ..Line::default() }, 3);
        // The far one sends first, and is overtaken before the narrow part.
        fabric.handle_datagram(at(0), far, sink, 1, &[0; 972]);
        fabric.handle_datagram(at(500), near, sink, 2, &[0; 972]);
        fabric.handle_datagram(at(600), near, sink, 3, &[0; 972]);
        assert_eq!(run(&mut fabric), [(2500, 2), (3500, 3), (4500, 1)]);
    }

    #[test]
    fn bytes_arrive_as_they_were_sent_though_buffers_are_used_again() {
        let mut fabric = Fabric::new(1 << 20);
        let node = fabric.add(Line { down: delayed(1), ..Line::default() }, 1);
        for round in 0..100_u32 {
            let now = at(u64::from(round) * 300);
            let sent = vec![round as u8; 1350 - round as usize];
            fabric.handle_datagram(now, Node(9), node, round, &sent);
            fabric.handle_timeout(now, |mark, bytes| {
                assert_eq!(bytes, vec![*mark as u8; 1350 - *mark as usize]);
            });
        }
        assert_eq!(fabric.counters().delivered, 96);
        assert!(fabric.parcels.len() <= 6, "{}", fabric.parcels.len());
    }

    #[test]
    fn losses_are_counted_by_their_reason_and_the_box_is_bounded() {
        let mut fabric = Fabric::new(3000);
        let lossy =
            fabric.add(Line { up: Conditions { loss: 1.0, ..Conditions::default() }, ..Line::default() }, 1);
        let narrow = Conditions { bits_per_second: 1_000_000, ..Conditions::default() };
        let slow = fabric.add(Line { up: narrow, ..Line::default() }, 2);
        fabric.handle_datagram(at(0), lossy, slow, 0, &[0; 1000]);
        for mark in 0..2 {
            fabric.handle_datagram(at(0), slow, lossy, mark, &[0; 1000]);
        }
        for mark in 0..4 {
            fabric.handle_datagram(at(0), Node(9), lossy, mark, &[0; 1000]);
        }
        assert_eq!(fabric.counters(), Counters { delivered: 0, lost: 1, full: 1, overflow: 2 });
        assert_eq!(run(&mut fabric).len(), 3);
        assert_eq!((fabric.bytes, fabric.counters().delivered), (0, 3));
    }
}

//! What is to be looked at when: one heap, at most a few entries for each thing that has a timer.
//!
//! Entries are never taken out early. Whoever has a timer keeps in an [`Alarm`] the time of its
//! next valid entry; an entry that pops at another time is stale and skipped.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use warren_schemas::{CircuitHandle, LinkId, Timestamp};

/// Whose timer it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Whose {
    /// A link that stands.
    Link(LinkId),
    /// A link that waits for LINKED.
    Opening(LinkId),
    /// A circuit, whichever role we have on it.
    Circuit(CircuitHandle),
}

/// The time of the one valid entry of its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Alarm(Option<Timestamp>);

/// All timers of a tunnel.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Timestamp, Whose)>>,
}

impl Timers {
    /// Makes sure that `whose` is looked at no later than `at`.
    pub(crate) fn arm(&mut self, alarm: &mut Alarm, whose: Whose, at: Timestamp) {
        if alarm.0.is_none_or(|armed| at < armed) {
            alarm.0 = Some(at);
            self.heap.push(Reverse((at, whose)));
        }
    }

    /// All timers of a machine that has none yet, put in order at once.
    pub(crate) fn resume(entries: Vec<Reverse<(Timestamp, Whose)>>) -> Self {
        Self { heap: entries.into() }
    }

    /// When the next entry is due.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// The next entry that is due; its owner asks [`Alarm::rings`] whether it is still valid.
    pub(crate) fn pop(&mut self, now: Timestamp) -> Option<(Timestamp, Whose)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

impl Alarm {
    /// One whose entry goes to [`Timers::resume`].
    pub(crate) const fn of(at: Timestamp) -> Self {
        Self(Some(at))
    }

    /// The time it is set to.
    pub(crate) const fn at(self) -> Option<Timestamp> {
        self.0
    }

    /// Whether the entry of time `at` is the valid one; if so, none is any more.
    pub(crate) fn rings(&mut self, at: Timestamp) -> bool {
        let valid = self.0 == Some(at);
        if valid {
            self.0 = None;
        }
        valid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn an_earlier_time_replaces_a_later_one() {
        let (mut timers, mut alarm) = (Timers::default(), Alarm::default());
        let whose = Whose::Circuit(CircuitHandle(1));
        timers.arm(&mut alarm, whose, at(50));
        timers.arm(&mut alarm, whose, at(80));
        timers.arm(&mut alarm, whose, at(20));
        assert_eq!(timers.next(), Some(at(20)));
        assert_eq!(timers.pop(at(19)), None);
        let (first, _) = timers.pop(at(60)).unwrap();
        assert!(alarm.rings(first));
        let (stale, _) = timers.pop(at(60)).unwrap();
        assert!(!alarm.rings(stale));
        assert_eq!(timers.next(), None);
    }
}

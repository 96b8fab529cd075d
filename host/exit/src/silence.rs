//! How much a destination that never answers may be sent: what keeps an exit from being a
//! flooder's or a scanner's tool. One per circuit; pure, time is an argument.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use warren_schemas::Timestamp;

/// Datagrams to a destination that has not answered.
pub const MAX_UNANSWERED: u8 = 3;
/// New destinations that have not answered, in any [`WINDOW`].
pub const MAX_NEW_SILENT: usize = 25;
/// See [`MAX_NEW_SILENT`].
pub const WINDOW: Duration = Duration::from_secs(60);
/// After this long without a datagram from it, or to it while silent, a destination is new again.
pub const FORGET: Duration = Duration::from_secs(180);
/// Destinations remembered for one circuit; beyond them new ones are refused.
pub(crate) const MAX_DESTINATIONS: usize = 4096;

/// Why a datagram is not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// The destination was sent [`MAX_UNANSWERED`] and did not answer.
    Unanswered,
    /// Too many new destinations did not answer within the last minute, or too many are remembered.
    TooMany,
}

#[derive(Debug)]
struct Destination {
    /// When it was last heard, or while it was never heard, last sent to.
    seen: Timestamp,
    answered: bool,
    unanswered: u8,
}

impl Destination {
    fn is_stale(&self, now: Timestamp) -> bool {
        now.since(self.seen) >= FORGET
    }
}

/// The account of one circuit.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    destinations: HashMap<SocketAddr, Destination>,
    /// When each destination that is still silent was first sent to, oldest first.
    fresh: VecDeque<(Timestamp, SocketAddr)>,
}

impl Silence {
    /// Whether a datagram may go to `to` now; if so it is counted.
    ///
    /// # Errors
    /// When it may not.
    pub(crate) fn handle_send(&mut self, now: Timestamp, to: SocketAddr) -> Result<(), Refusal> {
        if self.destinations.get(&to).is_some_and(|known| known.is_stale(now)) {
            self.destinations.remove(&to);
        }
        let Some(known) = self.destinations.get_mut(&to) else { return self.admit(now, to) };
        if known.answered {
            return Ok(());
        }
        if known.unanswered >= MAX_UNANSWERED {
            return Err(Refusal::Unanswered);
        }
        known.unanswered = known.unanswered.saturating_add(1);
        known.seen = now;
        Ok(())
    }

    /// Notes that `from` answered.
    pub(crate) fn handle_answer(&mut self, now: Timestamp, from: SocketAddr) {
        let Some(known) = self.destinations.get_mut(&from) else { return };
        known.seen = now;
        if !std::mem::replace(&mut known.answered, true) {
            self.fresh.retain(|(_, silent)| *silent != from);
        }
    }

    fn admit(&mut self, now: Timestamp, to: SocketAddr) -> Result<(), Refusal> {
        while self.fresh.front().is_some_and(|(first, _)| now.since(*first) >= WINDOW) {
            self.fresh.pop_front();
        }
        if self.destinations.len() >= MAX_DESTINATIONS {
            self.destinations.retain(|_, known| !known.is_stale(now));
        }
        if self.fresh.len() >= MAX_NEW_SILENT || self.destinations.len() >= MAX_DESTINATIONS {
            return Err(Refusal::TooMany);
        }
        self.fresh.push_back((now, to));
        self.destinations.insert(to, Destination { seen: now, answered: false, unanswered: 1 });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(1_000_000 * (1_000 + seconds))
    }

    fn peer(n: u16) -> SocketAddr {
        SocketAddr::from(([9, 9, 9, 9], n))
    }

    #[test]
    fn a_silent_destination_gets_three() {
        let mut silence = Silence::default();
        for _ in 0..MAX_UNANSWERED {
            assert_eq!(silence.handle_send(at(0), peer(1)), Ok(()));
        }
        assert_eq!(silence.handle_send(at(1), peer(1)), Err(Refusal::Unanswered));
        assert_eq!(silence.handle_send(at(179), peer(1)), Err(Refusal::Unanswered));
        silence.handle_answer(at(179), peer(1));
        for _ in 0..1000 {
            assert_eq!(silence.handle_send(at(180), peer(1)), Ok(()));
        }
    }

    #[test]
    fn an_answer_does_not_last_for_ever() {
        let mut silence = Silence::default();
        silence.handle_send(at(0), peer(1)).unwrap();
        silence.handle_answer(at(1), peer(1));
        let later = 1 + FORGET.as_secs();
        for _ in 0..MAX_UNANSWERED {
            assert_eq!(silence.handle_send(at(later), peer(1)), Ok(()));
        }
        assert_eq!(silence.handle_send(at(later), peer(1)), Err(Refusal::Unanswered));
    }

    #[test]
    fn an_answer_nobody_waits_for_opens_nothing() {
        let mut silence = Silence::default();
        silence.handle_answer(at(0), peer(1));
        for _ in 0..MAX_UNANSWERED {
            silence.handle_send(at(0), peer(1)).unwrap();
        }
        assert_eq!(silence.handle_send(at(0), peer(1)), Err(Refusal::Unanswered));
    }

    #[test]
    fn twenty_five_new_silent_ones_a_minute() {
        let mut silence = Silence::default();
        for n in 0..25 {
            assert_eq!(silence.handle_send(at(0), peer(n)), Ok(()));
        }
        assert_eq!(silence.handle_send(at(0), peer(100)), Err(Refusal::TooMany));
        assert_eq!(silence.handle_send(at(0), peer(3)), Ok(()), "known ones still get their three");
        silence.handle_answer(at(1), peer(3));
        assert_eq!(silence.handle_send(at(1), peer(100)), Ok(()), "an answer makes room");
        assert_eq!(silence.handle_send(at(59), peer(101)), Err(Refusal::TooMany));
        for n in 200..224 {
            assert_eq!(silence.handle_send(at(60), peer(n)), Ok(()), "{n}");
        }
        assert_eq!(silence.handle_send(at(60), peer(300)), Err(Refusal::TooMany));
    }

    #[test]
    fn memory_is_bounded() {
        let mut silence = Silence::default();
        for n in 0..u16::MAX {
            if silence.handle_send(at(0), peer(n)).is_ok() {
                silence.handle_answer(at(0), peer(n));
            }
        }
        assert_eq!(silence.destinations.len(), MAX_DESTINATIONS);
        assert!(silence.fresh.is_empty());
        assert_eq!(silence.handle_send(at(0), peer(u16::MAX)), Err(Refusal::TooMany));
        assert_eq!(silence.handle_send(at(180), peer(u16::MAX)), Ok(()));
        assert_eq!(silence.destinations.len(), 1);
    }
}

//! One direction of a line: a queue before a rate, then a delay, then loss.

use std::time::Duration;

use warren_schemas::Timestamp;

/// Bytes that a datagram takes on the wire beside its own: IPv4's header and UDP's.
const HEADERS: u64 = 28;

/// What one direction of a line is like. The default lets everything through at once.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Conditions {
    /// Bits of IP datagrams a second; 0 is no limit.
    pub bits_per_second: u64,
    /// Bytes that may wait for the rate, with what is being sent. A newcomer that does not fit is dropped.
    pub queue_bytes: u64,
    /// How long what has left the queue is on its way.
    pub delay: Duration,
    /// The share of datagrams that get lost on it, each by itself, from 0 to 1.
    pub loss: f64,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is there at that time.
    Arrives(Timestamp),
    /// It got lost on its way.
    Lost,
    /// The queue was full.
    Full,
}

/// One direction of a line.
#[derive(Debug)]
pub struct Way {
    conditions: Conditions,
    /// When the last datagram of the queue has left, in nanoseconds: a datagram takes 0.1 µs at 100 Gbit/s.
    free_at: u64,
    random: u64,
}

impl Way {
    /// An empty one; which datagrams get lost follows from `seed`.
    #[must_use]
    pub const fn new(conditions: Conditions, seed: u64) -> Self {
        Self { conditions, free_at: 0, random: seed }
    }

    /// Other conditions from the next datagram on. What waits leaves as it was promised.
    pub const fn set(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// Takes a datagram of `length` bytes at `now`, which never goes back.
    pub fn take(&mut self, now: Timestamp, length: usize) -> Fate {
        let Conditions { bits_per_second, queue_bytes, delay, loss } = self.conditions;
        let nanos = now.as_micros().saturating_mul(1000);
        let start = self.free_at.max(nanos);
        if bits_per_second > 0 {
            let size = length as u64 + HEADERS;
            let waiting = waiting(start - nanos, bits_per_second);
            if start > nanos && waiting + size > queue_bytes {
                return Fate::Full;
            }
            self.free_at = start.saturating_add(size * 8 * 1_000_000_000 / bits_per_second);
        } else {
            self.free_at = start;
        }
        if loss > 0.0 && self.unit() < loss {
            return Fate::Lost;
        }
        Fate::Arrives(Timestamp::from_micros(self.free_at.div_ceil(1000)).after(delay))
    }

    /// From 0 to below 1, evenly: SplitMix64 (Steele, Lea, Flood 2014), its 53 highest bits.
    fn unit(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Bytes that take so many nanoseconds.
fn waiting(nanos: u64, bits_per_second: u64) -> u64 {
    let bytes = u128::from(nanos) * u128::from(bits_per_second) / 8_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: usize = 1350;

    fn at(micros: u64) -> Timestamp {
        Timestamp::from_micros(1_000_000 + micros)
    }

    /// Offers cells one after the other every `pause` microseconds for a second.
    fn offer(way: &mut Way, pause: usize) -> (Vec<u64>, usize, usize) {
        let (mut arrivals, mut lost, mut full) = (Vec::new(), 0, 0);
        for micros in (0..1_000_000).step_by(pause) {
            match way.take(at(micros), CELL) {
                Fate::Arrives(time) => arrivals.push(time.as_micros() - at(0).as_micros()),
                Fate::Lost => lost += 1,
                Fate::Full => full += 1,
            }
        }
        (arrivals, lost, full)
    }

    #[test]
    fn without_conditions_everything_is_there_at_once() {
        let (arrivals, lost, full) = offer(&mut Way::new(Conditions::default(), 1), 100);
        assert_eq!((lost, full), (0, 0));
        assert!(arrivals.iter().zip((0..).step_by(100)).all(|(arrival, sent)| *arrival == sent));
    }

    #[test]
    fn delay_is_added_and_order_kept() {
        let conditions = Conditions { delay: Duration::from_millis(50), ..Conditions::default() };
        let (arrivals, ..) = offer(&mut Way::new(conditions, 1), 100);
        assert!(arrivals.iter().zip((0..).step_by(100)).all(|(arrival, sent)| *arrival == sent + 50_000));
    }

    #[test]
    fn rate_is_the_rate_and_the_queue_holds_what_it_may() {
        // 1378 bytes on the wire every 55 µs are twice the rate of 100 Mbit/s.
        let queue_bytes = 100_000;
        let conditions = Conditions { bits_per_second: 100_000_000, queue_bytes, ..Conditions::default() };
        let (arrivals, lost, full) = offer(&mut Way::new(conditions, 1), 55);
        let seconds = *arrivals.last().unwrap() as f64 / 1e6;
        let rate = (arrivals.len() * (CELL + 28) * 8) as f64 / seconds;
        assert!((rate / 1e8 - 1.0).abs() < 0.001, "{rate}");
        assert_eq!(lost, 0);
        let expected = 1_000_000 / 55 - 9071 - 72;
        assert!(full.abs_diff(expected) < 5, "{full}, {expected}");
        // The last of a full queue waits for as long as the queue's bytes take.
        let longest = arrivals.iter().max().unwrap() - 1_000_000;
        assert!((7_800..=8_000).contains(&longest), "{longest}");
    }

    #[test]
    fn a_queue_of_nothing_takes_one_at_a_time() {
        let conditions = Conditions { bits_per_second: 1_000_000, queue_bytes: 0, ..Conditions::default() };
        let mut way = Way::new(conditions, 1);
        assert!(matches!(way.take(at(0), CELL), Fate::Arrives(_)));
        assert_eq!(way.take(at(0), CELL), Fate::Full);
        assert_eq!(way.take(at(11_000), CELL), Fate::Full);
        assert_eq!(way.take(at(11_024), CELL), Fate::Arrives(at(22_048)));
    }

    #[test]
    fn loss_is_as_frequent_as_it_is_said_and_follows_from_the_seed() {
        let conditions = Conditions { loss: 0.01, ..Conditions::default() };
        let run = |seed| offer(&mut Way::new(conditions, seed), 10);
        let (arrivals, lost, full) = run(7);
        assert_eq!((arrivals.len() + lost, full), (100_000, 0));
        // Five standard deviations: 5 · √(100,000 · 0.01 · 0.99) = 157.
        assert!(lost.abs_diff(1000) < 157, "{lost}");
        assert_eq!(run(7), (arrivals.clone(), lost, full));
        assert_ne!(run(8).0, arrivals);
    }

    #[test]
    fn what_is_lost_has_taken_its_time_on_the_wire() {
        let conditions = Conditions {
            bits_per_second: 1_102_400,
            queue_bytes: 1 << 20,
            loss: 1.0,
            ..Conditions::default()
        };
        let mut way = Way::new(conditions, 1);
        assert_eq!(way.take(at(0), CELL), Fate::Lost);
        way.set(Conditions { loss: 0.0, ..conditions });
        assert_eq!(way.take(at(0), CELL), Fate::Arrives(at(20_000)));
    }

    #[test]
    fn other_conditions_hold_from_the_next_datagram_on() {
        let slow = Conditions { bits_per_second: 1_102_400, queue_bytes: 1 << 20, ..Conditions::default() };
        let mut way = Way::new(slow, 1);
        assert_eq!(way.take(at(0), CELL), Fate::Arrives(at(10_000)));
        way.set(Conditions { bits_per_second: 11_024_000, ..slow });
        assert_eq!(way.take(at(0), CELL), Fate::Arrives(at(11_000)));
    }
}

//! A token bucket on virtual time.

use std::time::Duration;

use warren_schemas::Timestamp;
use warren_schemas::generated::state as fb;

const MICROS: u128 = 1_000_000;

/// So many units a second, with a burst. Units are bytes or handshakes. Holds its level in
/// millionths of a unit, so that no rate is lost to rounding.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    rate: u64,
    burst: u64,
    level: u128,
    filled: Timestamp,
}

impl Bucket {
    /// A full bucket; rate 0 is no limit.
    pub(crate) fn new(rate: u64, burst: u64) -> Self {
        Self { rate, burst, level: u128::from(burst) * MICROS, filled: Timestamp::default() }
    }

    /// A bucket without a limit.
    pub(crate) const fn unlimited() -> Self {
        Self { rate: 0, burst: 0, level: 0, filled: Timestamp::from_micros(0) }
    }

    /// What a successor goes on with: the level, not the rate, which is configuration.
    pub(crate) fn state(&self) -> fb::Bucket {
        fb::Bucket::new(u64::try_from(self.level).unwrap_or(u64::MAX), self.filled.as_micros())
    }

    /// Takes over a predecessor's level, up to this one's burst.
    pub(crate) fn resume(&mut self, now: Timestamp, state: &fb::Bucket) {
        self.level = u128::from(state.level()).min(u128::from(self.burst) * MICROS);
        self.filled = now.min(Timestamp::from_micros(state.filled()));
    }

    /// Whether there is no limit.
    pub(crate) const fn is_unlimited(&self) -> bool {
        self.rate == 0
    }

    /// Another rate from now on; what is in it stays, up to the new burst.
    pub(crate) fn set(&mut self, rate: u64, burst: u64) {
        self.rate = rate;
        self.burst = burst;
        self.level = self.level.min(u128::from(burst) * MICROS);
    }

    /// Takes `units` if they are there; more than a whole burst is granted by a full bucket.
    pub(crate) fn take(&mut self, now: Timestamp, units: u64) -> bool {
        if self.is_unlimited() {
            return true;
        }
        self.fill(now);
        let wanted = self.wanted(units);
        if self.level < wanted {
            return false;
        }
        self.level -= wanted;
        true
    }

    /// When `take` of `units` will do.
    pub(crate) fn ready_at(&mut self, now: Timestamp, units: u64) -> Timestamp {
        if self.is_unlimited() {
            return now;
        }
        self.fill(now);
        let missing = self.wanted(units).saturating_sub(self.level);
        let micros = missing.div_ceil(u128::from(self.rate));
        now.after(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }

    fn wanted(&self, units: u64) -> u128 {
        u128::from(units.min(self.burst)) * MICROS
    }

    fn fill(&mut self, now: Timestamp) {
        let gained = now.since(self.filled).as_micros() * u128::from(self.rate);
        self.level = (self.level.saturating_add(gained)).min(u128::from(self.burst) * MICROS);
        self.filled = self.filled.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(5_000_000_000 + millis * 1000)
    }

    #[test]
    fn gives_its_rate_and_no_more() {
        let mut bucket = Bucket::new(1000, 100);
        let mut given = 0;
        for milli in 0..10_000 {
            while bucket.take(at(milli), 7) {
                given += 7;
            }
        }
        assert!((9_990..=10_100).contains(&given), "{given}");
    }

    #[test]
    fn says_when_it_will_give() {
        let mut bucket = Bucket::new(1000, 100);
        assert!(bucket.take(at(0), 100));
        assert!(!bucket.take(at(0), 50));
        assert_eq!(bucket.ready_at(at(0), 50), at(50));
        assert!(bucket.take(at(50), 50));
    }

    #[test]
    fn more_than_a_burst_waits_for_a_full_bucket() {
        let mut bucket = Bucket::new(1000, 100);
        assert!(bucket.take(at(0), 500));
        assert_eq!(bucket.ready_at(at(0), 500), at(100));
    }

    #[test]
    fn time_that_stands_still_gives_nothing() {
        let mut bucket = Bucket::new(1000, 10);
        assert!(bucket.take(at(5), 10));
        assert!(!bucket.take(at(5), 1));
        assert!(!bucket.take(at(0), 1));
    }

    #[test]
    fn rate_zero_is_no_limit() {
        let mut bucket = Bucket::new(0, 0);
        assert!(bucket.take(at(0), u64::MAX));
        assert_eq!(bucket.ready_at(at(0), u64::MAX), at(0));
    }
}

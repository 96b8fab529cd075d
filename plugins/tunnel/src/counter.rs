//! The counters that make nonces: taken once each, sent as 32 bits, rebuilt to 64.

/// A sender's counter. Gives each value once; the last one, `u64::MAX`, never.
#[derive(Debug)]
pub struct Counter(u64);

impl Counter {
    /// A counter whose first value is 0.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// A counter that goes on at `next`, for the state of a predecessor that will never act again.
    #[must_use]
    pub const fn resume(next: u64) -> Self {
        Self(next)
    }

    /// The next value; none when there is none left.
    #[must_use]
    pub fn take(&mut self) -> Option<u64> {
        let value = self.0;
        self.0 = value.checked_add(1)?;
        Some(value)
    }

    /// The value that comes next.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.0
    }
}

impl Default for Counter {
    fn default() -> Self {
        Self::new()
    }
}

/// The counter with these low 32 bits that is closest to `expected`, the higher one of two
/// equally close (RFC 9000, appendix A.3, with 64 bits instead of 62).
#[inline]
#[must_use]
pub fn rebuild(expected: u64, low: u32) -> u64 {
    const SPAN: u64 = 1 << 32;
    const HALF: u64 = SPAN / 2;
    let candidate = (expected & !(SPAN - 1)) | u64::from(low);
    if expected >= HALF && candidate <= expected - HALF {
        return candidate.checked_add(SPAN).unwrap_or(candidate);
    }
    if candidate > expected.saturating_add(HALF) && candidate >= SPAN {
        return candidate - SPAN;
    }
    candidate
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, by trying the three neighbours.
    fn closest(expected: u64, low: u32) -> u64 {
        let base = expected & !0xffff_ffff | u64::from(low);
        [base.checked_sub(1 << 32), Some(base), base.checked_add(1 << 32)]
            .into_iter()
            .flatten()
            .min_by_key(|value| (value.abs_diff(expected), u64::MAX - value))
            .unwrap()
    }

    #[test]
    fn rfc_9000_example() {
        // RFC 9000, A.3, has 16 bits: 0xa82f30ea and 0x9b32. With 32 bits the same shape:
        assert_eq!(rebuild(0x1_a82f_30eb, 0x0000_0001), 0x2_0000_0001);
        assert_eq!(rebuild(0x2_0000_0001, 0xffff_ffff), 0x1_ffff_ffff);
        assert_eq!(rebuild(0, u32::MAX), 0xffff_ffff);
        assert_eq!(rebuild(u64::MAX, 0), u64::MAX - 0xffff_ffff);
    }

    #[test]
    fn takes_each_value_once_and_never_the_last() {
        let mut counter = Counter::resume(u64::MAX - 2);
        assert_eq!(counter.take(), Some(u64::MAX - 2));
        assert_eq!(counter.take(), Some(u64::MAX - 1));
        assert_eq!(counter.take(), None);
        assert_eq!(counter.take(), None);
    }

    proptest! {
        #[test]
        fn rebuilds_the_closest(expected: u64, low: u32) {
            prop_assert_eq!(rebuild(expected, low), closest(expected, low));
        }

        #[test]
        fn rebuilds_what_was_sent_when_it_is_near(sent: u64, ahead in -(1i64 << 31) + 1..1i64 << 31) {
            if let Some(expected) = sent.checked_add_signed(ahead) {
                prop_assert_eq!(rebuild(expected, sent as u32), sent);
            }
        }
    }
}

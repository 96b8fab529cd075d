//! Choices that follow from a seed.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// SipHash over a counter: whoever sees some choices cannot work out the next ones without the seed.
#[derive(Debug)]
pub(crate) struct Random {
    keyed: SipHasher13,
    counter: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // The second half is any constant: the seed is all the secret there is.
        Self { keyed: SipHasher13::new_with_keys(seed, 0x7761_7272_656e_2070), counter: 0 }
    }

    pub(crate) fn next(&mut self) -> u64 {
        let mut hasher = self.keyed;
        hasher.write_u64(self.counter);
        self.counter = self.counter.wrapping_add(1);
        hasher.finish()
    }

    /// Evenly in (0, 1].
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

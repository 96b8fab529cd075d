//! Tables for the way of a cell, and for what is remembered for a while.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use warren_schemas::Timestamp;

/// A map whose keys are numbers that we chose ourselves: nobody can make them collide. Its order
/// differs between native and Wasm builds, so nothing that goes out may depend on it.
pub(crate) type OwnIdMap<K, V> = HashMap<K, V, BuildHasherDefault<OwnIdHasher>>;

/// Fibonacci hashing of one 32-bit number.
#[derive(Default)]
pub(crate) struct OwnIdHasher(u64);

impl Hasher for OwnIdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        let product = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // A 32-bit usize keeps the low half only.
        self.0 = product ^ (product >> 32);
    }
}

/// What is remembered for a fixed time, at most so much of it: the oldest gives way, so that nobody
/// can shut others out by filling it. Keys may come from outside.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    entries: BTreeMap<K, V>,
    ends: VecDeque<(Timestamp, K)>,
    most: usize,
}

impl<K: Ord + Clone, V> Recent<K, V> {
    /// Remembers at most `most` entries.
    pub(crate) const fn new(most: usize) -> Self {
        Self { entries: BTreeMap::new(), ends: VecDeque::new(), most }
    }

    /// What is remembered under `key`.
    pub(crate) fn get(&mut self, now: Timestamp, key: &K) -> Option<&V> {
        self.expire(now);
        self.entries.get(key)
    }

    /// Remembers a new key until `end`, which never lies before an earlier one's.
    pub(crate) fn insert(&mut self, key: K, value: V, end: Timestamp) {
        if self.entries.insert(key.clone(), value).is_none() {
            self.ends.push_back((end, key));
        }
        while self.entries.len() > self.most {
            let Some((_, oldest)) = self.ends.pop_front() else { break };
            self.entries.remove(&oldest);
        }
    }

    /// What is remembered, in the order in which it ends.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&K, Option<&V>, Timestamp)> {
        self.ends.iter().map(|(end, key)| (key, self.entries.get(key), *end))
    }

    /// Forgets what has ended; [`Recent::get`] does so by itself.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        while self.ends.front().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, key)) = self.ends.pop_front() {
                self.entries.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recent_is_forgotten_in_time() {
        let at = Timestamp::from_micros;
        let mut recent = Recent::new(2);
        recent.insert(1, 'a', at(10));
        recent.insert(2, 'b', at(20));
        assert_eq!(recent.get(at(9), &1), Some(&'a'));
        assert_eq!(recent.get(at(10), &1), None);
        assert_eq!(recent.get(at(10), &2), Some(&'b'));
    }

    #[test]
    fn the_oldest_gives_way() {
        let at = Timestamp::from_micros;
        let mut recent = Recent::new(2);
        for key in 1..=5 {
            recent.insert(key, (), at(10 + key));
        }
        let kept: Vec<u64> = (1..=5).filter(|key| recent.get(at(0), key).is_some()).collect();
        assert_eq!(kept, [4, 5]);
        assert_eq!(recent.ends.len(), 2);
    }

    #[test]
    fn ids_spread_over_a_table() {
        let mut low = std::collections::HashSet::new();
        for id in 0..1024u32 {
            let mut hasher = OwnIdHasher::default();
            hasher.write_u32(id);
            low.insert(hasher.finish() as u32 % 1024);
        }
        assert!(low.len() > 600, "{}", low.len());
    }
}

//! Which workers take new circuits, known to all threads.

use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};

/// A range of worker indices that may change at any time.
#[derive(Debug)]
pub(crate) struct Open(AtomicU16);

impl Open {
    pub(crate) fn new(workers: &Range<u8>) -> Self {
        Self(AtomicU16::new(pack(workers)))
    }

    pub(crate) fn get(&self) -> Range<u8> {
        let [start, end] = self.0.load(Ordering::Relaxed).to_be_bytes();
        start..end
    }

    pub(crate) fn set(&self, workers: &Range<u8>) {
        self.0.store(pack(workers), Ordering::Relaxed);
    }
}

fn pack(workers: &Range<u8>) -> u16 {
    u16::from_be_bytes([workers.start, workers.end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_reads_as_it_was_set() {
        let open = Open::new(&(0..2));
        assert_eq!(open.get(), 0..2);
        open.set(&(127..254));
        assert_eq!(open.get(), 127..254);
    }
}

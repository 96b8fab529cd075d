//! Every (key, counter) that a sealer takes on this thread, while it is watched.

use std::cell::RefCell;
use std::collections::HashSet;

type Taken = HashSet<(Vec<u8>, u64)>;

thread_local! {
    static SEEN: RefCell<Option<Taken>> = const { RefCell::new(None) };
}

/// Watches from now on.
pub(crate) fn watch() {
    SEEN.set(Some(HashSet::new()));
}

/// How many were taken since.
pub(crate) fn count() -> usize {
    SEEN.with_borrow(|seen| seen.as_ref().map_or(0, HashSet::len))
}

/// A sealer takes a counter.
///
/// # Panics
/// When it was taken before under that key.
pub(crate) fn note(key: &[u8], counter: u64) {
    SEEN.with_borrow_mut(|seen| {
        if let Some(seen) = seen {
            assert!(seen.insert((key.to_vec(), counter)), "counter {counter} comes twice under one key");
        }
    });
}

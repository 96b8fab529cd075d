//! The window that refuses what was seen before.

use crate::counter::rebuild;

/// How many counters a window remembers.
pub const WINDOW: u64 = 4096;
const WORDS: usize = (WINDOW / 64) as usize;

/// Remembers which of the last [`WINDOW`] counters were authenticated. 24 bytes, and 512 more once
/// there were more than 64: most circuits of a relay carry little.
#[derive(Clone)]
pub struct ReplayWindow {
    /// One more than the highest counter that was marked.
    next: u64,
    /// The first word, while it is the only one that ever had a mark.
    first: u64,
    /// All of them from the first mark above it on.
    words: Option<Box<[u64; WORDS]>>,
}

impl ReplayWindow {
    /// A window that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: 0, first: 0, words: None }
    }

    /// Its words as they stand in memory, without those never used: with `next`, all there is.
    pub(crate) fn words(&self) -> &[u64] {
        let used = usize::try_from(self.next.div_ceil(64)).map_or(WORDS, |used| used.min(WORDS));
        let words = self.words.as_ref().map_or(std::slice::from_ref(&self.first), |words| &words[..]);
        words.get(..used.min(words.len())).unwrap_or_default()
    }

    /// The window that `next` and `words` describe; none when there are too many words.
    pub(crate) fn resume(next: u64, mut words: impl ExactSizeIterator<Item = u64>) -> Option<Self> {
        let first = words.next().unwrap_or(0);
        Self::resume_apart(next, first, words)
    }

    /// The same with the first word apart.
    pub(crate) fn resume_apart(
        next: u64,
        first: u64,
        rest: impl ExactSizeIterator<Item = u64>,
    ) -> Option<Self> {
        let mut window = Self { next, first, words: None };
        if rest.len() >= WORDS {
            return None;
        }
        if rest.len() > 0 {
            window.grow().iter_mut().skip(1).zip(rest).for_each(|(to, from)| *to = from);
        }
        Some(window)
    }

    /// The word of that place; a place without memory was never marked.
    #[inline]
    fn word(&self, place: usize) -> u64 {
        match &self.words {
            Some(words) => words.get(place).copied().unwrap_or(u64::MAX),
            None if place == 0 => self.first,
            None => 0,
        }
    }

    #[inline]
    fn word_mut(&mut self, place: usize) -> Option<&mut u64> {
        if self.words.is_none() && place == 0 {
            return Some(&mut self.first);
        }
        self.grow().get_mut(place)
    }

    fn grow(&mut self) -> &mut [u64; WORDS] {
        let first = self.first;
        self.words.get_or_insert_with(|| {
            let mut words = Box::new([0; WORDS]);
            if let Some(word) = words.first_mut() {
                *word = first;
            }
            words
        })
    }

    /// One more than the highest counter marked so far.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// The whole counter whose low half came over the wire, if it may still be taken.
    #[inline]
    #[must_use]
    pub fn fresh(&self, low: u32) -> Option<u64> {
        let counter = rebuild(self.next, low);
        self.is_fresh(counter).then_some(counter)
    }

    /// Whether `counter` lies in or above the window and was not marked.
    #[inline]
    #[must_use]
    pub fn is_fresh(&self, counter: u64) -> bool {
        if counter >= self.next {
            return counter != u64::MAX;
        }
        self.next - counter <= WINDOW && self.word(word(counter)) & bit(counter) == 0
    }

    /// Marks `counter`, which was just authenticated and is fresh.
    #[inline]
    pub fn mark(&mut self, counter: u64) {
        if counter >= self.next {
            self.forget(self.next, counter);
            self.next = counter.saturating_add(1);
        }
        if let Some(bits) = self.word_mut(word(counter)) {
            *bits |= bit(counter);
        }
    }

    /// Clears the places of `from` to `to`, both included.
    fn forget(&mut self, from: u64, to: u64) {
        if to - from >= WINDOW {
            self.first = 0;
            if let Some(words) = &mut self.words {
                **words = [0; WORDS];
            }
            return;
        }
        let mut at = from;
        while at <= to {
            let span = (64 - at % 64).min(to - at + 1);
            let mask = (u64::MAX >> (64 - span)) << (at % 64);
            // Where there is no memory there is no mark to clear.
            match &mut self.words {
                Some(words) => {
                    if let Some(bits) = words.get_mut(word(at)) {
                        *bits &= !mask;
                    }
                }
                None if word(at) == 0 => self.first &= !mask,
                None => {}
            }
            at = at.saturating_add(span);
        }
    }
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new()
    }
}

#[inline]
const fn word(counter: u64) -> usize {
    (counter / 64) as usize % WORDS
}

#[inline]
const fn bit(counter: u64) -> u64 {
    1 << (counter % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// Remembers everything.
    #[derive(Default)]
    struct Model {
        seen: HashSet<u64>,
        highest: Option<u64>,
    }

    impl Model {
        fn take(&mut self, counter: u64) -> bool {
            let old = self.highest.is_some_and(|highest| counter + WINDOW <= highest);
            let fresh = !old && self.seen.insert(counter);
            if fresh {
                self.highest = self.highest.max(Some(counter));
            }
            fresh
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn agrees_with_a_model_that_remembers_everything(
            start in prop_oneof![Just(0u64), 0..1u64 << 40],
            steps in prop::collection::vec(prop_oneof![
                8 => -3i64..5, 4 => -5000i64..5000, 2 => -200i64..70, 1 => 4000i64..4200, 1 => -4200i64..-4000,
            ], 1..400),
        ) {
            let (mut window, mut model) = (ReplayWindow::new(), Model::default());
            let mut at = start;
            for step in steps {
                at = at.saturating_add_signed(step);
                let fresh = window.is_fresh(at);
                prop_assert_eq!(fresh, model.take(at), "counter {}", at);
                if fresh {
                    window.mark(at);
                }
                prop_assert!(!window.is_fresh(at));
            }
        }
    }

    #[test]
    fn what_is_written_down_goes_on_as_it_was() {
        for marked in [0, 1, 63, 64, 65, 4095, 4096, 10_000] {
            let mut window = ReplayWindow::new();
            (0..marked).step_by(3).for_each(|counter| window.mark(counter));
            let again = ReplayWindow::resume(window.next(), window.words().iter().copied()).unwrap();
            assert_eq!(again.words(), window.words());
            assert!(again.words.is_some() == (window.next() > 64));
            for counter in 0..marked + 5000 {
                assert_eq!(again.is_fresh(counter), window.is_fresh(counter), "{counter} of {marked}");
            }
        }
        assert!(ReplayWindow::resume(1, [0; 65].into_iter()).is_none());
        // No window writes this; it must not take what it should refuse, and go on.
        let mut short = ReplayWindow::resume(1000, [u64::MAX].into_iter()).unwrap();
        assert!(!short.is_fresh(63) && short.is_fresh(64) && short.is_fresh(2000));
        short.mark(64);
        assert!(!short.is_fresh(63) && !short.is_fresh(64) && short.is_fresh(65));
    }

    #[test]
    fn edges_of_the_window() {
        let mut window = ReplayWindow::new();
        window.mark(WINDOW);
        assert!(!window.is_fresh(0));
        assert!(window.is_fresh(1));
        assert!(!window.is_fresh(u64::MAX));
        window.mark(u64::MAX - 1);
        assert!(!window.is_fresh(u64::MAX - 1));
        assert!(window.is_fresh(u64::MAX - WINDOW));
        assert!(!window.is_fresh(u64::MAX - WINDOW - 1));
    }
}

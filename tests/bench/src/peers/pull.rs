//! A download over UDP: asks a [`Source`](super::source::Source) for datagrams, and again for those that got lost.

use std::collections::VecDeque;
use std::time::Duration;

use super::source::{CONTENT, MAX_BURST, number};

/// How long until a request is made again: many times the round trip on one machine.
const RETRY: Duration = Duration::from_millis(100);

/// One request under way.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Asked {
    first: u32,
    count: u16,
    at: Duration,
}

/// A download's state. No I/O; time is an argument, counted from any moment.
pub(super) struct Pull {
    got: Vec<bool>,
    left: usize,
    next: u32,
    on_the_way: usize,
    window: usize,
    /// Oldest first; at most one for each datagram of the window.
    asked: VecDeque<Asked>,
}

impl Pull {
    /// A download of `bytes` bytes, rounded up to whole datagrams, of which at most `window` are on their way at once.
    pub(super) fn new(bytes: u64, window: usize) -> Self {
        let count = usize::try_from(bytes.div_ceil(CONTENT as u64)).unwrap_or(usize::MAX);
        Self { got: vec![false; count], left: count, next: 0, on_the_way: 0, window, asked: VecDeque::new() }
    }

    /// Whether everything came.
    pub(super) const fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Datagrams that came, none counted twice.
    pub(super) fn received(&self) -> usize {
        self.got.len() - self.left
    }

    /// Takes a datagram. Others' and those that came before are passed over.
    pub(super) fn handle_datagram(&mut self, bytes: &[u8]) {
        let slot = number(bytes).and_then(|index| self.got.get_mut(index as usize));
        if let Some(slot) = slot.filter(|slot| !**slot) {
            *slot = true;
            self.left -= 1;
            self.on_the_way = self.on_the_way.saturating_sub(1);
        }
    }

    /// The next request to send, as first number and count.
    pub(super) fn poll_request(&mut self, now: Duration) -> Option<(u32, u16)> {
        if let Some(again) = self.poll_again(now) {
            return Some(again);
        }
        let left = self.got.len() - self.next as usize;
        let count = left.min(self.window.saturating_sub(self.on_the_way)).min(MAX_BURST.into());
        if count < usize::from(MAX_BURST).min(left.max(1)) {
            return None;
        }
        let asked = Asked { first: self.next, count: u16::try_from(count).ok()?, at: now };
        self.asked.push_back(asked);
        self.next += u32::from(asked.count);
        self.on_the_way += count;
        Some((asked.first, asked.count))
    }

    /// What of the oldest request is missing and overdue: the first run of it.
    fn poll_again(&mut self, now: Duration) -> Option<(u32, u16)> {
        while let Some(oldest) = self.asked.front_mut() {
            let end = oldest.first + u32::from(oldest.count);
            let is_missing = |index: &u32| self.got.get(*index as usize) == Some(&false);
            let Some(first) = (oldest.first..end).find(is_missing) else {
                self.asked.pop_front();
                continue;
            };
            if now.saturating_sub(oldest.at) < RETRY {
                return None;
            }
            let after = (first..end).find(|index| !is_missing(index)).unwrap_or(end);
            let count = u16::try_from(after - first).ok()?;
            *oldest = Asked { first: after, count: u16::try_from(end - after).ok()?, at: oldest.at };
            self.asked.push_back(Asked { first, count, at: now });
            return Some((first, count));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::datagram;
    use super::*;

    fn ask_all(pull: &mut Pull, now: Duration) -> Vec<u32> {
        let mut wanted = Vec::new();
        while let Some((first, count)) = pull.poll_request(now) {
            wanted.extend(first..first + u32::from(count));
        }
        wanted
    }

    #[test]
    fn never_more_than_the_window_is_on_its_way() {
        let mut pull = Pull::new(1000 * CONTENT as u64, 64);
        let now = Duration::ZERO;
        assert_eq!(ask_all(&mut pull, now), (0..64).collect::<Vec<_>>());
        for index in 0..15 {
            pull.handle_datagram(&datagram(index));
        }
        assert_eq!(pull.poll_request(now), None);
        pull.handle_datagram(&datagram(15));
        assert_eq!(ask_all(&mut pull, now), (64..80).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_lost_is_asked_for_again_until_all_is_there() {
        let mut pull = Pull::new(333 * CONTENT as u64 - 1, 64);
        let (mut now, mut turn, mut asked) = (Duration::ZERO, 0, 0);
        while !pull.is_done() {
            for index in ask_all(&mut pull, now) {
                asked += 1;
                turn += 1;
                if turn % 7 != 0 {
                    pull.handle_datagram(&datagram(index));
                    pull.handle_datagram(&datagram(index));
                }
            }
            now += RETRY;
        }
        assert_eq!(pull.received(), 333);
        assert!(asked > 333 + 333 / 7 && asked < 2 * 333, "{asked}");
        assert_eq!(pull.poll_request(now), None);
    }
}

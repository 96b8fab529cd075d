//! Who is connected, when each is asked for descriptors, and how often each may ask.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::PeerId;
use warren_schemas::Timestamp;

/// When a neighbour is asked again after an answer. The first ones are short: what it learned
/// while the connection came up may have missed our subscription. Then gossip brings what is new,
/// and asking mends what gossip lost.
const AGAIN: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(20), Duration::from_secs(180)];
/// After wrong descriptors, or no answer at all.
const AGAIN_AFTER_FAULT: Duration = Duration::from_secs(600);
/// Most pages taken in a row; a full store is 10.
const MAX_PAGES: u32 = 16;
/// Requests a neighbour may make at once, and how fast it may go on.
const BURST: u32 = 32;
const REFILL: Duration = Duration::from_secs(4);

#[derive(Debug)]
struct Neighbour {
    ask_at: Option<Timestamp>,
    answers: usize,
    pages: u32,
    tokens: u32,
    refilled: Timestamp,
}

#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    map: HashMap<PeerId, Neighbour>,
}

impl Neighbours {
    /// Says whether it is a new one.
    pub(crate) fn insert(&mut self, now: Timestamp, peer: PeerId) -> bool {
        let fresh = Neighbour { ask_at: Some(now), answers: 0, pages: 0, tokens: BURST, refilled: now };
        let known = self.map.contains_key(&peer);
        self.map.entry(peer).or_insert(fresh);
        !known
    }

    pub(crate) fn remove(&mut self, peer: &PeerId) {
        self.map.remove(peer);
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Whom to ask now. Each is due again only after [`answered`](Self::answered) or
    /// [`failed`](Self::failed).
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Vec<PeerId> {
        let due = self.map.iter_mut().filter(|(_, neighbour)| neighbour.ask_at.is_some_and(|at| at <= now));
        due.map(|(peer, neighbour)| {
            (neighbour.ask_at, neighbour.pages) = (None, 0);
            *peer
        })
        .collect()
    }

    /// It answered. Says whether to ask for the next page at once.
    pub(crate) fn answered(&mut self, now: Timestamp, peer: &PeerId, more: bool) -> bool {
        let Some(neighbour) = self.map.get_mut(peer) else { return false };
        neighbour.pages += 1;
        if more && neighbour.pages < MAX_PAGES {
            return true;
        }
        let pause = AGAIN.get(neighbour.answers).or(AGAIN.last()).copied().unwrap_or(AGAIN_AFTER_FAULT);
        neighbour.answers = neighbour.answers.saturating_add(1);
        neighbour.ask_at = Some(now.after(pause));
        false
    }

    /// It did not answer, or wrongly.
    pub(crate) fn failed(&mut self, now: Timestamp, peer: &PeerId) {
        if let Some(neighbour) = self.map.get_mut(peer) {
            neighbour.ask_at = Some(now.after(AGAIN_AFTER_FAULT));
        }
    }

    /// Whether its request is answered, by its token bucket.
    pub(crate) fn may_ask(&mut self, now: Timestamp, peer: &PeerId) -> bool {
        let Some(neighbour) = self.map.get_mut(peer) else { return false };
        while neighbour.tokens < BURST && now.since(neighbour.refilled) >= REFILL {
            neighbour.tokens += 1;
            neighbour.refilled = neighbour.refilled.after(REFILL);
        }
        if neighbour.tokens == BURST {
            neighbour.refilled = now;
        }
        neighbour.tokens.checked_sub(1).map(|left| neighbour.tokens = left).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);

    #[test]
    fn asks_at_once_then_ever_more_rarely() {
        let (mut neighbours, peer) = (Neighbours::default(), PeerId::random());
        assert!(neighbours.insert(NOW, peer));
        assert!(!neighbours.insert(NOW, peer), "a second connection is the same neighbour");
        let mut now = NOW;
        for pause in [1, 4, 20, 180, 180] {
            assert_eq!(neighbours.take_due(now), [peer]);
            assert!(neighbours.take_due(now).is_empty(), "one question at a time");
            assert!(!neighbours.answered(now, &peer, false));
            now = now.after(Duration::from_secs(pause));
        }
    }

    #[test]
    fn pages_without_end_are_not_followed() {
        let (mut neighbours, peer) = (Neighbours::default(), PeerId::random());
        neighbours.insert(NOW, peer);
        neighbours.take_due(NOW);
        let followed = (0..100).take_while(|_| neighbours.answered(NOW, &peer, true)).count();
        assert_eq!(followed, 15);
    }

    #[test]
    fn a_greedy_neighbour_is_held_back() {
        let (mut neighbours, peer) = (Neighbours::default(), PeerId::random());
        neighbours.insert(NOW, peer);
        let asked =
            |neighbours: &mut Neighbours, now| (0..100).filter(|_| neighbours.may_ask(now, &peer)).count();
        assert_eq!(asked(&mut neighbours, NOW), 32);
        assert_eq!(asked(&mut neighbours, NOW.after(Duration::from_secs(9))), 2);
        assert_eq!(asked(&mut neighbours, NOW.after(Duration::from_secs(900))), 32);
        assert!(!neighbours.may_ask(NOW, &PeerId::random()), "a stranger");
    }
}

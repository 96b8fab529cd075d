//! When an unanswered message is sent again: 1, 2 and 4 s after the last time, then given up.

use std::time::Duration;

use warren_schemas::Timestamp;
use warren_schemas::generated::state as fb;

/// Given up so long after the first LINK, CREATE or PING (docs/protocol.md, section 8).
pub(crate) const GIVE_UP: Duration = Duration::from_secs(10);
/// Given up so long after the first EXTEND: the relay's own CREATE needs its 10 s.
pub(crate) const GIVE_UP_EXTEND: Duration = Duration::from_secs(12);

const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// One message that waits for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    next: Timestamp,
    end: Timestamp,
    sent: usize,
}

/// What is to be done now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Nothing yet.
    Wait,
    /// Send it again.
    Again,
    /// Nobody will answer.
    GiveUp,
}

impl Retry {
    /// The message was sent for the first time.
    pub(crate) fn start(now: Timestamp, give_up: Duration) -> Self {
        let next = now.after(PAUSES.first().copied().unwrap_or_default());
        Self { next, end: now.after(give_up), sent: 1 }
    }

    /// It is not sent for now; the end stays.
    pub(crate) const fn paused(self) -> Self {
        Self { next: self.end, ..self }
    }

    /// It was sent for the first time on another way; the end stays.
    pub(crate) fn resumed(self, now: Timestamp) -> Self {
        Self { end: self.end, ..Self::start(now, GIVE_UP) }
    }

    /// What a successor goes on with.
    pub(crate) fn state(&self) -> fb::Retry {
        let sent = u32::try_from(self.sent).unwrap_or(u32::MAX);
        fb::Retry::new(self.next.as_micros(), self.end.as_micros(), sent)
    }

    /// Goes on where a predecessor stopped; none for a number of messages that no schedule has.
    pub(crate) fn resume(state: &fb::Retry) -> Option<Self> {
        let sent = state.sent() as usize;
        (1..=PAUSES.len() + 1).contains(&sent).then_some(Self {
            next: Timestamp::from_micros(state.next()),
            end: Timestamp::from_micros(state.end()),
            sent,
        })
    }

    /// When `step` is to be asked next.
    pub(crate) fn due(&self) -> Timestamp {
        self.next.min(self.end)
    }

    /// How often it was sent.
    pub(crate) const fn sent(&self) -> usize {
        self.sent
    }

    /// Whether it is time. After `Again` the caller has sent it.
    pub(crate) fn step(&mut self, now: Timestamp) -> Step {
        if now >= self.end {
            return Step::GiveUp;
        }
        if now < self.next {
            return Step::Wait;
        }
        self.next = PAUSES.get(self.sent).map_or(self.end, |pause| now.after(*pause));
        self.sent += 1;
        Step::Again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_micros(1_000_000_000 + millis * 1000)
    }

    #[test]
    fn is_sent_after_1_2_and_4_seconds_and_given_up_after_10() {
        let mut retry = Retry::start(at(0), GIVE_UP);
        let mut sent = Vec::new();
        loop {
            let due = retry.due();
            match retry.step(due) {
                Step::Again => sent.push(due),
                Step::Wait => unreachable!("due means that there is something to do"),
                Step::GiveUp => {
                    assert_eq!(due, at(10_000));
                    break;
                }
            }
        }
        assert_eq!(sent, [at(1000), at(3000), at(7000)]);
        assert_eq!(retry.sent(), 4);
    }

    #[test]
    fn another_way_gets_no_more_time() {
        let mut retry = Retry::start(at(0), GIVE_UP).paused();
        assert_eq!(retry.due(), at(10_000));
        assert_eq!(retry.step(at(9_999)), Step::Wait);
        assert_eq!(retry.step(at(10_000)), Step::GiveUp);
        let mut retry = Retry::start(at(0), GIVE_UP).paused().resumed(at(8000));
        assert_eq!((retry.due(), retry.step(at(9000))), (at(9000), Step::Again));
        assert_eq!((retry.due(), retry.step(at(10_000))), (at(10_000), Step::GiveUp));
    }
}

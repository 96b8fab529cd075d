//! The one timer of a worker thread's loop.

use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep};
use warren_schemas::Timestamp;

use super::LONGEST_SLEEP;

/// Rings when it was set for, or before.
///
/// Kept over all turns, and moved only to an earlier time: a runtime that is given a new timer is woken up to
/// look at it, which is a call of the kernel and another turn.
pub(super) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    at: Timestamp,
}

impl Alarm {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { sleep: Box::pin(sleep(LONGEST_SLEEP)), at: now.after(LONGEST_SLEEP) }
    }

    /// Has it ring at `at`, or before.
    pub(super) fn set(&mut self, now: Timestamp, at: Timestamp) {
        if at < self.at || self.sleep.is_elapsed() {
            self.sleep.as_mut().reset(Instant::now() + at.since(now));
            self.at = at;
        }
    }

    /// Returns when it rings.
    pub(super) async fn ring(&mut self) {
        self.sleep.as_mut().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);

    async fn rings_after(alarm: &mut Alarm) -> Duration {
        let set = Instant::now();
        alarm.ring().await;
        set.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn it_moves_to_what_is_earlier_and_after_it_rang() {
        let ms = Duration::from_millis;
        let mut alarm = Alarm::new(NOW);
        alarm.set(NOW, NOW.after(ms(100)));
        alarm.set(NOW, NOW.after(ms(20)));
        alarm.set(NOW, NOW.after(ms(500)));
        let first = rings_after(&mut alarm).await;
        assert!((ms(20)..ms(25)).contains(&first), "{first:?}");
        let now = NOW.after(first);
        alarm.set(now, NOW.after(ms(500)));
        let second = rings_after(&mut alarm).await;
        assert!((ms(475)..ms(485)).contains(&second), "{second:?}");
    }
}

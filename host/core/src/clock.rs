//! The one clock that everybody below reads time from.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use warren_ports::Clock;
use warren_schemas::Timestamp;

/// The system's time when it started, carried on by the monotonic clock: it never goes back, and a
/// clock set while the node runs does not reach protocol timers.
pub struct SystemClock {
    base: Timestamp,
    started: Instant,
}

impl SystemClock {
    /// Reads both clocks once.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { base: Timestamp::default().after(since_epoch), started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.base.after(self.started.elapsed())
    }
}

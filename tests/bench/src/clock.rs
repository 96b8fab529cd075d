//! The time that workers of this process are told.

use std::time::Duration;

use warren_schemas::Timestamp;

use crate::Stopwatch;

/// Protocol time of this process: the system's time at the start, carried on monotonically.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    base: Duration,
    watch: Stopwatch,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "whoever joins a running network reads a clock")]
    pub(crate) fn start() -> Self {
        let base = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self { base: base.unwrap_or_default(), watch: Stopwatch::start() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::default().after(self.base + self.watch.elapsed())
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.watch.seconds()
    }
}

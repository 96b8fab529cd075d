//! What the host keeps for one instance: its way out, its limits and why it was stopped.

use std::time::Duration;

use warren_schemas::Timestamp;
use warren_workers::{LogLevel, WorkerHost};
use wasmtime::{ResourceLimiter, UpdateDeadline};

use crate::clocks;

/// Log lines of one worker that are kept in a second.
const LINES_A_SECOND: u32 = 100;
const TABLE_ELEMENTS: usize = 20_000;

/// Why the host stopped a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    /// A budget ran out: this many milliseconds.
    Deadline(u64),
    /// It wanted more memory than it may have.
    Memory,
}

/// Time that one call may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
}

/// Both clocks at a tick, and how much of the wall time since the first is held against the worker.
#[derive(Clone, Copy)]
struct Used {
    cpu_at_start: Duration,
    wall_at_tick: Duration,
    wall: Duration,
}

/// A worker is looked at every few milliseconds while it runs. Between two looks that lie further
/// apart than this part of its wall time it did not run: the machine was busy, or slept, or the whole
/// program was stopped. That must not kill it, so no more than this is counted.
const LONGEST_LOOK: u32 = 4;

/// The store's data.
pub(crate) struct Guest {
    host: Box<dyn WorkerHost>,
    pub(crate) memory: usize,
    /// Bytes of memory that it has.
    has: usize,
    /// Why the running call was stopped.
    pub(crate) stopped: Option<Stop>,
    /// The last line it wrote as an error during the running call: a panic's words.
    pub(crate) last_words: Option<String>,
    budget: Budget,
    /// What the running call has used, from its first tick on. Reading the clocks there instead of
    /// at the call's start keeps two system calls off the way of a cell; the price is that up to one
    /// tick is not counted.
    used: Option<Used>,
    now: Timestamp,
    lines_since: Timestamp,
    lines: u32,
}

impl Guest {
    pub(crate) fn new(host: Box<dyn WorkerHost>, memory: usize) -> Self {
        Self {
            host,
            memory,
            has: 0,
            stopped: None,
            last_words: None,
            budget: Budget { cpu: Duration::ZERO, wall: Duration::ZERO },
            used: None,
            now: Timestamp::default(),
            lines_since: Timestamp::default(),
            lines: 0,
        }
    }

    /// Pages of memory (64 KiB) that it has.
    pub(crate) fn pages(&self) -> u32 {
        u32::try_from(self.has >> 16).unwrap_or(u32::MAX)
    }

    /// A call begins.
    pub(crate) fn begin(&mut self, now: Timestamp, budget: Budget) {
        self.now = now;
        self.budget = budget;
        self.used = None;
        self.last_words = None;
    }

    /// The time of the last call that was told one.
    pub(crate) const fn now(&self) -> Timestamp {
        self.now
    }

    /// The epoch moved while the worker ran.
    pub(crate) fn tick(&mut self) -> UpdateDeadline {
        let (cpu, wall) = (clocks::thread_cpu(), clocks::wall());
        let fresh = Used { cpu_at_start: cpu, wall_at_tick: wall, wall: Duration::ZERO };
        let used = self.used.get_or_insert(fresh);
        let since = wall.saturating_sub(used.wall_at_tick);
        used.wall = used.wall.saturating_add(since.min(self.budget.wall / LONGEST_LOOK));
        used.wall_at_tick = wall;
        let spent = [(cpu.saturating_sub(used.cpu_at_start), self.budget.cpu), (used.wall, self.budget.wall)];
        for (used, limit) in spent {
            if used > limit {
                let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                self.stopped = Some(Stop::Deadline(limit));
                return UpdateDeadline::Interrupt;
            }
        }
        UpdateDeadline::Continue(1)
    }

    pub(crate) fn host(&mut self) -> &mut dyn WorkerHost {
        self.host.as_mut()
    }

    /// Takes a log line that is [`plain_line`](warren_workers::plain_line); it is dropped when there were too many within a second of the worker's
    /// own time.
    pub(crate) fn log(&mut self, level: LogLevel, line: &str) {
        if level == LogLevel::Error {
            self.last_words = Some(line.to_owned());
        }
        if self.now.since(self.lines_since) >= Duration::from_secs(1) {
            self.lines_since = self.now;
            self.lines = 0;
        }
        self.lines = self.lines.saturating_add(1);
        match self.lines.cmp(&(LINES_A_SECOND + 1)) {
            std::cmp::Ordering::Less => self.host.log(level, line),
            std::cmp::Ordering::Equal => {
                self.host.log(LogLevel::Warn, "too many log lines: the rest of this second is not shown");
            }
            std::cmp::Ordering::Greater => {}
        }
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        if desired <= self.memory {
            self.has = desired;
            return Ok(true);
        }
        self.stopped = Some(Stop::Memory);
        // An error and not a refusal: a worker that has run out of memory cannot be trusted to
        // find its way out, and the answer should name the limit.
        Err(wasmtime::Error::msg("memory limit reached"))
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }
}

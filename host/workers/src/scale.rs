//! How many workers there should be: a decision from figures, with nothing done about it here.
//!
//! Two measures count, as in section 5.2.5 of Stokkink's thesis: what the operating system says (how busy
//! the workers' threads are) and what is asked of them (circuits that carry something). Both have a gap
//! between growing and shrinking, and that gap is what keeps the number still: after a shrink the rest is
//! below 0.4 busy and holds at most 4 circuits a worker, and it grows only above 0.75 or above 8.

use std::fmt;
use std::time::Duration;

use warren_schemas::Timestamp;

/// Active circuits a worker is meant for.
pub const CIRCUITS_WANTED: u32 = 4;
/// Active circuits a worker may hold before another one must come: twice [`CIRCUITS_WANTED`].
pub const CIRCUITS_HELD: u32 = 2 * CIRCUITS_WANTED;
/// Mean busy share above which another worker comes, when seen [`LOOKS`] times in a row.
pub const BUSY: f64 = 0.75;
/// Looks in a row that must find the workers busy: one alone may be a burst.
pub const LOOKS: u32 = 2;
/// Mean busy share below which the rest must stay for one worker to go.
pub const CALM: f64 = 0.4;
/// How long it must have been calm for that, without a pause.
pub const QUIET: Duration = Duration::from_secs(30);

/// What one worker did since the last look.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct WorkerLoad {
    /// Share of its thread's time that was CPU time, 0 to 1. Anything else is brought into that range, and
    /// what is no number counts as 0.
    pub busy: f64,
    /// Circuits that carried something since then; idle ones do not count.
    pub active: u32,
}

/// One look at the pool.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// When.
    pub now: Timestamp,
    /// Fewest workers allowed; 0 is taken as 1.
    pub min: u8,
    /// Most workers allowed; less than `min` is taken as `min`.
    pub max: u8,
    /// The running workers by index. One that drains is not among them.
    pub workers: &'a [WorkerLoad],
}

/// What to do. One step at a time: the next look says whether another is due.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Decision {
    /// Nothing.
    Stay,
    /// Start one more worker, with the index after the highest.
    Grow {
        /// Why.
        reason: GrowReason,
    },
    /// Let a worker drain: it takes no new circuits and goes when its last one ends.
    Shrink {
        /// Which: always the one with the highest index.
        worker: u8,
        /// Why.
        reason: ShrinkReason,
    },
}

/// Why there should be one worker more.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum GrowReason {
    /// Fewer run than the least allowed.
    BelowMin {
        /// How many run.
        running: u8,
        /// How many there should be at least.
        min: u8,
    },
    /// More active circuits than the workers may hold.
    Circuits {
        /// Active circuits.
        active: u32,
        /// Workers that they want, at [`CIRCUITS_WANTED`] each.
        wanted: u32,
    },
    /// The workers were busy at [`LOOKS`] looks in a row.
    Busy {
        /// Mean share now, 0 to 1.
        share: f64,
    },
}

/// Why there should be one worker less.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ShrinkReason {
    /// More run than the most allowed.
    AboveMax {
        /// How many run.
        running: u8,
        /// How many there may be.
        max: u8,
    },
    /// For [`QUIET`] the rest could have carried everything calmly.
    Quiet {
        /// Mean share that the rest will have, 0 to 1.
        share: f64,
        /// Active circuits.
        active: u32,
    },
}

impl fmt::Display for GrowReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BelowMin { running, min } => write!(f, "{running} run, at least {min} should"),
            Self::Circuits { active, wanted } => {
                write!(f, "{active} active circuits want {wanted} workers")
            }
            Self::Busy { share } => write!(f, "the workers are {:.0} % busy", share * 100.0),
        }
    }
}

impl fmt::Display for ShrinkReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AboveMax { running, max } => write!(f, "{running} run, at most {max} may"),
            Self::Quiet { share, active } => write!(
                f,
                "quiet for {} s: the rest would be {:.0} % busy with {active} active circuits",
                QUIET.as_secs(),
                share * 100.0
            ),
        }
    }
}

/// What earlier looks found, as far as it matters. Owned by whoever looks; does nothing by itself.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Scaler {
    /// Looks in a row that found the workers busy.
    busy_looks: u32,
    /// Since when one worker less would have done.
    calm_since: Option<Timestamp>,
}

impl Scaler {
    /// One that has not looked yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides from this look and those before it. To be asked once a period, with figures of that period.
    pub fn decide(&mut self, load: &Load<'_>) -> Decision {
        let min = load.min.max(1);
        let bounds = (min, load.max.max(min));
        let sum = Sum::of(load.workers);
        self.remember(load.now, &sum);
        let decision = self.judge(load.now, bounds, &sum);
        if decision != Decision::Stay {
            // The figures of another number of workers say nothing of this one.
            *self = Self::default();
        }
        decision
    }

    fn remember(&mut self, now: Timestamp, sum: &Sum) {
        self.busy_looks = if sum.share() > BUSY { self.busy_looks.saturating_add(1) } else { 0 };
        self.calm_since = if sum.rest_is_calm() { Some(self.calm_since.unwrap_or(now)) } else { None };
    }

    fn judge(&self, now: Timestamp, (min, max): (u8, u8), sum: &Sum) -> Decision {
        let running = sum.running;
        let grow = |reason| Decision::Grow { reason };
        let shrink = |reason| Decision::Shrink { worker: running.saturating_sub(1), reason };
        if running < min {
            return grow(GrowReason::BelowMin { running, min });
        }
        if running > max {
            return shrink(ShrinkReason::AboveMax { running, max });
        }
        if running < max && sum.active > u32::from(running) * CIRCUITS_HELD {
            let wanted = sum.active.div_ceil(CIRCUITS_WANTED);
            return grow(GrowReason::Circuits { active: sum.active, wanted });
        }
        if running < max && self.busy_looks >= LOOKS {
            return grow(GrowReason::Busy { share: sum.share() });
        }
        if running > min && self.calm_since.is_some_and(|since| now.since(since) >= QUIET) {
            return shrink(ShrinkReason::Quiet { share: sum.rest_share(), active: sum.active });
        }
        Decision::Stay
    }
}

/// The workers together.
struct Sum {
    running: u8,
    busy: f64,
    active: u32,
}

impl Sum {
    fn of(workers: &[WorkerLoad]) -> Self {
        let share = |busy: f64| if busy.is_nan() { 0.0 } else { busy.clamp(0.0, 1.0) };
        let busy = workers.iter().map(|worker| share(worker.busy)).sum();
        let active = workers.iter().fold(0_u32, |sum, worker| sum.saturating_add(worker.active));
        Self { running: u8::try_from(workers.len()).unwrap_or(u8::MAX), busy, active }
    }

    fn share(&self) -> f64 {
        self.busy / f64::from(self.running.max(1))
    }

    /// The mean share if the last worker's work were done by the rest.
    fn rest_share(&self) -> f64 {
        self.busy / f64::from(self.running.saturating_sub(1).max(1))
    }

    fn rest_is_calm(&self) -> bool {
        let rest = u32::from(self.running.saturating_sub(1));
        rest > 0 && self.rest_share() < CALM && self.active <= rest * CIRCUITS_WANTED
    }
}

#[cfg(test)]
mod tests;

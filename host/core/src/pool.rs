//! The pool: how many workers there are, which of them take new circuits, and which module they run.
//!
//! Threads are made once, twice as many as workers may run, and most wait. One half of their indices
//! takes new circuits; the other is where workers of a module go that cannot read the state of the one
//! in use, while that one drains. Decides and remembers; the keeper does.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use warren_ports::swap::{SwapStage, SwapStep};
use warren_schemas::Timestamp;
use warren_workers::scale::{Decision, Load, Scaler, WorkerLoad};
use warren_workers::{Description, WorkerFactory};

use crate::messages::Lease;
use crate::open::Open;

/// How often it looks at how busy the workers are.
const LOOK: Duration = Duration::from_secs(2);
/// Most workers that may run: an index is a byte, and each has a second one.
pub(crate) const MOST: u8 = 127;

/// What is to be done with a worker.
pub(crate) enum Step {
    /// Fill this seat.
    Start(u8, Arc<dyn WorkerFactory>),
    /// Replace this one no more; it takes no new circuits.
    Retire(u8),
}

/// What is known of one worker at a look.
pub(crate) struct Seen {
    /// CPU seconds of its thread so far.
    pub(crate) cpu_s: f64,
    /// Its circuits that carried something since the last look.
    pub(crate) active: u32,
    /// Whether it has circuits, anybody's.
    pub(crate) holds_circuits: bool,
}

/// Where an exchange by draining is told of.
struct Draining {
    workers: BTreeSet<u8>,
    audit: Option<mpsc::Sender<SwapStep>>,
}

pub(crate) struct Pool {
    min: u8,
    max: u8,
    open: Arc<Open>,
    draining: Draining,
    current: Arc<dyn WorkerFactory>,
    previous: Option<Arc<dyn WorkerFactory>>,
    modules: BTreeMap<u8, Description>,
    leased: bool,
    scaler: Scaler,
    cpu: BTreeMap<u8, f64>,
    busy: BTreeMap<u8, f64>,
    looked: Timestamp,
}

/// How many workers run when a node starts, and which threads there are.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) min: u8,
    pub(crate) max: u8,
}

impl Span {
    pub(crate) fn new(min: u8, max: u8) -> Self {
        let max = max.clamp(1, MOST);
        Self { min: min.clamp(1, max), max }
    }

    pub(crate) fn threads(self) -> u8 {
        2 * self.max
    }
}

impl Pool {
    pub(crate) fn new(span: Span, open: Arc<Open>, current: Arc<dyn WorkerFactory>, now: Timestamp) -> Self {
        Self {
            min: span.min,
            max: span.max,
            open,
            draining: Draining { workers: BTreeSet::new(), audit: None },
            current,
            previous: None,
            modules: BTreeMap::new(),
            leased: false,
            scaler: Scaler::new(),
            cpu: BTreeMap::new(),
            busy: BTreeMap::new(),
            looked: now,
        }
    }

    /// Workers that take new circuits.
    pub(crate) fn open(&self) -> Range<u8> {
        self.open.get()
    }

    /// A worker runs this module now.
    pub(crate) fn set_module(&mut self, worker: u8, module: Description) {
        self.modules.insert(worker, module);
    }

    /// A worker that was to take new circuits did not start: another look decides anew.
    pub(crate) fn start_failed(&mut self, worker: u8) {
        let Range { start, end } = self.open.get();
        if !self.leased && worker + 1 == end && worker > start {
            self.open.set(&(start..worker));
        }
    }

    /// A worker left its seat.
    pub(crate) fn left(&mut self, worker: u8) {
        self.modules.remove(&worker);
        self.busy.remove(&worker);
        self.cpu.remove(&worker);
        self.draining.workers.remove(&worker);
        if self.draining.workers.is_empty() {
            self.draining.audit = None;
        }
    }

    /// Handshake suites that every worker speaks which takes new circuits, best first.
    pub(crate) fn suites(&self) -> Option<Vec<u8>> {
        let open = self.open.get();
        let mut modules = self.modules.iter().filter(|(worker, _)| open.contains(worker)).map(|(_, m)| m);
        let first = modules.next()?;
        let rest: Vec<&Description> = modules.collect();
        let all = |suite: &&u8| rest.iter().all(|module| module.suites.contains(suite));
        Some(first.suites.iter().filter(all).copied().collect())
    }

    /// Share of the time between the last two looks that was CPU time of the worker's thread.
    pub(crate) fn busy(&self, worker: u8) -> f64 {
        self.busy.get(&worker).copied().unwrap_or_default()
    }

    /// Looks when it is time, at figures from `see`, and decides.
    pub(crate) fn look(&mut self, now: Timestamp, mut see: impl FnMut(u8) -> Seen) -> Vec<Step> {
        let passed = now.since(self.looked);
        if self.leased || passed < LOOK {
            return Vec::new();
        }
        self.looked = now;
        let mut loads = Vec::new();
        for worker in self.open.get() {
            let Seen { cpu_s, active, .. } = see(worker);
            let before = self.cpu.insert(worker, cpu_s).unwrap_or(cpu_s);
            let busy = (cpu_s - before) / passed.as_secs_f64();
            self.busy.insert(worker, busy);
            loads.push(WorkerLoad { busy, active });
        }
        let load = Load { now, min: self.min, max: self.max, workers: &loads };
        match self.scaler.decide(&load) {
            Decision::Stay => Vec::new(),
            Decision::Grow { reason } => {
                let Range { start, end } = self.open.get();
                tracing::info!(target: "pool", worker = end, %reason, "another worker");
                self.open.set(&(start..end + 1));
                // One that still drains is simply not let go.
                if self.draining.workers.remove(&end) && self.modules.contains_key(&end) {
                    tracing::info!(target: "pool", worker = end, "it had not drained yet");
                }
                vec![Step::Start(end, Arc::clone(&self.current))]
            }
            Decision::Shrink { reason, .. } => {
                let Range { start, end } = self.open.get();
                let last = end.saturating_sub(1).max(start);
                tracing::info!(target: "pool", worker = last, %reason, "a worker drains");
                self.open.set(&(start..last));
                self.draining.workers.insert(last);
                vec![Step::Retire(last)]
            }
        }
    }

    /// Those that seem to have drained: nothing is known of their circuits.
    pub(crate) fn drained(&self, mut see: impl FnMut(u8) -> Seen) -> Vec<u8> {
        self.draining.workers.iter().copied().filter(|worker| !see(*worker).holds_circuits).collect()
    }

    /// Says in the audit of a draining exchange that a worker is gone, if it drained.
    pub(crate) fn tell_drained(&self, now: Timestamp, worker: u8) {
        if !self.draining.workers.contains(&worker) {
            return;
        }
        tracing::info!(target: "pool", worker, "drained");
        if let Some(audit) = &self.draining.audit {
            let detail = "no circuits are left".to_owned();
            let (at_us, stage) = (now.as_micros(), SwapStage::Drained);
            // Nobody may listen any more; the log has it.
            drop(audit.try_send(SwapStep { at_us, stage, worker: Some(worker), detail }));
        }
    }

    /// Keeps the pool as it is until [`release`](Self::release) or [`drain`](Self::drain). None when
    /// somebody else has it.
    pub(crate) fn lease(&mut self) -> Option<Lease> {
        if self.leased {
            return None;
        }
        self.leased = true;
        let open = self.open.get();
        let start = if open.start < self.max { self.max } else { 0 };
        let other = start..start + (open.end - open.start);
        Some(Lease {
            acting: open.collect(),
            beside: other,
            current: Arc::clone(&self.current),
            previous: self.previous.clone(),
        })
    }

    /// Ends a lease; `exchanged` is the module that is in use now, if it is another.
    pub(crate) fn release(&mut self, exchanged: Option<Arc<dyn WorkerFactory>>) {
        self.leased = false;
        if let Some(factory) = exchanged {
            self.previous = Some(std::mem::replace(&mut self.current, factory));
        }
    }

    /// Ends a lease: workers `to` take new circuits and all others drain. Answers who begins to.
    pub(crate) fn drain(
        &mut self,
        to: Range<u8>,
        factory: Arc<dyn WorkerFactory>,
        audit: mpsc::Sender<SwapStep>,
    ) -> Vec<u8> {
        let old = self.open.get();
        self.release(Some(factory));
        self.open.set(&to);
        self.draining.workers.retain(|worker| !to.contains(worker));
        self.draining.workers.extend(old.clone());
        self.draining.audit = Some(audit);
        self.scaler = Scaler::new();
        self.cpu.clear();
        old.collect()
    }
}

#[cfg(test)]
mod tests;

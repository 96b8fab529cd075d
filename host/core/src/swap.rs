//! Exchanging the module behind the workers of a running node: one worker first, then the others.
//!
//! The order of things is the whole point (docs/hot-swap.md): prove, shadow, commit, look, go on. Each
//! worker's thread does its own part between two turns of its loop; this only asks and decides.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use warren_ports::swap::{SwapReport, SwapStage, SwapStep, WorkerSwap};
use warren_schemas::control::CloseReason;
use warren_workers::{ShadowVerdict, WorkerFactory};

use crate::Core;
use crate::messages::{Faults, Lease, Leave, SeatOrder, ToKeeper, ToWorker};

/// How long a canary works alone after its commit before the others follow.
const PROBATION: Duration = Duration::from_millis(500);
/// How long a worker may take to answer: its thread may be in a call that its deadline ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long memory may be gone through before a commit, which then does with what there is.
const WARMING: Duration = Duration::from_secs(2);

/// What to exchange for what.
pub struct SwapOrder {
    /// Makes the workers of the new module, which was verified and loaded.
    pub factory: Arc<dyn WorkerFactory>,
    /// Do not hand the state over: the new module takes new circuits and the old one keeps its own.
    pub drain: bool,
    /// Calls that a shadow must answer as the live worker does, before anything is committed; 0 for
    /// neither shadow nor probation.
    pub canary: u32,
}

/// Why a module is not in use in the end. Unless it says otherwise, the old one never stopped acting.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// One exchange at a time.
    #[error("another exchange of modules is under way")]
    Busy,
    /// Nothing was exchanged since the node started.
    #[error("there is no module to go back to")]
    NoPrevious,
    /// The module does not start, prove itself or fit.
    #[error("worker {worker} does not take the module: {reason}")]
    Unfit {
        /// Which worker.
        worker: u8,
        /// In its own words.
        reason: String,
    },
    /// The shadow failed or answered otherwise.
    #[error("the canary failed in shadow: {0}")]
    Shadow(String),
    /// The canary failed after it had begun to act, and its circuits died.
    #[error("the canary failed at work {}, and {now}: {fault}", times(*.count))]
    Canary {
        /// How often.
        count: u64,
        /// The last time: plugin, call and limit.
        fault: String,
        /// Whether the old module has its place again.
        now: String,
    },
    /// A worker's state did not go over. What was committed before went back.
    #[error("worker {worker} was not exchanged: {reason}")]
    Commit {
        /// Which worker.
        worker: u8,
        /// In its own words.
        reason: String,
    },
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl Core {
    /// Exchanges the module of all workers; circuits live on. Steps are told to `audit` as they happen.
    ///
    /// # Errors
    /// See [`SwapError`].
    pub async fn swap(
        &self,
        order: SwapOrder,
        audit: mpsc::Sender<SwapStep>,
    ) -> Result<SwapReport, SwapError> {
        let lease = self.lease().await?;
        let names = (lease.current.name().to_owned(), order.factory.name().to_owned());
        let exchange = Exchange { core: self, audit, names };
        exchange.run(order, lease, Held(self.keeper.clone())).await
    }

    /// Goes back to the module before the last exchange, with the state as it is now; when that module
    /// cannot read it, by draining.
    ///
    /// # Errors
    /// See [`SwapError`].
    pub async fn rollback(&self, audit: mpsc::Sender<SwapStep>) -> Result<SwapReport, SwapError> {
        let lease = self.lease().await?;
        let held = Held(self.keeper.clone());
        let factory = lease.previous.clone().ok_or(SwapError::NoPrevious)?;
        let names = (lease.current.name().to_owned(), factory.name().to_owned());
        let exchange = Exchange { core: self, audit, names };
        let readable = match lease.acting.first() {
            Some(first) => exchange.prepare(*first, &factory).await.is_ok(),
            None => true,
        };
        exchange.abandon(&lease.acting).await;
        let workers = lease.acting.clone();
        let report = exchange.run(SwapOrder { factory, drain: !readable, canary: 0 }, lease, held).await?;
        // What was given up is not to come back by itself.
        self.trust(&workers).await;
        Ok(report)
    }

    /// Drops a worker as if it had failed: its circuits die and another takes its seat. Answers whether
    /// there was one.
    pub async fn kill_worker(&self, index: u8) -> bool {
        self.ask(index, |answer| SeatOrder::Kill { answer }).await.unwrap_or(false)
    }

    async fn lease(&self) -> Result<Lease, SwapError> {
        let (answer, lease) = oneshot::channel();
        drop(self.keeper.send(ToKeeper::Lease(answer)).await);
        lease.await.map_err(|_| SwapError::Stopping)?.ok_or(SwapError::Busy)
    }

    async fn trust(&self, workers: &[u8]) {
        for worker in workers {
            self.order(*worker, SeatOrder::Trust).await;
        }
    }

    /// Sends an order that is not answered.
    async fn order(&self, worker: u8, order: SeatOrder) {
        if let Some(way) = self.workers.get(usize::from(worker)) {
            let sent = tokio::time::timeout(PATIENCE, way.send(ToWorker::Seat(order))).await;
            if !matches!(sent, Ok(Ok(()))) {
                tracing::warn!(worker, "its thread takes no orders");
            }
        }
    }

    /// Asks a worker's thread; none when it does not answer.
    async fn ask<T>(&self, worker: u8, order: impl FnOnce(oneshot::Sender<T>) -> SeatOrder) -> Option<T> {
        let (answer, told) = oneshot::channel();
        let way = self.workers.get(usize::from(worker))?;
        let asking = async {
            way.send(ToWorker::Seat(order(answer))).await.ok()?;
            told.await.ok()
        };
        tokio::time::timeout(PATIENCE, asking).await.ok()?
    }
}

/// The lease of the pool. However the exchange ends, the pool is free again.
struct Held(mpsc::Sender<ToKeeper>);

impl Drop for Held {
    fn drop(&mut self) {
        // A second release does nothing. Without room for this one the keeper is stuck, and the node.
        drop(self.0.try_send(ToKeeper::Release { exchanged: None }));
    }
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// One exchange under way.
struct Exchange<'a> {
    core: &'a Core,
    audit: mpsc::Sender<SwapStep>,
    /// The module in use, and the one to come.
    names: (String, String),
}

impl Exchange<'_> {
    async fn run(self, order: SwapOrder, lease: Lease, held: Held) -> Result<SwapReport, SwapError> {
        let done = if order.drain {
            self.drain(&order.factory, &lease).await
        } else {
            self.hand_over(&order, &lease).await
        };
        match &done {
            Ok(_) if order.drain => {}
            Ok(_) => {
                let exchanged = Some(order.factory);
                drop(self.core.keeper.send(ToKeeper::Release { exchanged }).await);
            }
            Err(_) => self.abandon(&lease.acting).await,
        }
        drop(held);
        let workers = done?;
        self.tell(SwapStage::Finished, None, format!("{} for {}", self.names.1, self.names.0)).await;
        Ok(SwapReport { from: self.names.0, to: self.names.1, workers })
    }

    async fn hand_over(&self, order: &SwapOrder, lease: &Lease) -> Result<Vec<WorkerSwap>, SwapError> {
        let mut done: Vec<WorkerSwap> = Vec::new();
        for (place, worker) in lease.acting.iter().copied().enumerate() {
            let canary = place == 0 && order.canary > 0;
            match self.exchange(worker, order, canary).await {
                Ok(swap) => done.push(swap),
                Err(error) => {
                    self.take_back(&done, &lease.current, &error).await;
                    return Err(error);
                }
            }
        }
        Ok(done)
    }

    async fn exchange(&self, worker: u8, order: &SwapOrder, canary: bool) -> Result<WorkerSwap, SwapError> {
        let module = self
            .prepare(worker, &order.factory)
            .await
            .map_err(|reason| SwapError::Unfit { worker, reason })?;
        self.tell(SwapStage::SelfTested, Some(worker), module).await;
        let compared = if canary { self.shadow(worker, order.canary).await? } else { 0 };
        self.warm(worker).await.map_err(|reason| SwapError::Commit { worker, reason })?;
        let faults = self.faults(worker).await;
        let swap = self.commit(worker).await.map_err(|reason| SwapError::Commit { worker, reason })?;
        let detail = format!("{} bytes of state in {} µs", swap.state_bytes, swap.pause_us);
        self.tell(SwapStage::Committed, Some(worker), detail).await;
        if canary {
            tokio::time::sleep(PROBATION).await;
            if let Some((count, fault)) = self.failed_since(worker, faults).await {
                let now = self.put_back(worker).await;
                return Err(SwapError::Canary { count, fault, now });
            }
        }
        Ok(WorkerSwap { compared, ..swap })
    }

    /// Goes through the memory that a commit will, a page in a turn of the thread. A commit does without
    /// when that takes long.
    async fn warm(&self, worker: u8) -> Result<(), String> {
        let pages = async {
            let mut page = 0;
            while self.asked(worker, |answer| SeatOrder::Warm { page, answer }).await? {
                page += 1;
            }
            Ok(())
        };
        tokio::time::timeout(WARMING, pages).await.unwrap_or(Ok(()))
    }

    async fn commit(&self, worker: u8) -> Result<WorkerSwap, String> {
        let (swap, retired) = self.asked(worker, |answer| SeatOrder::Commit { answer }).await?;
        // Some megabytes are overwritten.
        drop(tokio::task::spawn_blocking(move || drop(retired)));
        Ok(swap)
    }

    async fn asked<T>(
        &self,
        worker: u8,
        order: impl FnOnce(oneshot::Sender<Result<T, String>>) -> SeatOrder,
    ) -> Result<T, String> {
        let answer = self.core.ask(worker, order).await;
        answer.unwrap_or_else(|| Err("its thread does not answer".to_owned()))
    }

    async fn prepare(&self, worker: u8, factory: &Arc<dyn WorkerFactory>) -> Result<String, String> {
        let factory = Arc::clone(factory);
        let prepared = self.asked(worker, |answer| SeatOrder::Prepare { factory, answer }).await?;
        Ok(format!("{prepared}, suites {:?}", prepared.suites))
    }

    /// Answers how many calls were compared. A worker that is asked for little is followed for a
    /// few seconds and no longer.
    async fn shadow(&self, worker: u8, answers: u32) -> Result<u32, SwapError> {
        self.tell(SwapStage::Shadowing, Some(worker), format!("for {answers} answers")).await;
        let verdict = self.core.ask(worker, |answer| SeatOrder::Shadow { answers, answer }).await;
        let (compared, detail) = match verdict {
            Some(ShadowVerdict::Agreed { compared, differing_bytes }) => {
                (compared, format!("{compared} answers, {differing_bytes} of them with other bytes"))
            }
            Some(ShadowVerdict::Running { compared }) => {
                (compared, format!("{compared} answers; there was nothing more to compare"))
            }
            Some(ShadowVerdict::Failed(reason)) => return Err(SwapError::Shadow(reason)),
            None => return Err(SwapError::Shadow("its thread does not answer".to_owned())),
        };
        self.tell(SwapStage::Agreed, Some(worker), detail).await;
        Ok(compared)
    }

    async fn faults(&self, worker: u8) -> Option<Faults> {
        self.core.ask(worker, |answer| SeatOrder::Faults { answer }).await
    }

    /// How often the canary failed since there were these `faults`, and why, if it did.
    async fn failed_since(&self, worker: u8, faults: Option<Faults>) -> Option<(u64, String)> {
        let (Some(before), Some(now)) = (faults, self.faults(worker).await) else {
            return Some((1, "its thread does not answer".to_owned()));
        };
        let count = now.count.saturating_sub(before.count);
        (count > 0).then(|| (count, now.last.unwrap_or_default()))
    }

    /// The workers that were exchanged already go back, with the state they have now.
    async fn take_back(&self, done: &[WorkerSwap], old: &Arc<dyn WorkerFactory>, why: &SwapError) {
        for swap in done {
            let back = match self.prepare(swap.worker, old).await {
                Ok(_) => self.commit(swap.worker).await,
                Err(reason) => Err(reason),
            };
            let detail = match back {
                Ok(_) => format!("{} again, because {why}", self.names.0),
                Err(reason) => format!("stays with {}: {reason}", self.names.1),
            };
            self.core.order(swap.worker, SeatOrder::Trust).await;
            self.tell(SwapStage::RolledBack, Some(swap.worker), detail).await;
        }
    }

    /// A canary that failed at work: its module leaves, whatever state it had is gone with its circuits.
    /// Says how that went.
    async fn put_back(&self, worker: u8) -> String {
        let back = self.core.ask(worker, |answer| SeatOrder::Revert { answer }).await;
        let now = match back {
            Some(Ok(_)) => format!("{} has its place again", self.names.0),
            Some(Err(reason)) => format!("{} has not taken its place: {reason}", self.names.0),
            None => "its thread does not answer".to_owned(),
        };
        self.core.order(worker, SeatOrder::Trust).await;
        self.tell(SwapStage::RolledBack, Some(worker), now.clone()).await;
        now
    }

    async fn drain(
        &self,
        factory: &Arc<dyn WorkerFactory>,
        lease: &Lease,
    ) -> Result<Vec<WorkerSwap>, SwapError> {
        let beside = lease.beside.clone();
        let mut fresh = Vec::new();
        for worker in beside.clone() {
            let new = Arc::clone(factory);
            let started = self.core.ask(worker, |answer| SeatOrder::Start { factory: new, answer }).await;
            match started.unwrap_or_else(|| Err("its thread does not answer".to_owned())) {
                Ok(started) => {
                    fresh.push((worker, started.fresh));
                    self.tell(SwapStage::SelfTested, Some(worker), started.module.to_string()).await;
                }
                Err(reason) => {
                    self.send_away(&fresh).await;
                    return Err(SwapError::Unfit { worker, reason });
                }
            }
        }
        let audit = self.audit.clone();
        let factory = Arc::clone(factory);
        drop(self.core.keeper.send(ToKeeper::Drain { to: beside, factory, audit }).await);
        for worker in &lease.acting {
            self.tell(SwapStage::Draining, Some(*worker), "it takes no new circuits".to_owned()).await;
        }
        Ok(Vec::new())
    }

    /// Those that were started for nothing: fresh ones leave, others drain on.
    async fn send_away(&self, started: &[(u8, bool)]) {
        for (worker, fresh) in started {
            if *fresh {
                self.core.dismiss(*worker).await;
            } else {
                self.core.order(*worker, SeatOrder::Retire).await;
            }
        }
    }

    async fn abandon(&self, workers: &[u8]) {
        for worker in workers {
            self.core.order(*worker, SeatOrder::Abandon).await;
        }
    }

    async fn tell(&self, stage: SwapStage, worker: Option<u8>, detail: String) {
        let at_us = self.core.clock.now().as_micros();
        // Nobody may listen; that stops nothing.
        drop(self.audit.send(SwapStep { at_us, stage, worker, detail }).await);
    }
}

impl Core {
    async fn dismiss(&self, worker: u8) {
        let (answer, left) = oneshot::channel();
        let leave = Leave { reason: CloseReason::Finished, end: false, answer };
        if let Some(way) = self.exits.get(usize::from(worker)) {
            let leaving = async {
                drop(way.send(leave).await);
                drop(left.await);
            };
            drop(tokio::time::timeout(PATIENCE, leaving).await);
        }
    }
}

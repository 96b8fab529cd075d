//! A place in the pool: one worker, and another when that one fails.

use std::sync::Arc;
use std::time::Duration;

use warren_schemas::Timestamp;
use warren_schemas::batch::Batch;

use crate::{Worker, WorkerFactory, WorkerFault, WorkerHost};

/// Makes the host of each worker that takes the seat.
pub type HostMaker = Box<dyn Fn() -> Box<dyn WorkerHost> + Send>;

/// Waits before the second and later replacements in a row; the first comes at once.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A worker that lived this long failed for a reason of its own: its replacement comes at once.
const SETTLED: Duration = Duration::from_secs(60);

/// The call was not answered, because the worker failed or there is none right now.
#[derive(Debug)]
pub struct Lost {
    /// What the worker did. With a fault every circuit of the seat died just now; without one
    /// they were dead before, and nothing new is to be told.
    pub fault: Option<WorkerFault>,
    /// When to call `timeout`, so that the seat is taken again.
    pub wake_at: Timestamp,
}

/// A changed configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReconfigureError {
    /// The worker goes on with the one it had.
    #[error("{0}")]
    Refused(WorkerFault),
    /// The worker failed over it. Its replacements start with the old configuration.
    #[error("the worker was lost over its configuration")]
    Lost(Lost),
}

/// One worker and how to replace it. Owned and called by one thread, with its clock as argument.
pub struct Seat {
    factory: Arc<dyn WorkerFactory>,
    hosts: HostMaker,
    config: Vec<u8>,
    worker: Option<Box<dyn Worker>>,
    seated_at: Timestamp,
    /// Faults in a row, each within [`SETTLED`] of the one before.
    failures: u32,
    retry_at: Timestamp,
    restarts: u64,
}

impl Seat {
    /// An empty seat for workers of `factory` with this encoded configuration; the first call
    /// fills it.
    #[must_use]
    pub fn new(factory: Arc<dyn WorkerFactory>, hosts: HostMaker, config: Vec<u8>) -> Self {
        Self {
            factory,
            hosts,
            config,
            worker: None,
            seated_at: Timestamp::default(),
            failures: 0,
            retry_at: Timestamp::default(),
            restarts: 0,
        }
    }

    /// Fills the seat now, so that a plugin or configuration that cannot work is found out at once.
    ///
    /// # Errors
    /// What the worker did instead of starting.
    pub fn start(&mut self, now: Timestamp) -> Result<(), WorkerFault> {
        if self.worker.is_none() {
            self.worker = Some(self.spawn(now)?);
        }
        Ok(())
    }

    /// How often a worker was replaced.
    #[must_use]
    pub const fn restarts(&self) -> u64 {
        self.restarts
    }

    /// The plugin's name, for people.
    #[must_use]
    pub fn plugin(&self) -> &str {
        self.factory.name()
    }

    /// Changes the configuration of this worker and of those after it.
    ///
    /// # Errors
    /// When the worker refuses it or fails; the configuration stays the one it was.
    pub fn configure(&mut self, now: Timestamp, config: Vec<u8>) -> Result<(), ReconfigureError> {
        let worker = self.seated(now).map_err(ReconfigureError::Lost)?;
        match worker.configure(now, &config) {
            Ok(()) => {
                self.config = config;
                Ok(())
            }
            Err(refused @ WorkerFault::Refused { .. }) => Err(ReconfigureError::Refused(refused)),
            Err(fault) => Err(ReconfigureError::Lost(self.failed(now, fault))),
        }
    }

    /// [`Worker::control`].
    ///
    /// # Errors
    /// When the worker is lost.
    pub fn control(&mut self, now: Timestamp, request: &[u8]) -> Result<Batch, Lost> {
        self.call(now, |worker| worker.control(now, request))
    }

    /// [`Worker::data`].
    ///
    /// # Errors
    /// When the worker is lost, and the batch with it.
    pub fn data(&mut self, now: Timestamp, batch: Batch) -> Result<Batch, Lost> {
        self.call(now, |worker| worker.data(now, batch))
    }

    /// [`Worker::timeout`].
    ///
    /// # Errors
    /// When the worker is lost.
    pub fn timeout(&mut self, now: Timestamp) -> Result<Batch, Lost> {
        self.call(now, |worker| worker.timeout(now))
    }

    /// [`Worker::shutdown`], exactly once: the seat is given up, whatever the worker does. None
    /// when it was empty.
    ///
    /// # Errors
    /// When the worker fails instead of saying goodbye.
    pub fn shutdown(mut self, now: Timestamp, reason: u8) -> Result<Option<Batch>, WorkerFault> {
        self.worker.take().map(|mut worker| worker.shutdown(now, reason)).transpose()
    }

    fn call(
        &mut self,
        now: Timestamp,
        run: impl FnOnce(&mut dyn Worker) -> Result<Batch, WorkerFault>,
    ) -> Result<Batch, Lost> {
        let worker = self.seated(now)?;
        run(worker).map_err(|fault| self.failed(now, fault))
    }

    /// The worker, a new one if the old one failed and the wait is over.
    fn seated(&mut self, now: Timestamp) -> Result<&mut dyn Worker, Lost> {
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None if now < self.retry_at => return Err(Lost { fault: None, wake_at: self.retry_at }),
            None => match self.spawn(now) {
                Ok(worker) => worker,
                Err(fault) => {
                    let wake_at = self.failed(now, fault).wake_at;
                    return Err(Lost { fault: None, wake_at });
                }
            },
        };
        Ok(self.worker.insert(worker).as_mut())
    }

    fn spawn(&mut self, now: Timestamp) -> Result<Box<dyn Worker>, WorkerFault> {
        let mut worker = self.factory.spawn((self.hosts)())?;
        worker.configure(now, &self.config)?;
        self.seated_at = now;
        Ok(worker)
    }

    /// Gives the failed worker up, and a new one the seat if none failed lately.
    fn failed(&mut self, now: Timestamp, fault: WorkerFault) -> Lost {
        tracing::error!(plugin = self.factory.name(), restarts = self.restarts, "{fault}");
        let lived = self.worker.take().map(|_| now.since(self.seated_at));
        if lived.is_some_and(|lived| lived >= SETTLED) {
            self.failures = 0;
        }
        self.restarts += 1;
        self.failures = self.failures.saturating_add(1);
        let doubled = FIRST_WAIT.saturating_mul(1 << self.failures.saturating_sub(2).min(10));
        let wait = if self.failures == 1 { Duration::ZERO } else { doubled.min(LONGEST_WAIT) };
        self.retry_at = now.after(wait);
        Lost { fault: Some(fault), wake_at: self.retry_at }
    }
}

#[cfg(test)]
mod tests;

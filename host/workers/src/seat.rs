//! A place in the pool: one worker, and another when that one fails.
//!
//! A seat is for one worker at a time. Draining (a module that cannot read the state takes new circuits
//! while the old one keeps its own) needs two seats with two worker indices: link ids carry the index
//! and circuit handles count up in each worker, so one index cannot be shared. The seat's part in it is
//! [`Seat::retire`].

mod shadow;
mod swap;

use std::sync::Arc;
use std::time::Duration;

use warren_schemas::Timestamp;
use warren_schemas::batch::Batch;

use crate::tape::{Tap, Tape};
use crate::{Description, Worker, WorkerFactory, WorkerFault, WorkerHost, plain_line};

pub use shadow::ShadowVerdict;
pub use swap::{CommitFault, Committed, Retired, RollbackFault, SwapFault};
use swap::{Following, Successor};

/// Makes the host of each worker that takes the seat.
pub type HostMaker = Box<dyn Fn() -> Box<dyn WorkerHost> + Send>;

/// Waits before the second and later replacements in a row; the first comes at once.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A worker that lived this long did some work: its replacement comes at once, however many failed before.
/// Whoever can make workers fail must not get them kept away into the bargain.
const WORKED: Duration = Duration::from_secs(1);
/// A worker that lived this long failed for a reason of its own: its replacement comes at once.
const SETTLED: Duration = Duration::from_secs(60);
/// Failures in a row after which a module is quarantined: it is tried every five seconds at the latest,
/// loudly.
const QUARANTINE: u32 = 8;
/// The same for a module on trial, while there is one to go back to, which costs nobody anything.
const PROBATION: u32 = 3;
/// How long after its commit a module is on trial. Later on, whoever can make it fail must not be able
/// to bring the old one back.
const TRIAL: Duration = Duration::from_secs(600);

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

/// What a worker is asked to do and to be followed in.
#[derive(Clone)]
enum Call<'a> {
    Control(&'a [u8]),
    Data(Batch),
    Timeout,
}

impl Call<'_> {
    const fn name(&self) -> &'static str {
        match self {
            Self::Control(_) => "control",
            Self::Data(_) => "data",
            Self::Timeout => "timeout",
        }
    }

    fn run(self, worker: &mut dyn Worker, now: Timestamp) -> Result<Batch, WorkerFault> {
        match self {
            Self::Control(request) => worker.control(now, request),
            Self::Data(batch) => worker.data(now, batch),
            Self::Timeout => worker.timeout(now),
        }
    }
}

/// A worker that acts, or is ready to.
struct Live {
    worker: Box<dyn Worker>,
    module: Description,
    /// What its host gives it, while it is followed.
    tape: Tape,
}

/// Why a module does not have the seat, or should not.
struct Quarantine {
    words: String,
    /// The module before it has the seat again.
    taken_back: bool,
}

/// One worker, how to replace it when it failed and how to exchange its module while it runs. Owned
/// and called by one thread, with its clock as argument.
pub struct Seat {
    factory: Arc<dyn WorkerFactory>,
    /// Who had the seat before the last swap.
    previous: Option<Arc<dyn WorkerFactory>>,
    hosts: HostMaker,
    config: Vec<u8>,
    live: Option<Live>,
    successor: Option<Successor>,
    following: Following,
    quarantine: Option<Quarantine>,
    retired: bool,
    /// Until when a module that fails goes for the one before; none when that one was rejected itself.
    trial_until: Option<Timestamp>,
    seated_at: Timestamp,
    /// Faults in a row, each within [`SETTLED`] of the one before.
    failures: u32,
    retry_at: Timestamp,
    restarts: u64,
    last_fault: Option<String>,
}

impl Seat {
    /// An empty seat for workers of `factory` with this encoded configuration; the first call
    /// fills it.
    #[must_use]
    pub fn new(factory: Arc<dyn WorkerFactory>, hosts: HostMaker, config: Vec<u8>) -> Self {
        Self {
            factory,
            previous: None,
            hosts,
            config,
            live: None,
            successor: None,
            following: Following::Nobody,
            quarantine: None,
            retired: false,
            trial_until: None,
            seated_at: Timestamp::default(),
            failures: 0,
            retry_at: Timestamp::default(),
            restarts: 0,
            last_fault: None,
        }
    }

    /// Fills the seat now, and has the worker prove itself by its self-test, so that a plugin or
    /// configuration that cannot work is found out at once.
    ///
    /// # Errors
    /// What the worker did instead of starting.
    pub fn start(&mut self, now: Timestamp) -> Result<(), WorkerFault> {
        if self.live.is_none() {
            let factory = Arc::clone(&self.factory);
            let mut live = self.spawn(&factory)?;
            live.worker.self_test()?;
            self.live = Some(self.configured(now, live)?);
        }
        Ok(())
    }

    /// How often a worker was replaced.
    #[must_use]
    pub const fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Why one was replaced the last time: plugin, call and limit.
    #[must_use]
    pub fn last_fault(&self) -> Option<&str> {
        self.last_fault.as_deref()
    }

    /// The plugin's name, for people.
    #[must_use]
    pub fn plugin(&self) -> &str {
        self.factory.name()
    }

    /// What the worker's module says of itself; none while the seat is empty.
    #[must_use]
    pub fn module(&self) -> Option<&Description> {
        self.live.as_ref().map(|live| &live.module)
    }

    /// Whether no worker has the seat right now.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.live.is_none()
    }

    /// Why a module is quarantined, with the plugin, the call and the limit of its last fault: the one
    /// in the seat, which is tried every five seconds, or the one that lost it to the module before. It
    /// is forgotten when the worker has lived for a minute, and by the next commit.
    #[must_use]
    pub fn quarantined(&self) -> Option<&str> {
        self.quarantine.as_ref().map(|quarantine| quarantine.words.as_str())
    }

    /// From now on a worker that fails is not replaced: the seat is being drained.
    pub fn retire(&mut self) {
        self.retired = true;
        self.abandon();
    }

    /// Takes [`retire`](Self::retire) back.
    pub fn stay(&mut self) {
        if std::mem::take(&mut self.retired) && self.live.is_none() {
            self.retry_at = self.seated_at;
        }
    }

    /// Drops the worker now, by an operator's order; another takes the seat at the next call. None
    /// when the seat was empty. Does not count towards quarantine: the module did nothing wrong.
    pub fn kill(&mut self, now: Timestamp, reason: &str) -> Option<Lost> {
        self.live.take()?;
        let fault =
            WorkerFault::Killed { plugin: self.factory.name().to_owned(), reason: plain_line(reason) };
        Some(self.vacate(now, fault))
    }

    /// Drops the worker because of what it told, `what`, in an answer that was a batch as it should be.
    /// None when the seat was empty. Counts as any other fault.
    pub fn reject(&mut self, now: Timestamp, what: &'static str, detail: String) -> Option<Lost> {
        self.live.as_ref()?;
        let fault = WorkerFault::Answer { plugin: self.factory.name().to_owned(), call: what, detail };
        Some(self.failed(now, fault))
    }

    /// Changes the configuration of this worker and of those after it.
    ///
    /// # Errors
    /// When the worker refuses it or fails; the configuration stays the one it was.
    pub fn configure(&mut self, now: Timestamp, config: Vec<u8>) -> Result<(), ReconfigureError> {
        let live = self.seated(now).map_err(ReconfigureError::Lost)?;
        match live.worker.configure(now, &config) {
            Ok(()) => {
                self.config = config;
                self.configure_others(now);
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
        self.call(now, Call::Control(request))
    }

    /// [`Worker::data`].
    ///
    /// # Errors
    /// When the worker is lost, and the batch with it.
    pub fn data(&mut self, now: Timestamp, batch: Batch) -> Result<Batch, Lost> {
        self.call(now, Call::Data(batch))
    }

    /// [`Worker::timeout`].
    ///
    /// # Errors
    /// When the worker is lost.
    pub fn timeout(&mut self, now: Timestamp) -> Result<Batch, Lost> {
        self.call(now, Call::Timeout)
    }

    /// [`Worker::shutdown`], exactly once: the seat is given up, whatever the worker does. None
    /// when it was empty.
    ///
    /// # Errors
    /// When the worker fails instead of saying goodbye.
    pub fn shutdown(mut self, now: Timestamp, reason: u8) -> Result<Option<Batch>, WorkerFault> {
        self.live.take().map(|mut live| live.worker.shutdown(now, reason)).transpose()
    }

    fn call(&mut self, now: Timestamp, call: Call<'_>) -> Result<Batch, Lost> {
        let followed = matches!(self.following, Following::Running(_)).then(|| call.clone());
        let live = self.seated(now)?;
        if followed.is_some() {
            live.tape.begin();
        }
        let answer = call.run(live.worker.as_mut(), now).map_err(|fault| self.failed(now, fault))?;
        if let Some(call) = followed {
            self.follow(now, call, &answer);
        }
        if self.quarantine.is_some() {
            self.forgive(now);
        }
        Ok(answer)
    }

    fn follow(&mut self, now: Timestamp, call: Call<'_>, answer: &Batch) {
        let Following::Running(shadow) = &mut self.following else { return };
        match shadow.follow(now, call, answer) {
            Ok(()) => {
                let verdict = shadow.verdict();
                if matches!(verdict, ShadowVerdict::Agreed { .. }) {
                    self.following = Following::Over(verdict);
                }
            }
            Err(reason) => self.end_shadow(reason),
        }
    }

    /// The worker, a new one if the old one failed and the wait is over.
    fn seated(&mut self, now: Timestamp) -> Result<&mut Live, Lost> {
        let live = match self.live.take() {
            Some(live) => live,
            None if now < self.retry_at => return Err(Lost { fault: None, wake_at: self.retry_at }),
            None => {
                let factory = Arc::clone(&self.factory);
                match self.spawn(&factory).and_then(|live| self.configured(now, live)) {
                    Ok(live) => live,
                    Err(fault) => {
                        // Nobody else hears of it: no circuit was lost.
                        tracing::error!(restarts = self.restarts, "{fault}");
                        let wake_at = self.failed(now, fault).wake_at;
                        return Err(Lost { fault: None, wake_at });
                    }
                }
            }
        };
        Ok(self.live.insert(live))
    }

    fn spawn(&self, factory: &Arc<dyn WorkerFactory>) -> Result<Live, WorkerFault> {
        let tape = Tape::default();
        let mut worker = factory.spawn(Box::new(Tap { host: (self.hosts)(), tape: tape.clone() }))?;
        let module = worker.describe()?;
        Ok(Live { worker, module, tape })
    }

    fn configured(&mut self, now: Timestamp, mut live: Live) -> Result<Live, WorkerFault> {
        live.worker.configure(now, &self.config)?;
        self.seated_at = now;
        Ok(live)
    }

    /// Gives the failed worker up, and a new one the seat if none failed lately.
    fn failed(&mut self, now: Timestamp, fault: WorkerFault) -> Lost {
        let lived = self.live.take().map(|_| now.since(self.seated_at));
        if lived.is_some_and(|lived| lived >= SETTLED) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let doubled = FIRST_WAIT.saturating_mul(1 << self.failures.saturating_sub(2).min(10));
        let worked = self.failures == 1 || lived.is_some_and(|lived| lived >= WORKED);
        let wait = if worked { Duration::ZERO } else { doubled.min(LONGEST_WAIT) };
        let on_trial = self.trial_until.is_some_and(|until| now < until);
        let quarantined = self.judge(&fault, on_trial);
        let wait = if quarantined { Duration::ZERO } else { wait };
        self.give_up(now.after(wait), fault)
    }

    /// The seat is empty for a reason that is not held against its module.
    fn vacate(&mut self, now: Timestamp, fault: WorkerFault) -> Lost {
        self.give_up(now, fault)
    }

    fn give_up(&mut self, retry_at: Timestamp, fault: WorkerFault) -> Lost {
        tracing::debug!(restarts = self.restarts, "{fault}");
        if matches!(self.following, Following::Running(_)) {
            self.end_shadow("the worker that it followed was lost".to_owned());
        }
        self.last_fault = Some(plain_line(&fault.to_string()));
        self.restarts += 1;
        self.retry_at = if self.retired { Timestamp::from_micros(u64::MAX) } else { retry_at };
        Lost { fault: Some(fault), wake_at: self.retry_at }
    }

    /// Quarantines a module that failed too often; answers whether the one before it has the seat back.
    fn judge(&mut self, fault: &WorkerFault, on_trial: bool) -> bool {
        let allowed = if on_trial && self.previous.is_some() { PROBATION } else { QUARANTINE };
        if self.failures < allowed {
            return false;
        }
        let (name, failures) = (self.factory.name(), self.failures);
        let words = format!("{name} is quarantined after {failures} failures in a row; the last: {fault}");
        let Some(previous) = self.previous.take_if(|_| on_trial) else {
            if self.quarantine.is_none() {
                tracing::error!("{words}");
            }
            self.quarantine = Some(Quarantine { words, taken_back: false });
            return false;
        };
        let words = format!("{words}; {} has the seat back", previous.name());
        tracing::error!("{words}");
        self.factory = previous;
        self.failures = 0;
        self.quarantine = Some(Quarantine { words, taken_back: true });
        true
    }

    /// A worker that has lived long enough clears its module.
    fn forgive(&mut self, now: Timestamp) {
        let settled = now.since(self.seated_at) >= SETTLED;
        if settled && self.quarantine.as_ref().is_some_and(|quarantine| !quarantine.taken_back) {
            self.quarantine = None;
            self.failures = 0;
        }
    }

    /// Another module has the seat: what the one before did is not held against it.
    fn trust_anew(&mut self, now: Timestamp) {
        self.seated_at = now;
        self.trial_until = Some(now.after(TRIAL));
        self.failures = 0;
        self.quarantine = None;
        self.retry_at = now;
    }

    /// The module that has the seat is on trial no more: the one before it was rejected, or given up.
    pub fn trust(&mut self) {
        self.trial_until = None;
    }

    /// Whether workers of `factory` take the seat.
    #[must_use]
    pub fn is_for(&self, factory: &Arc<dyn WorkerFactory>) -> bool {
        Arc::ptr_eq(&self.factory, factory)
    }
}

#[cfg(test)]
mod tests;

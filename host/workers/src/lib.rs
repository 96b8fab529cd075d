//! Workers: state machines without I/O that handle hostile cells, and the pool that keeps them.
//!
//! Names what a worker is ([`Worker`]), what it may ask of its host ([`WorkerHost`]) and how it
//! can fail ([`WorkerFault`]); [`Seat`] replaces a worker that failed. Callers cannot tell a Wasm
//! instance (`host/sandbox`) from the same code linked natively. Not here: wasmtime, sockets,
//! threads (`host/core` runs the loop). Does no I/O.

mod description;
mod frames;
mod line;
pub mod scale;
mod seat;
mod tape;

pub use description::Description;
pub use frames::Frames;
pub use line::{MAX_LINE, plain_line};
pub use seat::{
    CommitFault, Committed, HostMaker, Lost, ReconfigureError, Retired, RollbackFault, Seat, ShadowVerdict,
    SwapFault,
};
use warren_schemas::Timestamp;
use warren_schemas::batch::Batch;

/// How loud a line of a worker is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    /// Something is broken.
    Error,
    /// Something is odd.
    Warn,
    /// Something an operator wants to know.
    Info,
    /// Everything else.
    Debug,
}

/// Why a Diffie-Hellman with the relay's onion key was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DhRefusal {
    /// No private key of this epoch is held.
    #[error("no onion key of this epoch")]
    UnknownEpoch,
    /// The point is not 32 bytes, or the shared secret came out as zero.
    #[error("bad point")]
    BadPoint,
    /// Too many calls within a second.
    #[error("rate limited")]
    RateLimited,
}

/// What a worker may ask of its host. Mirrors `wit/worker.wit`.
pub trait WorkerHost: Send {
    /// Takes a line for the operator's log.
    fn log(&mut self, level: LogLevel, line: &str);
    /// Fills `bytes` from the operating system's randomness.
    fn random(&mut self, bytes: &mut [u8]);
    /// X25519 of the private onion key of `epoch` and `point`.
    ///
    /// # Errors
    /// See [`DhRefusal`].
    fn onion_dh(&mut self, epoch: u32, point: &[u8]) -> Result<[u8; 32], DhRefusal>;
}

/// What a worker did wrong. It is not called again after one, and its circuits are dead; only after
/// [`WorkerFault::Refused`] and [`WorkerFault::State`] it goes on with what it had.
#[derive(Debug, thiserror::Error)]
pub enum WorkerFault {
    /// It trapped (a panic, an illegal memory access, a stack overflow) or was dead already.
    #[error("{plugin} trapped in {call}: {detail}{frames}")]
    Trap {
        /// Which plugin.
        plugin: String,
        /// Which of its exports was running.
        call: &'static str,
        /// wasmtime's or the guest's own words.
        detail: String,
        /// Where it stood.
        frames: Frames,
    },
    /// It ran longer than its budget.
    #[error("{plugin} was stopped in {call} after its limit of {limit_ms} ms{frames}")]
    Deadline {
        /// Which plugin.
        plugin: String,
        /// Which of its exports was running.
        call: &'static str,
        /// The budget that ran out, in milliseconds.
        limit_ms: u64,
        /// Where it stood.
        frames: Frames,
    },
    /// It asked for more memory than it may have.
    #[error("{plugin} asked in {call} for more than its memory limit of {limit} bytes{frames}")]
    Memory {
        /// Which plugin.
        plugin: String,
        /// Which of its exports was running.
        call: &'static str,
        /// Bytes it may have.
        limit: usize,
        /// Where it stood.
        frames: Frames,
    },
    /// What it returned is not a batch, or too large.
    #[error("{plugin} gave a bad answer in {call}: {detail}")]
    Answer {
        /// Which plugin.
        plugin: String,
        /// Which of its exports answered.
        call: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// Somebody who may ordered its end.
    #[error("{plugin} was dropped by order: {reason}")]
    Killed {
        /// Which plugin.
        plugin: String,
        /// Why.
        reason: String,
    },
    /// It computed a known answer wrongly: it must not see a cell.
    #[error("{plugin} failed its self-test: {detail}")]
    SelfTest {
        /// Which plugin.
        plugin: String,
        /// The plugin's own words.
        detail: String,
    },
    /// It gave no state, or did not take one.
    #[error("{plugin} refused in {call}: {detail}")]
    State {
        /// Which plugin.
        plugin: String,
        /// `export-state`, `snapshot` or `import-state`.
        call: &'static str,
        /// The plugin's own words.
        detail: String,
    },
    /// It refused its configuration.
    #[error("{plugin} refused its configuration: {detail}")]
    Refused {
        /// Which plugin.
        plugin: String,
        /// The plugin's own words.
        detail: String,
    },
}

/// One running worker: native or Wasm. Calls come from one thread at a time.
///
/// After a [`WorkerFault`] other than [`WorkerFault::Refused`] and [`WorkerFault::State`] the worker
/// must be dropped; a further call answers with a fault.
pub trait Worker: Send {
    /// What its module says of itself; the same for every worker of a module, at any time.
    ///
    /// # Errors
    /// When the worker fails, or says more than [`Description`] may hold.
    fn describe(&mut self) -> Result<Description, WorkerFault>;

    /// Computes known answers with the code that works later. Call it once, before `configure`.
    ///
    /// # Errors
    /// [`WorkerFault::SelfTest`] when an answer came out wrong; any other when it fails.
    fn self_test(&mut self) -> Result<(), WorkerFault>;

    /// Takes an encoded `TunnelConfig`.
    ///
    /// # Errors
    /// When the worker refuses it or fails.
    fn configure(&mut self, now: Timestamp, config: &[u8]) -> Result<(), WorkerFault>;

    /// Takes an encoded `Request`.
    ///
    /// # Errors
    /// When the worker fails.
    fn control(&mut self, now: Timestamp, request: &[u8]) -> Result<Batch, WorkerFault>;

    /// Takes a batch of `Received` and `Outgoing` slots.
    ///
    /// # Errors
    /// When the worker fails.
    fn data(&mut self, now: Timestamp, batch: Batch) -> Result<Batch, WorkerFault>;

    /// The time that a batch asked for has come.
    ///
    /// # Errors
    /// When the worker fails.
    fn timeout(&mut self, now: Timestamp) -> Result<Batch, WorkerFault>;

    /// Gives its whole state to a successor, once: every further call answers with a fault, and only
    /// one successor may ever take it. At most `warren_schemas::state::MAX_STATE` bytes, with every
    /// secret of the worker in them: wipe them after use. `wake_at` of its last batch stays in force.
    ///
    /// # Errors
    /// [`WorkerFault::State`] when it cannot, and goes on as it was; any other when it fails.
    fn export_state(&mut self) -> Result<Vec<u8>, WorkerFault>;

    /// A copy of the state, while the worker goes on. It is for a shadow only: a worker that was given
    /// it answers to be compared and never acts, or counters would be used twice under one key. Bytes
    /// as of [`export_state`](Self::export_state): wipe them after use.
    ///
    /// # Errors
    /// [`WorkerFault::State`] when it cannot, and goes on as it was; any other when it fails.
    fn snapshot(&mut self) -> Result<Vec<u8>, WorkerFault>;

    /// Goes on with the state of a predecessor. The worker was configured and did nothing yet.
    ///
    /// # Errors
    /// [`WorkerFault::State`] when it refuses the state, and is fresh as before; any other when it fails.
    fn import_state(&mut self, now: Timestamp, state: &[u8]) -> Result<(), WorkerFault>;

    /// Goes through one page (64 KiB) of its memory, from 0 on, having taken memory until there are `least` of
    /// them, and gives how many there are. A worker without memory of its own has none.
    ///
    /// # Errors
    /// When the worker fails.
    fn touch(&mut self, page: u32, least: u32) -> Result<u32, WorkerFault> {
        _ = (page, least);
        Ok(0)
    }

    /// Says goodbye on every circuit.
    ///
    /// # Errors
    /// When the worker fails.
    fn shutdown(&mut self, now: Timestamp, reason: u8) -> Result<Batch, WorkerFault>;
}

/// Makes workers of one plugin, one for each thread and after each fault.
pub trait WorkerFactory: Send + Sync {
    /// The plugin's name and version, for people.
    fn name(&self) -> &str;

    /// A new worker that has not been configured.
    ///
    /// # Errors
    /// When it cannot be instantiated.
    fn spawn(&self, host: Box<dyn WorkerHost>) -> Result<Box<dyn Worker>, WorkerFault>;
}

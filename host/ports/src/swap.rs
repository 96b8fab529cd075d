//! What is said while the module behind the workers is exchanged. Plain values; `host/core` fills them,
//! `host/api` hands them out line by line.

use serde::{Deserialize, Serialize};

/// What happened at one moment of a swap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwapStage {
    /// The file's signature, world, imports and limits are as they must be.
    Verified,
    /// Known answers came out of a fresh instance, before it saw a cell.
    SelfTested,
    /// The canary follows the live worker's calls with a copy of its state; what it answers is thrown away.
    Shadowing,
    /// Its answers were those of the live worker.
    Agreed,
    /// A worker handed its state to an instance of the new module, which acts from now on.
    Committed,
    /// A worker of the new module takes new circuits; the old one keeps its circuits until they end.
    Draining,
    /// A drained instance of the old module has no circuits left and is gone.
    Drained,
    /// The new module is not used; the old one never stopped acting.
    RolledBack,
    /// All workers run the new module.
    Finished,
}

/// One line of a swap's audit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SwapStep {
    /// Microseconds since the Unix epoch.
    pub at_us: u64,
    /// What happened.
    pub stage: SwapStage,
    /// To which worker; none when it concerns all.
    pub worker: Option<u8>,
    /// For people: module names, counts, reasons. No newline.
    pub detail: String,
}

/// How a worker's change went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WorkerSwap {
    /// Which worker.
    pub worker: u8,
    /// Microseconds of wall clock from the last call of the old instance to the first moment the new one
    /// could be called.
    pub pause_us: u64,
    /// The same in CPU time of the worker's thread.
    pub pause_cpu_us: u64,
    /// Bytes of state that went over.
    pub state_bytes: u64,
    /// Answers that the shadow gave and that were compared; 0 for all but the canary.
    pub compared: u32,
}

/// How a swap ended when it ended well.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SwapReport {
    /// The module that was in use.
    pub from: String,
    /// The module that is.
    pub to: String,
    /// Each worker, canary first. Empty when the old module drains.
    pub workers: Vec<WorkerSwap>,
}

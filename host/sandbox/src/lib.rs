//! A Wasm component as a `workers::Worker`: the only crate that names wasmtime.
//!
//! [`Sandbox`] holds the engine, [`Sandbox::load`] checks a component's world and makes a
//! [`WasmFactory`] of it, whose workers run under limits: memory, CPU time and wall time of a call,
//! bytes of an answer, lines of log. Not here: what a worker says (`schemas`), how it is replaced
//! (`host/workers`), where it runs (`host/core`).
//!
//! I/O: reads and writes the folder of compiled code it is given, runs one thread that ticks while
//! a worker is being called, and reads the CPU time of the calling thread.

mod cache;
mod clocks;
mod engine;
mod exports;
mod fault;
mod guest;
mod imports;
mod plugin;
mod ticker;
mod worker;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use engine::Sandbox;
pub use plugin::WasmFactory;
pub use worker::WasmWorker;

/// The limits workers live under.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Bytes of linear memory of one worker.
    pub memory: usize,
    /// CPU time of the calling thread that `data` and `timeout` may take.
    pub data_cpu: Duration,
    /// CPU time that `configure`, `control` and `shutdown` may take.
    pub control_cpu: Duration,
    /// Wall time that any call may take: a machine that is busy with other things must not kill a
    /// healthy worker, so this is far above the CPU times, and no single pause counts for more than
    /// a quarter of it.
    pub wall: Duration,
    /// How often a running call is looked at. A budget can be overrun by two of these, and by what the looking
    /// thread has to wait for a processor.
    pub tick: Duration,
    /// Workers that can live at once. Each reserves 4 GiB of address space, not of memory. Where the
    /// machine does not give that much, it becomes as many as fit.
    pub instances: u32,
    /// Folder of compiled code, made with mode 0700 if need be; none compiles at each start.
    pub cache: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            memory: 256 << 20,
            data_cpu: Duration::from_millis(50),
            control_cpu: Duration::from_millis(500),
            wall: Duration::from_secs(1),
            tick: Duration::from_millis(2),
            instances: 4096,
            cache: None,
        }
    }
}

/// Why there is no engine, or why a component is not taken as a plugin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine or the settings do not allow an engine.
    #[error("cannot set up the Wasm engine: {0}")]
    Engine(String),
    /// The thread that ticks cannot be started.
    #[error("cannot start the thread that watches workers: {0}")]
    Ticker(#[source] io::Error),
    /// The bytes are no component, or one with features the engine does not have.
    #[error("{plugin} does not compile: {detail}")]
    Compile {
        /// Which plugin.
        plugin: String,
        /// wasmtime's words.
        detail: String,
    },
    /// It asks for something that is not in its world.
    #[error("{plugin} imports {import}, which a tunnel worker may not have")]
    UndeclaredImport {
        /// Which plugin.
        plugin: String,
        /// The import's name.
        import: String,
    },
    /// It is written for another version of the world.
    #[error("{plugin} is built for {found}; this host speaks {spoken}")]
    OtherVersion {
        /// Which plugin.
        plugin: String,
        /// The interface it names.
        found: String,
        /// The interface that is spoken here.
        spoken: &'static str,
    },
    /// It lacks an export, or has one of another type.
    #[error("{plugin} does not fit the world of a tunnel worker: {detail}")]
    World {
        /// Which plugin.
        plugin: String,
        /// What does not fit.
        detail: String,
    },
}

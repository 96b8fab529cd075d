//! How programs on the same machine talk to a running node: a Unix socket that only its owner can
//! open, on which one JSON line asks and one JSON line answers; a swap and a watch answer with several.
//!
//! It is not the REST interface, the event stream or the web page: those get rooms of their own
//! here, over the same [`StatusSource`]. It decides nothing about workers: [`WorkerControl`] does.
//! I/O: the one socket file it is given, and nothing else.

mod client;
mod desk;
mod message;
mod place;
mod server;

use std::io;
use std::path::PathBuf;

use tokio::sync::mpsc;
use warren_ports::BoxFuture;
use warren_ports::status::Status;
use warren_ports::swap::{SwapReport, SwapStep};

pub use client::{News, Swapping, Watch, circuits, kill_worker, rollback, status, swap, watch, workers};
pub use message::SwapRequest;
pub use server::Server;

/// Who knows how the node is. `host/node` implements it over `host/core`.
pub trait StatusSource: Send + Sync {
    /// The node as it is now.
    fn status(&self) -> BoxFuture<'_, Status>;
}

/// Why something was not done, for the person who asked. No newline.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Who can change a node's workers. `host/node` implements it over `host/core`.
///
/// [`Server`] asks for one swap or rollback at a time and refuses others meanwhile; it goes on when the
/// client that asked is gone.
pub trait WorkerControl: StatusSource {
    /// Exchanges the module behind a plugin's workers, and tells each step. Steps are told with `try_send`:
    /// one that does not fit is lost to this client, and the swap never waits for it.
    ///
    /// # Errors
    /// With the reason, when the new module is not in use in the end.
    fn swap(
        &self,
        request: SwapRequest,
        steps: mpsc::Sender<SwapStep>,
    ) -> BoxFuture<'_, Result<SwapReport, Refused>>;

    /// Puts the module before the last swap back. Steps as with [`WorkerControl::swap`].
    ///
    /// # Errors
    /// With the reason, when there is none or it is not in use in the end.
    fn rollback(
        &self,
        plugin: String,
        steps: mpsc::Sender<SwapStep>,
    ) -> BoxFuture<'_, Result<SwapReport, Refused>>;

    /// Drops the worker of this index as if it had failed; its circuits die.
    ///
    /// # Errors
    /// When the node is no lab, or has no such worker.
    fn kill_worker(&self, index: u8) -> BoxFuture<'_, Result<(), Refused>>;
}

/// Why the control socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process answers on it.
    #[error("another process answers on {}", .0.display())]
    InUse(PathBuf),
    /// Something that is not a socket lies there.
    #[error("{} is not a socket; move it away", .0.display())]
    NotASocket(PathBuf),
    /// Nobody answers: no node runs with this state folder.
    #[error("no node answers on {} (is it running, and with the same --state-dir?)", .0.display())]
    NotRunning(PathBuf),
    /// The system refused.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Its words.
        source: io::Error,
    },
    /// It ended, or closed the connection, before it had answered.
    #[error("the node on {} left without an answer", .0.display())]
    Gone(PathBuf),
    /// The node will not, or could not; its own words.
    #[error("{0}")]
    Refused(String),
    /// What came back is no answer.
    #[error("a bad answer came back: {0}")]
    Answer(String),
    /// No answer in time.
    #[error("no answer within {0} s")]
    TimedOut(u64),
}

#[cfg(test)]
mod tests;

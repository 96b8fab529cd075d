//! How programs on the same machine talk to a running node: a Unix socket that only its owner can
//! open, on which one JSON line asks and one JSON line answers.
//!
//! It is not the REST interface, the event stream or the web page: those get rooms of their own
//! here, over the same [`StatusSource`]. I/O: the one socket file it is given, and nothing else.

mod client;
mod message;
mod place;
mod server;

use std::io;
use std::path::PathBuf;

use warren_ports::BoxFuture;
use warren_ports::status::Status;

pub use client::status;
pub use server::Server;

/// Who knows how the node is. `host/node` implements it over `host/core`.
pub trait StatusSource: Send + Sync {
    /// The node as it is now.
    fn status(&self) -> BoxFuture<'_, Status>;
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
    /// What came back is no answer.
    #[error("a bad answer came back: {0}")]
    Answer(String),
    /// No answer in time.
    #[error("no answer within {0} s")]
    TimedOut(u64),
}

#[cfg(test)]
mod tests;

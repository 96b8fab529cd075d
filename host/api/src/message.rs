//! The lines: requests, answers, and reading one of bounded length.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use warren_ports::status::{CircuitStatus, Status, WorkerStatus};
use warren_ports::swap::{SwapReport, SwapStep};

/// The longest request line in bytes: a path of 4,096 bytes with every one of them escaped fits.
pub(crate) const MAX_REQUEST: u64 = 32 << 10;
/// The longest answer line in bytes: some thousand circuits.
pub(crate) const MAX_ANSWER: u64 = 4 << 20;

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// How the node is.
    Status,
    /// The same every so many milliseconds, until the client leaves or asks something else.
    Watch { period_ms: u64 },
    /// Its workers.
    Workers,
    /// Its own circuits, and why traffic waits for one.
    Circuits,
    /// Exchange the module behind the workers. Answered by steps, then a report or an error.
    Swap(SwapRequest),
    /// Go back to the module before. Answered as `swap` is.
    Rollback { plugin: String },
    /// Drop a worker now (labs only).
    KillWorker { index: u8 },
}

/// Which module, and how.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwapRequest {
    /// The plugin whose workers change: `tunnel`.
    pub plugin: String,
    /// The module, as an absolute path that the node reads.
    pub path: PathBuf,
    /// Do not hand state over: the new module takes new circuits while the old one's end.
    #[serde(default)]
    pub drain: bool,
    /// Answers of the shadow that must equal the live worker's before anything changes; 0 for no shadow.
    pub canary: u32,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// To `status`, and again and again to `watch`.
    Status(Box<Status>),
    /// To `workers`.
    Workers(Vec<WorkerStatus>),
    /// To `circuits`.
    Circuits { circuits: Vec<CircuitStatus>, waiting: Vec<String> },
    /// To `swap` and `rollback`, as it happens.
    Step(SwapStep),
    /// To `swap` and `rollback`, at the good end.
    Report(SwapReport),
    /// To `kill_worker`.
    Killed { index: u8 },
    /// The request made no sense or was refused; the text says why.
    Error(String),
}

/// The next line without its end; none at the end of the stream.
///
/// # Errors
/// When reading fails, or the line is longer than `limit` bytes or never ends.
pub(crate) async fn read_line(
    stream: &mut (impl AsyncBufRead + Unpin),
    limit: u64,
) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = stream.take(limit + 1).read_until(b'\n', &mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    if line.pop_if(|last| *last == b'\n').is_none() {
        let whole = line.len() as u64 > limit;
        let why = if whole { "line too long" } else { "line without an end" };
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(Some(line))
}

/// Writes `message` as one line.
///
/// # Errors
/// When writing fails.
pub(crate) async fn write_line(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    stream.flush().await
}

//! The lines: requests, answers, and reading one of bounded length.

use std::io;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use warren_ports::status::Status;

/// The longest request line in bytes.
pub(crate) const MAX_REQUEST: u64 = 4096;
/// The longest answer line in bytes: some thousand circuits.
pub(crate) const MAX_ANSWER: u64 = 4 << 20;

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// How the node is.
    Status,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// To `status`.
    Status(Box<Status>),
    /// The request made no sense; the text says why.
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

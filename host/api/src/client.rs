//! The asking side.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::time::timeout;
use warren_ports::status::Status;

use crate::Error;
use crate::message::{Answer, MAX_ANSWER, Request, read_line, write_line};
use crate::place::Place;

/// How long the node may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the node whose control socket lies at `path` how it is.
///
/// # Errors
/// When no node runs there, or it does not answer within 10 s.
pub async fn status(path: &Path) -> Result<Status, Error> {
    timeout(PATIENCE, ask(path, &Request::Status)).await.map_err(|_| Error::TimedOut(PATIENCE.as_secs()))?
}

async fn ask(path: &Path, request: &Request) -> Result<Status, Error> {
    let failed = |doing| move |source| Error::Io { doing, path: path.to_owned(), source };
    let place = Place::of(path).map_err(|source| unreachable(path, source))?;
    let stream = UnixStream::connect(place.as_path()).await.map_err(|source| unreachable(path, source))?;
    let mut stream = BufReader::new(stream);
    write_line(&mut stream, request).await.map_err(failed("asking on"))?;
    let line = read_line(&mut stream, MAX_ANSWER).await.map_err(failed("reading from"))?;
    let line = line.ok_or_else(|| Error::Answer("none".into()))?;
    match serde_json::from_slice(&line) {
        Ok(Answer::Status(status)) => Ok(*status),
        Ok(Answer::Error(text)) => Err(Error::Answer(text)),
        Err(error) => Err(Error::Answer(error.to_string())),
    }
}

fn unreachable(path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::NotRunning(path.to_owned()),
        _ => Error::Io { doing: "opening", path: path.to_owned(), source },
    }
}

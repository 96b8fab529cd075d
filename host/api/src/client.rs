//! The asking side.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::time::timeout;
use warren_ports::status::{CircuitStatus, Status, WorkerStatus};
use warren_ports::swap::{SwapReport, SwapStep};

use crate::Error;
use crate::message::{Answer, MAX_ANSWER, Request, SwapRequest, read_line, write_line};
use crate::place::Place;

/// How long the node may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the node whose control socket lies at `path` how it is.
///
/// # Errors
/// When no node runs there, or it does not answer within 10 s.
pub async fn status(path: &Path) -> Result<Status, Error> {
    match ask(path, &Request::Status).await? {
        Answer::Status(status) => Ok(*status),
        other => Err(unexpected(other)),
    }
}

/// Asks for the workers.
///
/// # Errors
/// As [`status`].
pub async fn workers(path: &Path) -> Result<Vec<WorkerStatus>, Error> {
    match ask(path, &Request::Workers).await? {
        Answer::Workers(workers) => Ok(workers),
        other => Err(unexpected(other)),
    }
}

/// Asks for the node's own circuits, and why some traffic waits for one, a line each.
///
/// # Errors
/// As [`status`].
pub async fn circuits(path: &Path) -> Result<(Vec<CircuitStatus>, Vec<String>), Error> {
    match ask(path, &Request::Circuits).await? {
        Answer::Circuits { circuits, waiting } => Ok((circuits, waiting)),
        other => Err(unexpected(other)),
    }
}

/// Has a worker dropped; its circuits die.
///
/// # Errors
/// As [`status`], and [`Error::Refused`] when the node is no lab or has no such worker.
pub async fn kill_worker(path: &Path, index: u8) -> Result<(), Error> {
    match ask(path, &Request::KillWorker { index }).await? {
        Answer::Killed { .. } => Ok(()),
        other => Err(unexpected(other)),
    }
}

/// Asks for the status again and again, every `period` (100 ms to an hour).
///
/// # Errors
/// As [`status`].
pub async fn watch(path: &Path, period: Duration) -> Result<Watch, Error> {
    let period_ms = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
    let line = Line::open(path, &Request::Watch { period_ms }).await?;
    Ok(Watch { line, patience: period.saturating_add(PATIENCE) })
}

/// A status that comes again and again. Dropping it ends that.
pub struct Watch {
    line: Line,
    patience: Duration,
}

impl Watch {
    /// The next one. Not cancel-safe: what was dropped half-way is lost.
    ///
    /// # Errors
    /// When the node ended, or is 10 s late.
    pub async fn next(&mut self) -> Result<Status, Error> {
        match within(self.patience, self.line.next()).await? {
            Answer::Status(status) => Ok(*status),
            other => Err(unexpected(other)),
        }
    }
}

/// Has the module behind a plugin's workers exchanged.
///
/// # Errors
/// As [`status`], and [`Error::Refused`] while another change is under way.
pub async fn swap(path: &Path, request: SwapRequest) -> Result<Swapping, Error> {
    Ok(Swapping { line: Line::open(path, &Request::Swap(request)).await? })
}

/// Has the module before the last swap put back.
///
/// # Errors
/// As [`swap`].
pub async fn rollback(path: &Path, plugin: &str) -> Result<Swapping, Error> {
    Ok(Swapping { line: Line::open(path, &Request::Rollback { plugin: plugin.to_owned() }).await? })
}

/// A change of modules under way. Dropping it does not end it: the node goes on.
pub struct Swapping {
    line: Line,
}

/// What is heard of a change of modules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// Something happened; more follows.
    Step(SwapStep),
    /// It is done; nothing follows.
    Done(SwapReport),
}

impl Swapping {
    /// What happens next. Waits as long as it takes: draining may take a day.
    ///
    /// # Errors
    /// [`Error::Refused`] with the reason when it was not done, others when the node is gone.
    pub async fn next(&mut self) -> Result<News, Error> {
        match self.line.next().await? {
            Answer::Step(step) => Ok(News::Step(step)),
            Answer::Report(report) => Ok(News::Done(report)),
            other => Err(unexpected(other)),
        }
    }
}

/// A connection on which something was asked.
struct Line {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

impl Line {
    async fn open(path: &Path, request: &Request) -> Result<Self, Error> {
        let open = async {
            let place = Place::of(path).map_err(|source| unreachable(path, source))?;
            let stream =
                UnixStream::connect(place.as_path()).await.map_err(|source| unreachable(path, source))?;
            let mut stream = BufReader::new(stream);
            let failed = |source| Error::Io { doing: "asking on", path: path.to_owned(), source };
            write_line(&mut stream, request).await.map_err(failed)?;
            Ok(Self { stream, path: path.to_owned() })
        };
        within(PATIENCE, open).await
    }

    async fn next(&mut self) -> Result<Answer, Error> {
        let failed = |source| Error::Io { doing: "reading from", path: self.path.clone(), source };
        let line = read_line(&mut self.stream, MAX_ANSWER).await.map_err(failed)?;
        let line = line.ok_or_else(|| Error::Gone(self.path.clone()))?;
        serde_json::from_slice(&line).map_err(|error| Error::Answer(error.to_string()))
    }
}

async fn ask(path: &Path, request: &Request) -> Result<Answer, Error> {
    within(PATIENCE, async { Line::open(path, request).await?.next().await }).await
}

async fn within<T>(patience: Duration, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(patience, work).await.map_err(|_| Error::TimedOut(patience.as_secs()))?
}

fn unexpected(answer: Answer) -> Error {
    match answer {
        Answer::Error(text) => Error::Refused(text),
        other => Error::Answer(format!("not what was asked for: {other:?}")),
    }
}

fn unreachable(path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::NotRunning(path.to_owned()),
        _ => Error::Io { doing: "opening", path: path.to_owned(), source },
    }
}

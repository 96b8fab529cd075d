//! Where a client is served: one line asks, one or more lines answer.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::message::{Answer, MAX_REQUEST, Request, SwapRequest, read_line, write_line};
use crate::{Refused, WorkerControl};

/// How long a client may be silent, or slow to read its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Steps of a swap that may wait for a client. When it is full, whoever swaps drops the step for this
/// client and goes on: the node's own audit has it.
const STEPS: usize = 256;
/// Clients that may watch at one time: fewer than may be served, so that there is always a place to ask.
const WATCHERS: usize = 8;
/// The shortest and the longest time between two looks of a watcher.
const PERIODS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3600));

type Client = BufReader<UnixStream>;

/// What all clients of a socket share.
pub(crate) struct Desk {
    control: Arc<dyn WorkerControl>,
    /// The change of modules that is under way.
    under_way: Mutex<Option<String>>,
    watchers: Semaphore,
}

impl Desk {
    pub(crate) fn new(control: Arc<dyn WorkerControl>) -> Self {
        Self { control, under_way: Mutex::default(), watchers: Semaphore::new(WATCHERS) }
    }

    /// Answers one client until it leaves.
    pub(crate) async fn serve(self: Arc<Self>, stream: UnixStream) -> io::Result<()> {
        let mut client = BufReader::new(stream);
        loop {
            let line = match timeout(PATIENCE, read_line(&mut client, MAX_REQUEST)).await? {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(()),
                Err(error) => return answer(&mut client, &Answer::Error(error.to_string())).await,
            };
            match serde_json::from_slice(&line) {
                Ok(request) => self.take(&mut client, request).await?,
                Err(error) => {
                    answer(&mut client, &Answer::Error(format!("not a request: {error}"))).await?;
                }
            }
        }
    }

    async fn take(self: &Arc<Self>, client: &mut Client, request: Request) -> io::Result<()> {
        let said = match request {
            Request::Status => Answer::Status(Box::new(self.control.status().await)),
            Request::Workers => Answer::Workers(self.control.status().await.workers),
            Request::Circuits => {
                let status = self.control.status().await;
                Answer::Circuits { circuits: status.circuits, waiting: status.waiting }
            }
            Request::KillWorker { index } => match self.control.kill_worker(index).await {
                Ok(()) => Answer::Killed { index },
                Err(refused) => Answer::Error(refused.0),
            },
            Request::Watch { period_ms } => return self.watch(client, period_ms).await,
            Request::Swap(request) => return self.change(client, Change::Swap(request)).await,
            Request::Rollback { plugin } => return self.change(client, Change::Rollback(plugin)).await,
        };
        answer(client, &said).await
    }

    async fn watch(&self, client: &mut Client, period_ms: u64) -> io::Result<()> {
        let Ok(_place) = self.watchers.try_acquire() else {
            return answer(client, &Answer::Error(format!("{WATCHERS} clients watch already"))).await;
        };
        let period = Duration::from_millis(period_ms).clamp(PERIODS.0, PERIODS.1);
        loop {
            answer(client, &Answer::Status(Box::new(self.control.status().await))).await?;
            tokio::select! {
                () = tokio::time::sleep(period) => {}
                // It left, or asks something else.
                said = client.fill_buf() => return said.map(drop),
            }
        }
    }

    /// One change at a time. It goes on when its client leaves: half a swap would be worse than one that
    /// nobody watches.
    async fn change(self: &Arc<Self>, client: &mut Client, change: Change) -> io::Result<()> {
        let under_way = match self.begin(&change) {
            Ok(under_way) => under_way,
            Err(refused) => return answer(client, &Answer::Error(refused.0)).await,
        };
        let (steps, mut inbox) = mpsc::channel(STEPS);
        let control = Arc::clone(&self.control);
        let task = tokio::spawn(async move {
            let ended = match change {
                Change::Swap(request) => control.swap(request, steps).await,
                Change::Rollback(plugin) => control.rollback(plugin, steps).await,
            };
            drop(under_way);
            ended
        });
        while let Some(step) = inbox.recv().await {
            answer(client, &Answer::Step(step)).await?;
        }
        let said = match task.await {
            Ok(Ok(report)) => Answer::Report(report),
            Ok(Err(refused)) => Answer::Error(refused.0),
            Err(error) => Answer::Error(format!("it broke off: {error}")),
        };
        answer(client, &said).await
    }

    fn begin(self: &Arc<Self>, change: &Change) -> Result<UnderWay, Refused> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = &*under_way {
            return Err(Refused(format!("{other} is under way; wait for its end")));
        }
        *under_way = Some(change.to_string());
        Ok(UnderWay(Arc::clone(self)))
    }
}

/// Holds the place of the one change that is under way.
struct UnderWay(Arc<Desk>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        *self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

enum Change {
    Swap(SwapRequest),
    Rollback(String),
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Swap(request) => {
                write!(f, "a swap of {} to {}", request.plugin, request.path.display())
            }
            Self::Rollback(plugin) => write!(f, "a rollback of {plugin}"),
        }
    }
}

async fn answer(client: &mut Client, said: &Answer) -> io::Result<()> {
    timeout(PATIENCE, write_line(client, said)).await?
}

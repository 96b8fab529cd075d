//! The originator's ends of the circuits of one worker thread: their QUIC connections and streams.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use warren_ports::{Association, BoxFuture, DialError, Target};
use warren_schemas::CircuitHandle;
use warren_streams::{Connection, Endpoint, TunnelAssociation};

use crate::messages::{Ask, ToKeeper, What};

/// Connections by the circuit they use now.
pub(crate) struct Ends {
    worker: u8,
    keeper: mpsc::Sender<ToKeeper>,
    endpoint: Arc<Endpoint>,
    connections: HashMap<CircuitHandle, Vec<End>>,
}

/// A connection and how many asks are being served on it.
#[derive(Clone)]
struct End {
    connection: Connection,
    streams: Arc<AtomicU32>,
}

impl Ends {
    pub(crate) fn new(worker: u8, keeper: mpsc::Sender<ToKeeper>, endpoint: Arc<Endpoint>) -> Self {
        Self { worker, keeper, endpoint, connections: HashMap::new() }
    }

    /// A circuit's last hop proved itself on this connection.
    pub(crate) fn insert(&mut self, handle: CircuitHandle, connection: Connection) {
        let end = End { connection, streams: Arc::default() };
        self.connections.entry(handle).or_default().push(end);
    }

    /// Whether a connection uses that circuit.
    pub(crate) fn holds(&self, handle: CircuitHandle) -> bool {
        self.connections.contains_key(&handle)
    }

    /// The circuit is gone and nothing takes its place.
    pub(crate) fn remove(&mut self, handle: CircuitHandle) {
        self.connections.remove(&handle);
    }

    /// Forgets connections that are closed, and answers with the circuits that have none left:
    /// they are of no use any more, though they stand.
    pub(crate) fn sweep(&mut self) -> Vec<CircuitHandle> {
        let bare = self.connections.extract_if(|_, ends| {
            ends.retain(|end| !end.connection.is_closed());
            ends.is_empty()
        });
        bare.map(|(handle, _)| handle).collect()
    }

    /// Moves the connections of circuit `from` to circuit `to`, where new streams go on using the
    /// connection that `to` has. Answers how many streams came with them.
    pub(crate) fn migrate(&mut self, from: CircuitHandle, to: CircuitHandle) -> u32 {
        let mut streams = 0;
        for end in self.connections.remove(&from).unwrap_or_default() {
            end.connection.migrate(to);
            streams += end.streams.load(Ordering::Relaxed);
            self.connections.entry(to).or_default().push(end);
        }
        streams
    }

    /// Does on the circuit what was asked for. Runs as a task; an ask whose connection died before
    /// the exit was reached goes back to the keeper, because nothing was sent yet.
    pub(crate) fn open(&self, handle: CircuitHandle, ask: Ask) {
        let (worker, keeper) = (self.worker, self.keeper.clone());
        let open = |all: &Vec<End>| all.iter().find(|end| !end.connection.is_closed()).cloned();
        let end = self.connections.get(&handle).and_then(open);
        if let Some(end) = &end {
            end.streams.fetch_add(1, Ordering::Relaxed);
        }
        self.endpoint.spawn(async move {
            let handle = match end {
                Some(end) => end.serve(ask, &keeper).await,
                None => {
                    give_back(ask, &keeper).await;
                    handle
                }
            };
            drop(keeper.send(ToKeeper::StreamEnded { worker, handle }).await);
        });
    }
}

impl End {
    /// Answers with the circuit that carried it at its end.
    async fn serve(self, ask: Ask, keeper: &mpsc::Sender<ToKeeper>) -> CircuitHandle {
        serve(&self.connection, ask, keeper).await;
        self.streams.fetch_sub(1, Ordering::Relaxed);
        self.connection.circuit()
    }
}

async fn serve(connection: &Connection, ask: Ask, keeper: &mpsc::Sender<ToKeeper>) {
    let Ask { isolation, what, deadline } = ask;
    match what {
        What::Connect { target, job } => match connection.open(&target).await {
            Err(DialError::CircuitLost) => {
                give_back(Ask { isolation, what: What::Connect { target, job }, deadline }, keeper).await;
            }
            outcome => job(outcome.map(|stream| Box::new(stream) as _)).await,
        },
        What::Associate { answer } => match connection.associate().await {
            Err(DialError::CircuitLost) => {
                give_back(Ask { isolation, what: What::Associate { answer }, deadline }, keeper).await;
            }
            outcome => {
                let (alive, over) = oneshot::channel();
                let counted = |inner| Box::new(Counted { inner, _alive: alive }) as Box<dyn Association>;
                drop(answer.send(outcome.map(counted)));
                drop(over.await);
            }
        },
    }
}

async fn give_back(ask: Ask, keeper: &mpsc::Sender<ToKeeper>) {
    if let Err(mpsc::error::SendError(ToKeeper::Ask(ask))) = keeper.send(ToKeeper::Ask(ask)).await {
        ask.fail(DialError::CircuitLost);
    }
}

/// An association that is counted as open on its circuit until it is dropped.
struct Counted {
    inner: TunnelAssociation,
    _alive: oneshot::Sender<()>,
}

impl Association for Counted {
    fn send(&self, target: &Target, payload: Bytes) -> io::Result<()> {
        self.inner.send(target, payload)
    }

    fn recv(&self) -> BoxFuture<'_, io::Result<(Target, Bytes)>> {
        self.inner.recv()
    }
}

#[cfg(test)]
mod tests;

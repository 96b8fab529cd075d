//! The last hop's side: who comes, and what they ask for.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use warren_schemas::stream::{Outcome, StreamReply, StreamRequest, Target};

use crate::association::{Routes, TunnelAssociation};
use crate::connection::{CIRCUIT_LOST, Loss, Place, Shared};
use crate::fair::FairQueue;
use crate::port::{Hub, count};
use crate::quic::{Handshake, Quic};
use crate::settings::Settings;
use crate::tunnel_stream::TunnelStream;
use crate::windows::{self, LEAST, Purse, Windows};
use crate::{Carrier, Error, lock, message};

/// Requests of one connection that are read or wait for `next`; further streams wait in QUIC.
const PENDING: usize = 64;

/// Who may come: bounds for all connections and for those of one circuit.
#[derive(Debug)]
pub(crate) struct Gate {
    seats: Arc<Semaphore>,
    /// Of what connections may send.
    send: Arc<Purse>,
    /// Of what they may receive.
    receive: Arc<Purse>,
    per_circuit: usize,
    arrived: Mutex<HashMap<Carrier, usize>>,
}

/// A connection's seat, given back when dropped.
#[derive(Debug)]
pub(crate) struct Admission {
    gate: Arc<Gate>,
    carrier: Carrier,
    _seat: OwnedSemaphorePermit,
}

impl Gate {
    pub(crate) fn new(settings: &Settings) -> Arc<Self> {
        let total = settings.connections.min(Semaphore::MAX_PERMITS);
        let per_circuit = settings.connections_per_circuit;
        Arc::new(Self {
            seats: Arc::new(Semaphore::new(total)),
            send: Purse::new(settings.last_hop_send_total.saturating_sub(LEAST * total as u64)),
            receive: Purse::new(settings.last_hop_receive.total),
            per_circuit,
            arrived: Mutex::default(),
        })
    }

    /// A seat for a connection that arrived by `carrier`; none when too many are taken.
    pub(crate) fn admit(self: &Arc<Self>, carrier: Carrier) -> Option<Admission> {
        let seat = self.seats.clone().try_acquire_owned().ok()?;
        let mut arrived = lock(&self.arrived);
        let count = arrived.entry(carrier).or_default();
        if *count >= self.per_circuit {
            return None;
        }
        *count += 1;
        Some(Admission { gate: self.clone(), carrier, _seat: seat })
    }

    /// Those of a connection.
    fn windows(&self, settings: &Settings) -> Windows {
        Windows {
            send: self.send.open(LEAST, settings.last_hop_send_window),
            gives_back: true,
            receive: settings.last_hop_receive.of(&self.receive),
            of_a_stream: settings.last_hop_stream_receive_window,
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut arrived = lock(&self.gate.arrived);
        if let Some(count) = arrived.get_mut(&self.carrier) {
            *count -= 1;
            if *count == 0 {
                arrived.remove(&self.carrier);
            }
        }
    }
}

/// Someone who began a handshake. Dropped, it is refused.
#[derive(Debug)]
pub struct Incoming {
    pub(crate) handshake: Handshake,
    pub(crate) admission: Admission,
    pub(crate) hub: Arc<Hub>,
    pub(crate) settings: Arc<Settings>,
}

impl Incoming {
    /// The circuit that it arrived by.
    #[must_use]
    pub fn carrier(&self) -> Carrier {
        self.handshake.carrier()
    }

    /// Completes the handshake.
    ///
    /// # Errors
    /// [`Error::TimedOut`] after `handshake_timeout`, or what else ended it.
    pub async fn establish(self) -> Result<ServerConnection, Error> {
        let Self { handshake, admission, hub, settings } = self;
        let opening = handshake.accept()?.established();
        let quic = timeout(settings.handshake_timeout, opening).await.map_err(|_| Error::TimedOut)??;
        let windows = admission.gate.windows(&settings);
        let routes = Routes::new(hub.clone(), settings.associations);
        let shared = Shared::new(quic, routes, Place::LastHop { _admission: admission });
        hub.register_server(&shared);
        let (asked, receiver) = mpsc::channel(PENDING);
        let desk = Desk { shared: Arc::downgrade(&shared), hub, settings, asked };
        let windows = windows::follow(shared.quic.clone(), windows, shared.open.clone());
        let queue = shared.queue.clone();
        shared.run(desk.serve(shared.quic.clone(), shared.routes.clone(), queue, shared.loss(), windows));
        Ok(ServerConnection { shared, asked: tokio::sync::Mutex::new(receiver) })
    }
}

/// A last hop's connection with one originator.
#[derive(Debug)]
pub struct ServerConnection {
    shared: Arc<Shared>,
    asked: tokio::sync::Mutex<mpsc::Receiver<Asked>>,
}

/// What an originator asks for.
#[derive(Debug)]
pub enum Asked {
    /// A TCP connection to `target`.
    Connect {
        /// Where to.
        target: Target,
        /// How to say whether it stands.
        answer: Answer,
    },
    /// A UDP association, already granted.
    Associate {
        /// Its datagrams: what `recv` answers is to be sent into the world.
        flow: TunnelAssociation,
    },
}

impl ServerConnection {
    /// Has QUIC panic, as it might over a stranger's bytes.
    #[cfg(test)]
    pub(crate) fn panic(&self) {
        self.shared.quic.panic();
    }

    /// What is asked next; none when the connection is gone. Malformed and late requests do not
    /// show here: their streams are reset, and counted.
    pub async fn next(&self) -> Option<Asked> {
        self.asked.lock().await.recv().await
    }

    /// The circuit that carries it now.
    #[must_use]
    pub fn carrier(&self) -> Carrier {
        self.shared.quic.carrier()
    }

    /// Waits until it is closed, by whichever side.
    pub async fn closed(&self) {
        let quic = self.shared.quic.clone();
        quic.closed().await;
    }
}

/// Says how a request went. Dropped, the stream is reset.
#[derive(Debug)]
pub struct Answer {
    stream: TunnelStream,
}

impl Answer {
    /// The connection stands, from `bound`; what follows are its bytes.
    ///
    /// # Errors
    /// When the originator is gone.
    pub async fn accept(mut self, bound: SocketAddr) -> Result<TunnelStream, Error> {
        let reply = StreamReply { outcome: Outcome::Done, bound: Some(bound) };
        let sent = message::write(&mut self.stream, &reply.encode()).await;
        sent.map_err(|error| Error::Lost(error.to_string()))?;
        Ok(self.stream)
    }

    /// It does not stand, and why.
    pub async fn refuse(mut self, outcome: Outcome) {
        // Whoever is gone needs no answer.
        drop(refuse(&mut self.stream, outcome).await);
    }
}

async fn refuse(stream: &mut TunnelStream, outcome: Outcome) -> io::Result<()> {
    let reply = StreamReply { outcome, bound: None };
    message::write(stream, &reply.encode()).await?;
    tokio::io::AsyncWriteExt::shutdown(stream).await
}

/// Where the requests of one connection are read.
struct Desk {
    shared: Weak<Shared>,
    hub: Arc<Hub>,
    settings: Arc<Settings>,
    asked: mpsc::Sender<Asked>,
}

impl Desk {
    /// Reads requests and hands out datagrams, until the connection is gone.
    async fn serve(
        self,
        quic: Quic,
        routes: Arc<Routes>,
        queue: FairQueue,
        loss: Arc<Loss>,
        windows: impl Future<Output = ()>,
    ) {
        let mut reading = JoinSet::new();
        let (mut turns, mut windows) = (pin!(queue.watch()), pin!(windows));
        let mut lost = pin!(loss.unrepaired(&quic, self.settings.migration_grace));
        loop {
            tokio::select! {
                halves = quic.accept(), if reading.len() < PENDING => {
                    let (Ok(halves), Some(shared)) = (halves, self.shared.upgrade()) else { break };
                    let stream = TunnelStream::new(shared, halves);
                    reading.spawn(read_in_time(stream, self.hub.clone(), self.settings.clone(), self.asked.clone()));
                }
                _ = reading.join_next(), if !reading.is_empty() => {}
                datagram = quic.read_datagram() => match datagram {
                    Ok(datagram) => routes.handle_datagram(datagram),
                    Err(_) => break,
                },
                // Neither ends.
                () = &mut windows => {}
                () = &mut turns => {}
                () = &mut lost => {
                    quic.close(CIRCUIT_LOST);
                    break;
                }
            }
        }
        routes.close();
    }
}

async fn read_in_time(
    stream: TunnelStream,
    hub: Arc<Hub>,
    settings: Arc<Settings>,
    asked: mpsc::Sender<Asked>,
) {
    match timeout(settings.handshake_timeout, read_request(stream)).await {
        // The receiver is gone only with the connection.
        Ok(Some(request)) => drop(asked.send(request).await),
        _ => count(&hub.tally.bad_requests),
    }
}

/// Reads the request of a new stream; none when it is not one, or not to be granted.
async fn read_request(mut stream: TunnelStream) -> Option<Asked> {
    let request = message::read(&mut stream).await.ok()?;
    match StreamRequest::decode(&request).ok()? {
        StreamRequest::Connect(target) => Some(Asked::Connect { target, answer: Answer { stream } }),
        StreamRequest::Associate => {
            let routes = stream.shared.routes.clone();
            let Some(route) = stream.index().and_then(|id| routes.open(id)) else {
                refuse(&mut stream, Outcome::Limit).await.ok()?;
                return None;
            };
            let reply = StreamReply { outcome: Outcome::Done, bound: None };
            message::write(&mut stream, &reply.encode()).await.ok()?;
            Some(Asked::Associate { flow: TunnelAssociation::new(route, stream) })
        }
    }
}

//! A connection, as both sides hold it, and the originator's side of it.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use quinn_proto::VarInt;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use warren_ports::DialError;
use warren_schemas::CircuitHandle;
use warren_schemas::stream::{Outcome, StreamReply, StreamRequest, Target};

use crate::association::{Routes, TunnelAssociation};
use crate::fair::FairQueue;
use crate::port::{ClientEnd, Registration};
use crate::quic::Quic;
use crate::server::Admission;
use crate::tunnel_stream::TunnelStream;
use crate::windows::{self, Windows};
use crate::{Carrier, lock, message};

/// Application error codes with which connections are closed.
pub(crate) const FINISHED: VarInt = VarInt::from_u32(0);
pub(crate) const CIRCUIT_LOST: VarInt = VarInt::from_u32(1);

/// What keeps a connection's place.
#[derive(Debug)]
pub(crate) enum Place {
    Originator(Registration),
    LastHop { _admission: Admission },
}

/// A connection, held by its handle, its streams and its associations; closed with the last.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) quic: Quic,
    pub(crate) routes: Arc<Routes>,
    /// Streams and associations that live.
    pub(crate) open: Arc<AtomicUsize>,
    /// Whose turn it is to write.
    pub(crate) queue: FairQueue,
    place: Place,
    task: OnceLock<AbortHandle>,
    loss: Arc<Loss>,
}

/// Last hop: what its task is told when a circuit died.
#[derive(Debug, Default)]
pub(crate) struct Loss {
    told: Notify,
    carrier: Mutex<Carrier>,
}

impl Loss {
    /// Returns when a circuit died and the originator did not come by another within `grace`.
    pub(crate) async fn unrepaired(&self, quic: &Quic, grace: Duration) {
        loop {
            self.told.notified().await;
            tokio::time::sleep(grace).await;
            let carrier = *lock(&self.carrier);
            if quic.carrier() == carrier {
                return;
            }
        }
    }
}

impl Shared {
    pub(crate) fn new(quic: Quic, routes: Arc<Routes>, place: Place) -> Arc<Self> {
        Arc::new(Self {
            quic,
            routes,
            open: Arc::default(),
            queue: FairQueue::default(),
            place,
            task: OnceLock::new(),
            loss: Arc::default(),
        })
    }

    /// Runs `work` beside the connection, until it ends or the connection is dropped. `work`
    /// must not hold the connection's `Shared`.
    pub(crate) fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        // Set once: each side calls this once.
        drop(self.task.set(tokio::spawn(work).abort_handle()));
    }

    /// Last hop: `carrier` died; if it carries this connection, [`Loss::unrepaired`] starts to wait.
    pub(crate) fn circuit_dead(&self, carrier: Carrier) {
        if self.quic.carrier() == carrier {
            *lock(&self.loss.carrier) = carrier;
            self.loss.told.notify_one();
        }
    }

    pub(crate) fn loss(&self) -> Arc<Loss> {
        self.loss.clone()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
        self.routes.close();
        self.quic.close(FINISHED);
    }
}

/// An originator's connection to a last hop. Clones are handles of the same connection; it is
/// closed when the last of them, of its streams and of its associations is dropped.
#[derive(Clone, Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    reply_timeout: Duration,
}

impl Connection {
    pub(crate) fn new(
        shared: Arc<Shared>,
        end: Arc<ClientEnd>,
        windows: Windows,
        reply_timeout: Duration,
    ) -> Self {
        let windows = windows::follow(shared.quic.clone(), windows, shared.open.clone());
        shared.run(attend(shared.quic.clone(), shared.routes.clone(), shared.queue.clone(), windows, end));
        Self { shared, reply_timeout }
    }

    /// Asks the last hop to connect to `target`, and answers with the stream when it did.
    ///
    /// # Errors
    /// What the last hop answered; [`DialError::TimedOut`] without an answer within
    /// `reply_timeout`; [`DialError::CircuitLost`] when the connection is gone.
    pub async fn open(&self, target: &Target) -> Result<TunnelStream, DialError> {
        let request = StreamRequest::Connect(target.clone());
        let ask = async {
            let mut stream = self.open_stream().await?;
            self.ask(&mut stream, &request).await?;
            Ok(stream)
        };
        timeout(self.reply_timeout, ask).await.unwrap_or(Err(DialError::TimedOut))
    }

    /// Opens a UDP association at the last hop.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`DialError::Limit`] when there are too many.
    pub async fn associate(&self) -> Result<TunnelAssociation, DialError> {
        let ask = async {
            let mut stream = self.open_stream().await?;
            let route = stream.index().and_then(|id| self.shared.routes.open(id)).ok_or(DialError::Limit)?;
            self.ask(&mut stream, &StreamRequest::Associate).await?;
            Ok(TunnelAssociation::new(route, stream))
        };
        timeout(self.reply_timeout, ask).await.unwrap_or(Err(DialError::TimedOut))
    }

    pub(crate) async fn open_stream(&self) -> Result<TunnelStream, DialError> {
        let halves = self.shared.quic.open().await.map_err(|_| DialError::CircuitLost)?;
        Ok(TunnelStream::new(self.shared.clone(), halves))
    }

    async fn ask(&self, stream: &mut TunnelStream, request: &StreamRequest) -> Result<(), DialError> {
        let lost = |_: io::Error| if self.is_closed() { DialError::CircuitLost } else { DialError::Failed };
        message::write(stream, &request.encode()).await.map_err(lost)?;
        let reply = message::read(stream).await.map_err(lost)?;
        let reply = StreamReply::decode(&reply).map_err(|_| DialError::Failed)?;
        stream.bound = reply.bound;
        match reply.outcome {
            Outcome::Done => Ok(()),
            Outcome::Denied => Err(DialError::Denied),
            Outcome::NetworkUnreachable => Err(DialError::NetworkUnreachable),
            Outcome::HostUnreachable => Err(DialError::HostUnreachable),
            Outcome::Refused => Err(DialError::Refused),
            Outcome::TimedOut => Err(DialError::TimedOut),
            Outcome::Limit => Err(DialError::Limit),
            _ => Err(DialError::Failed),
        }
    }

    /// Goes on over circuit `to`, which must end at the same last hop. Streams and associations
    /// go on; what was lost on the way is sent again.
    pub fn migrate(&self, to: CircuitHandle) {
        if let Place::Originator(registration) = &self.shared.place {
            registration.end.migrate(to);
            self.shared.quic.path_changed();
        }
    }

    /// The circuit that carries it now.
    #[must_use]
    pub fn circuit(&self) -> CircuitHandle {
        self.shared.quic.carrier().circuit
    }

    /// Whether nothing can be opened on it any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.quic.is_closed()
    }

    /// Waits until it is closed, by whichever side. The future is no handle: it does not keep the
    /// connection open.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let quic = self.shared.quic.clone();
        async move { quic.closed().await }
    }

    /// Streams and associations that live: its load.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Round-trip time over the circuit, as QUIC estimates it.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.shared.quic.round_trip()
    }

    /// Closes it, with all that is open on it.
    pub fn close(&self) {
        self.shared.quic.close(FINISHED);
    }
}

/// The originator's task: hands out datagrams, ends turns and keeps the windows, until the connection or its circuit is gone.
async fn attend(
    quic: Quic,
    routes: Arc<Routes>,
    queue: FairQueue,
    windows: impl Future<Output = ()>,
    end: Arc<ClientEnd>,
) {
    let (mut turns, mut windows) = (pin!(queue.watch()), pin!(windows));
    loop {
        tokio::select! {
            datagram = quic.read_datagram() => match datagram {
                Ok(datagram) => routes.handle_datagram(datagram),
                Err(_) => break,
            },
            // Neither ends.
            () = &mut turns => {}
            () = &mut windows => {}
            () = end.lost() => {
                quic.close(CIRCUIT_LOST);
                break;
            }
        }
    }
    routes.close();
}

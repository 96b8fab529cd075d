//! The per-core loop: socket → dispatch → worker → actions, and the circuits it carries.
//!
//! Each worker thread has one current-thread runtime, one UDP socket, one worker (Wasm or native),
//! one QUIC endpoint and the exit sockets of its circuits. One more task, the keeper, decides which
//! circuits are wanted and hands each dial to the thread that has one. `core` reads the clock for
//! everybody. Not here: what a cell means (`plugins/tunnel`), which path is taken (`circuits`),
//! what an exit allows (`exit`).

mod clock;
mod descriptor;
mod dialer;
mod direct;
mod ends;
mod host;
mod intake;
mod keeper;
mod last_hop;
mod messages;
mod open;
mod parcel;
mod pool;
mod swap;
mod thread;
mod tunnel_ports;
mod view;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use warren_circuits::{Guard, Rules};
use warren_exit::Exit;
use warren_ports::status::Status;
use warren_ports::{Clock, Datagrams, Dial, Isolation};
use warren_schemas::PeerId;
use warren_schemas::control::{CloseReason, Limits, OnionKey, TunnelConfig};
use warren_schemas::descriptor::{Descriptor, SignedDescriptor};
pub use warren_streams::Congestion;
use warren_workers::WorkerFactory;
use zeroize::Zeroizing;

pub use clock::SystemClock;
pub use descriptor::LIFETIME as DESCRIPTOR_LIFETIME;
use dialer::Dialer;
pub use host::OnionSecret;
use keeper::Keeper;
use messages::{Leave, ToKeeper, ToWorker};
use open::Open;
use pool::{Pool, Span};
pub use swap::{SwapError, SwapOrder};
use thread::Gauge;
use tunnel_ports::TunnelPorts;
use view::Suites;

/// Messages a worker thread may have waiting on its control way. When it is full, an ask fails with a
/// limit, and what must not be left unsaid waits in the keeper.
const MAILBOX: usize = 4096;
/// Messages the keeper may have waiting; tasks wait when it is full, worker threads keep theirs.
const KEEPER_QUEUE: usize = 8192;
/// Orders to leave that may wait for a thread: one, and whoever comes second is refused.
const EXITS: usize = 1;
/// How long a worker may take to leave before the node goes without it.
const LEAVING: Duration = Duration::from_secs(3);

/// What a node is made of.
pub struct CoreConfig {
    /// UDP address for tunnel datagrams; port 0 takes any.
    pub listen: SocketAddr,
    /// Addresses to put into the descriptor; empty takes the bound one.
    pub advertise: Vec<SocketAddr>,
    /// Whether the kernel is asked to give each datagram to its worker's socket.
    pub steering: bool,
    /// Workers that run at least, and at first; 0 is taken as 1.
    pub min_workers: u8,
    /// Workers that may run; at most 127 do. Less than `min_workers` is taken as that.
    pub max_workers: u8,
    /// How often workers tell what changed; none for at once.
    pub sync: Option<Duration>,
    /// Whether each thread keeps to one core.
    pub pin: bool,
    /// Ed25519 secret of the node's id.
    pub identity: Zeroizing<[u8; 32]>,
    /// Ed25519 secret that the node proves as a last hop.
    pub stream_key: Zeroizing<[u8; 32]>,
    /// The relay's onion keys, newest first; empty for a client.
    pub onion_keys: Vec<OnionSecret>,
    /// Whether it carries other nodes' circuits.
    pub relay: bool,
    /// Its policy as an exit, if it is one.
    pub exit: Option<warren_exit::Policy>,
    /// Lets descriptors name private addresses (labs).
    pub allow_private: bool,
    /// What decides how much of a stream is on its way.
    pub congestion: Congestion,
    /// Bounds as a relay.
    pub limits: Limits,
    /// How paths are chosen; `own_peer` and `workers` are filled in here.
    pub rules: Rules,
    /// Guards of earlier runs, as [`Core::guards`] gave them.
    pub guards: Vec<Guard>,
    /// Key of whoever runs it, put into the descriptor.
    pub operator: Option<[u8; 32]>,
    /// Makes the workers.
    pub factory: Arc<dyn WorkerFactory>,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tunnel socket could not be opened.
    #[error("opening the tunnel socket: {0}")]
    Socket(#[from] warren_net::Error),
    /// The QUIC endpoint could not be made.
    #[error("making the stream endpoint: {0}")]
    Streams(#[from] warren_streams::Error),
    /// A worker could not be made or refused its configuration.
    #[error("starting worker {index}: {fault}")]
    Worker {
        /// Which.
        index: u8,
        /// Why.
        fault: warren_workers::WorkerFault,
    },
    /// A thread or runtime could not be made.
    #[error("starting a worker thread: {0}")]
    Thread(#[source] io::Error),
}

/// A running node's tunnels.
pub struct Core {
    keeper: mpsc::Sender<ToKeeper>,
    workers: Vec<mpsc::Sender<ToWorker>>,
    exits: Vec<mpsc::Sender<Leave>>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    dialer: Arc<Dialer>,
    clock: Arc<dyn Clock>,
    secrets: Arc<host::OnionSecrets>,
    author: descriptor::Author,
    tunnel: TunnelConfig,
    address: SocketAddr,
}

/// Opens the sockets, starts the threads and the keeper. Must be called within a tokio runtime,
/// on which the keeper runs.
///
/// # Errors
/// See [`Error`]. Threads that did start end by themselves.
pub fn start(config: CoreConfig, clock: Arc<dyn Clock>) -> Result<Core, Error> {
    let span = Span::new(config.min_workers, config.max_workers.max(config.min_workers));
    let workers = span.threads();
    let sockets = warren_net::bind_group(config.listen, workers, config.steering)?;
    let address = sockets.first().map_or(config.listen, warren_net::Bound::local_addr);
    let own = if config.advertise.is_empty() { vec![address] } else { config.advertise.clone() };
    let suites = Arc::new(Suites::new(config.rules.suites.clone()));
    let author = descriptor::Author::new(&config, own.clone(), Arc::clone(&suites));
    let secrets = Arc::new(host::OnionSecrets::new(config.onion_keys.clone()));
    let tunnel = tunnel_config(&config, span.max, author.peer_id(), own.clone());
    let (keeper, keeper_inbox) = mpsc::channel(KEEPER_QUEUE);
    let (mailboxes, inboxes): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(MAILBOX)).unzip();
    let (slots, data_ways): (Vec<_>, Vec<_>) = (0..workers).map(|_| parcel::data_way()).unzip();
    let (exits, leaves): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(EXITS)).unzip();
    let open = Arc::new(Open::new(&(0..span.min)));
    let gauges: Vec<_> = (0..workers).map(|_| Arc::new(Gauge::new(config.factory.name()))).collect();
    let cores = if config.pin { core_affinity::get_core_ids().unwrap_or_default() } else { Vec::new() };
    let limits = warren_exit::Limits::default();
    let exit = config.exit.clone().map(|policy| Arc::new(Exit::new(policy, limits, Arc::clone(&clock))));
    let mut threads = Vec::new();
    let ways = leaves.into_iter().zip(inboxes.into_iter().zip(data_ways));
    for (((index, socket), (leave, (mailbox, data))), gauge) in
        (0..workers).zip(sockets).zip(ways).zip(&gauges)
    {
        threads.push(thread::start(thread::Parts {
            index,
            socket,
            leave,
            mailbox,
            own: mailboxes.get(usize::from(index)).cloned(),
            data,
            posts: slots.iter().map(|slot| slot.post_of(index)).collect(),
            keeper: keeper.clone(),
            clock: Arc::clone(&clock),
            tunnel: TunnelConfig { worker_index: index, ..tunnel.clone() },
            secrets: Arc::clone(&secrets),
            factory: (index < span.min).then(|| Arc::clone(&config.factory)),
            // Without an exit nobody would take the connections.
            stream_key: exit.is_some().then(|| config.stream_key.clone()),
            congestion: config.congestion,
            exit: exit.clone(),
            gauge: Arc::clone(gauge),
            open: Arc::clone(&open),
            core: cores.get(usize::from(index) % cores.len().max(1)).copied(),
        })?);
    }
    let rules = Rules { own_peer: author.peer_id(), workers: span.min, ..config.rules };
    let ports = TunnelPorts::new(exit, own);
    let pool = Pool::new(span, open, config.factory, clock.now());
    let kept = (ports, pool, exits.clone(), suites);
    let mailbox = mailboxes.clone();
    let policy = Keeper::new(rules, config.guards, keeper_inbox, mailbox, gauges, kept, Arc::clone(&clock));
    tokio::spawn(policy.run());
    Ok(Core {
        dialer: Arc::new(Dialer::new(keeper.clone(), Arc::clone(&clock))),
        keeper,
        workers: mailboxes,
        exits,
        threads: Mutex::new(threads),
        clock,
        secrets,
        author,
        tunnel,
        address,
    })
}

fn tunnel_config(
    config: &CoreConfig,
    workers: u8,
    peer_id: PeerId,
    own_addresses: Vec<SocketAddr>,
) -> TunnelConfig {
    TunnelConfig {
        worker_index: 0,
        workers,
        peer_id,
        onion_keys: config.onion_keys.iter().map(OnionSecret::public).collect(),
        relay: config.relay,
        exit: config.exit.is_some(),
        allow_private: config.allow_private,
        own_addresses,
        limits: config.limits,
        cookie_key: host::random_bytes(),
        draining: false,
        sync_period: config.sync.map_or(0, |period| u64::try_from(period.as_micros()).unwrap_or(u64::MAX)),
    }
}

impl Core {
    /// The node's id.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.author.peer_id()
    }

    /// Where it takes tunnel datagrams.
    #[must_use]
    pub fn tunnel_address(&self) -> SocketAddr {
        self.address
    }

    /// Opens TCP connections through circuits.
    #[must_use]
    pub fn dialer(&self) -> Arc<dyn Dial> {
        Arc::clone(&self.dialer) as _
    }

    /// Opens UDP associations through circuits.
    #[must_use]
    pub fn datagrams(&self) -> Arc<dyn Datagrams> {
        Arc::clone(&self.dialer) as _
    }

    /// A fresh descriptor of this node; none when it is no relay. Publish it again before half of
    /// [`DESCRIPTOR_LIFETIME`] is over.
    #[must_use]
    pub fn descriptor(&self) -> Option<SignedDescriptor> {
        self.author.write(self.clock.now())
    }

    /// Takes a relay's verified descriptor.
    pub async fn handle_descriptor(&self, signed: SignedDescriptor, descriptor: Descriptor) {
        drop(self.keeper.send(ToKeeper::Relay(Box::new(descriptor), signed)).await);
    }

    /// Asks for circuits of this isolation to be ready; to be said again now and then.
    pub async fn want(&self, isolation: Isolation) {
        drop(self.keeper.send(ToKeeper::Want(isolation)).await);
    }

    /// The guards in use, to be kept for the next run.
    pub async fn guards(&self) -> Vec<Guard> {
        let (answer, guards) = oneshot::channel();
        drop(self.keeper.send(ToKeeper::Guards(answer)).await);
        guards.await.unwrap_or_default()
    }

    /// Replaces the relay's onion keys, newest first.
    pub async fn set_onion_keys(&self, secrets: Vec<OnionSecret>) {
        let keys: Vec<OnionKey> = secrets.iter().map(OnionSecret::public).collect();
        self.author.set_onion_key(keys.first().copied());
        self.secrets.replace(secrets);
        for (index, worker) in (0u8..).zip(&self.workers) {
            let config =
                TunnelConfig { worker_index: index, onion_keys: keys.clone(), ..self.tunnel.clone() };
            drop(worker.send(ToWorker::Configure(Box::new(config))).await);
        }
    }

    /// What there is to say of circuits and workers; the caller fills in what other rooms know.
    pub async fn status(&self) -> Status {
        let (answer, status) = oneshot::channel();
        drop(self.keeper.send(ToKeeper::Status(answer)).await);
        let mut status = status.await.unwrap_or_default();
        status.peer_id = self.peer_id().to_string();
        status.tunnel_addresses = vec![self.address.to_string()];
        status.descriptor = self
            .author
            .write(self.clock.now())
            .map(|descriptor| descriptor.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect());
        status
    }

    /// Says goodbye on every circuit and waits for the threads to end.
    pub async fn shutdown(&self) {
        drop(self.keeper.send(ToKeeper::Shutdown).await);
        let leaving: Vec<_> = self.exits.iter().cloned().map(|way| tokio::spawn(end(way))).collect();
        for (worker, left) in leaving.into_iter().enumerate() {
            match left.await {
                Ok(Some(exited)) => tracing::debug!(worker, ?exited, "left"),
                _ => tracing::warn!(worker, "did not leave in time"),
            }
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let joined =
            tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
        drop(tokio::time::timeout(LEAVING, joined).await);
    }
}

/// Orders a thread and its worker to end, and answers how it did; none when it did not in time.
async fn end(way: mpsc::Sender<Leave>) -> Option<messages::Exited> {
    let (answer, left) = oneshot::channel();
    let leaving = async {
        way.send(Leave { reason: CloseReason::Shutdown, end: true, answer }).await.ok()?;
        left.await.ok()
    };
    tokio::time::timeout(LEAVING, leaving).await.ok()?
}

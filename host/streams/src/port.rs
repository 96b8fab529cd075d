//! Core's end of the circuits: where it takes QUIC datagrams and brings them, and what both sides share.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Poll, Waker};

use tokio::sync::Notify;
use warren_schemas::CircuitHandle;
use warren_schemas::cell::MAX_INNER;
use warren_schemas::control::CircuitEnd;

use crate::Carrier;
use crate::addresses::{home_of, tag_of};
use crate::connection::Shared;
use crate::queue::{Queue, Run};
use crate::quic::{Listener, Quic, WeakQuic};
use crate::{Error, lock};

/// Bytes that wait for core; when they are there, connections wait.
const OUT_LIMIT: usize = 1 << 20;
/// Originator's connections of one endpoint.
const CLIENTS: usize = 4096;

/// What was dropped or refused, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Datagrams from a circuit that no connection here expects there.
    pub unknown: u64,
    /// Connections refused because too many exist.
    pub refused_connections: u64,
    /// Streams reset because their request was late, malformed or not to be served.
    pub bad_requests: u64,
    /// Datagrams of associations that were malformed, unknown, or found no room.
    pub lost_datagrams: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) unknown: AtomicU64,
    pub(crate) refused_connections: AtomicU64,
    pub(crate) bad_requests: AtomicU64,
    pub(crate) lost_datagrams: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn add(counter: &AtomicU64, more: u64) {
    if more > 0 {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

/// Whether it has a datagram's length.
fn fits(datagram: &[u8]) -> bool {
    (1..=MAX_INNER).contains(&datagram.len())
}

/// One originator's connection, as the port knows it.
#[derive(Debug)]
pub(crate) struct ClientEnd {
    pub(crate) tag: u32,
    circuit: AtomicU32,
    /// The circuit before the last migration: late datagrams still come by it.
    previous: AtomicU32,
    /// The connection, once it began.
    quic: OnceLock<WeakQuic>,
    dead: AtomicU32,
    told: Notify,
    closing: AtomicBool,
}

impl ClientEnd {
    pub(crate) fn circuit(&self) -> CircuitHandle {
        CircuitHandle(self.circuit.load(Ordering::Acquire))
    }

    /// Returns when the connection's circuit is dead, or its endpoint closed.
    pub(crate) async fn lost(&self) {
        loop {
            self.told.notified().await;
            let dead = self.dead.load(Ordering::Acquire) == self.circuit().0;
            if dead || self.closing.load(Ordering::Acquire) {
                return;
            }
        }
    }

    fn circuit_dead(&self, circuit: CircuitHandle) {
        if self.circuit() == circuit {
            self.dead.store(circuit.0, Ordering::Release);
            self.told.notify_one();
        }
    }

    /// From now on its datagrams go to `quic`.
    pub(crate) fn serve(&self, quic: &Quic) {
        // Set once: an end has one connection.
        drop(self.quic.set(quic.downgrade()));
    }

    pub(crate) fn migrate(&self, to: CircuitHandle) {
        let from = self.circuit.swap(to.0, Ordering::AcqRel);
        self.previous.store(from, Ordering::Release);
    }

    /// Datagrams of other circuits are not this connection's, whatever they carry: two exits
    /// that share a connection id would learn from an answer that two circuits are one person's.
    fn expects(&self, circuit: CircuitHandle) -> bool {
        self.circuit() == circuit || self.previous.load(Ordering::Acquire) == circuit.0
    }
}

#[derive(Debug)]
pub(crate) struct Out {
    pub(crate) queue: Queue,
    reader: Option<Waker>,
    /// Connections that found it full, in the order in which they came.
    pub(crate) writers: VecDeque<Waker>,
}

/// What endpoint, connections and port share.
#[derive(Debug)]
pub(crate) struct Hub {
    worker: u8,
    out: Mutex<Out>,
    clients: Mutex<HashMap<u32, Arc<ClientEnd>>>,
    /// Takes originators' connections, if this node is an exit.
    listener: OnceLock<Weak<Listener>>,
    servers: Mutex<Vec<Weak<Shared>>>,
    random: RandomState,
    registered: AtomicU64,
    pub(crate) tally: Tally,
}

impl Hub {
    pub(crate) fn new(worker: u8) -> Arc<Self> {
        let queue = Queue::with_limit(OUT_LIMIT);
        Arc::new(Self {
            worker,
            out: Mutex::new(Out { queue, reader: None, writers: VecDeque::new() }),
            clients: Mutex::default(),
            listener: OnceLock::new(),
            servers: Mutex::default(),
            random: RandomState::new(),
            registered: AtomicU64::new(0),
            tally: Tally::default(),
        })
    }

    /// From now on what comes to a last hop goes to `listener`.
    pub(crate) fn serve(&self, listener: &Arc<Listener>) {
        // Set once: an endpoint has one listener.
        drop(self.listener.set(Arc::downgrade(listener)));
    }

    /// A circuit of this thread's own worker.
    pub(crate) fn carrier(&self, circuit: CircuitHandle) -> Carrier {
        Carrier { worker: self.worker, circuit }
    }

    /// A new originator's connection on `circuit`; it is forgotten when the registration is dropped.
    pub(crate) fn register(self: &Arc<Self>, circuit: CircuitHandle) -> Result<Registration, Error> {
        let mut clients = lock(&self.clients);
        if clients.len() >= CLIENTS {
            return Err(Error::Unavailable("too many connections"));
        }
        // From a counter: a tag used again would let exits that compare link two connections.
        let tag = loop {
            let seed = self.registered.fetch_add(1, Ordering::Relaxed);
            let tag = self.random.hash_one(seed) as u32;
            if !clients.contains_key(&tag) {
                break tag;
            }
        };
        let end = Arc::new(ClientEnd {
            tag,
            circuit: AtomicU32::new(circuit.0),
            previous: AtomicU32::new(circuit.0),
            quic: OnceLock::new(),
            dead: AtomicU32::new(0),
            told: Notify::new(),
            closing: AtomicBool::new(false),
        });
        clients.insert(tag, end.clone());
        Ok(Registration { hub: self.clone(), end })
    }

    /// A last hop's connection, to be told when its circuit dies.
    pub(crate) fn register_server(&self, shared: &Arc<Shared>) {
        let mut servers = lock(&self.servers);
        if servers.len() == servers.capacity() {
            servers.retain(|known| known.strong_count() > 0);
        }
        servers.push(Arc::downgrade(shared));
    }

    /// Runs `change` on what waits for core, and wakes core when something does.
    pub(crate) fn with_out<R>(&self, change: impl FnOnce(&mut Out) -> R) -> R {
        let mut out = lock(&self.out);
        let answer = change(&mut out);
        let reader = if out.queue.is_empty() { None } else { out.reader.take() };
        drop(out);
        if let Some(reader) = reader {
            reader.wake();
        }
        answer
    }

    /// Has `run` wait for core; without room it is given back, and `waker` is woken when there is some.
    pub(crate) fn send(&self, mut run: Run, waker: &Waker) -> Option<Run> {
        self.with_out(|out| {
            if !out.queue.is_full() {
                out.queue.push(run);
                return None;
            }
            out.queue.shorten(&mut run);
            // Bounded: one for each connection that has something to send.
            if !out.writers.iter().any(|known| known.will_wake(waker)) {
                out.writers.push_back(waker.clone());
            }
            Some(run)
        })
    }

    /// Originator's connections that are known.
    #[cfg(test)]
    pub(crate) fn clients(&self) -> usize {
        lock(&self.clients).len()
    }

    /// Closes every originator's connection.
    pub(crate) fn close_clients(&self) {
        for end in lock(&self.clients).values() {
            end.closing.store(true, Ordering::Release);
            end.told.notify_one();
        }
    }
}

/// Keeps an originator's connection known to the port.
#[derive(Debug)]
pub(crate) struct Registration {
    pub(crate) hub: Arc<Hub>,
    pub(crate) end: Arc<ClientEnd>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        lock(&self.hub.clients).remove(&self.end.tag);
    }
}

/// Core's end: QUIC datagrams in from circuits, and out to them.
///
/// One thread uses it. Datagrams are at most `MAX_INNER` bytes.
#[derive(Debug)]
pub struct CircuitPort {
    pub(crate) hub: Arc<Hub>,
}

impl CircuitPort {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        Self { hub }
    }

    /// The worker whose connection a datagram belongs to that arrived at `end`, as far as its connection
    /// id tells: one that is this port's own, or that does not exist, is to be delivered here. So is what is no
    /// datagram: it is counted here and not passed on.
    #[must_use]
    pub fn home_of(&self, end: CircuitEnd, datagram: &[u8]) -> u8 {
        let named = if end == CircuitEnd::LastHop && fits(datagram) { home_of(datagram) } else { None };
        named.unwrap_or(self.hub.worker)
    }

    /// Takes a datagram that arrived on `carrier`, of which this node is `end`. When no connection expects it there, it is
    /// dropped, and counted if none did a moment ago.
    pub fn deliver(&self, carrier: Carrier, end: CircuitEnd, datagram: &[u8]) {
        self.deliver_all(carrier, end, std::iter::once(datagram));
    }

    /// The same for what arrived one after the other: an originator's connection is looked up and woken once.
    pub fn deliver_all<'a>(
        &self,
        carrier: Carrier,
        end: CircuitEnd,
        datagrams: impl Iterator<Item = &'a [u8]>,
    ) {
        let tally = &self.hub.tally;
        let datagrams = datagrams.filter(|datagram| {
            add(&tally.unknown, u64::from(!fits(datagram)));
            fits(datagram)
        });
        match end {
            CircuitEnd::LastHop => match self.hub.listener.get().and_then(Weak::upgrade) {
                Some(listener) => listener.receive(carrier, datagrams),
                None => add(&tally.unknown, datagrams.count() as u64),
            },
            CircuitEnd::Originator => self.deliver_to_clients(carrier, datagrams),
            _ => add(&tally.unknown, datagrams.count() as u64),
        }
    }

    fn deliver_to_clients<'a>(&self, carrier: Carrier, datagrams: impl Iterator<Item = &'a [u8]>) {
        let tally = &self.hub.tally;
        let mut datagrams = datagrams.peekable();
        while let Some(tag) = datagrams.peek().map(|first| tag_of(first)) {
            let mut run = std::iter::from_fn(|| datagrams.next_if(|next| tag_of(next) == tag));
            match tag.and_then(|tag| self.client(tag, carrier)) {
                Some(client) => {
                    let quic = client.quic.get().and_then(WeakQuic::upgrade);
                    quic.inspect(|quic| quic.receive(&mut run));
                    // One that begins or is over takes none, or not all.
                    run.for_each(drop);
                }
                None => add(&tally.unknown, run.count() as u64),
            }
        }
    }

    /// The originator's connection of this tag, if it expects what comes by `carrier`.
    fn client(&self, tag: u32, carrier: Carrier) -> Option<Arc<ClientEnd>> {
        let clients = lock(&self.hub.clients);
        let client = clients.get(&tag)?;
        let expected = carrier.worker == self.hub.worker && client.expects(carrier.circuit);
        expected.then(|| client.clone())
    }

    /// Waits until something waits to be sent. One task at a time.
    pub async fn outgoing(&self) {
        poll_fn(|context| {
            let mut out = lock(&self.hub.out);
            if !out.queue.is_empty() {
                return Poll::Ready(());
            }
            out.reader = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Calls `take(carrier, datagram)` for each datagram that waits to be sent, at most `max`, and
    /// answers how many. `take` must not call this port.
    pub fn drain(&self, max: usize, mut take: impl FnMut(Carrier, &[u8])) -> usize {
        let mut out = lock(&self.hub.out);
        let mut drained = 0;
        while drained < max && out.queue.pop(&mut take).is_some() {
            drained += 1;
        }
        // As many as there is room for: when nothing waits any more, all of them, as some may have nothing to say.
        let Out { queue, writers, .. } = &mut *out;
        let room = if queue.is_empty() { writers.len() } else { queue.room().min(writers.len()) };
        let writers: Vec<Waker> = writers.drain(..room).collect();
        drop(out);
        for writer in writers {
            writer.wake();
        }
        drained
    }

    /// A circuit is gone. An originator's connections that still use it are closed: move those
    /// that can go on with [`Connection::migrate`](crate::Connection::migrate) first. A last hop's are closed when
    /// the originator does not come by another circuit within `migration_grace`.
    pub fn circuit_dead(&self, carrier: Carrier) {
        if carrier.worker == self.hub.worker {
            for end in lock(&self.hub.clients).values() {
                end.circuit_dead(carrier.circuit);
            }
        }
        let servers: Vec<_> = lock(&self.hub.servers).iter().filter_map(Weak::upgrade).collect();
        for shared in servers {
            shared.circuit_dead(carrier);
        }
    }

    /// Every circuit of `worker` is gone, as when it was replaced; see [`circuit_dead`](Self::circuit_dead).
    /// An originator's connections on circuits for which `waits` holds are left as they are, because
    /// another circuit may come for them.
    pub fn all_dead(&self, worker: u8, waits: impl Fn(CircuitHandle) -> bool) {
        if worker == self.hub.worker {
            let clients = lock(&self.hub.clients);
            for end in clients.values().filter(|end| !waits(end.circuit())) {
                end.circuit_dead(end.circuit());
            }
        }
        let servers: Vec<_> = lock(&self.hub.servers).iter().filter_map(Weak::upgrade).collect();
        for shared in servers {
            let carrier = shared.quic.carrier();
            if carrier.worker == worker {
                shared.circuit_dead(carrier);
            }
        }
    }

    /// What was dropped so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let tally = &self.hub.tally;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            unknown: read(&tally.unknown),
            refused_connections: read(&tally.refused_connections),
            bad_requests: read(&tally.bad_requests),
            lost_datagrams: read(&tally.lost_datagrams),
        }
    }
}

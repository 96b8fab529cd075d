//! Originators and last hops whose circuits lead through a [`Fabric`], on virtual time.
//!
//! What is between the two ends of a circuit's QUIC takes no time of its own: what remains are the lines, and what
//! `host/streams` makes of them. Time is tokio's, paused: it jumps to the next timer when nobody has anything to do.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::sync::Notify;
use tokio::time::Instant;
use warren_lab::{Conditions, Counters, Fabric, Line, Node};
use warren_schemas::cell::{COVER_LEN, HEADER_LEN, LAYER_LEN};
use warren_schemas::stream::Target;
use warren_schemas::{CircuitHandle, Timestamp};
use warren_streams::{
    Answer, Asked, Carrier, CircuitEnd, CircuitPort, Connection, Endpoint, ServerConnection, Settings,
    endpoint, public_key,
};

/// The port of a target that sends without end; of others, the port is how many kilobytes.
pub(crate) const ENDLESS: u16 = 0;
/// The first port of targets that take what comes, and how many there are; the last takes nothing.
pub(crate) const SINK: u16 = 60_000;
pub(crate) const SINKS: usize = 16;
pub(crate) const KB: usize = 1000;
const SECRET: [u8; 32] = [7; 32];
/// Nodes of a circuit: the originator, two relays, the exit.
const NODES: usize = 4;
const LAST: usize = NODES - 1;

/// A QUIC datagram on its way along a circuit.
#[derive(Clone, Copy)]
struct Cell {
    pair: usize,
    circuit: CircuitHandle,
    forward: bool,
    /// The node whose line it goes down.
    at: usize,
}

/// What ports and the clock share.
struct Paths {
    fabric: Mutex<Fabric<Cell>>,
    changed: Notify,
    start: Instant,
}

impl Paths {
    fn fabric(&self) -> MutexGuard<'_, Fabric<Cell>> {
        self.fabric.lock().unwrap()
    }

    fn now(&self) -> Timestamp {
        Timestamp::default().after(self.start.elapsed())
    }
}

/// Pairs of an originator and a last hop. All originators share one line, as programs of one machine do.
pub(crate) struct Rig {
    pairs: Vec<(Endpoint, Arc<Endpoint>)>,
    paths: Arc<Paths>,
    /// What each sink took, of all connections.
    pub(crate) taken: Taken,
}

type Taken = Arc<[AtomicU64; SINKS]>;

/// The lines of a circuit's nodes: the originator's is a bottleneck, loses, and has its part of the distance.
pub(crate) fn access(bits_per_second: u64, queue_bytes: u64, round_trip: Duration, loss: f64) -> Vec<Line> {
    // Each way of three links passes six lines.
    let delay = round_trip / 12;
    let plain = Conditions { delay, ..Conditions::default() };
    let narrow = Conditions { bits_per_second, queue_bytes, delay, loss };
    let mut lines = vec![Line { up: narrow, down: narrow }];
    lines.resize(NODES, Line { up: plain, down: plain });
    lines
}

impl Rig {
    /// Within a paused runtime: a pair for each of these settings.
    pub(crate) fn new(settings: &[Settings], lines: &[Line], seed: u64) -> Self {
        let mut fabric = Fabric::new(1 << 30);
        for (line, seed) in lines.iter().zip(seed..) {
            fabric.add(*line, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        let (fabric, changed) = (Mutex::new(fabric), Notify::new());
        let paths = Arc::new(Paths { fabric, changed, start: Instant::now() });
        let (mut pairs, mut ports) = (Vec::new(), Vec::new());
        for (pair, settings) in settings.iter().enumerate() {
            let (originator, near) = endpoint(settings.clone()).unwrap();
            let last_hop = Settings { stream_key: Some(SECRET), ..settings.clone() };
            let (last_hop, far) = endpoint(last_hop).unwrap();
            let (near, far) = (Arc::new(near), Arc::new(far));
            tokio::spawn(pump(Arc::clone(&near), pair, true, Arc::clone(&paths)));
            tokio::spawn(pump(Arc::clone(&far), pair, false, Arc::clone(&paths)));
            pairs.push((originator, Arc::new(last_hop)));
            ports.push((near, far));
        }
        tokio::spawn(carry(ports, Arc::clone(&paths)));
        Self { pairs, paths, taken: Arc::default() }
    }

    /// A connection of a pair by a new circuit.
    pub(crate) async fn connect(&self, pair: usize, circuit: u32) -> Connection {
        let (originator, last_hop) = &self.pairs[pair];
        let accept = async { last_hop.accept().await.unwrap().establish().await.unwrap() };
        let connect = originator.connect(CircuitHandle(circuit), public_key(&SECRET));
        let (connection, server) = tokio::join!(connect, accept);
        tokio::spawn(serve(server, Arc::clone(&self.taken)));
        connection.unwrap()
    }

    /// Changes the lines.
    pub(crate) fn set(&self, lines: &[Line]) {
        let mut fabric = self.paths.fabric();
        for (node, line) in lines.iter().enumerate() {
            fabric.set(Node(node), *line);
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        self.paths.fabric().counters()
    }
}

/// A download that goes on until it is dropped.
pub(crate) struct Download {
    got: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Download {
    pub(crate) fn start(connection: Connection) -> Self {
        Self::with_pause(connection, Duration::ZERO)
    }

    /// One that takes at most 64 KiB, and then nothing for as long as `pause`.
    pub(crate) fn with_pause(connection: Connection, pause: Duration) -> Self {
        let got = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&got);
        let task = tokio::spawn(async move {
            let mut stream = connection.open(&target(ENDLESS)).await.unwrap();
            let mut buffer = vec![0; 1 << 16];
            loop {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                let length = stream.read(&mut buffer).await.unwrap();
                count.fetch_add(length as u64, Ordering::Relaxed);
            }
        });
        Self { got, task }
    }

    pub(crate) fn got(&self) -> u64 {
        self.got.load(Ordering::Relaxed)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A target that sends so many kilobytes, or [`ENDLESS`]ly, or is a [`SINK`].
pub(crate) fn target(port: u16) -> Target {
    Target::from(SocketAddr::from(([192, 0, 2, 1], port)))
}

async fn serve(server: ServerConnection, taken: Taken) {
    while let Some(asked) = server.next().await {
        let Asked::Connect { answer, target } = asked else { continue };
        match target.port {
            ENDLESS => drop(tokio::spawn(send(answer, usize::MAX))),
            sink @ SINK.. => drop(tokio::spawn(take(answer, usize::from(sink - SINK), Arc::clone(&taken)))),
            kilobytes => drop(tokio::spawn(send(answer, usize::from(kilobytes) * KB))),
        }
    }
}

/// Until the originator has said all, or is gone.
async fn take(answer: Answer, sink: usize, taken: Taken) {
    let mut stream = answer.accept("198.51.100.1:1".parse().unwrap()).await.unwrap();
    if sink == SINKS - 1 {
        std::future::pending::<()>().await;
    }
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        taken[sink].fetch_add(length as u64, Ordering::Relaxed);
    }
}

/// As an exit sends what its target does.
async fn send(answer: Answer, mut left: usize) {
    let mut stream = answer.accept("198.51.100.1:1".parse().unwrap()).await.unwrap();
    let (_, mut to) = stream.halves();
    let block = Bytes::from(vec![7; 1 << 16]);
    while left > 0 {
        let length = left.min(block.len());
        left -= length;
        let turn = to.turn().await;
        if turn.write(block.slice(..length)).await.is_err() {
            // The originator has enough.
            return;
        }
    }
    to.finish().unwrap();
}

/// What goes around a datagram at its sender, forward and backward: a header, and a layer for each hop or the last one's.
const AROUND: [usize; 2] = [HEADER_LEN + (NODES - 1) * LAYER_LEN, HEADER_LEN + LAYER_LEN];
/// What is around it on the last line.
const AT_LAST: [usize; 2] = [HEADER_LEN + LAYER_LEN, HEADER_LEN + LAYER_LEN + (NODES - 2) * COVER_LEN];

/// What one end sends. Cells are as long as on a circuit of three hops: a layer less with each hop, or a cover more.
async fn pump(port: Arc<CircuitPort>, pair: usize, forward: bool, paths: Arc<Paths>) {
    let (from, at, around) = if forward { (0, 1, AROUND[0]) } else { (LAST, LAST - 1, AROUND[1]) };
    loop {
        port.outgoing().await;
        let now = paths.now();
        let mut fabric = paths.fabric();
        port.drain(usize::MAX, |Carrier { circuit, .. }, datagram| {
            let mut bytes = datagram.to_vec();
            bytes.resize(datagram.len() + around, 0);
            fabric.handle_datagram(now, Node(from), Node(at), Cell { pair, circuit, forward, at }, &bytes);
        });
        drop(fabric);
        paths.changed.notify_one();
    }
}

async fn carry(ports: Vec<(Arc<CircuitPort>, Arc<CircuitPort>)>, paths: Arc<Paths>) {
    loop {
        let now = paths.now();
        let next = pass(&ports, now, &mut paths.fabric());
        let pause = next.map_or(Duration::from_secs(3600), |next| next.since(now));
        tokio::select! {
            () = paths.changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Moves what has arrived on to the next node, or out; answers when more is due.
fn pass(
    ports: &[(Arc<CircuitPort>, Arc<CircuitPort>)],
    now: Timestamp,
    fabric: &mut Fabric<Cell>,
) -> Option<Timestamp> {
    let mut arrived: Vec<(Cell, Vec<u8>)> = Vec::new();
    loop {
        fabric.handle_timeout(now, |cell, bytes| arrived.push((*cell, bytes.to_vec())));
        if arrived.is_empty() {
            return fabric.poll_timeout();
        }
        for (cell, mut bytes) in arrived.drain(..) {
            let carrier = Carrier { worker: 0, circuit: cell.circuit };
            let (near, far) = &ports[cell.pair];
            match cell.at {
                0 => near.deliver(carrier, CircuitEnd::Originator, &bytes[..bytes.len() - AT_LAST[1]]),
                LAST => far.deliver(carrier, CircuitEnd::LastHop, &bytes[..bytes.len() - AT_LAST[0]]),
                relay => {
                    let (at, length) = if cell.forward {
                        (relay + 1, bytes.len() - LAYER_LEN)
                    } else {
                        (relay - 1, bytes.len() + COVER_LEN)
                    };
                    bytes.resize(length, 0);
                    fabric.handle_datagram(now, Node(relay), Node(at), Cell { at, ..cell }, &bytes);
                }
            }
        }
    }
}

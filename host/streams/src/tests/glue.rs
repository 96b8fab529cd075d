//! Two endpoints whose ports are joined in memory, as two workers' circuits would.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use warren_schemas::CircuitHandle;
use warren_schemas::stream::Target;

use crate::*;

pub(crate) const SECRET: [u8; 32] = [7; 32];

/// What the last hop calls the circuit that the originator calls `circuit`.
pub(crate) fn far(circuit: CircuitHandle) -> CircuitHandle {
    CircuitHandle(circuit.0 + 1000)
}

/// The same, as that node's streams name it.
pub(crate) fn far_carrier(circuit: u32) -> Carrier {
    carrier(far(CircuitHandle(circuit)).0)
}

/// A circuit of worker 0.
pub(crate) fn carrier(circuit: u32) -> Carrier {
    Carrier { worker: 0, circuit: CircuitHandle(circuit) }
}

pub(crate) struct Pair {
    pub(crate) originator: Endpoint,
    pub(crate) last_hop: Arc<Endpoint>,
    pub(crate) near_port: Arc<CircuitPort>,
    pub(crate) far_port: Arc<CircuitPort>,
    /// Circuits, as the originator calls them, on which nothing passes.
    pub(crate) cut: Arc<Mutex<HashSet<CircuitHandle>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

pub(crate) fn pair() -> Pair {
    pair_with(Settings::default(), Settings { stream_key: Some(SECRET), ..Settings::default() })
}

pub(crate) fn pair_with(near: Settings, far: Settings) -> Pair {
    join(endpoint(near).unwrap(), endpoint(far).unwrap())
}

pub(crate) fn join(near: (Endpoint, CircuitPort), last: (Endpoint, CircuitPort)) -> Pair {
    let (near_port, far_port) = (Arc::new(near.1), Arc::new(last.1));
    let cut: Arc<Mutex<HashSet<CircuitHandle>>> = Arc::default();
    let forward = carry(near_port.clone(), far_port.clone(), CircuitEnd::LastHop, cut.clone());
    let backward = carry(far_port.clone(), near_port.clone(), CircuitEnd::Originator, cut.clone());
    let tasks = vec![tokio::spawn(forward), tokio::spawn(backward)];
    Pair { originator: near.0, last_hop: Arc::new(last.0), near_port, far_port, cut, tasks }
}

async fn carry(
    from: Arc<CircuitPort>,
    to: Arc<CircuitPort>,
    end: CircuitEnd,
    cut: Arc<Mutex<HashSet<CircuitHandle>>>,
) {
    loop {
        from.outgoing().await;
        let mut taken = Vec::new();
        from.drain(64, |Carrier { circuit, .. }, datagram| {
            assert!(datagram.len() <= warren_schemas::cell::MAX_INNER);
            let (near, there) = match end {
                CircuitEnd::LastHop => (circuit, far(circuit)),
                _ => (CircuitHandle(circuit.0 - 1000), CircuitHandle(circuit.0 - 1000)),
            };
            if !cut.lock().unwrap().contains(&near) {
                taken.push((there.0, datagram.to_vec()));
            }
        });
        for same in taken.chunk_by(|(one, _), (other, _)| one == other) {
            let datagrams = same.iter().map(|(_, datagram)| datagram.as_slice());
            to.deliver_all(carrier(same[0].0), end, datagrams);
        }
        tokio::task::yield_now().await;
    }
}

impl Pair {
    /// Nothing is carried any more.
    pub(crate) fn stop(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
    }

    pub(crate) async fn connect(&self, circuit: u32) -> (Connection, ServerConnection) {
        let accept = async { self.last_hop.accept().await.unwrap().establish().await.unwrap() };
        let connect = self.originator.connect(CircuitHandle(circuit), public_key(&SECRET));
        let (connection, server) = tokio::join!(connect, accept);
        (connection.unwrap(), server)
    }
}

/// A stream of a connection, as either side has it.
pub(crate) async fn stream(
    connection: &Connection,
    server: &ServerConnection,
) -> (TunnelStream, TunnelStream) {
    let to = target();
    let (near, far) = tokio::join!(connection.open(&to), async {
        let Some(Asked::Connect { answer, .. }) = server.next().await else { panic!() };
        answer.accept("192.0.2.7:7".parse().unwrap()).await.unwrap()
    });
    (near.unwrap(), far)
}

/// Accepts every connect and sends back what it reads; answers when the connection is gone.
pub(crate) async fn echo(server: ServerConnection) {
    while let Some(asked) = server.next().await {
        let Asked::Connect { answer, .. } = asked else { continue };
        tokio::spawn(async move {
            let stream = answer.accept("198.51.100.1:1".parse().unwrap()).await.unwrap();
            let (mut read, mut write) = tokio::io::split(stream);
            tokio::io::copy(&mut read, &mut write).await.unwrap();
            tokio::io::AsyncWriteExt::shutdown(&mut write).await.unwrap();
        });
    }
}

pub(crate) fn target() -> Target {
    Target::from("192.0.2.1:80".parse::<std::net::SocketAddr>().unwrap())
}

/// Bytes that differ everywhere.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Fails a test that hangs, after a time that no test comes near.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("hangs")
}

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use warren_ports::{Clock, Isolation};
use warren_streams::{Asked, CircuitEnd, CircuitPort, Endpoint, ServerConnection, Settings, public_key};

use super::*;

const SECRET: [u8; 32] = [7; 32];

/// An originator's and a last hop's endpoint, joined in memory; a circuit has one handle at both.
struct Pair {
    near: Arc<Endpoint>,
    far: Endpoint,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

async fn carry(from: Arc<CircuitPort>, to: Arc<CircuitPort>, end: CircuitEnd) {
    loop {
        from.outgoing().await;
        from.drain(64, |circuit, datagram| to.deliver(circuit, end, datagram));
        tokio::task::yield_now().await;
    }
}

fn pair() -> Pair {
    let (near, near_port) = warren_streams::endpoint(Settings::default()).unwrap();
    let settings = Settings { stream_key: Some(SECRET), ..Settings::default() };
    let (far, far_port) = warren_streams::endpoint(settings).unwrap();
    let (near_port, far_port) = (Arc::new(near_port), Arc::new(far_port));
    let forward = carry(near_port.clone(), far_port.clone(), CircuitEnd::LastHop);
    let tasks = [tokio::spawn(forward), tokio::spawn(carry(far_port, near_port, CircuitEnd::Originator))];
    Pair { near: Arc::new(near), far, tasks }
}

impl Pair {
    async fn connect(&self, circuit: u32) -> (Connection, ServerConnection) {
        let accept = async { self.far.accept().await.unwrap().establish().await.unwrap() };
        let (near, far) =
            tokio::join!(self.near.connect(CircuitHandle(circuit), public_key(&SECRET)), accept);
        (near.unwrap(), far)
    }
}

/// An ask whose job says that it has a stream, and keeps it until it is told to let go.
fn ask(told: oneshot::Sender<bool>, go: oneshot::Receiver<()>) -> Ask {
    let target = Target::from("192.0.2.1:80".parse::<std::net::SocketAddr>().unwrap());
    let job =
        Box::new(move |outcome: Result<warren_ports::BoxStream, DialError>| -> BoxFuture<'static, ()> {
            Box::pin(async move {
                let _ = told.send(outcome.is_ok());
                drop(go.await);
                drop(outcome);
            })
        });
    let deadline = crate::SystemClock::start().now().after(Duration::from_secs(60));
    Ask { isolation: Isolation { hops: 1, key: "".into() }, what: What::Connect { target, job }, deadline }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("hangs")
}

#[tokio::test]
async fn streams_move_with_their_connection_and_end_where_they_went() {
    let pair = pair();
    let (keeper, mut inbox) = mpsc::channel(8);
    let mut ends = Ends::new(3, keeper, pair.near.clone());
    let (connection, server) = within(pair.connect(1)).await;
    ends.insert(CircuitHandle(1), connection);
    let (told, opened) = oneshot::channel();
    let (go, wait) = oneshot::channel();
    ends.open(CircuitHandle(1), ask(told, wait));
    let Some(Asked::Connect { answer, .. }) = within(server.next()).await else { panic!() };
    let _stream = answer.accept("198.51.100.1:1".parse().unwrap()).await.unwrap();
    assert!(within(opened).await.unwrap());

    assert_eq!(ends.migrate(CircuitHandle(1), CircuitHandle(2)), 1);
    assert!(!ends.holds(CircuitHandle(1)) && ends.holds(CircuitHandle(2)));
    drop(go);
    let ended = within(inbox.recv()).await;
    assert!(matches!(ended, Some(ToKeeper::StreamEnded { worker: 3, handle: CircuitHandle(2) })));
    assert_eq!(ends.migrate(CircuitHandle(2), CircuitHandle(3)), 0, "it ended");
}

#[tokio::test]
async fn a_circuit_whose_last_hop_hung_up_is_bare() {
    let pair = pair();
    let (keeper, mut inbox) = mpsc::channel(8);
    let mut ends = Ends::new(0, keeper, pair.near.clone());
    let (one, first) = within(pair.connect(1)).await;
    let (two, _second) = within(pair.connect(2)).await;
    let closed = one.closed();
    ends.insert(CircuitHandle(1), one);
    ends.insert(CircuitHandle(2), two);
    assert_eq!(ends.sweep(), []);
    drop(first);
    within(closed).await;

    let (told, _opened) = oneshot::channel();
    let (_go, wait) = oneshot::channel();
    ends.open(CircuitHandle(1), ask(told, wait));
    assert!(matches!(within(inbox.recv()).await, Some(ToKeeper::Ask(_))), "nothing was sent yet");
    assert!(matches!(
        within(inbox.recv()).await,
        Some(ToKeeper::StreamEnded { handle: CircuitHandle(1), .. })
    ));
    assert_eq!(ends.sweep(), [CircuitHandle(1)]);
    assert!(ends.holds(CircuitHandle(2)));
    assert_eq!(ends.sweep(), []);
}

#[tokio::test]
async fn waiting_for_the_end_of_a_connection_does_not_keep_it() {
    let pair = pair();
    let (connection, server) = within(pair.connect(1)).await;
    let closed = connection.closed();
    drop(connection);
    within(closed).await;
    within(server.closed()).await;
}

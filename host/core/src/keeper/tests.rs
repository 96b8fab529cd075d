use std::sync::Mutex;

use ed25519_dalek::SigningKey;
use tokio::sync::oneshot;
use warren_ports::{BoxFuture, Target};
use warren_schemas::control::{CircuitEnd, CircuitState, MOST_TOLD, SyncFrame, TooMany};
use warren_workers::{Worker, WorkerFactory, WorkerFault, WorkerHost};

use super::*;
use crate::messages::{SeatOrder, What};
use crate::open::Open;
use crate::pool::Span;

/// A clock that is set.
struct Hand(Mutex<Timestamp>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// Makes none: these tests stand in for the threads.
struct NoWorkers;

impl WorkerFactory for NoWorkers {
    fn name(&self) -> &str {
        "none"
    }
    fn spawn(&self, _: Box<dyn WorkerHost>) -> Result<Box<dyn Worker>, WorkerFault> {
        Err(WorkerFault::SelfTest { plugin: "none".to_owned(), detail: "there is none".to_owned() })
    }
}

struct Bench {
    keeper: Keeper,
    clock: Arc<Hand>,
    worker: mpsc::Receiver<ToWorker>,
    _inbox: mpsc::Sender<ToKeeper>,
}

fn isolation() -> Isolation {
    Isolation { hops: 1, key: "one".into() }
}

impl Bench {
    /// A keeper that knows one exit, with one worker that has room for `room` messages.
    fn new(room: usize) -> Self {
        let clock = Arc::new(Hand(Mutex::new(Timestamp::from_micros(1_700_000_000_000_000))));
        let (mailbox, worker) = mpsc::channel(room);
        let (inbox, messages) = mpsc::channel(8);
        let rules = Rules { per_isolation: 1, ..Rules::default() };
        let ports = TunnelPorts::new(None, Vec::new());
        let gauges = vec![Arc::new(Gauge::new("test"))];
        let clocks = Arc::clone(&clock) as Arc<dyn Clock>;
        let open = Arc::new(Open::new(&(0..1)));
        let pool = Pool::new(Span::new(1, 1), open, Arc::new(NoWorkers), clock.now());
        let kept = (ports, pool, Vec::new(), Arc::new(Suites::new(vec![1])));
        let keeper = Keeper::new(rules, Vec::new(), messages, vec![mailbox], gauges, kept, clocks);
        let mut bench = Self { keeper, clock, worker, _inbox: inbox };
        let (descriptor, signed) = exit(bench.now());
        bench.tell(ToKeeper::Relay(Box::new(descriptor), signed));
        bench
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn pass(&mut self, time: Duration) {
        let now = self.now().after(time);
        *self.clock.0.lock().unwrap() = now;
        self.keeper.handle_time();
    }

    fn tell(&mut self, message: ToKeeper) {
        self.keeper.handle(message);
        self.keeper.carry_out();
    }

    fn ask(&mut self, told: oneshot::Sender<DialError>) {
        let deadline = self.now().after(Duration::from_secs(60));
        let target = Target::from("192.0.2.1:80".parse::<std::net::SocketAddr>().unwrap());
        let job = Box::new(move |outcome: Result<_, DialError>| -> BoxFuture<'static, ()> {
            Box::pin(async move {
                drop(outcome.map_err(|error| told.send(error)));
                // A client that never reads its answer.
                std::future::pending().await
            })
        });
        let what = What::Connect { target, job };
        self.tell(ToKeeper::Ask(Ask { isolation: isolation(), what, deadline }));
    }

    /// Lets the circuit that is asked for stand.
    fn ready(&mut self, handle: u32) {
        let request = loop {
            if let ToWorker::Build { request, .. } = self.worker.try_recv().unwrap() {
                break request;
            }
        };
        self.tell(ToKeeper::Ready { request, worker: 0, handle: CircuitHandle(handle) });
    }

    fn streams(&self, handle: u32) -> Option<u32> {
        let reports = self.keeper.circuits.statuses(self.now());
        reports.into_iter().find(|c| c.handle == Some(CircuitHandle(handle))).map(|c| c.streams)
    }
}

fn exit(now: Timestamp) -> (Descriptor, SignedDescriptor) {
    let key = SigningKey::from_bytes(&[3; 32]);
    let descriptor = Descriptor {
        peer_id: PeerId(key.verifying_key().to_bytes()),
        published: now,
        expires: now.after(Duration::from_secs(3600)),
        onion_epoch: 1,
        onion_key: [1; 32],
        stream_key: [2; 32],
        addresses: vec!["192.0.2.9:9000".parse().unwrap()],
        relay: true,
        exit: true,
        suites: vec![1],
        bytes_per_second: 0,
        circuits: 0,
        operator: None,
    };
    let signed = descriptor.sign(&key);
    (descriptor, signed)
}

#[tokio::test]
async fn clients_that_do_not_read_hold_nobody_up() {
    let mut bench = Bench::new(64);
    let (first, one) = oneshot::channel();
    let (second, two) = oneshot::channel();
    bench.ask(first);
    bench.ask(second);
    assert_eq!(bench.keeper.parked.len(), 2);
    bench.pass(Duration::from_secs(61));
    assert!(bench.keeper.parked.is_empty());
    for told in [one, two] {
        assert!(matches!(told.await, Ok(DialError::NoCircuit(_))));
    }
}

#[tokio::test]
async fn an_ask_that_keeps_coming_back_fails_at_its_deadline() {
    let mut bench = Bench::new(64);
    let (tell, told) = oneshot::channel();
    bench.ask(tell);
    bench.ready(1);
    let Ok(ToWorker::Open { ask, .. }) = bench.worker.try_recv() else { panic!() };
    bench.tell(ToKeeper::Ask(ask));
    let Ok(ToWorker::Open { ask, .. }) = bench.worker.try_recv() else { panic!() };
    bench.pass(Duration::from_secs(61));
    assert_eq!(bench.streams(1), Some(2), "the circuit stands");
    bench.tell(ToKeeper::Ask(ask));
    assert!(bench.worker.try_recv().is_err(), "late: it is sent nowhere");
    bench.pass(Duration::from_millis(1));
    assert!(matches!(told.await, Ok(DialError::NoCircuit(_))));
}

#[tokio::test]
async fn streams_that_moved_keep_their_circuit() {
    let mut bench = Bench::new(64);
    bench.tell(ToKeeper::Want(isolation()));
    bench.ready(1);
    bench.tell(ToKeeper::StreamsMoved { worker: 0, to: CircuitHandle(1), streams: 2 });
    bench.tell(ToKeeper::StreamEnded { worker: 0, handle: CircuitHandle(1) });
    assert_eq!(bench.streams(1), Some(1));
    bench.pass(Duration::from_secs(601));
    bench.pass(Duration::from_secs(601));
    assert_eq!(bench.streams(1), Some(1), "it is in use");
    bench.tell(ToKeeper::StreamEnded { worker: 0, handle: CircuitHandle(1) });
    bench.pass(Duration::from_secs(601));
    assert_eq!(bench.streams(1), None);
}

#[tokio::test]
async fn a_circuit_is_closed_even_when_the_mailbox_was_full() {
    let mut bench = Bench::new(1);
    bench.tell(ToKeeper::Want(isolation()));
    bench.ready(1);
    let (tell, _told) = oneshot::channel();
    bench.ask(tell);
    bench.tell(ToKeeper::StreamEnded { worker: 0, handle: CircuitHandle(1) });
    bench.pass(Duration::from_secs(601));
    assert_eq!(bench.streams(1), None);
    assert!(matches!(bench.worker.try_recv(), Ok(ToWorker::Open { .. })), "the mailbox was full");
    bench.pass(Duration::from_secs(1));
    let sent = bench.worker.try_recv();
    assert!(matches!(sent, Ok(ToWorker::Request(_, Request::Circuit { handle: CircuitHandle(1), .. }))));
}

#[tokio::test]
async fn the_connections_of_a_lost_worker_wait_for_circuits_of_its_successor() {
    let mut bench = Bench::new(64);
    let (tell, _told) = oneshot::channel();
    bench.ask(tell);
    bench.ready(1);
    bench.tell(ToKeeper::WorkerLost { worker: 0 });
    assert_eq!(bench.streams(1), None);
    assert_eq!(bench.keeper.orphans.len(), 1, "its stream waits for another circuit");
    assert!(matches!(bench.worker.try_recv(), Ok(ToWorker::Open { .. })), "from before");
    bench.ready(77);
    let moved =
        |message| matches!(message, ToWorker::Migrate { from: CircuitHandle(1), to: CircuitHandle(77) });
    assert!(bench.worker.try_recv().is_ok_and(moved));
    assert!(bench.keeper.orphans.is_empty());
}

#[tokio::test]
async fn what_waits_in_vain_after_a_lost_worker_is_abandoned() {
    let mut bench = Bench::new(64);
    let (tell, _told) = oneshot::channel();
    bench.ask(tell);
    bench.ready(1);
    bench.tell(ToKeeper::WorkerLost { worker: 0 });
    bench.pass(Duration::from_secs(30));
    let mut abandoned = 0;
    while let Ok(message) = bench.worker.try_recv() {
        abandoned += usize::from(matches!(message, ToWorker::Abandon { handle: CircuitHandle(1) }));
    }
    assert_eq!(abandoned, 1);
}

#[tokio::test]
async fn a_worker_that_tells_of_too_many_circuits_is_dropped_once() {
    let mut bench = Bench::new(64);
    let tell = |bench: &mut Bench, start: u32, count: u32| {
        let circuit = |handle| CircuitState {
            handle: CircuitHandle(handle),
            end: CircuitEnd::LastHop,
            hops: 0,
            bytes_in: 1,
            bytes_out: 1,
        };
        let circuits = (start..start + count).map(circuit).collect();
        bench.tell(ToKeeper::Sync { worker: 0, frame: SyncFrame { circuits, ..SyncFrame::default() } });
    };
    let most = u32::try_from(MOST_TOLD).unwrap();
    tell(&mut bench, 0, most);
    assert!(bench.worker.try_recv().is_err(), "so many may be");
    tell(&mut bench, most, 1);
    tell(&mut bench, most + 1, 1000);
    let Ok(ToWorker::Seat(SeatOrder::Reject { what, detail })) = bench.worker.try_recv() else { panic!() };
    assert_eq!((what, detail), ("SYNC", TooMany.to_string()));
    assert!(bench.worker.try_recv().is_err(), "it is told once");
    assert!(bench.keeper.view.circuit(0, CircuitHandle(most)).is_none());
    bench.tell(ToKeeper::WorkerLost { worker: 0 });
    tell(&mut bench, most, 1);
    assert!(bench.keeper.view.circuit(0, CircuitHandle(most)).is_some(), "another worker has the seat");
}

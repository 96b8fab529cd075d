//! What cells cost in allocations on the threads that carry them: originator, relay and exit as whole
//! nodes' tunnels, with the plugin in its sandbox, real sockets and QUIC.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use warren_core::{Core, CoreConfig, OnionSecret, SystemClock};
use warren_ports::{Clock, Isolation, Target};
use warren_sandbox::{Sandbox, Settings};
use warren_schemas::Timestamp;
use warren_schemas::batch::{Batch, SlotKind};
use warren_schemas::control::Limits;
use warren_workers::{Description, Worker, WorkerFactory, WorkerFault, WorkerHost};

const NOBODY: usize = 0;
const ORIGINATOR: usize = 1;
const RELAY: usize = 2;
const EXIT: usize = 3;

/// What a batch may allocate in each role: a relay the answer that comes out and little else. At the ends QUIC
/// allocates as well, for runs of packets; batches of a download have about 50 cells there.
const MOST: [(usize, &str, u64); 3] =
    [(RELAY, "relay", 3), (EXIT, "exit", 24), (ORIGINATOR, "originator", 24)];

/// What one role did.
struct Tally {
    allocations: AtomicU64,
    batches: AtomicU64,
    cells: AtomicU64,
}

static TALLIES: [Tally; 4] = [const {
    Tally { allocations: AtomicU64::new(0), batches: AtomicU64::new(0), cells: AtomicU64::new(0) }
}; 4];

thread_local! {
    /// Whose worker this thread has.
    static ROLE: Cell<usize> = const { Cell::new(NOBODY) };
}

struct Counting;

fn note() {
    let role = ROLE.try_with(Cell::get).unwrap_or(NOBODY);
    TALLIES[role].allocations.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as the caller promised.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Makes workers, on the threads that then count for `role`.
struct Counted {
    inner: Arc<dyn WorkerFactory>,
    role: usize,
}

impl WorkerFactory for Counted {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn spawn(&self, host: Box<dyn WorkerHost>) -> Result<Box<dyn Worker>, WorkerFault> {
        ROLE.set(self.role);
        Ok(Box::new(CountedWorker { inner: self.inner.spawn(host)?, role: self.role }))
    }
}

struct CountedWorker {
    inner: Box<dyn Worker>,
    role: usize,
}

impl Worker for CountedWorker {
    fn data(&mut self, now: Timestamp, batch: Batch) -> Result<Batch, WorkerFault> {
        let cells = batch.slots().filter(|slot| slot.kind != SlotKind::Empty).count();
        let tally = &TALLIES[self.role];
        tally.batches.fetch_add(1, Ordering::Relaxed);
        tally.cells.fetch_add(cells as u64, Ordering::Relaxed);
        self.inner.data(now, batch)
    }
    fn describe(&mut self) -> Result<Description, WorkerFault> {
        self.inner.describe()
    }
    fn self_test(&mut self) -> Result<(), WorkerFault> {
        self.inner.self_test()
    }
    fn configure(&mut self, now: Timestamp, config: &[u8]) -> Result<(), WorkerFault> {
        self.inner.configure(now, config)
    }
    fn control(&mut self, now: Timestamp, request: &[u8]) -> Result<Batch, WorkerFault> {
        self.inner.control(now, request)
    }
    fn timeout(&mut self, now: Timestamp) -> Result<Batch, WorkerFault> {
        self.inner.timeout(now)
    }
    fn export_state(&mut self) -> Result<Vec<u8>, WorkerFault> {
        self.inner.export_state()
    }
    fn snapshot(&mut self) -> Result<Vec<u8>, WorkerFault> {
        self.inner.snapshot()
    }
    fn import_state(&mut self, now: Timestamp, state: &[u8]) -> Result<(), WorkerFault> {
        self.inner.import_state(now, state)
    }
    fn shutdown(&mut self, now: Timestamp, reason: u8) -> Result<Batch, WorkerFault> {
        self.inner.shutdown(now, reason)
    }
}

/// The tunnels of a node of that role.
fn start(role: usize, plugin: &Arc<dyn WorkerFactory>, clock: &Arc<dyn Clock>) -> Core {
    let seed = role as u8;
    let secret = OnionSecret {
        epoch: 1,
        secret: [0x40 | seed; 32].into(),
        accept_until: clock.now().after(Duration::from_secs(3600)),
    };
    let relay = role != ORIGINATOR;
    let policy = warren_exit::Policy { allow_private: true, ..Default::default() };
    let config = CoreConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: Vec::new(),
        steering: true,
        min_workers: 1,
        max_workers: 1,
        sync: Some(Duration::from_secs(3600)),
        pin: false,
        identity: [seed; 32].into(),
        stream_key: [0x80 | seed; 32].into(),
        onion_keys: if relay { vec![secret] } else { Vec::new() },
        relay,
        exit: (role == EXIT).then_some(policy),
        allow_private: true,
        congestion: warren_core::Congestion::default(),
        limits: Limits::default(),
        rules: warren_circuits::Rules { relax_same_network: true, per_isolation: 1, ..Default::default() },
        guards: Vec::new(),
        operator: None,
        factory: Arc::new(Counted { inner: Arc::clone(plugin), role }),
    };
    warren_core::start(config, Arc::clone(clock)).unwrap()
}

/// Somebody who sends for ever.
fn source() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while stream.write_all(&[7; 1 << 16]).is_ok() {}
    });
    address
}

/// Allocations, batches and cells of each role, until now.
fn counts() -> [[u64; 3]; 4] {
    let of = |tally: &Tally| {
        [&tally.allocations, &tally.batches, &tally.cells].map(|count| count.load(Ordering::Relaxed))
    };
    TALLIES.each_ref().map(of)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_through_all_roles_allocates_by_the_batch() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let component = warren_fixtures::component("tunnel").unwrap();
    let settings = Settings { wall: Duration::from_secs(120), ..Settings::default() };
    let plugin: Arc<dyn WorkerFactory> =
        Arc::new(Sandbox::new(settings).unwrap().load("tunnel", &component).unwrap());
    let nodes = [ORIGINATOR, RELAY, EXIT].map(|role| start(role, &plugin, &clock));
    let [client, servers @ ..] = &nodes;
    for known in servers {
        let signed = known.descriptor().unwrap();
        let descriptor = signed.verify(clock.now()).unwrap();
        client.handle_descriptor(signed, descriptor).await;
    }
    let (done, spent) = tokio::sync::oneshot::channel();
    let isolation = Isolation { hops: 2, key: "".into() };
    let job: warren_ports::DialJob = Box::new(move |stream| {
        Box::pin(async move {
            let mut stream = stream.unwrap();
            let mut buffer = vec![0; 1 << 16];
            let mut read = async |bytes: usize| {
                let mut left = bytes;
                while left > 0 {
                    let length = buffer.len().min(left);
                    left -= stream.read(&mut buffer[..length]).await.unwrap();
                }
            };
            read(20_000_000).await;
            let before = counts();
            read(40_000_000).await;
            let after = counts();
            done.send((before, after)).unwrap();
        })
    });
    client.dialer().dial(isolation, Target::from(source()), job).await;
    let (before, after) = spent.await.unwrap();
    let spent = |role: usize| std::array::from_fn(|index| after[role][index] - before[role][index]);
    for (role, name, most) in MOST {
        let [allocations, batches, cells]: [u64; 3] = spent(role);
        println!("{name}: {allocations} allocations, {batches} batches, {cells} cells");
        assert!(allocations <= most * batches, "{name}: {allocations} in {batches} batches of {cells} cells");
        assert!(cells > 4 * batches, "{name}: batches must be batches for this to say anything");
    }
    for node in &nodes {
        node.shutdown().await;
    }
}

//! What the sandbox itself costs: loading, instances, empty calls, batches, a swap with idle circuits,
//! thousands of workers at once. Run it with
//! `WARREN_PLUGINS=… cargo run --release -p warren-conformance --example sandbox_cost`.

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use warren_fixtures::{Behaviour, component};
use warren_sandbox::{Sandbox, Settings};
use warren_schemas::batch::Batch;
use warren_schemas::control::{Limits, OnionKey, TunnelConfig};
use warren_schemas::{PeerId, Timestamp};
use warren_workers::{DhRefusal, LogLevel, Seat, WorkerFactory, WorkerHost};

struct Deaf;

impl WorkerHost for Deaf {
    fn log(&mut self, _: LogLevel, _: &str) {}
    fn random(&mut self, _: &mut [u8]) {}
    fn onion_dh(&mut self, _: u32, _: &[u8]) -> Result<[u8; 32], DhRefusal> {
        Err(DhRefusal::UnknownEpoch)
    }
}

#[expect(clippy::disallowed_methods, reason = "a measurement of wall time")]
fn timed<T>(rounds: u32, mut run: impl FnMut() -> T) -> Duration {
    let start = std::time::Instant::now();
    for _ in 0..rounds {
        black_box(run());
    }
    start.elapsed() / rounds
}

/// A configuration under which a worker does nothing until it is asked to.
fn idle() -> Vec<u8> {
    let config = TunnelConfig {
        worker_index: 0,
        workers: 1,
        peer_id: PeerId([1; 32]),
        onion_keys: vec![OnionKey {
            epoch: 1,
            public: [9; 32],
            accept_until: Timestamp::from_micros(u64::MAX),
        }],
        relay: true,
        exit: false,
        allow_private: false,
        own_addresses: Vec::new(),
        limits: Limits::default(),
        cookie_key: [2; 32],
        sync_period: warren_schemas::control::SYNC_NEVER,
        draining: false,
    };
    config.encode()
}

/// What a worker without circuits pays for a swap.
fn swap() -> Result<(), Box<dyn Error>> {
    let now = Timestamp::from_micros(1);
    let sandbox = Sandbox::new(Settings::default())?;
    let factory: Arc<dyn WorkerFactory> = Arc::new(sandbox.load("tunnel", &component("tunnel")?)?);
    let mut fresh = factory.spawn(Box::new(Deaf))?;
    println!("describe            {:>10.1?}", timed(1000, || fresh.describe().is_ok()));
    println!("self-test           {:>10.1?}", timed(100, || fresh.self_test().is_ok()));
    let mut seat = Seat::new(Arc::clone(&factory), Box::new(|| Box::new(Deaf)), idle());
    seat.start(now)?;
    println!(
        "prepare, abandon    {:>10.1?}",
        timed(100, || {
            let prepared = seat.prepare(now, Arc::clone(&factory)).is_ok();
            seat.abandon();
            prepared
        })
    );
    let mut commits = Duration::ZERO;
    for _ in 0..200 {
        seat.prepare(now, Arc::clone(&factory))?;
        commits += timed(1, || seat.commit(now).is_ok());
    }
    println!("commit, no circuits {:>10.1?}", commits / 200);
    Ok(())
}

/// As many idle workers as the engine takes, and what each of them keeps in memory.
fn crowd() -> Result<(), Box<dyn Error>> {
    const WORKERS: u32 = 4000;
    let now = Timestamp::from_micros(1);
    let sandbox = Sandbox::new(Settings::default())?;
    let factory = sandbox.load("tunnel", &component("tunnel")?)?;
    let config = idle();
    let mut workers = Vec::new();
    let before = resident_kb()?;
    let took = timed(1, || -> Result<(), Box<dyn Error>> {
        for _ in 0..WORKERS {
            let mut worker = factory.spawn(Box::new(Deaf))?;
            worker.configure(now, &config)?;
            workers.push(worker);
        }
        Ok(())
    });
    for worker in &mut workers {
        worker.timeout(now)?;
        worker.data(now, Batch::with_slots(64))?;
    }
    let each = (resident_kb()? - before) / u64::from(WORKERS);
    println!("{} workers, configured: {took:.1?}, {each} KB resident each after a full batch", workers.len());
    println!("workers in 8 GB     {:>10}", (8 << 20) / each.max(1));
    Ok(())
}

/// Resident memory of this process.
fn resident_kb() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let now = Timestamp::from_micros(1);
    for name in ["rogue", "tunnel"] {
        let folder = tempfile::tempdir()?;
        let bytes = component(name)?;
        let settings = Settings { cache: Some(folder.path().join("code")), ..Settings::default() };
        println!("engine              {:>10.1?}", timed(1, || Sandbox::new(settings.clone()).is_ok()));
        let sandbox = Sandbox::new(settings)?;
        println!("{name}: {} bytes", bytes.len());
        println!("load, compiling     {:>10.1?}", timed(1, || sandbox.load(name, &bytes).is_ok()));
        println!("load, from the cache{:>10.1?}", timed(20, || sandbox.load(name, &bytes).is_ok()));
        let factory = sandbox.load(name, &bytes)?;
        println!("spawn and drop      {:>10.1?}", timed(1000, || factory.spawn(Box::new(Deaf)).is_ok()));
    }
    let sandbox = Sandbox::new(Settings::default())?;
    let factory = sandbox.load("rogue", &component("rogue")?)?;
    let mut worker = factory.spawn(Box::new(Deaf))?;
    worker.configure(now, &[Behaviour::Echo as u8])?;
    for slots in [1, 8, 64] {
        let mut batch = Some(Batch::with_slots(slots));
        let time = timed(100_000, || {
            batch = batch.take().and_then(|batch| worker.data(now, batch).ok());
            batch.is_some()
        });
        println!("data, {slots:>2} slots      {time:>10.1?}");
    }
    println!("timeout             {:>10.1?}", timed(100_000, || worker.timeout(now).is_ok()));
    drop((worker, factory, sandbox));
    swap()?;
    crowd()
}

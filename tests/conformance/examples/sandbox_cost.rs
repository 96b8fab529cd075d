//! What the sandbox itself costs: loading, instances, empty calls, batches. Run it with
//! `WARREN_PLUGINS=… cargo run --release -p warren-conformance --example sandbox_cost`.

use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

use warren_fixtures::{Behaviour, component};
use warren_sandbox::{Sandbox, Settings};
use warren_schemas::Timestamp;
use warren_schemas::batch::Batch;
use warren_workers::{DhRefusal, LogLevel, WorkerFactory, WorkerHost};

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
    Ok(())
}

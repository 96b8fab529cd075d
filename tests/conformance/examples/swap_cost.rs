//! What it takes to hand the idle circuits of a relay from one Wasm worker to the next. Run it with
//! `WARREN_PLUGINS=… cargo run --release -p warren-conformance --example swap_cost [COUNT]`.

use std::error::Error;
use std::time::Duration;

use warren_fixtures::component;
use warren_sandbox::{Sandbox, Settings};
use warren_schemas::Timestamp;
use warren_tunnel::testing::Net;
use warren_workers::{DhRefusal, LogLevel, Worker, WorkerFactory, WorkerFault, WorkerHost};

struct Deaf;

impl WorkerHost for Deaf {
    fn log(&mut self, _: LogLevel, _: &str) {}
    fn random(&mut self, _: &mut [u8]) {}
    fn onion_dh(&mut self, _: u32, _: &[u8]) -> Result<[u8; 32], DhRefusal> {
        Err(DhRefusal::UnknownEpoch)
    }
}

#[expect(clippy::disallowed_methods, reason = "a measurement of wall time")]
fn timed<T>(times: &mut Vec<Duration>, run: impl FnOnce() -> T) -> T {
    let start = std::time::Instant::now();
    let done = run();
    times.push(start.elapsed());
    done
}

fn fresh(factory: &dyn WorkerFactory, now: Timestamp, config: &[u8]) -> Result<Box<dyn Worker>, WorkerFault> {
    let mut worker = factory.spawn(Box::new(Deaf))?;
    worker.configure(now, config)?;
    Ok(worker)
}

fn say(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    println!("{what:<22} p10 {:>9.1?}  p50 {:>9.1?}  p99 {:>9.1?}", at(10), at(50), at(99));
}

fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().nth(1).map_or(Ok(4000), |count| count.parse())?;
    let mut net = Net::with_idle_circuits(1, count);
    let now = net.now;
    let relay = net.nodes.get_mut(1).ok_or("no relay")?;
    let (state, config) = (relay.tunnel.export_state()?, relay.config.encode());
    println!("{count} circuits, {} bytes of state", state.len());
    let sandbox = Sandbox::new(Settings::default())?;
    let factory = sandbox.load("tunnel", &component("tunnel")?)?;
    let mut worker = fresh(&factory, now, &config)?;
    worker.import_state(now, &state)?;
    let [mut spawn, mut out, mut over, mut end, mut all] = [(); 5].map(|()| Vec::new());
    for _ in 0..201 {
        let mut heir = timed(&mut spawn, || fresh(&factory, now, &config))?;
        timed(&mut all, || {
            let state = timed(&mut out, || worker.export_state())?;
            timed(&mut over, || heir.import_state(now, &state))
        })?;
        timed(&mut end, || drop(std::mem::replace(&mut worker, heir)));
    }
    say("spawn and configure", &mut spawn);
    say("export-state", &mut out);
    say("import-state", &mut over);
    say("both", &mut all);
    say("the old one's end", &mut end);
    Ok(())
}

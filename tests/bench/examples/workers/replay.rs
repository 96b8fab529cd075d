//! The same cells of a relayed circuit through workers of both kinds, on one thread and on two.

use std::sync::{Arc, Barrier};

use anyhow::{anyhow, bail};
use warren_bench::Stopwatch;
use warren_bench::cpu;
use warren_native::NativeFactory;
use warren_sandbox::{Sandbox, Settings};
use warren_schemas::batch::{Batch, MAX_SLOTS, SlotKind};
use warren_workers::{Worker, WorkerFactory};

use crate::component;
use crate::host::Host;
use crate::relay::Prepared;

/// Rounds of the tax, whose median counts.
const ROUNDS: usize = 9;
/// Rounds of which the best counts: enough to meet a moment in which nobody else wants the cores.
const TRIES: usize = 40;

/// CPU seconds for each 10^9 bytes of payload that cross a relay's worker.
pub(crate) struct Tax {
    pub(crate) wasm: f64,
    pub(crate) native: f64,
}

/// By wall time, which other work on the machine spoils; and by the threads' own CPU time, in which
/// waiting for each other does not show.
pub(crate) struct Scaling {
    pub(crate) by_wall: f64,
    pub(crate) by_cpu: f64,
}

/// What it took to relay everything once.
struct Took {
    wall_s: f64,
    cpu_s: f64,
}

/// A worker in the relay's place.
fn heir(factory: &dyn WorkerFactory, relay: &Prepared) -> anyhow::Result<Box<dyn Worker>> {
    let mut worker = factory.spawn(Box::new(Host::new(2)))?;
    worker.configure(relay.now, &relay.config)?;
    worker.import_state(relay.now, &relay.state)?;
    Ok(worker)
}

/// Gives it all batches, which were copied before the clock runs. Every cell must go on.
fn play(mut worker: Box<dyn Worker>, relay: &Prepared, start: impl FnOnce()) -> anyhow::Result<Took> {
    let batches: Vec<Batch> = relay.batches.clone();
    let wanted = batches.len() * MAX_SLOTS;
    start();
    let (watch, cpu) = (Stopwatch::start(), cpu::thread_seconds());
    let mut relayed = 0;
    for batch in batches {
        let answer = worker.data(relay.now, batch)?;
        relayed += answer.slots().filter(|slot| slot.kind == SlotKind::Send).count();
    }
    let took = Took { wall_s: watch.seconds(), cpu_s: cpu::thread_seconds() - cpu };
    if relayed != wanted {
        bail!("{relayed} of {wanted} cells were relayed");
    }
    Ok(took)
}

/// Both kinds by turns, medians.
pub(crate) fn tax(relay: &Prepared) -> anyhow::Result<Tax> {
    let sandbox = Sandbox::new(Settings::default())?;
    let wasm = sandbox.load("tunnel", &component("tunnel")?)?;
    let (mut in_wasm, mut native) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        in_wasm.push(play(heir(&wasm, relay)?, relay, || {})?.cpu_s);
        native.push(play(heir(&NativeFactory, relay)?, relay, || {})?.cpu_s);
    }
    let per_gb = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or_default() / (relay.payload() as f64 / 1e9)
    };
    let tax = Tax { wasm: per_gb(in_wasm), native: per_gb(native) };
    println!("relaying: {:.3} CPU s/GB in Wasm, {:.3} natively", tax.wasm, tax.native);
    Ok(tax)
}

/// How much more two workers on two threads relay than one alone: the best rounds of each.
pub(crate) fn scaling(relay: &Prepared) -> anyhow::Result<Scaling> {
    let sandbox = Sandbox::new(Settings::default())?;
    let wasm = sandbox.load("tunnel", &component("tunnel")?)?;
    let (mut alone, mut together) = (f64::MAX, f64::MAX);
    let (mut alone_cpu, mut together_cpu) = (f64::MAX, f64::MAX);
    for _ in 0..TRIES {
        let took = at_once(&wasm, relay, 1)?;
        alone = alone.min(took.wall_s);
        alone_cpu = alone_cpu.min(took.cpu_s);
        let took = at_once(&wasm, relay, 2)?;
        together = together.min(took.wall_s);
        together_cpu = together_cpu.min(took.cpu_s);
    }
    println!(
        "two threads: {:.2} times one; by CPU time alone {:.2} times",
        2.0 * alone / together,
        2.0 * alone_cpu / together_cpu
    );
    Ok(Scaling { by_wall: 2.0 * alone / together, by_cpu: 2.0 * alone_cpu / together_cpu })
}

/// The slowest of so many that start together, each on a thread of its own.
fn at_once(wasm: &dyn WorkerFactory, relay: &Prepared, count: usize) -> anyhow::Result<Took> {
    let barrier = Arc::new(Barrier::new(count));
    let workers = (0..count).map(|_| heir(wasm, relay)).collect::<anyhow::Result<Vec<_>>>()?;
    std::thread::scope(|scope| {
        let start = |worker| {
            let barrier = Arc::clone(&barrier);
            let begin = move || _ = barrier.wait();
            scope.spawn(move || play(worker, relay, begin))
        };
        let threads: Vec<_> = workers.into_iter().map(start).collect();
        let mut slower = Took { wall_s: 0.0, cpu_s: 0.0 };
        for thread in threads {
            let took = thread.join().map_err(|_| anyhow!("a thread panicked"))??;
            slower.wall_s = slower.wall_s.max(took.wall_s);
            slower.cpu_s = slower.cpu_s.max(took.cpu_s);
        }
        Ok(slower)
    })
}

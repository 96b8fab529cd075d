//! What it costs to make a worker, to call it, to prove it and to replace it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde::Serialize;
use warren_bench::Stopwatch;
use warren_sandbox::{Sandbox, Settings};
use warren_schemas::Timestamp;
use warren_schemas::batch::{Batch, MAX_SLOTS};
use warren_schemas::cell::MAX_DATAGRAM;
use warren_workers::{Seat, WorkerFactory};

use crate::component;
use crate::host::{Host, START, idle};

/// First byte of the guest `rogue`'s configuration: return every batch as it came.
const ECHO: u8 = 0;
/// The same: panic in the data call whose number is the second byte.
const TRAP: u8 = 2;
/// Longer than a worker must live for its fault to count as the first.
const SETTLED: Duration = Duration::from_secs(120);

/// Median micros of making a tunnel worker.
pub(crate) struct Made {
    pub(crate) spawn_us: f64,
    pub(crate) configured_us: f64,
}

fn micros(watch: Stopwatch) -> f64 {
    watch.seconds() * 1e6
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn say(what: &str, micros: f64) {
    println!("{what:<34} {micros:>10.1} us");
}

pub(crate) fn tunnel() -> anyhow::Result<Made> {
    let (folder, bytes) = (tempfile::tempdir()?, component("tunnel")?);
    let sandbox = Sandbox::new(Settings { cache: Some(folder.path().join("code")), ..Settings::default() })?;
    let watch = Stopwatch::start();
    let factory: Arc<dyn WorkerFactory> = Arc::new(sandbox.load("tunnel", &bytes)?);
    say("load, compiling", micros(watch));
    let watch = Stopwatch::start();
    drop(sandbox.load("tunnel", &bytes)?);
    say("load, from the cache", micros(watch));
    let config = idle();
    let (mut spawn, mut configured, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..1000 {
        let watch = Stopwatch::start();
        let mut worker = factory.spawn(Box::new(Host::new(1)))?;
        spawn.push(micros(watch));
        worker.configure(START, &config)?;
        configured.push(micros(watch));
        let watch = Stopwatch::start();
        drop(worker);
        ended.push(micros(watch));
    }
    let made = Made { spawn_us: median(spawn), configured_us: median(configured) };
    say("instantiate", made.spawn_us);
    say("instantiate and configure", made.configured_us);
    say("end", median(ended));
    swap(&factory)?;
    Ok(made)
}

/// What a worker without circuits pays for a swap.
fn swap(factory: &Arc<dyn WorkerFactory>) -> anyhow::Result<()> {
    let mut seat = Seat::new(Arc::clone(factory), Box::new(|| Box::new(Host::new(1))), idle());
    seat.start(START)?;
    let (mut prepare, mut commit) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        let watch = Stopwatch::start();
        seat.prepare(START, Arc::clone(factory))?;
        prepare.push(micros(watch));
        let watch = Stopwatch::start();
        seat.commit(START).map_err(|fault| anyhow!("{fault}"))?;
        commit.push(micros(watch));
    }
    say("prepare, with the self-test", median(prepare));
    say("commit, no circuits", median(commit));
    Ok(())
}

/// A call with so many cells in its batch, whose worker does nothing; medians.
#[derive(Serialize)]
pub(crate) struct Crossing {
    pub(crate) cells: usize,
    pub(crate) call_us: f64,
    /// Of full cells.
    pub(crate) cpu_s_per_gb: f64,
}

/// Median micros of a call with a full batch whose worker does nothing.
pub(crate) fn boundary() -> anyhow::Result<f64> {
    Ok(crossings(&[MAX_SLOTS])?.first().context("nothing was measured")?.call_us)
}

/// Each size in every round, one after the other.
pub(crate) fn crossings(sizes: &[usize]) -> anyhow::Result<Vec<Crossing>> {
    const CALLS: u32 = 2000;
    const ROUNDS: usize = 25;
    let sandbox = Sandbox::new(Settings::default())?;
    let factory = sandbox.load("rogue", &component("rogue")?)?;
    let mut worker = factory.spawn(Box::new(Host::new(1)))?;
    worker.configure(START, &[ECHO])?;
    let mut times = vec![Vec::new(); sizes.len()];
    for _ in 0..ROUNDS {
        for (cells, times) in sizes.iter().zip(&mut times) {
            let mut batch = Batch::with_slots(*cells);
            let watch = Stopwatch::start();
            for _ in 0..CALLS {
                batch = black_box(worker.data(START, batch)?);
            }
            times.push(micros(watch) / f64::from(CALLS));
        }
    }
    let crossing = |(cells, times): (&usize, Vec<f64>)| {
        let call_us = median(times);
        say(&format!("call with {cells} slots"), call_us);
        let gb = (cells * MAX_DATAGRAM) as f64 / 1e9;
        let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
        Crossing { cells: *cells, call_us: rounded(call_us), cpu_s_per_gb: rounded(call_us / 1e6 / gb) }
    };
    Ok(sizes.iter().zip(times).map(crossing).collect())
}

/// Median milliseconds from a trap to the next worker's answer.
pub(crate) fn restart() -> anyhow::Result<f64> {
    let sandbox = Sandbox::new(Settings::default())?;
    let factory = Arc::new(sandbox.load("rogue", &component("rogue")?)?);
    let mut seat = Seat::new(factory, Box::new(|| Box::new(Host::new(1))), vec![TRAP, 0]);
    seat.start(START)?;
    fall(&mut seat, "trap to the next answer", |seat, now| {
        let lost = match seat.data(now, Batch::with_slots(1)) {
            Ok(_) => bail!("the worker did not trap"),
            Err(lost) => lost,
        };
        lost.fault.context("it was gone before").map(drop)
    })
}

/// The same for a tunnel worker that is dropped by order.
pub(crate) fn replace() -> anyhow::Result<f64> {
    let sandbox = Sandbox::new(Settings::default())?;
    let factory = Arc::new(sandbox.load("tunnel", &component("tunnel")?)?);
    let mut seat = Seat::new(factory, Box::new(|| Box::new(Host::new(1))), idle());
    seat.start(START)?;
    fall(&mut seat, "kill of a tunnel to the next answer", |seat, now| {
        seat.kill(now, "measured").context("there was nobody").map(drop)
    })
}

fn fall(
    seat: &mut Seat,
    what: &str,
    end: impl Fn(&mut Seat, Timestamp) -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    let mut times = Vec::new();
    let mut now = START;
    for _ in 0..200 {
        now = now.after(SETTLED);
        let watch = Stopwatch::start();
        end(seat, now)?;
        if seat.timeout(now).is_err() {
            bail!("no worker took the seat at once");
        }
        times.push(micros(watch));
    }
    let time = median(times);
    say(what, time);
    Ok(time / 1000.0)
}

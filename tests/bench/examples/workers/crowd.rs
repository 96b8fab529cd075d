//! Thousands of idle workers, and what each of them keeps in memory.

use anyhow::Context;
use warren_bench::Stopwatch;
use warren_sandbox::{Sandbox, Settings};
use warren_schemas::batch::{Batch, MAX_SLOTS};
use warren_workers::WorkerFactory;

use crate::component;
use crate::host::{Host, START, idle};

/// KiB of each, as many as live.
pub(crate) struct Resident {
    pub(crate) idle_kb: f64,
    pub(crate) after_batch_kb: f64,
}

impl Resident {
    /// How many such workers 8 GiB hold after they worked.
    pub(crate) fn in_8_gb(&self) -> u64 {
        (f64::from(8 << 20) / self.after_batch_kb.max(self.idle_kb)) as u64
    }
}

pub(crate) fn measure(count: u32) -> anyhow::Result<Resident> {
    let sandbox = Sandbox::new(Settings::default())?;
    let factory = sandbox.load("tunnel", &component("tunnel")?)?;
    let config = idle();
    let before = resident_kb()?;
    let watch = Stopwatch::start();
    let mut workers = Vec::new();
    for _ in 0..count {
        let mut worker = factory.spawn(Box::new(Host::new(1)))?;
        worker.configure(START, &config)?;
        workers.push(worker);
    }
    let seconds = watch.seconds();
    let each = |now: u64| now.saturating_sub(before) as f64 / f64::from(count);
    let idle_kb = each(resident_kb()?);
    for worker in &mut workers {
        worker.timeout(START)?;
        worker.data(START, Batch::with_slots(MAX_SLOTS))?;
    }
    let after_batch_kb = each(resident_kb()?);
    println!(
        "{count} workers, configured: {seconds:.2} s; {idle_kb:.0} KiB each, {after_batch_kb:.0} after a batch"
    );
    Ok(Resident { idle_kb, after_batch_kb })
}

/// Resident memory of this process.
fn resident_kb() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

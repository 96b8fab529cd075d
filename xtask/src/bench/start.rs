//! `bench start`: how soon a node has a circuit, and what an idle node keeps in memory.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use warren_bench::Stopwatch;
use warren_bench::network::{Network, Node};

use crate::interrupt;
use crate::network::{self, Size};
use crate::program::Profile;

/// How long a node is left alone before its memory is read.
const IDLE: Duration = Duration::from_secs(10);
/// How long a circuit may take before the measurement is given up.
const PATIENCE_S: f64 = 60.0;

#[derive(Args)]
pub(super) struct Start {
    #[command(flatten)]
    network: Size,
    /// Start the client so often, and report the median.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: u8,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    job: &'static str,
    /// From the start of the process to its first ready circuit of 3 hops, in seconds: median and worst.
    first_circuit_s: f64,
    first_circuit_worst_s: f64,
    /// Resident memory after 10 s of idleness, in MB.
    idle_client_mb: f64,
    idle_relay_mb: f64,
}

/// Runs it.
pub(super) fn run(job: &Start) -> anyhow::Result<ExitCode> {
    let mut network = network::start(Profile::Dist, &job.network, &[3], None)?;
    let mut times = (0..job.runs).map(|_| restart(&mut network)).collect::<anyhow::Result<Vec<_>>>()?;
    times.sort_by(f64::total_cmp);
    std::thread::sleep(IDLE);
    let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
    let report = Report {
        job: "start",
        first_circuit_s: rounded(times.get(times.len() / 2).copied().unwrap_or_default()),
        first_circuit_worst_s: rounded(times.last().copied().unwrap_or_default()),
        idle_client_mb: resident_mb(network.client())?,
        idle_relay_mb: resident_mb(network.nodes().first())?,
    };
    println!(
        "first circuit of 3 hops after {} s (worst of {}: {} s)",
        report.first_circuit_s, job.runs, report.first_circuit_worst_s
    );
    println!(
        "idle node: {} MB resident as a client, {} MB as a relay",
        report.idle_client_mb, report.idle_relay_mb
    );
    if job.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts the client again and times its first circuit.
fn restart(network: &mut Network) -> anyhow::Result<f64> {
    let client = network.node("client").context("the network has no client")?;
    client.stop();
    let waited = Stopwatch::start();
    client.run()?;
    loop {
        if client.status().is_ok_and(|status| status.ready_circuits().any(|circuit| circuit.path.len() == 3))
        {
            return Ok(waited.seconds());
        }
        client.check_runs()?;
        if !interrupt::go_on() || waited.seconds() > PATIENCE_S {
            bail!("no circuit after {:.0} s", waited.seconds());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn resident_mb(node: Option<&Node>) -> anyhow::Result<f64> {
    Ok((resident_kib(node)? as f64 * 1.024 / 10.0).round() / 100.0)
}

/// Resident memory of a node's process, in KiB.
pub(super) fn resident_kib(node: Option<&Node>) -> anyhow::Result<u64> {
    let pid = node.and_then(Node::pid).context("the node does not run")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

//! `bench peers`: Warren, C tor and IPv8, the same work in the same run.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde::Serialize;
use warren_bench::peers::{self, HOPS, Ipv8, Ipv8Program, MAX_PARALLEL, Row, System, Tor, Warren};

use super::machine::Machine;
use crate::interrupt;
use crate::network::{self, Size};
use crate::plugins::workspace;
use crate::program::Profile;
use crate::setup;

mod page;
mod ratios;

use ratios::Ratios;

/// What pip installs for IPv8.
const IPV8: [&str; 2] = ["pyipv8==3.2.1", "ipv8-rust-tunnels==0.1.53"];
/// What everybody moves before the first measured run, at most: windows open, code is paged in.
const WARM_UP: u64 = 20_000_000;

/// `cargo xtask bench peers`
#[derive(Args)]
pub(super) struct Peers {
    #[command(flatten)]
    network: Size,
    /// Size of each download, in MB (10^6 bytes).
    #[arg(long, default_value_t = 200, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=2_000))]
    size: u64,
    /// Only so many downloads at once.
    #[arg(long, value_delimiter = ',', default_value = "1,4", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_PARALLEL)))]
    parallel: Vec<u8>,
    /// Only these; Warren is always there.
    #[arg(long, value_delimiter = ',', default_value = "tor,ipv8-rust")]
    only: Vec<Peer>,
    /// Measure everything so often, the systems by turns, and report medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: u8,
    /// A line of every tor's configuration, such as "ConfluxEnabled 0"; may be repeated.
    #[arg(long, value_name = "LINE")]
    torrc: Vec<String>,
    /// Datagrams of each download that are on their way at once through IPv8.
    #[arg(long, default_value_t = 64, value_name = "DATAGRAMS", value_parser = clap::value_parser!(u16).range(16..=4096))]
    ipv8_window: u16,
    /// Install IPv8 from PyPI into a folder of its own in the user's cache. tor is never installed: a package of
    /// it would start a node of the public network.
    #[arg(long)]
    install: bool,
    /// Write the table and the plots into docs/benchmarks.md and docs/plots.
    #[arg(long)]
    write_docs: bool,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    Tor,
    Ipv8Rust,
}

/// The last line with `--json`.
#[derive(Serialize)]
struct Report {
    rows: Vec<Row>,
    ratios: Ratios,
}

/// Runs the job.
pub(super) fn run(job: &Peers) -> anyhow::Result<ExitCode> {
    let machine = Machine::here()?;
    let report = measure(job)?;
    show(&report);
    if job.write_docs {
        let command = format!("cargo xtask bench peers --size {} --runs {}", job.size, job.runs);
        page::write(&report, &machine, &command)?;
    }
    if job.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(job: &Peers) -> anyhow::Result<Report> {
    let mut systems = start(job)?;
    let bytes = job.size * 1_000_000;
    for system in &mut systems {
        for parallel in [1, MAX_PARALLEL] {
            let moved = system.download(parallel, bytes.min(WARM_UP), &interrupt::go_on);
            moved.with_context(|| format!("{}, before the first run", system.name()))?;
        }
    }
    let mut runs: BTreeMap<(u8, usize), Vec<Row>> = BTreeMap::new();
    for run in 0..usize::from(job.runs) {
        for parallel in &job.parallel {
            for turn in 0..systems.len() {
                // Another one begins each time.
                let index = (run + turn) % systems.len();
                let system = systems.get_mut(index).context("no system")?;
                let row = peers::measure(system.as_mut(), *parallel, bytes, &interrupt::go_on)
                    .with_context(|| format!("{}, run {}", system.name(), run + 1))?;
                eprintln!("run {}: {}", run + 1, line(&row));
                runs.entry((*parallel, index)).or_default().push(row);
            }
        }
    }
    let rows: Vec<Row> = runs.into_values().filter_map(|rows| ratios::median(&rows)).collect();
    Ok(Report { ratios: ratios::of(&rows), rows })
}

/// Every system that is there, Warren first.
fn start(job: &Peers) -> anyhow::Result<Vec<Box<dyn System>>> {
    let network = network::start(Profile::Dist, &job.network, &[HOPS], None)?;
    let size = peers::Size::from(&network);
    let mut systems: Vec<Box<dyn System>> = vec![Box::new(Warren::new(network)?)];
    if job.only.contains(&Peer::Tor) {
        if peers::tor_programs().is_some() {
            eprintln!("starting a private tor network: half a minute");
            systems.push(Box::new(Tor::start(size, &job.torrc, &interrupt::go_on)?));
        } else {
            println!("tor is not installed: left out (Debian: apt-get install tor)");
        }
    }
    if job.only.contains(&Peer::Ipv8Rust) {
        match ipv8(job)? {
            Some(program) => {
                eprintln!("starting an IPv8 community");
                systems.push(Box::new(Ipv8::start(size, &program, &interrupt::go_on)?));
            }
            None => println!("IPv8 is not installed: left out (cargo xtask bench peers --install)"),
        }
    }
    println!("hidden services: left out, Warren has none yet");
    Ok(systems)
}

fn ipv8(job: &Peers) -> anyhow::Result<Option<Ipv8Program>> {
    let python =
        if job.install { Some(setup::install("ipv8", &IPV8)?) } else { setup::installed("ipv8", &IPV8)? };
    let script = workspace().join("tests/bench/peers/ipv8_node.py");
    Ok(python.map(|python| Ipv8Program { python, script, window: job.ipv8_window }))
}

fn line(row: &Row) -> String {
    let cpu = row.cpu_s_per_gb;
    let text = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    format!(
        "{:<10} {:<10} {:<7.1} {:<13.4} {:<11} {:<6} {:<6} {:<7}",
        row.system,
        row.parallel,
        row.mb_per_s,
        row.first_byte_s,
        text(cpu.originator),
        text(cpu.relay),
        text(cpu.exit),
        text(cpu.total)
    )
}

fn show(report: &Report) {
    println!(
        "{:<10} {:<10} {:<7} {:<13} CPU s/GB: {:<11} {:<6} {:<6} {:<7} Warren ÷ it: MB/s  CPU",
        "system", "downloads", "MB/s", "first byte s", "originator", "relay", "exit", "in all"
    );
    for row in &report.rows {
        let ratio = report.ratios.get(row.system).and_then(|of| of.get(&row.parallel));
        let ratio =
            ratio.map_or_else(String::new, |ratio| format!("{:.2}  {:.2}", ratio.mb_per_s, ratio.cpu_total));
        println!("{}            {ratio}", line(row));
    }
    println!("relay: one crossing of a relay, all of them together divided by the {} a byte makes", HOPS - 1);
}

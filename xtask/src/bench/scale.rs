//! `bench scale`: whether a gigabyte gets dearer with the circuits and streams it goes over, and what an
//! idle circuit costs a relay in memory.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde::Serialize;
use warren_bench::Stopwatch;
use warren_bench::cpu::{CpuPerGb, PerRole};
use warren_bench::crowd::Crowd;
use warren_bench::many::{self, Stream};
use warren_bench::network::Network;
use warren_bench::web::WebServer;
use warren_schemas::descriptor::SignedDescriptor;

use super::start::resident_kib;
use crate::interrupt;
use crate::network::{self, Size};
use crate::program::Profile;

/// Circuits, streams that move data on each, and open streams on which nothing moves.
type Shape = (u32, u32, u32);

const SHAPES: [Shape; 9] = [
    (1, 1, 0),
    (4, 1, 0),
    (16, 1, 0),
    (64, 1, 0),
    (1, 10, 0),
    (1, 100, 0),
    (1, 1000, 0),
    (1, 1, 100),
    (1, 1, 999),
];
/// Until all that was opened is settled.
const SETTLED: Duration = Duration::from_millis(500);
/// Originators that hold the idle circuits.
const MEMBERS: u16 = 4;
/// How long those may take to stand.
const PATIENCE_S: f64 = 180.0;
/// Until a circuit is idle: for 30 s a relay still repeats its answer to CREATE.
const UNTIL_IDLE: Duration = Duration::from_secs(35);

/// `cargo xtask bench scale`
#[derive(Args)]
pub(super) struct Scale {
    /// Relays that are no exits. With two and one exit every circuit crosses the same nodes.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=64))]
    relays: u8,
    /// Exits.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    exits: u8,
    /// A setting of every node, as SECTION.KEY=VALUE; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = network::setting)]
    set: Vec<(String, String)>,
    /// What each row moves, in MB (10^6 bytes), over all its circuits and streams.
    #[arg(long, default_value_t = 128, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    size: u64,
    /// Only these rows, as 1x1,64x1: circuits, streams on each, and with 1x1+999 the idle ones.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Measure all rows so often, by turns, and report the medians of each.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: u8,
    /// Idle circuits in the relay whose memory is looked at; 0 leaves that out.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(0..=16_000))]
    idle: u32,
    /// Leave out circuits and streams.
    #[arg(long)]
    only_memory: bool,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Serialize)]
struct Row {
    circuits: u32,
    /// On each circuit.
    streams: u32,
    idle_streams: u32,
    mb_per_s: f64,
    cpu_s_per_gb: CpuPerGb,
    /// CPU of the whole path against the first row's of the same turn; the median over the turns.
    ratio: f64,
    /// Datagrams that a node's threads passed on to each other, for each 10^6 payload bytes.
    handed_over_per_mb: f64,
}

#[derive(Serialize)]
struct Memory {
    idle_circuits: u32,
    before_kib: u64,
    standing_kib: u64,
    idle_kib: u64,
    kib_per_circuit: f64,
}

#[derive(Serialize)]
struct Report {
    job: &'static str,
    rows: Vec<Row>,
    memory: Option<Memory>,
}

/// Runs it.
pub(super) fn run(job: &Scale) -> anyhow::Result<ExitCode> {
    let rows = if job.only_memory { Vec::new() } else { rows(job)? };
    let memory = if job.idle > 0 { Some(memory(job)?) } else { None };
    if job.json {
        println!("{}", serde_json::to_string(&Report { job: "scale", rows, memory })?);
    }
    Ok(ExitCode::SUCCESS)
}

fn name((circuits, streams, idle): Shape) -> String {
    if idle == 0 { format!("{circuits}x{streams}") } else { format!("{circuits}x{streams}+{idle}") }
}

fn rows(job: &Scale) -> anyhow::Result<Vec<Row>> {
    let names = SHAPES.map(name);
    if let Some(unknown) = job.rows.iter().find(|row| !names.contains(row)) {
        bail!("there is no row {unknown}; there are {}", names.join(", "));
    }
    let wanted = |shape: &&Shape| job.rows.is_empty() || job.rows.contains(&name(**shape));
    let shapes: Vec<&Shape> = SHAPES.iter().filter(wanted).collect();
    let size = Size { relays: job.relays, exits: job.exits, set: job.set.clone() };
    let network = network::start(Profile::Dist, &size, &[3], None)?;
    let server = WebServer::start()?;
    let mut runs: Vec<Vec<Row>> = vec![Vec::new(); shapes.len()];
    for run in 0..job.runs {
        for (shape, of_shape) in shapes.iter().zip(&mut runs) {
            let row = measure(&network, &server, **shape, job.size * 1_000_000)
                .with_context(|| format!("run {run} of {shape:?}"))?;
            eprintln!("{shape:?}: {:?} CPU s/GB, {} MB/s", row.cpu_s_per_gb.total, row.mb_per_s);
            of_shape.push(row);
        }
    }
    let first: Vec<f64> = runs.first().map(|row| row.iter().map(total).collect()).unwrap_or_default();
    let rows: Vec<Row> = runs.into_iter().filter_map(|runs| median(runs, &first)).collect();
    println!("circuits  streams  idle  MB/s    CPU s/GB  ratio  handed over/MB");
    for row in &rows {
        let total = total(row);
        let Row { circuits, streams, idle_streams: idle, mb_per_s, ratio, handed_over_per_mb, .. } = row;
        println!(
            "{circuits:<9} {streams:<8} {idle:<5} {mb_per_s:<7} {total:<9.2} {ratio:<6} {handed_over_per_mb}"
        );
    }
    Ok(rows)
}

fn total(row: &Row) -> f64 {
    row.cpu_s_per_gb.total.unwrap_or_default()
}

/// The run whose CPU is the median, with the median of what each took against the `first` row beside it: a machine that is slower
/// for a minute is so for both.
fn median(mut runs: Vec<Row>, first: &[f64]) -> Option<Row> {
    let mut ratios: Vec<f64> = runs.iter().zip(first).map(|(row, first)| total(row) / first).collect();
    ratios.sort_by(f64::total_cmp);
    runs.sort_by(|a, b| total(a).total_cmp(&total(b)));
    let (ratio, row) = (ratios.get(ratios.len() / 2)?, runs.get(runs.len() / 2)?);
    Some(Row { ratio: (ratio * 1000.0).round() / 1000.0, ..row.clone() })
}

/// Opens everything first, so that only what moves is counted.
fn measure(network: &Network, server: &WebServer, shape: Shape, bytes: u64) -> anyhow::Result<Row> {
    let (circuits, each, idle) = shape;
    let client = network.client().context("the network has no client")?;
    let door = client.socks().context("the client has no SOCKS door")?;
    let open = |circuit: u32| {
        ensure!(interrupt::go_on(), "interrupted");
        Stream::open(door, &format!("h3-scale{circuit}"), network.token(), server.address())
    };
    let mut moving = Vec::new();
    for circuit in 0..circuits {
        for _ in 0..each {
            moving.push(open(circuit)?);
        }
    }
    let still = (0..idle).map(|_| open(0)).collect::<anyhow::Result<Vec<_>>>()?;
    std::thread::sleep(SETTLED);
    let passed_on = handed_over(network)?;
    let (before, watch) = (PerRole::of(network), Stopwatch::start());
    let share = bytes / moving.len() as u64;
    for stream in &mut moving {
        stream.ask(share)?;
    }
    many::finish(&mut moving, &interrupt::go_on)?;
    let (seconds, spent) = (watch.seconds(), PerRole::of(network).since(&before));
    drop(still);
    let moved = share * moving.len() as u64;
    let passed_on = handed_over(network)?.saturating_sub(passed_on);
    Ok(Row {
        circuits,
        streams: each,
        idle_streams: idle,
        mb_per_s: (moved as f64 / seconds / 1e5).round() / 10.0,
        cpu_s_per_gb: spent.per_gb(3, moved),
        ratio: 1.0,
        handed_over_per_mb: (passed_on as f64 / (moved as f64 / 1e6) * 10.0).round() / 10.0,
    })
}

fn handed_over(network: &Network) -> anyhow::Result<u64> {
    network.nodes().iter().map(|node| Ok(node.status()?.handed_over)).sum()
}

/// A relay alone, with circuits of a crowd.
fn memory(job: &Scale) -> anyhow::Result<Memory> {
    let mut set = job.set.clone();
    set.push(("workers.count".to_owned(), "1".to_owned()));
    let network = network::start(Profile::Dist, &Size { relays: 1, exits: 0, set }, &[], None)?;
    let relay = network.nodes().first().context("there is no relay")?;
    let descriptor = relay.status()?.signed_descriptor().context("the relay tells no descriptor")?;
    std::thread::sleep(SETTLED);
    let before_kib = resident_kib(Some(relay))?;
    let mut crowd = Crowd::start(&[SignedDescriptor::from_bytes(descriptor)], MEMBERS, job.idle)?;
    let waited = Stopwatch::start();
    while crowd.stand() < u64::from(job.idle) {
        crowd.check()?;
        ensure!(interrupt::go_on() && waited.seconds() < PATIENCE_S, "{} circuits stand", crowd.stand());
        std::thread::sleep(Duration::from_millis(50));
    }
    let standing_kib = resident_kib(Some(relay))?;
    let waited = Stopwatch::start();
    while waited.elapsed() < UNTIL_IDLE {
        ensure!(interrupt::go_on(), "interrupted");
        std::thread::sleep(Duration::from_millis(50));
    }
    let idle_kib = resident_kib(Some(relay))?;
    ensure!(crowd.stand() == u64::from(job.idle), "only {} circuits stand still", crowd.stand());
    let each = idle_kib.saturating_sub(before_kib) as f64 / f64::from(job.idle);
    let kib_per_circuit = (each * 100.0).round() / 100.0;
    println!(
        "{} idle circuits: {kib_per_circuit} KiB each in the relay ({before_kib}, {standing_kib} while young, {idle_kib})",
        job.idle
    );
    Ok(Memory { idle_circuits: job.idle, before_kib, standing_kib, idle_kib, kib_per_circuit })
}

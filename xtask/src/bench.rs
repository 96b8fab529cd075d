//! `bench`: measurements. Figures go into docs/benchmarks.md by hand, with command and machine.

mod all;
mod crypto;
mod ct;
mod docs;
mod lab;
mod latency;
mod machine;
mod peers;
mod plot;
mod scale;
mod start;
mod swap;
mod workers;

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use warren_bench::cpu::{CpuPerGb, PerRole};
use warren_bench::network::Network;
use warren_bench::process::Process;
use warren_bench::web::WebServer;

use crate::interrupt;
use crate::network::{self, Size};
use crate::program::Profile;

/// `cargo xtask bench`
#[derive(Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// HTTP over SOCKS through 0 to 3 hops, one download and four at once.
    Path(Path),
    /// Warren, C tor and IPv8, those that are installed: the same work over 3 hops in one run.
    Peers(peers::Peers),
    /// How soon a node has a circuit, and what an idle node keeps in memory.
    Start(start::Start),
    /// Sealing and X25519 inside Wasm, against native code and `ring`.
    Crypto(crypto::Crypto),
    /// Whether the time of sealing, opening and X25519 tells of their secrets (dudect).
    Ct(ct::ConstantTime),
    /// Workers alone: what they cost to make, to keep and to cross into, and the sandbox's tax.
    Workers(workers::Workers),
    /// A batch's way into a worker and back, by its size.
    Boundary(workers::Boundary),
    /// What a datagram costs: a call each, against batches with segmentation offload.
    Udp(workers::Udp),
    /// Downloads over three hops through a box that makes distance, loss and a bottleneck.
    Lab(lab::LabJob),
    /// Modules exchanged under a running download, with idle circuits in every relay's worker.
    Swap(swap::Swap),
    /// A lone cell's way through one relay, against the same datagram through a bare UDP process.
    Latency(latency::Latency),
    /// Whether circuits and streams make a gigabyte dearer, and the memory of an idle circuit.
    Scale(scale::Scale),
    #[command(hide = true)]
    Forward(latency::Forward),
    /// Every measurement in turn, and one file of what came out.
    All(all::All),
}

#[derive(Args)]
struct Path {
    #[command(flatten)]
    network: Size,
    /// Size of each download, in MB (10^6 bytes).
    #[arg(long, default_value_t = 200, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    size: u64,
    /// Only these hops.
    #[arg(long, value_delimiter = ',', default_value = "0,1,2,3", value_parser = clap::value_parser!(u8).range(0..=3))]
    hops: Vec<u8>,
    /// Only so many downloads at once.
    #[arg(long, value_delimiter = ',', default_value = "1,4", value_parser = clap::value_parser!(u8).range(1..=32))]
    parallel: Vec<u8>,
    /// Measure each row so often, and report the run of median speed.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: u8,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    job: &'static str,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    hops: u8,
    parallel: u8,
    bytes: u64,
    mb_per_s: f64,
    /// Median of the downloads.
    first_byte_s: f64,
    cpu_s_per_gb: CpuPerGb,
}

/// Runs the job.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<ExitCode> {
    match &bench.job {
        Job::Path(job) => run_path(job),
        Job::Peers(job) => peers::run(job),
        Job::Crypto(job) => crypto::run(job),
        Job::Lab(job) => lab::run(job),
        Job::Ct(job) => ct::run(job),
        Job::Start(job) => start::run(job),
        Job::Workers(job) => workers::run(job),
        Job::Boundary(job) => workers::run_boundary(job),
        Job::Udp(job) => workers::run_udp(job),
        Job::Swap(job) => swap::run(job),
        Job::All(job) => all::run(job, &names()),
        Job::Latency(job) => latency::run(job),
        Job::Scale(job) => scale::run(job),
        Job::Forward(job) => latency::forward(job),
    }
}

/// What every measurement is called; what is hidden is a part of another.
fn names() -> Vec<String> {
    let all = Job::augment_subcommands(clap::Command::new("bench"));
    all.get_subcommands().filter(|job| !job.is_hide_set()).map(|job| job.get_name().to_owned()).collect()
}

fn run_path(job: &Path) -> anyhow::Result<ExitCode> {
    let hops: Vec<u8> = job.hops.iter().copied().filter(|hops| *hops > 0).collect();
    let network =
        network::start(Profile::Dist, &job.network, if hops.is_empty() { &[1] } else { &hops }, None)?;
    let server = WebServer::start()?;
    println!("hops  parallel  MB/s   first byte s  CPU s/GB: originator  relay  exit   in all");
    let mut rows = Vec::new();
    for hops in &job.hops {
        for parallel in &job.parallel {
            let row = median(job, || measure(&network, &server, *hops, *parallel, job.size * 1_000_000))?;
            show(&row);
            rows.push(row);
        }
    }
    if job.json {
        println!("{}", serde_json::to_string(&Report { job: "path", rows })?);
    }
    Ok(ExitCode::SUCCESS)
}

fn median(job: &Path, mut measure: impl FnMut() -> anyhow::Result<Row>) -> anyhow::Result<Row> {
    let mut runs = (0..job.runs).map(|_| measure()).collect::<anyhow::Result<Vec<_>>>()?;
    runs.sort_by(|a, b| a.mb_per_s.total_cmp(&b.mb_per_s));
    let middle = runs.len() / 2;
    runs.into_iter().nth(middle).context("nothing was measured")
}

fn show(row: &Row) {
    let text = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let cpu = row.cpu_s_per_gb;
    println!(
        "{:<5} {:<9} {:<6.1} {:<23.3} {:<11} {:<6} {:<6} {}",
        row.hops,
        row.parallel,
        row.mb_per_s,
        row.first_byte_s,
        text(cpu.originator),
        text(cpu.relay),
        text(cpu.exit),
        text(cpu.total)
    );
}

/// What curl says of one download.
struct Fetched {
    first_byte_s: f64,
    seconds: f64,
}

fn measure(network: &Network, server: &WebServer, hops: u8, parallel: u8, bytes: u64) -> anyhow::Result<Row> {
    let before = PerRole::of(network);
    let mut running = Vec::new();
    for _ in 0..parallel {
        running.push(fetch(network, &server.url(bytes), hops)?);
    }
    let mut fetched = Vec::new();
    for process in &mut running {
        fetched.push(finish(process, bytes)?);
    }
    let spent = PerRole::of(network).since(&before);
    let all = bytes * u64::from(parallel);
    let seconds = fetched.iter().map(|one| one.seconds).fold(0.0, f64::max);
    let mut first: Vec<f64> = fetched.iter().map(|one| one.first_byte_s).collect();
    first.sort_by(f64::total_cmp);
    Ok(Row {
        hops,
        parallel,
        bytes: all,
        mb_per_s: (all as f64 / seconds / 1e4).round() / 100.0,
        first_byte_s: first.get(first.len() / 2).copied().unwrap_or_default(),
        cpu_s_per_gb: spent.per_gb(hops, all),
    })
}

fn fetch(network: &Network, url: &str, hops: u8) -> anyhow::Result<Process> {
    let client = network.client().context("the network has no client")?;
    let socks = client.socks().context("the client has no SOCKS door")?;
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--output", "/dev/null", "--socks5-hostname", socks]);
    curl.args(["--proxy-user", &format!("h{hops}:{}", network.token())]);
    curl.args(["--write-out", "%{time_starttransfer} %{time_total} %{size_download}", url]);
    // A proxy of the surroundings must not come between.
    curl.env_remove("ALL_PROXY").env("NO_PROXY", "").env("no_proxy", "");
    Process::start(curl.stdin(Stdio::null()).stdout(Stdio::piped()))
}

fn finish(process: &mut Process, bytes: u64) -> anyhow::Result<Fetched> {
    let status = process.wait(interrupt::go_on).context("interrupted")?;
    let mut said = String::new();
    if let Some(output) = &mut process.child().stdout {
        std::io::Read::read_to_string(output, &mut said)?;
    }
    let mut numbers = said.split(' ').filter_map(|number| number.parse::<f64>().ok());
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(first_byte_s), Some(seconds), Some(got)) if status.success() && got == bytes as f64 => {
            Ok(Fetched { first_byte_s, seconds })
        }
        _ => bail!("a download failed ({status}): {said}"),
    }
}

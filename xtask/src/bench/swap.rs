//! `bench swap`: modules exchanged under a running download.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use warren_bench::Stopwatch;
use warren_bench::crowd::Crowd;
use warren_bench::fetch::Fetch;
use warren_bench::network::{Network, Plan, Role};
use warren_bench::web::WebServer;
use warren_schemas::descriptor::SignedDescriptor;

use crate::{interrupt, plugins, program};

/// Originators that hold the idle circuits.
const MEMBERS: u16 = 4;
/// How long those may take to stand.
const PATIENCE_S: f64 = 180.0;
/// Until a circuit is idle: for 30 s a relay still repeats its answer to CREATE, and hands that over too.
const UNTIL_IDLE: Duration = Duration::from_secs(35);
/// Longer than the period in which workers tell what they counted.
const COUNTED: Duration = Duration::from_secs(3);

#[derive(Args)]
pub(super) struct Swap {
    /// Relays that are no exits.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=16))]
    relays: u8,
    /// Exits.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    exits: u8,
    /// Exchanges, one node after the other.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    swaps: u16,
    /// Of these so many, at the start, with a canary in shadow.
    #[arg(long, default_value_t = 4)]
    shadowed: u16,
    /// Idle circuits in each relay's worker.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(0..=16_000))]
    circuits: u32,
    /// Size of the download, in MB (10^6 bytes).
    #[arg(long, default_value_t = 1500, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    size: u64,
    /// Its rate, in MB/s.
    #[arg(long, default_value_t = 20, value_name = "MB/S", value_parser = clap::value_parser!(u64).range(1..=1000))]
    rate: u64,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// `warren worker swap --json` ends with one.
#[derive(Deserialize)]
struct Done {
    workers: Vec<Pause>,
}

#[derive(Clone, Copy, Deserialize)]
struct Pause {
    pause_us: u64,
    pause_cpu_us: u64,
    state_bytes: u64,
}

#[derive(Serialize)]
struct Report {
    swaps: usize,
    cells_sent: u64,
    cells_lost: u64,
    pause_ms_p50: f64,
    pause_ms_p99: f64,
    pause_ms_max: f64,
    pause_cpu_ms_p50: f64,
    pause_cpu_ms_max: f64,
    circuits_per_worker: u32,
    circuits_lost: u64,
    swaps_failed: usize,
    state_kb: u64,
    download_ok: bool,
}

/// What all nodes have counted.
#[derive(Default)]
struct Counted {
    sent: u64,
    lost: u64,
    fewest_circuits: u32,
}

/// Runs the job.
pub(super) fn run(job: &Swap) -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("warren-swap-").tempdir()?;
    let plugins = plugins::find_or_build(&plugins::Wanted::default())?;
    let program = program::build(program::Profile::Dist)?;
    let key = make_key(&program, folder.path())?;
    let module = sign(&program, &plugins.join("tunnel.wasm"), &key)?;
    let mut network = start(job, program, module.clone(), &key)?;
    let mut crowd = gather(job, &network)?;
    let report = measure(job, &mut network, &mut crowd, &module)?;
    println!(
        "{} swaps with {} idle circuits ({} KB of state): pause p50 {} ms, p99 {} ms, max {} ms; CPU p50 {} ms, at most {} ms",
        report.swaps,
        report.circuits_per_worker,
        report.state_kb,
        report.pause_ms_p50,
        report.pause_ms_p99,
        report.pause_ms_max,
        report.pause_cpu_ms_p50,
        report.pause_cpu_ms_max
    );
    println!(
        "{} cells sent, {} lost; {} circuits lost; {} swaps failed; download {}",
        report.cells_sent,
        report.cells_lost,
        report.circuits_lost,
        report.swaps_failed,
        if report.download_ok { "equal" } else { "NOT EQUAL" }
    );
    if job.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(if report.download_ok && report.swaps_failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A key to sign with: the secret half's file, and the public half as text.
struct Key {
    secret: PathBuf,
    public: String,
}

fn make_key(program: &Path, folder: &Path) -> anyhow::Result<Key> {
    let secret = folder.join("plugin.key");
    let mut command = warren_bench::network::command(program);
    command.args(["plugin", "keygen", "--no-password", "--json", "--out"]).arg(&secret);
    let said: serde_json::Value = serde_json::from_str(&output(command)?)?;
    let public = said.get("public_key").and_then(serde_json::Value::as_str);
    Ok(Key { public: public.context("keygen tells no public key")?.to_owned(), secret })
}

/// Copies a module beside its key and signs it.
fn sign(program: &Path, module: &Path, key: &Key) -> anyhow::Result<PathBuf> {
    let copy = key.secret.with_file_name("tunnel.wasm");
    std::fs::copy(module, &copy).with_context(|| format!("cannot copy {}", module.display()))?;
    let mut command = warren_bench::network::command(program);
    command.args(["plugin", "sign", "--key"]).arg(&key.secret).arg(&copy);
    output(command)?;
    Ok(copy)
}

fn output(mut command: std::process::Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}): {}", output.status, said.trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn start(job: &Swap, program: PathBuf, plugin: PathBuf, key: &Key) -> anyhow::Result<Network> {
    let set = vec![
        ("workers.count".to_owned(), "1".to_owned()),
        ("workers.sync_ms".to_owned(), "1000".to_owned()),
        ("plugins.keys".to_owned(), format!("[\"{}\"]", key.public)),
    ];
    let (relays, exits) = (job.relays, job.exits);
    let plan = Plan { program, plugin, relays, exits, client_hops: vec![3], dir: None, set };
    interrupt::listen();
    eprintln!("starting {relays} relays and {exits} exits on loopback");
    let mut network = Network::start(plan, &interrupt::go_on)?;
    network.wait_for_circuits(&interrupt::go_on)?;
    Ok(network)
}

/// Idle circuits on every relay, standing.
fn gather(job: &Swap, network: &Network) -> anyhow::Result<Crowd> {
    let mut relays = Vec::new();
    for node in network.nodes().iter().filter(|node| node.role() != Role::Originator) {
        let descriptor = node.status()?.signed_descriptor();
        let descriptor = descriptor.with_context(|| format!("{} tells no descriptor", node.name()))?;
        relays.push(SignedDescriptor::from_bytes(descriptor));
    }
    let wanted = u64::from(job.circuits) * relays.len() as u64;
    let mut crowd = Crowd::start(&relays, MEMBERS, job.circuits)?;
    let waited = Stopwatch::start();
    while crowd.stand() < wanted {
        crowd.check()?;
        if !interrupt::go_on() || waited.seconds() > PATIENCE_S {
            bail!("{} of {wanted} idle circuits stand, {} failed", crowd.stand(), crowd.failed());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    eprintln!("{wanted} circuits stand after {:.1} s", waited.seconds());
    if wanted > 0 {
        pass(UNTIL_IDLE)?;
    }
    Ok(crowd)
}

fn pass(time: Duration) -> anyhow::Result<()> {
    let waited = Stopwatch::start();
    while waited.elapsed() < time {
        if !interrupt::go_on() {
            bail!("interrupted");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn measure(job: &Swap, network: &mut Network, crowd: &mut Crowd, module: &Path) -> anyhow::Result<Report> {
    let server = WebServer::start()?;
    std::thread::sleep(COUNTED);
    let (before, died) = (count(network)?, crowd.died());
    let bytes = job.size * 1_000_000;
    let mut fetch = Fetch::start(network, &server.url(bytes), 3, job.rate * 1_000_000)?;
    let (mut pauses, mut failed) = (Vec::new(), 0);
    let share = bytes / (u64::from(job.swaps) + 1);
    for swap in 0..job.swaps {
        while fetch.got() < share * (u64::from(swap) + 1) {
            if !interrupt::go_on() || !fetch.runs() {
                bail!("the download ended after {swap} swaps and {} bytes", fetch.got());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        crowd.check()?;
        let canary = if swap < job.shadowed { None } else { Some(0) };
        match exchange(network, usize::from(swap), module, canary) {
            Ok(pause) => {
                for one in &pause {
                    let Pause { pause_us, pause_cpu_us, state_bytes } = one;
                    eprintln!("swap {swap}: {pause_us} us, {pause_cpu_us} us of CPU, {state_bytes} bytes");
                }
                pauses.extend(pause);
            }
            Err(error) => {
                eprintln!("swap {swap}: {error:#}");
                failed += 1;
            }
        }
    }
    let download_ok = fetch.finish(bytes, interrupt::go_on);
    std::thread::sleep(COUNTED);
    let after = count(network)?;
    let lost = crowd.died() - died;
    Ok(report(&pauses, (&before, &after), (lost, failed, download_ok)))
}

/// Exchanges the module of one node's workers.
fn exchange(
    network: &Network,
    turn: usize,
    module: &Path,
    canary: Option<u32>,
) -> anyhow::Result<Vec<Pause>> {
    let node = network.nodes().iter().cycle().nth(turn).context("the network has no node")?;
    let mut command = network.command();
    command.args(["worker", "swap", "tunnel"]).arg(module).arg("--json");
    command.args(canary.map(|calls| format!("--canary={calls}")));
    command.arg("--config").arg(node.config());
    let said = output(command).with_context(|| format!("{}\n{}", node.name(), node.log_tail()))?;
    let done: Done = serde_json::from_str(said.lines().last().context("no report")?)?;
    Ok(done.workers)
}

fn count(network: &Network) -> anyhow::Result<Counted> {
    let mut counted = Counted { fewest_circuits: u32::MAX, ..Counted::default() };
    for node in network.nodes() {
        let mut circuits = 0;
        for worker in node.status()?.workers {
            counted.sent += worker.cells_relayed + worker.cells_originated;
            counted.lost += worker.drops;
            circuits += worker.relayed_circuits;
        }
        if node.role() != Role::Originator {
            counted.fewest_circuits = counted.fewest_circuits.min(circuits);
        }
    }
    Ok(counted)
}

fn sorted(pauses: &[Pause], of: fn(&Pause) -> u64) -> Vec<u64> {
    let mut micros: Vec<u64> = pauses.iter().map(of).collect();
    micros.sort_unstable();
    micros
}

/// The nearest rank, in milliseconds: of 100 the 99th is p99.
fn rank_ms(micros: &[u64], share: usize) -> f64 {
    let rank = (micros.len() * share).div_ceil(100).max(1);
    micros.get(rank - 1).copied().unwrap_or(0) as f64 / 1000.0
}

fn report(pauses: &[Pause], counted: (&Counted, &Counted), end: (u64, usize, bool)) -> Report {
    let (before, after) = counted;
    let wall = sorted(pauses, |pause| pause.pause_us);
    let cpu = sorted(pauses, |pause| pause.pause_cpu_us);
    Report {
        swaps: pauses.len(),
        cells_sent: after.sent.saturating_sub(before.sent),
        cells_lost: after.lost.saturating_sub(before.lost),
        pause_ms_p50: rank_ms(&wall, 50),
        pause_ms_p99: rank_ms(&wall, 99),
        pause_ms_max: rank_ms(&wall, 100),
        pause_cpu_ms_p50: rank_ms(&cpu, 50),
        pause_cpu_ms_max: rank_ms(&cpu, 100),
        circuits_per_worker: before.fewest_circuits.min(after.fewest_circuits),
        circuits_lost: end.0,
        swaps_failed: end.1,
        state_kb: pauses.iter().map(|pause| pause.state_bytes).max().unwrap_or(0) / 1000,
        download_ok: end.2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest() {
        let pause = |pause_us| Pause { pause_us, pause_cpu_us: pause_us / 2, state_bytes: 2_000 };
        let pauses: Vec<Pause> = (1..=100).rev().map(|ms| pause(ms * 1000)).collect();
        let none = Counted::default();
        let told = report(&pauses, (&none, &none), (0, 0, true));
        assert_eq!((told.pause_ms_p50, told.pause_ms_p99, told.pause_ms_max), (50.0, 99.0, 100.0));
        assert_eq!((told.pause_cpu_ms_max, told.state_kb, told.swaps), (50.0, 2, 100));
        assert_eq!(report(&[], (&none, &none), (0, 0, true)).pause_ms_max, 0.0);
    }
}

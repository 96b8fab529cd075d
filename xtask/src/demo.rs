//! `demo`: a real swarm on this machine, and a download through its circuits.

use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use warren_bench::cpu::{self, CpuPerGb, PerRole};
use warren_bench::network::{Network, Role};
use warren_bench::process::Process;
use warren_bench::{Stopwatch, content};

use crate::network::{self, Size};
use crate::plugins::workspace;
use crate::program::Profile;
use crate::{interrupt, setup};

/// How often a silent download is left to see whether somebody wants to stop.
const LOOK: Duration = Duration::from_millis(200);

/// `cargo xtask demo`
#[derive(Args)]
pub(crate) struct Demo {
    /// Hops of the circuits; 0 downloads directly.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=3))]
    hops: u8,
    /// Size of the file, in MB (10^6 bytes).
    #[arg(long, default_value_t = 64, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    size: u64,
    #[command(flatten)]
    network: Size,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// The last line with `--json`.
#[derive(Serialize)]
struct Report {
    job: &'static str,
    hops: u8,
    bytes: u64,
    sha256_ok: bool,
    seconds: f64,
    mb_per_s: f64,
    cpu_s_per_gb: CpuPerGb,
    paths: Vec<Vec<String>>,
}

/// Runs it; fails when what came is not what was sent.
pub(crate) fn run(demo: &Demo) -> anyhow::Result<ExitCode> {
    let python = setup::python().context("the seeder is libtorrent from PyPI")?;
    let network = network::start(Profile::Release, &demo.network, &[], None)?;
    let bytes = demo.size * 1_000_000;
    let source = network.dir().join("warren-demo.bin");
    content::write(&source, bytes, 1)?;
    let (_seeder, magnet) = start_seeder(&python, &source)?;
    let mut download = Download::start(&network, &magnet, demo.hops)?;
    let outcome = download.follow(&network)?;
    let sha256_ok = content::sha256(&source)? == content::sha256(&outcome.path)?;
    let report = Report {
        job: "demo",
        hops: demo.hops,
        bytes,
        sha256_ok,
        seconds: (outcome.seconds * 1000.0).round() / 1000.0,
        mb_per_s: (bytes as f64 / outcome.seconds / 1e4).round() / 100.0,
        cpu_s_per_gb: outcome.cpu.per_gb(demo.hops, bytes),
        paths: download.paths,
    };
    show(&report);
    if demo.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(if sha256_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A small demo, for the gate.
pub(crate) fn smoke() -> anyhow::Result<()> {
    let network = Size { relays: 2, exits: 1, set: Vec::new() };
    let code = run(&Demo { hops: 3, size: 8, network, json: true })?;
    if code != ExitCode::SUCCESS {
        bail!("what came is not what was sent");
    }
    Ok(())
}

fn show(report: &Report) {
    for path in &report.paths {
        println!("circuit  {}", path.join(" → "));
    }
    let same = if report.sha256_ok { "the same" } else { "DIFFERENT" };
    println!(
        "bytes    {} in {:.1} s over {} hops, SHA-256 {same}",
        report.bytes, report.seconds, report.hops
    );
    println!("speed    {:.1} MB/s", report.mb_per_s);
    let cpu = report.cpu_s_per_gb;
    let text = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    println!(
        "CPU s/GB originator {} (torrent engine included), relay {} each, exit {}, in all {}",
        text(cpu.originator),
        text(cpu.relay),
        text(cpu.exit),
        text(cpu.total)
    );
}

/// Starts libtorrent and returns the magnet that leads to it.
fn start_seeder(python: &Path, source: &Path) -> anyhow::Result<(Process, String)> {
    let mut command = Command::new(python);
    command.arg(workspace().join("tests/e2e/peer.py")).arg("seed").arg(source);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut seeder = Process::start(&mut command)?;
    let output = seeder.child().stdout.take().context("the seeder has no output")?;
    let mut lines = BufReader::new(output).lines();
    let line = lines.next().context("the seeder said nothing")??;
    // It goes on talking, and would stop if nobody read.
    std::thread::spawn(move || lines.for_each(drop));
    let said: Value = serde_json::from_str(&line).with_context(|| format!("the seeder said {line}"))?;
    let magnet = said.get("magnet").and_then(Value::as_str).context("the seeder names no magnet")?;
    Ok((seeder, magnet.to_owned()))
}

/// A `warren get` under way.
struct Download {
    process: Process,
    log: PathBuf,
    paths: Vec<Vec<String>>,
    /// From the first request on: when, and the CPU seconds used before.
    begun: Option<(Stopwatch, PerRole)>,
}

/// How it went.
struct Outcome {
    path: PathBuf,
    seconds: f64,
    cpu: PerRole,
}

impl Download {
    fn start(network: &Network, magnet: &str, hops: u8) -> anyhow::Result<Self> {
        let config = network.join_config("downloader")?;
        let log = config.with_file_name("log.txt");
        let mut command = network.command();
        command.args(["get", magnet, "--json", "--hops", &hops.to_string(), "--config"]).arg(&config);
        command.arg("--out").arg(config.with_file_name("out"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(std::fs::File::create(&log)?);
        Ok(Self { process: Process::start(&mut command)?, log, paths: Vec::new(), begun: None })
    }

    fn follow(&mut self, network: &Network) -> anyhow::Result<Outcome> {
        let output = self.process.child().stdout.take().context("the downloader has no output")?;
        let (said, lines) = sync_channel(64);
        std::thread::spawn(move || BufReader::new(output).lines().try_for_each(|line| said.send(line)));
        loop {
            let line = match lines.recv_timeout(LOOK) {
                Ok(line) => line?,
                Err(RecvTimeoutError::Timeout) if interrupt::go_on() => continue,
                Err(RecvTimeoutError::Timeout) => bail!("interrupted"),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let event: Value =
                serde_json::from_str(&line).with_context(|| format!("the downloader said {line}"))?;
            if let Some(path) = self.handle_event(network, &event)? {
                let (begun, before) = self.begun.take().context("it was done before it began")?;
                let cpu = self.spent(network).since(&before);
                return Ok(Outcome { path, seconds: begun.seconds(), cpu });
            }
        }
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        bail!("the download ended without the file\n{log}")
    }

    fn spent(&self, network: &Network) -> PerRole {
        let mut spent = PerRole::of(network);
        spent.add(Role::Originator, cpu::seconds(self.process.pid()).unwrap_or_default());
        spent
    }

    /// Answers the file's path when it is there.
    fn handle_event(&mut self, network: &Network, event: &Value) -> anyhow::Result<Option<PathBuf>> {
        let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        match text("event") {
            "circuit" => self.paths.extend(path(event).filter(|path| !self.paths.contains(path))),
            // The torrent is taken up: its first request is for a circuit.
            "started" => self.begun = Some((Stopwatch::start(), self.spent(network))),
            "progress" => progress(event),
            "waiting" => eprintln!("waiting: {}", text("reason")),
            "error" => bail!("the download failed: {}", text("message")),
            "done" => {
                end_line();
                return Ok(Some(PathBuf::from(text("path"))));
            }
            _ => {}
        }
        Ok(None)
    }
}

fn path(event: &Value) -> Option<Vec<String>> {
    let peers = event.get("path")?.as_array()?;
    Some(peers.iter().filter_map(|peer| peer.as_str().map(str::to_owned)).collect())
}

fn progress(event: &Value) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let number = |name: &str| event.get(name).and_then(Value::as_f64).unwrap_or_default();
    let filled = (number("percent") / 4.0) as usize;
    eprint!(
        "\r[{:<25}] {:>3.0} %  {:.1} of {:.1} MB  {:.1} MB/s  {} peers  {} circuits \x1b[K",
        "=".repeat(filled.min(25)),
        number("percent"),
        number("done") / 1e6,
        number("total") / 1e6,
        number("down_bps") / 1e6,
        number("peers"),
        number("circuits"),
    );
}

fn end_line() {
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
}

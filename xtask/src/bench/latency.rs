//! `bench latency`: what a relay adds to a lone cell's way.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use warren_bench::lone::Lone;
use warren_bench::process::Process;
use warren_schemas::descriptor::SignedDescriptor;

use crate::interrupt;
use crate::network::{self, Size};
use crate::program::Profile;

/// Cells before those that count.
const WARM_UP: u32 = 200;
/// Rests that take turns, in percent of the one asked for: no beat with anybody's clock.
const RESTS: [u32; 5] = [61, 137, 83, 119, 100];

/// `cargo xtask bench latency`
#[derive(Args)]
pub(super) struct Latency {
    /// Cells through the relay, and as many datagrams through the bare process.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    cells: u32,
    /// Rest before each, in microseconds: long enough for everybody to fall asleep.
    #[arg(long, default_value_t = 2000, value_name = "US", value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pause: u32,
    /// A setting of the relay, as SECTION.KEY=VALUE; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = network::setting)]
    set: Vec<(String, String)>,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Microseconds of all datagrams of one way.
#[derive(Serialize)]
struct Micros {
    p50: f64,
    p99: f64,
    max: f64,
}

#[derive(Serialize)]
struct Report {
    job: &'static str,
    cells: u32,
    pause_us: u32,
    /// From the call that sends a cell to the end of the call that has it at the other end.
    relay_us: Micros,
    /// The same for a datagram of that length through a process that only receives and sends.
    bare_us: Micros,
    /// `relay_us` ÷ `bare_us`.
    ratio_p50: f64,
    ratio_p99: f64,
    /// `relay_us` − `bare_us`: what a relay takes that is no relay's in particular left out.
    added_p50_us: f64,
}

/// Runs it.
pub(super) fn run(job: &Latency) -> anyhow::Result<ExitCode> {
    let size = Size { relays: 1, exits: 0, set: job.set.clone() };
    let network = network::start(Profile::Dist, &size, &[], None)?;
    let relay = network.nodes().first().context("there is no relay")?;
    let descriptor = relay.status()?.signed_descriptor().context("the relay tells no descriptor")?;
    let mut lone = Lone::through(&SignedDescriptor::from_bytes(descriptor))?;
    let (_bare, forwarder) = start_bare(lone.address())?;
    let (mut relayed, mut bare) = (Vec::new(), Vec::new());
    for turn in 0..WARM_UP + job.cells {
        ensure!(interrupt::go_on(), "interrupted");
        let share = RESTS.get(turn as usize % RESTS.len()).copied().unwrap_or(100);
        let pause = Duration::from_micros(u64::from(job.pause) * u64::from(share) / 100);
        lone.rest(pause)?;
        let by_relay = lone.cell()?;
        lone.rest(pause)?;
        let by_nobody = lone.bare(forwarder)?;
        if turn >= WARM_UP {
            relayed.push(by_relay);
            bare.push(by_nobody);
        }
    }
    let report = report(job, &mut relayed, &mut bare);
    show(&report);
    if job.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(ExitCode::SUCCESS)
}

fn report(job: &Latency, relayed: &mut [Duration], bare: &mut [Duration]) -> Report {
    let (relay_us, bare_us) = (micros(relayed), micros(bare));
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    Report {
        job: "latency",
        cells: job.cells,
        pause_us: job.pause,
        ratio_p50: rounded(relay_us.p50 / bare_us.p50),
        ratio_p99: rounded(relay_us.p99 / bare_us.p99),
        added_p50_us: rounded(relay_us.p50 - bare_us.p50),
        relay_us,
        bare_us,
    }
}

/// Nearest ranks, to a tenth.
fn micros(times: &mut [Duration]) -> Micros {
    times.sort_unstable();
    let rank = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        let nanos = times.get(rank - 1).map_or(0, Duration::as_nanos);
        (nanos as f64 / 100.0).round() / 10.0
    };
    Micros { p50: rank(50), p99: rank(99), max: rank(100) }
}

fn show(report: &Report) {
    println!("a datagram's way, us      p50      p99      worst");
    for (name, way) in [("through a relay", &report.relay_us), ("bare UDP", &report.bare_us)] {
        println!("{name:<25} {:<8} {:<8} {}", way.p50, way.p99, way.max);
    }
    println!("ratio {:>24} {:>8}", report.ratio_p50, report.ratio_p99);
}

/// Starts a process that sends every datagram on to `to`, and answers with its address.
fn start_bare(to: SocketAddr) -> anyhow::Result<(Process, SocketAddr)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "forward", &to.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::start(&mut command)?;
    let output = process.child().stdout.take().context("the bare process has no output")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    Ok((process, line.trim().parse().context("the bare process tells no address")?))
}

/// `cargo xtask bench forward`: that process.
#[derive(Args)]
pub(super) struct Forward {
    /// Where all datagrams go.
    to: SocketAddr,
}

/// Runs until it is ended.
pub(super) fn forward(job: &Forward) -> anyhow::Result<ExitCode> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", socket.local_addr()?);
    let mut buffer = [0; 2048];
    loop {
        let (length, _) = socket.recv_from(&mut buffer)?;
        socket.send_to(buffer.get(..length).unwrap_or_default(), job.to)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest_in_microseconds() {
        let mut times: Vec<Duration> = (1..=200).rev().map(Duration::from_micros).collect();
        let told = micros(&mut times);
        assert_eq!((told.p50, told.p99, told.max), (100.0, 198.0, 200.0));
        assert_eq!(micros(&mut [Duration::from_nanos(1250)]).p50, 1.3);
        assert_eq!(micros(&mut []).max, 0.0);
    }
}

//! `bench workers`, `bench boundary` and `bench udp`: one part without a network around it.
//!
//! The programs that measure link what they measure, which these tools do not: they are examples of tests/bench.

use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::Args;

use crate::{plugins, program};

/// `cargo xtask bench workers`
#[derive(Args)]
pub(super) struct Workers {
    /// Workers that live at once.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(1..=4000))]
    count: u32,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// `cargo xtask bench boundary`
#[derive(Args)]
pub(super) struct Boundary {
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// `cargo xtask bench udp`
#[derive(Args)]
pub(super) struct Udp {
    /// Measure both ways so often, by turns, and report the medians.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: u8,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the job.
pub(super) fn run(job: &Workers) -> anyhow::Result<ExitCode> {
    workers(&["--count", &job.count.to_string()], job.json)
}

/// Runs the job.
pub(super) fn run_boundary(job: &Boundary) -> anyhow::Result<ExitCode> {
    workers(&["--boundary"], job.json)
}

/// Runs the job.
pub(super) fn run_udp(job: &Udp) -> anyhow::Result<ExitCode> {
    let mut command = Command::new(program::build_example("udp")?);
    run_example(command.arg(job.runs.to_string()), job.json)
}

fn workers(arguments: &[&str], json: bool) -> anyhow::Result<ExitCode> {
    let plugins = plugins::find_or_build(&plugins::Wanted { fixtures: true, ..plugins::Wanted::default() })?;
    let mut command = Command::new(program::build_example("workers")?);
    run_example(command.args(arguments).env("WARREN_PLUGINS", plugins), json)
}

fn run_example(command: &mut Command, json: bool) -> anyhow::Result<ExitCode> {
    let status = command.args(json.then_some("--json")).status().context("cannot start the measurement")?;
    if !status.success() {
        bail!("the measurement failed ({status})");
    }
    Ok(ExitCode::SUCCESS)
}

//! `bench ct`: whether the time of a primitive tells of its secrets, natively and inside Wasm.

use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::Args;

use crate::{plugins, program};

/// `cargo xtask bench ct`
#[derive(Args)]
pub(super) struct ConstantTime {
    /// Calls of each function that are measured; a fifth of it for X25519.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1000..=100_000_000))]
    calls: u32,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the job. The program that measures links wasmtime, which these tools do not.
pub(super) fn run(job: &ConstantTime) -> anyhow::Result<ExitCode> {
    let plugins = plugins::find_or_build(&plugins::Wanted { fixtures: true, ..plugins::Wanted::default() })?;
    let mut command = Command::new(program::build_example("constant_time")?);
    command.arg(job.calls.to_string()).args(job.json.then_some("--json"));
    let status = command.env("WARREN_PLUGINS", plugins).status().context("cannot start the measurement")?;
    if !status.success() {
        bail!("the measurement failed ({status})");
    }
    Ok(ExitCode::SUCCESS)
}

//! `bench crypto`: the primitives inside Wasm against native ones and `ring`, in the same run.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;

use crate::{plugins, program};

/// `cargo xtask bench crypto`
#[derive(Args)]
pub(super) struct Crypto {
    /// Measure everything so often, one after the other, and report the medians.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: u8,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the job. The program that measures links wasmtime, which these tools do not.
pub(super) fn run(job: &Crypto) -> anyhow::Result<ExitCode> {
    let plugins = plugins::build(&plugins::Wanted { fixtures: true, ..plugins::Wanted::default() })?;
    let mut command = program::cargo("run")?;
    command.args([
        "--quiet",
        "--release",
        "--package",
        "warren-conformance",
        "--example",
        "crypto_cost",
        "--",
    ]);
    command.arg(job.runs.to_string()).args(job.json.then_some("--json")).env("WARREN_PLUGINS", plugins);
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the measurement failed ({status})");
    }
    Ok(ExitCode::SUCCESS)
}

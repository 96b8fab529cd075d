//! `bench workers`: workers without a network around them.

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

/// Runs the job. The program that measures links wasmtime, which these tools do not.
pub(super) fn run(job: &Workers) -> anyhow::Result<ExitCode> {
    let plugins = plugins::find_or_build(&plugins::Wanted { fixtures: true, ..plugins::Wanted::default() })?;
    let mut command = Command::new(program::build_example("workers")?);
    command.args(["--count", &job.count.to_string()]).args(job.json.then_some("--json"));
    let status = command.env("WARREN_PLUGINS", plugins).status().context("cannot start the measurement")?;
    if !status.success() {
        bail!("the measurement failed ({status})");
    }
    Ok(ExitCode::SUCCESS)
}

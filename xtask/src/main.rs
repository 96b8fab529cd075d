//! The project's tools: everything that is not a plain `cargo` command, each a subcommand.
//!
//! Starts other programs, writes into the user's cache folder and into the folders it is told;
//! it is not part of what is shipped.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod plugins;
mod wasm_toolchain;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's tools", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Compile the plugins, and the guests of the tests, into components.
    BuildPlugins {
        /// Where the .wasm files go; by default `warren/plugins` in the user's cache folder.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Leave out the guests of the tests.
        #[arg(long)]
        no_fixtures: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::BuildPlugins { out, no_fixtures } => {
            let folder = plugins::build(&plugins::Wanted { out, fixtures: !no_fixtures })?;
            println!("{}", folder.display());
            Ok(())
        }
    }
}

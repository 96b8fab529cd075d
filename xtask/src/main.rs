//! The project's tools: everything that is not a plain `cargo` command, each a subcommand.
//!
//! Starts other programs, writes into the user's cache folder and into the folders it is told;
//! it is not part of what is shipped.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod demo;
mod fuzz;
mod guard;
mod interrupt;
mod net;
mod network;
mod plugins;
mod program;
mod setup;
mod test;
mod tidy;
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
    /// Download a file from a real swarm on this machine, through circuits.
    Demo(demo::Demo),
    /// Run a command with a network of nodes around it.
    ///
    /// It finds WARREN_SOCKS (host:port), WARREN_SOCKS_USER_1 to _3 (user names for 1 to 3 hops),
    /// WARREN_SOCKS_PASS, WARREN_BOOTSTRAP, WARREN_CONFIG (with which one more node joins) and
    /// WARREN_PIDS (role=pid, comma separated) in its environment; its status is returned.
    Net(net::Net),
    /// Measure.
    Bench(bench::Bench),
    /// Run every gate and every test.
    Test(test::Test),
    /// Check the rules of the house that no compiler checks.
    Tidy,
    /// Look for bytes that break a promise, in everything that reads hostile ones.
    Fuzz(fuzz::Fuzz),
    /// Count the instructions of the hot functions, and compare with what was recorded.
    Guard(guard::Guard),
    /// Make everything that the other tasks need.
    Setup(setup::Setup),
}

fn main() -> ExitCode {
    match fuzz::compile().unwrap_or_else(|| run(Arguments::parse().task)) {
        Ok(code) => code,
        // Whatever failed, it was asked to: children get the terminal's signal too.
        Err(_) if !interrupt::go_on() => {
            eprintln!("interrupted");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<ExitCode> {
    match task {
        Task::BuildPlugins { out, no_fixtures } => {
            let folder = plugins::build(&plugins::Wanted { out, fixtures: !no_fixtures })?;
            println!("{}", folder.display());
            Ok(ExitCode::SUCCESS)
        }
        Task::Demo(demo) => demo::run(&demo),
        Task::Net(net) => net::run(&net),
        Task::Bench(bench) => bench::run(&bench),
        Task::Test(test) => test::run(&test),
        Task::Tidy => tidy::run(),
        Task::Fuzz(fuzz) => fuzz::run(&fuzz),
        Task::Guard(guard) => guard::run(&guard),
        Task::Setup(setup) => setup::run(&setup).map(|()| ExitCode::SUCCESS),
    }
}

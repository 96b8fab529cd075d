//! The program. See the library beside it.

use std::process::ExitCode;

use clap::Parser;
use warren_node::{cli::Cli, commands};

fn main() -> ExitCode {
    commands::execute(&Cli::parse())
}

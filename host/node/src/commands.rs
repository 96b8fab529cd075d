//! What each command does, and the status the process ends with.

mod circuits;
mod completions;
mod config;
mod pages;
mod plugin;
mod run;
mod status;
mod text;
mod transfer;
mod worker;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::{Cli, Command, ConfigCommand, Global};
use crate::config::{Config, ConfigError, Sources};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The command line or configuration is wrong: status 2.
    Usage(anyhow::Error),
    /// Anything else: status 1.
    Failed(anyhow::Error),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.into())
    }
}

impl From<warren_api::Error> for Failure {
    fn from(error: warren_api::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Does what the command line says.
#[must_use]
pub fn execute(cli: &Cli) -> ExitCode {
    let (error, status) = match dispatch(cli) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(error)) => (error, 2),
        Err(Failure::Failed(error)) => (error, 1),
    };
    if cli.global.json {
        println!("{}", serde_json::json!({ "event": "error", "message": format!("{error:#}") }));
    } else {
        eprintln!("warren: {error:#}");
    }
    ExitCode::from(status)
}

fn dispatch(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        Command::Config(ConfigCommand::Check { file }) => config::check(&cli.global, file.as_deref()),
        Command::Config(ConfigCommand::Show) => config::show(&cli.global),
        Command::Completions { shell } => {
            completions::completions(*shell);
            Ok(())
        }
        Command::Run => run::run(&cli.global),
        Command::Get(get) => transfer::get(&cli.global, get),
        Command::Seed(seed) => transfer::seed(&cli.global, seed),
        Command::Status(status) => status::status(&cli.global, status),
        Command::Circuits => circuits::circuits(&cli.global),
        Command::Worker(command) => worker::worker(&cli.global, command),
        Command::Plugin(command) => plugin::plugin(&cli.global, command),
    }
}

/// Where this command line takes its configuration from.
#[must_use]
pub fn sources(global: &Global) -> Sources {
    let mut flags: Vec<_> = global.set.iter().map(|text| ("--set".to_owned(), text.clone())).collect();
    if let Some(path) = &global.state_dir {
        flags.push(("--state-dir".into(), format!("node.state_dir={}", path.display())));
    }
    if let Some(level) = &global.log_level {
        flags.push(("--log-level".into(), format!("log.level={level}")));
    }
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    Sources { file: global.config.clone(), environment, flags }
}

/// The configuration in effect for this command line.
///
/// # Errors
/// See [`ConfigError`].
pub fn load(global: &Global) -> Result<Config, ConfigError> {
    crate::config::load(&sources(global))
}

/// The control socket that this command line names.
fn control(global: &Global) -> Result<PathBuf, Failure> {
    Ok(crate::folders::control_socket(&load(global)?.state_dir()))
}

/// Runs what asks a running node: one thread is plenty.
fn asking<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(anyhow::Error::from)?.block_on(work)
}

/// Prints to standard output; false when nobody reads it any more.
fn say(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// Prints `value` as one line of JSON.
fn say_json(value: &impl serde::Serialize) -> Result<bool, Failure> {
    let mut line = serde_json::to_string(value).map_err(anyhow::Error::from)?;
    line.push('\n');
    Ok(say(&line))
}

/// The runtime that the overlay, the torrents and everything that is not a cell run on. The core
/// starts threads of its own.
fn runtime(config: &Config) -> anyhow::Result<tokio::runtime::Runtime> {
    if config.workers.batch
        && let Err(error) = crate::scheduling::batch()
    {
        tracing::debug!(%error, "the system does not take this process as batch work");
    }
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?)
}

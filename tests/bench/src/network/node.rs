//! One `warren run`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

use super::{NodeStatus, Settings};
use crate::process::Process;

/// What a node does in the network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    /// Asks: a client.
    Originator,
    /// Carries circuits.
    Relay,
    /// Carries circuits and ends them.
    Exit,
}

impl Role {
    /// Its name in `WARREN_PIDS`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Originator => "originator",
            Self::Relay => "relay",
            Self::Exit => "exit",
        }
    }
}

/// A node of a test network.
pub struct Node {
    name: String,
    role: Role,
    program: PathBuf,
    dir: PathBuf,
    config: PathBuf,
    process: Option<Process>,
    ready: Option<Value>,
}

/// `program`, which is `warren`, without the surroundings' `WARREN_…` variables, which are configuration to it.
pub fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WARREN_") {
            command.env_remove(name);
        }
    }
    command
}

impl Node {
    pub(super) fn start(
        program: &Path,
        name: String,
        role: Role,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        let config = settings.write()?;
        let (program, dir) = (program.to_owned(), settings.dir.clone());
        let mut node = Self { name, role, program, dir, config, process: None, ready: None };
        node.run()?;
        Ok(node)
    }

    /// Starts it (again), with the same keys and configuration.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn run(&mut self) -> anyhow::Result<()> {
        self.stop();
        self.ready = None;
        let log = File::options().create(true).append(true).open(self.dir.join("log.txt"))?;
        let events = File::create(self.dir.join("events.jsonl"))?;
        let mut command = command(&self.program);
        command.args(["run", "--json", "--config"]).arg(&self.config);
        command.stdin(Stdio::null()).stdout(events).stderr(log);
        self.process = Some(Process::start(&mut command)?);
        Ok(())
    }

    /// Ends it gently.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: libc::c_int) {
        if let Some(process) = &mut self.process {
            process.signal(signal);
        }
    }

    /// `relay-1`, `exit-1`, `client`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it does.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Its process; none when it was stopped.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Its peer id, once it is ready.
    #[must_use]
    pub fn peer_id(&self) -> Option<&str> {
        self.ready.as_ref()?.get("peer_id")?.as_str()
    }

    /// Where its SOCKS door is, once it is ready.
    #[must_use]
    pub fn socks(&self) -> Option<&str> {
        self.ready.as_ref()?.get("socks")?.as_str()
    }

    /// Whether it said that it is ready.
    ///
    /// # Errors
    /// When it ended instead.
    pub fn check_ready(&mut self) -> anyhow::Result<bool> {
        if self.ready.is_none() {
            self.check_runs()?;
            let events = fs::read_to_string(self.dir.join("events.jsonl")).unwrap_or_default();
            let mut events = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            self.ready = events.find(|event| event.get("event").and_then(Value::as_str) == Some("ready"));
        }
        Ok(self.ready.is_some())
    }

    /// Fails when its process ended.
    ///
    /// # Errors
    /// With its status.
    pub fn check_runs(&mut self) -> anyhow::Result<()> {
        match self.process.as_mut().map(Process::ended) {
            Some(None) => Ok(()),
            Some(Some(status)) => bail!("{} ended: {status}", self.name),
            None => bail!("{} does not run", self.name),
        }
    }

    /// Asks it how it is.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> anyhow::Result<NodeStatus> {
        let mut command = command(&self.program);
        let output = command.args(["status", "--json", "--config"]).arg(&self.config).output()?;
        if !output.status.success() {
            bail!("{} gives no status: {}", self.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("the status of {}", self.name))
    }

    /// Writes the overlay addresses it has into its configuration, and returns them.
    pub(super) fn pin_overlay(&mut self) -> anyhow::Result<Vec<String>> {
        let addresses = self.ready.as_ref().and_then(|ready| ready.get("overlay")?.as_array().cloned());
        let addresses: Vec<String> =
            addresses.unwrap_or_default().iter().filter_map(|a| a.as_str().map(str::to_owned)).collect();
        if addresses.is_empty() {
            bail!("{} names no overlay address", self.name);
        }
        let mut table: toml::Table = fs::read_to_string(&self.config)?.parse()?;
        let listen = addresses.iter().filter_map(|a| a.split("/p2p/").next().map(|a| a.to_owned().into()));
        if let Some(overlay) = table.get_mut("overlay").and_then(toml::Value::as_table_mut) {
            overlay.insert("listen".to_owned(), toml::Value::Array(listen.collect()));
        }
        fs::write(&self.config, table.to_string())?;
        Ok(addresses)
    }

    /// The end of what it logged.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log.txt")).unwrap_or_default();
        let events = fs::read_to_string(self.dir.join("events.jsonl")).unwrap_or_default();
        let tail = |text: &str| {
            let lines: Vec<&str> = text.lines().collect();
            lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n")
        };
        format!("{}\n{}", tail(&log), tail(&events))
    }
}

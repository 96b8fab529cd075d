//! The torrent side: libtorrent as a peer that we did not write, a tracker of our own, and `warren
//! get` and `seed` followed by their events.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use warren_bench::Stopwatch;
use warren_bench::process::Process;

use crate::lab::Lab;

/// Events that may wait to be read by the test.
const EVENTS: usize = 100_000;

/// A process that prints one JSON object a line.
pub struct Talker {
    process: Process,
    events: Receiver<Value>,
    seen: Vec<Value>,
    started: Stopwatch,
}

impl Talker {
    /// Starts `command` and listens to it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = Process::start(command)?;
        let stdout = process.child().stdout.take().context("no standard output")?;
        Ok(Self { process, events: listen(stdout), seen: Vec::new(), started: Stopwatch::start() })
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it said so far, as far as it was waited for.
    #[must_use]
    pub fn seen(&self) -> &[Value] {
        &self.seen
    }

    /// The next event for which `wanted` says yes.
    ///
    /// # Errors
    /// When it ends first, says `error`, or does not say it within `patience`.
    pub fn wait_for(
        &mut self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let waited = Stopwatch::start();
        loop {
            let event = match self.events.recv_timeout(patience.saturating_sub(waited.elapsed())) {
                Ok(event) => event,
                Err(RecvTimeoutError::Disconnected) => bail!("it ended without {what}: {:?}", self.tail()),
                Err(RecvTimeoutError::Timeout) => bail!("no {what} within {patience:?}: {:?}", self.tail()),
            };
            if std::env::var_os("WARREN_E2E_TRACE").is_some() {
                eprintln!("{:8.2} {event}", self.started.seconds());
            }
            self.seen.push(event.clone());
            if wanted(&event) {
                return Ok(event);
            }
            ensure!(!is(&event, "error"), "instead of {what}: {event}");
        }
    }

    fn tail(&self) -> &[Value] {
        self.seen.get(self.seen.len().saturating_sub(5)..).unwrap_or_default()
    }
}

fn listen(stdout: ChildStdout) -> Receiver<Value> {
    let (told, events) = sync_channel(EVENTS);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
            if told.send(event).is_err() {
                return;
            }
        }
    });
    events
}

/// Whether the event is called so.
#[must_use]
pub fn is(event: &Value, name: &str) -> bool {
    event.get("event").and_then(Value::as_str) == Some(name)
}

/// A text of an event.
///
/// # Errors
/// When it has none of that name.
pub fn text(event: &Value, name: &str) -> anyhow::Result<String> {
    let text = event.get(name).and_then(Value::as_str);
    text.map(str::to_owned).with_context(|| format!("no {name} in {event}"))
}

/// A Python that can import libtorrent.
///
/// # Errors
/// When there is none.
pub fn python() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("WARREN_PYTHON").map(PathBuf::from);
    let python =
        named.map_or_else(|| Ok::<_, anyhow::Error>(crate::lab::cache()?.join("py/bin/python3")), Ok)?;
    let tried = Command::new(&python).args(["-c", "import libtorrent"]).output();
    let works = tried.is_ok_and(|output| output.status.success());
    ensure!(works, "{} has no libtorrent: cargo xtask setup", python.display());
    Ok(python)
}

/// libtorrent with these arguments of `peer.py`, once it listens; and its first words.
///
/// # Errors
/// When it does not start.
pub fn libtorrent(arguments: &[&str]) -> anyhow::Result<(Talker, Value)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peer.py");
    let mut talker = Talker::start(Command::new(python()?).arg(script).args(arguments))?;
    let listening = talker.wait_for("listening", Duration::from_secs(60), |event| is(event, "listening"))?;
    Ok((talker, listening))
}

/// `warren get` or `seed` as one more client of the lab.
///
/// # Errors
/// When it cannot be started.
pub fn warren(lab: &Lab, name: &str, arguments: &[&str]) -> anyhow::Result<Talker> {
    start(lab, name, arguments, lab.command())
}

/// The same, as the last words of another command.
///
/// # Errors
/// When it cannot be started.
pub fn warren_within(
    lab: &Lab,
    name: &str,
    arguments: &[&str],
    wrapper: &[OsString],
) -> anyhow::Result<Talker> {
    let (program, words) = wrapper.split_first().context("no command")?;
    let warren = lab.command();
    let mut command = Command::new(program);
    command.args(words).arg(warren.get_program()).args(warren.get_args());
    for (name, value) in warren.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    start(lab, name, arguments, command)
}

fn start(lab: &Lab, name: &str, arguments: &[&str], mut command: Command) -> anyhow::Result<Talker> {
    let config = lab.join_config(name)?;
    command.args(arguments).args(["--json", "--config"]).arg(&config);
    command
        .stderr(std::fs::File::options().create(true).append(true).open(config.with_file_name("log.txt"))?);
    Talker::start(&mut command)
}

//! One `warren` process.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// How long a node may take to answer on its control socket.
const PATIENCE: Duration = Duration::from_secs(10);

/// The program under test.
///
/// # Errors
/// When it has not been built.
pub fn program() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("WARREN_BIN") {
        return Ok(path.into());
    }
    let test = std::env::current_exe()?;
    let path = test.parent().and_then(Path::parent).context("the test lies nowhere")?.join("warren");
    ensure!(path.is_file(), "{} is not there: cargo build --release -p warren-node", path.display());
    Ok(path)
}

/// A `Command` whose process dies with the thread that starts it.
#[must_use]
pub fn tied(program: &Path) -> Command {
    let mut command = Command::new(program);
    // SAFETY: prctl is async-signal-safe and touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    command
}

/// A running node; killed when dropped.
pub struct Process {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    ready: Value,
}

impl Process {
    /// Starts `warren run` with this configuration and waits until it is ready.
    ///
    /// # Errors
    /// When it ends before that; its standard error goes to the test's.
    pub fn run(config: &Path) -> anyhow::Result<Self> {
        let mut command = tied(&program()?);
        command.args(["run", "--json", "--config"]).arg(config).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting warren")?;
        let mut stdout = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let ready: Value = match serde_json::from_str(&line) {
            Ok(ready) => ready,
            Err(_) => bail!("warren ended before it was ready: {line}{:?}", child.wait()?),
        };
        if ready.get("event").and_then(Value::as_str) != Some("ready") {
            let status = child.wait()?;
            bail!("warren ended before it was ready: {line}{status}");
        }
        Ok(Self { child, _stdout: stdout, ready })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A text of its ready line.
    #[must_use]
    pub fn ready(&self, field: &str) -> String {
        self.ready.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// A list of texts of its ready line.
    #[must_use]
    pub fn ready_list(&self, field: &str) -> Vec<String> {
        let items = self.ready.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
        items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Asks it how it is.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> anyhow::Result<Value> {
        let mut stream = UnixStream::connect(self.ready("control"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"{\"ask\":\"status\"}\n")?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        let mut answer: Value = serde_json::from_str(&line)?;
        answer.get_mut("status").map(Value::take).context("no status")
    }

    /// Ends it at once, as a crash would.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, and gives the status it ended with.
    ///
    /// # Errors
    /// When it did not end by itself.
    pub fn terminate(mut self) -> anyhow::Result<i32> {
        let pid = i32::try_from(self.child.id())?;
        // SAFETY: our own child, not waited for yet, so the id is still its own.
        ensure!(unsafe { libc::kill(pid, libc::SIGTERM) } == 0, "it is gone already");
        self.child.wait()?.code().context("ended by a signal")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! A network on loopback: relays, exits and one client.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::process::Process;

/// Networks take turns: two at once on two cores would only slow each other down.
static TURN: Mutex<()> = Mutex::new(());
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What a node is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Carries circuits.
    Relay,
    /// Carries circuits and connects to the world.
    Exit,
    /// Uses circuits.
    Client,
}

/// One place in the network, and the process in it, if it runs.
pub struct Member {
    role: Role,
    folder: PathBuf,
    process: Option<Process>,
    peer_id: String,
    tunnel: String,
    overlay: Vec<String>,
}

/// A running network; taken down when dropped.
pub struct Network {
    members: Vec<Member>,
    client: Member,
    folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Network {
    /// Starts so many relays and exits and a client, and waits until the client has circuits of 1, 2
    /// and 3 hops.
    ///
    /// # Errors
    /// When a process does not start, or no circuits stand within a minute.
    pub fn start(relays: usize, exits: usize) -> anyhow::Result<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir()?;
        let roles = std::iter::repeat_n(Role::Relay, relays).chain(std::iter::repeat_n(Role::Exit, exits));
        let mut members: Vec<Member> = Vec::new();
        for (number, role) in roles.enumerate() {
            let mut member = Member::new(role, folder.path().join(format!("{number}")));
            member.start(&bootstrap(&members))?;
            members.push(member);
        }
        let mut client = Member::new(Role::Client, folder.path().join("client"));
        client.start(&bootstrap(&members))?;
        let network = Self { members, client, folder, _turn: turn };
        network.wait_for("circuits of 1, 2 and 3 hops", Duration::from_secs(60), |status| {
            (1..=3).all(|hops| ready_paths(status).iter().any(|path| path.len() == hops))
        })?;
        Ok(network)
    }

    /// A folder that is removed with the network.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the client's SOCKS server listens.
    ///
    /// # Errors
    /// When it does not run.
    pub fn socks(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.client.running()?.ready("socks").parse()?)
    }

    /// The client's status.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> anyhow::Result<Value> {
        self.client.running()?.status()
    }

    /// Writes the configuration of one more client and gives its file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn another(&self, name: &str) -> anyhow::Result<PathBuf> {
        let member = Member::new(Role::Client, self.folder.path().join(name));
        member.write_config(&bootstrap(&self.members))
    }

    /// Waits until the client's status is as wanted.
    ///
    /// # Errors
    /// When it is not within `patience`; the text holds the last status.
    pub fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        mut wanted: impl FnMut(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let mut last = Value::Null;
        for _ in 0..patience.as_millis() / LOOK.as_millis() {
            last = self.status()?;
            if wanted(&last) {
                return Ok(last);
            }
            std::thread::sleep(LOOK);
        }
        bail!("no {what} within {patience:?}: {last:#}")
    }

    /// The peer ids of the relays and exits that run.
    #[must_use]
    pub fn alive(&self, role: Role) -> Vec<String> {
        let alive = self.members.iter().filter(|member| member.role == role && member.process.is_some());
        alive.map(|member| member.peer_id.clone()).collect()
    }

    /// Kills the node with this peer id.
    ///
    /// # Errors
    /// When no such node runs.
    pub fn kill(&mut self, peer_id: &str) -> anyhow::Result<()> {
        let member =
            self.members.iter_mut().find(|member| member.peer_id == peer_id).context("no such node")?;
        member.process.take().context("it does not run")?.kill();
        Ok(())
    }

    /// Kills every relay and exit.
    pub fn kill_all(&mut self) {
        self.members.iter_mut().filter_map(|member| member.process.take()).for_each(Process::kill);
    }

    /// Starts those that were killed, with their keys and addresses.
    ///
    /// # Errors
    /// When one does not start.
    pub fn revive(&mut self) -> anyhow::Result<()> {
        let bootstrap = bootstrap(&self.members);
        self.members
            .iter_mut()
            .filter(|member| member.process.is_none())
            .try_for_each(|member| member.start(&bootstrap))
    }
}

/// Paths of the circuits that stand, in a status.
#[must_use]
pub fn ready_paths(status: &Value) -> Vec<Vec<String>> {
    let circuits = status.get("circuits").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_ready = |circuit: &&Value| circuit.get("state").and_then(Value::as_str) == Some("ready");
    circuits.iter().filter(is_ready).map(|circuit| texts(circuit.get("path"))).collect()
}

/// A list of texts in JSON.
#[must_use]
pub fn texts(list: Option<&Value>) -> Vec<String> {
    let items = list.and_then(Value::as_array).cloned().unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The first two members' overlay addresses: one may be dead.
fn bootstrap(members: &[Member]) -> Vec<String> {
    members.iter().take(2).flat_map(|member| member.overlay.clone()).collect()
}

impl Member {
    fn new(role: Role, folder: PathBuf) -> Self {
        let (peer_id, tunnel, overlay) = (String::new(), "127.0.0.1:0".to_owned(), Vec::new());
        Self { role, folder, process: None, peer_id, tunnel, overlay }
    }

    fn running(&self) -> anyhow::Result<&Process> {
        self.process.as_ref().context("it does not run")
    }

    fn start(&mut self, bootstrap: &[String]) -> anyhow::Result<()> {
        let process = Process::run(&self.write_config(bootstrap)?)?;
        self.peer_id = process.ready("peer_id");
        self.tunnel = process.ready_list("tunnel").first().cloned().context("no tunnel address")?;
        self.overlay = process.ready_list("overlay");
        self.process = Some(process);
        Ok(())
    }

    /// The ports of the last run are kept: others remember them.
    fn write_config(&self, bootstrap: &[String]) -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(&self.folder)?;
        let serves = self.role != Role::Client;
        let overlay: Vec<String> = match (serves, self.overlay.as_slice()) {
            (true, []) => vec!["/ip4/127.0.0.1/udp/0/quic-v1".into(), "/ip4/127.0.0.1/tcp/0".into()],
            (true, known) => known.iter().filter_map(|a| Some(a.split_once("/p2p/")?.0.to_owned())).collect(),
            (false, _) => vec!["/ip4/127.0.0.1/tcp/0".into()],
        };
        let mode = std::env::var("WARREN_WORKERS").unwrap_or_else(|_| "wasm".into());
        let mut text = String::new();
        let state = self.folder.join("state");
        writeln!(text, "[node]\nstate_dir = {:?}", state.display().to_string())?;
        writeln!(text, "[tunnel]\nlisten = {:?}", self.tunnel)?;
        writeln!(text, "[overlay]\nlisten = {overlay:?}\nbootstrap = {bootstrap:?}")?;
        writeln!(text, "[socks]\nlisten = {:?}", if serves { "" } else { "127.0.0.1:0" })?;
        writeln!(text, "[relay]\nenabled = {serves}\n[exit]\nenabled = {}", self.role == Role::Exit)?;
        writeln!(text, "[workers]\ncount = 1\npin = false\nmode = {mode:?}")?;
        if !serves {
            writeln!(text, "[circuits]\nprebuild_hops = [1, 2, 3]")?;
        }
        writeln!(text, "[lab]\nenabled = true")?;
        let path = self.folder.join("config.toml");
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

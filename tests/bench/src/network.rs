//! A network of `warren` processes: relays, exits, and one client whose SOCKS door others use.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::Stopwatch;

mod node;
mod settings;
mod status;

pub use node::{Node, Role, command};
pub use settings::Settings;
pub use status::{Circuit, NodeStatus, Worker};

/// How long nodes may take to start, and circuits to stand.
const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(20);

/// What a network is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The `warren` program.
    pub program: PathBuf,
    /// The tunnel plugin's component.
    pub plugin: PathBuf,
    /// Relays that are no exits.
    pub relays: u8,
    /// Exits, which are relays too.
    pub exits: u8,
    /// Circuits, by their hops, that the client keeps ready; without any there is no client.
    pub client_hops: Vec<u8>,
    /// Where the nodes' files go; none for a temporary folder that is removed at the end.
    pub dir: Option<PathBuf>,
    /// Settings of every node on top of the network's own: `section.key` and its value as TOML.
    pub set: Vec<(String, String)>,
}

impl Plan {
    /// The nodes it is about, in the order in which they start.
    #[must_use]
    pub fn nodes(&self) -> Vec<(String, Role)> {
        let mut nodes: Vec<_> = (1..=self.relays).map(|n| (format!("relay-{n}"), Role::Relay)).collect();
        nodes.extend((1..=self.exits).map(|n| (format!("exit-{n}"), Role::Exit)));
        if !self.client_hops.is_empty() {
            nodes.push(("client".to_owned(), Role::Originator));
        }
        nodes
    }
}

/// Settings of single nodes on top of [`Plan::set`], by the node's name: `relay-1`, `exit-1`, `client`.
pub type OwnSettings = BTreeMap<String, Vec<(String, String)>>;

/// A running network. Dropping it takes it down.
pub struct Network {
    plan: Plan,
    dir: PathBuf,
    nodes: Vec<Node>,
    bootstrap: Vec<String>,
    token: String,
    own: OwnSettings,
    /// Removed after the nodes are gone: fields are dropped in order.
    _temporary: Option<tempfile::TempDir>,
}

impl Network {
    /// Starts the nodes and waits until each says that it is ready. `go_on` is asked all the while;
    /// when it says no, everything is taken down.
    ///
    /// # Errors
    /// When a node does not start; the end of its log is in the error.
    pub fn start(plan: Plan, go_on: &dyn Fn() -> bool) -> anyhow::Result<Self> {
        Self::start_with(plan, OwnSettings::new(), go_on)
    }

    /// The same, with settings of single nodes.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with(plan: Plan, own: OwnSettings, go_on: &dyn Fn() -> bool) -> anyhow::Result<Self> {
        let temporary = match &plan.dir {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("warren-net-").tempdir()?),
        };
        let dir = plan.dir.clone().or_else(|| temporary.as_ref().map(|dir| dir.path().to_owned()));
        let dir = std::path::absolute(dir.context("a network needs a folder")?)?;
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let token = random_token()?;
        let (nodes, bootstrap) = (Vec::new(), Vec::new());
        let mut network = Self { plan, dir, nodes, bootstrap, token, own, _temporary: temporary };
        network.bring_up(go_on)?;
        Ok(network)
    }

    fn bring_up(&mut self, go_on: &dyn Fn() -> bool) -> anyhow::Result<()> {
        for (index, (name, role)) in self.plan.nodes().into_iter().enumerate() {
            let settings = self.settings(&name, role);
            self.nodes.push(Node::start(&self.plan.program, name, role, &settings)?);
            if index == 0 {
                // The others start from this one, so it keeps its address when it is started again.
                self.wait_ready(go_on)?;
                self.bootstrap =
                    self.nodes.first_mut().map(Node::pin_overlay).transpose()?.unwrap_or_default();
            }
        }
        self.wait_ready(go_on)
    }

    fn wait_ready(&mut self, go_on: &dyn Fn() -> bool) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            wait("a node to start", go_on, || node.check_ready())
                .with_context(|| format!("{}\n{}", node.name(), node.log_tail()))?;
        }
        Ok(())
    }

    /// The settings of a node of this network that is called `name`.
    fn settings(&self, name: &str, role: Role) -> Settings {
        Settings {
            dir: self.dir.join(name),
            role,
            plugin: self.plan.plugin.clone(),
            bootstrap: self.bootstrap.clone(),
            token: self.token.clone(),
            prebuild_hops: if role == Role::Originator { self.plan.client_hops.clone() } else { Vec::new() },
            set: self.plan.set.iter().chain(self.own.get(name).into_iter().flatten()).cloned().collect(),
        }
    }

    /// Writes a configuration with which one more `warren` joins, and returns its path. It is a
    /// client; its SOCKS door is on a free port and wants [`Network::token`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn join_config(&self, name: &str) -> anyhow::Result<PathBuf> {
        let mut settings = self.settings(name, Role::Originator);
        settings.prebuild_hops.clear();
        settings.write()
    }

    /// Waits until the client has a ready circuit of each length it keeps.
    ///
    /// # Errors
    /// When they do not stand within a minute; the client's status and log are in the error.
    pub fn wait_for_circuits(&mut self, go_on: &dyn Fn() -> bool) -> anyhow::Result<()> {
        let hops = self.plan.client_hops.clone();
        let Some(client) = self.nodes.iter_mut().find(|node| node.role() == Role::Originator) else {
            bail!("the network has no client");
        };
        let mut last = None;
        let outcome = wait("circuits", go_on, || {
            client.check_runs()?;
            let status = client.status()?;
            let stands = |length: &u8| status.ready_circuits().any(|c| c.path.len() == usize::from(*length));
            let all = hops.iter().all(stands);
            last = Some(status);
            Ok(all)
        });
        outcome.with_context(|| format!("the client says {last:#?}\n{}", client.log_tail()))
    }

    /// Every node, relays first.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node called so: `relay-1`, `exit-1`, `client`.
    pub fn node(&mut self, name: &str) -> Option<&mut Node> {
        self.nodes.iter_mut().find(|node| node.name() == name)
    }

    /// The client, if there is one.
    #[must_use]
    pub fn client(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| node.role() == Role::Originator)
    }

    /// Overlay addresses to start from.
    #[must_use]
    pub fn bootstrap(&self) -> &[String] {
        &self.bootstrap
    }

    /// The password of every SOCKS door of this network.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Where its files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The program its nodes run.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.plan.program
    }

    /// A `warren` command without anything of the surroundings' `WARREN_…` variables.
    #[must_use]
    pub fn command(&self) -> Command {
        node::command(&self.plan.program)
    }
}

/// All nodes are told to stop before the first is waited for.
impl Drop for Network {
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.signal(libc::SIGTERM));
        self.nodes.clear();
    }
}

/// Asks `is_done` until it says yes.
fn wait(
    what: &str,
    go_on: &dyn Fn() -> bool,
    mut is_done: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let waited = Stopwatch::start();
    while !is_done()? {
        if !go_on() {
            bail!("interrupted");
        }
        if waited.elapsed() > PATIENCE {
            bail!("waited {} s for {what}", PATIENCE.as_secs());
        }
        std::thread::sleep(STEP);
    }
    Ok(())
}

fn random_token() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

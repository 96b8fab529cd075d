//! A network with its client, and the conditions tests wait for.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use warren_bench::Stopwatch;
use warren_bench::network::{Network, Node, NodeStatus, Plan, Role};

/// Networks take turns: two at once on two cores would only slow each other down.
static TURN: Mutex<()> = Mutex::new(());
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A running network whose client keeps circuits of 1, 2 and 3 hops.
pub struct Lab {
    network: Network,
    _turn: MutexGuard<'static, ()>,
}

impl Deref for Lab {
    type Target = Network;

    fn deref(&self) -> &Network {
        &self.network
    }
}

impl DerefMut for Lab {
    fn deref_mut(&mut self) -> &mut Network {
        &mut self.network
    }
}

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

/// The user's cache folder of this project.
///
/// # Errors
/// When there is no home.
pub fn cache() -> anyhow::Result<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()).map(PathBuf::from);
    let cache = named.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    Ok(cache.context("no home folder")?.join("warren"))
}

/// `name` in the folder that `cargo xtask build-plugins` fills.
///
/// # Errors
/// When there is no home.
pub fn plugin(name: &str) -> anyhow::Result<PathBuf> {
    let plugins = std::env::var_os("WARREN_PLUGINS")
        .map_or_else(|| Ok(cache()?.join("plugins")), |path| Ok::<_, anyhow::Error>(path.into()))?;
    Ok(plugins.join(name))
}

fn plan(relays: u8, exits: u8, set: &[(&str, String)]) -> anyhow::Result<Plan> {
    let mode = std::env::var("WARREN_E2E_MODE").unwrap_or_else(|_| "wasm".into());
    let plugin = plugin("tunnel.wasm")?;
    ensure!(
        mode == "native" || plugin.is_file(),
        "{} is not there: cargo xtask build-plugins",
        plugin.display()
    );
    let mode = [("workers.mode", mode)];
    let set = mode.iter().chain(set).map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    Ok(Plan { program: program()?, plugin, relays, exits, client_hops: vec![1, 2, 3], dir: None, set })
}

impl Lab {
    /// Starts so many relays and exits and a client, and waits until it has circuits of 1, 2 and 3
    /// hops.
    ///
    /// # Errors
    /// When a process does not start, or circuits do not stand within a minute.
    pub fn start(relays: u8, exits: u8) -> anyhow::Result<Self> {
        Self::with_workers(relays, exits, 1)
    }

    /// The same with so many workers in every node.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with_workers(relays: u8, exits: u8, workers: u8) -> anyhow::Result<Self> {
        Self::with(relays, exits, &[("workers.count", workers.to_string())])
    }

    /// The same with these settings, `section.key` and a TOML value, in every node.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with(relays: u8, exits: u8, set: &[(&str, String)]) -> anyhow::Result<Self> {
        // A test that failed poisons nothing: its network is gone.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut network = Network::start(plan(relays, exits, set)?, &|| true)?;
        network.wait_for_circuits(&|| true)?;
        Ok(Self { network, _turn: turn })
    }

    /// The client's SOCKS door, and the password it wants.
    ///
    /// # Errors
    /// When it does not run.
    pub fn door(&self) -> anyhow::Result<crate::fetch::Door> {
        let address = self.client().and_then(Node::socks).context("the client has no SOCKS door")?;
        Ok(crate::fetch::Door { address: address.parse()?, password: self.token().to_owned() })
    }

    /// The client's status.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> anyhow::Result<NodeStatus> {
        self.client().context("no client")?.status()
    }

    /// Waits until the client's status is as wanted.
    ///
    /// # Errors
    /// When it is not within `patience`; the text holds the last status and the client's log.
    pub fn wait_for(
        &self,
        what: &str,
        patience: Duration,
        mut wanted: impl FnMut(&NodeStatus) -> bool,
    ) -> anyhow::Result<NodeStatus> {
        let waited = Stopwatch::start();
        loop {
            let status = self.status()?;
            if wanted(&status) {
                return Ok(status);
            }
            if waited.elapsed() > patience {
                let log = self.client().map(Node::log_tail).unwrap_or_default();
                bail!("no {what} within {patience:?}: {status:#?}\n{log}");
            }
            std::thread::sleep(LOOK);
        }
    }

    /// The peer ids of the nodes of this role that run.
    #[must_use]
    pub fn alive(&self, role: Role) -> Vec<String> {
        let alive = self.nodes().iter().filter(|node| node.role() == role && node.pid().is_some());
        alive.filter_map(|node| node.peer_id().map(str::to_owned)).collect()
    }

    /// Where the relays and exits said that they listen: tunnel and overlay.
    ///
    /// # Errors
    /// When one did not say so in words that are understood.
    pub fn server_addresses(&self) -> anyhow::Result<BTreeSet<SocketAddr>> {
        let mut addresses = BTreeSet::new();
        for name in self.servers() {
            let events = std::fs::read_to_string(self.dir().join(name).join("events.jsonl"))?;
            let mut events = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let ready = events.find(|event| crate::swarm::is(event, "ready")).context("not ready")?;
            for kind in ["tunnel", "overlay"] {
                let listed = ready.get(kind).and_then(Value::as_array).context("no addresses")?;
                for address in listed {
                    addresses.insert(address_of(address.as_str().context("no text")?)?);
                }
            }
        }
        Ok(addresses)
    }

    /// Kills the node with this peer id, as a crash would.
    ///
    /// # Errors
    /// When no such node runs.
    pub fn kill(&mut self, peer_id: &str) -> anyhow::Result<()> {
        let is_it = |node: &&Node| node.peer_id() == Some(peer_id) && node.pid().is_some();
        let name = self.nodes().iter().find(is_it).context("no such node")?.name().to_owned();
        self.node(&name).context("no such node")?.kill();
        Ok(())
    }

    /// Kills every relay and exit.
    pub fn kill_all(&mut self) {
        for name in self.servers() {
            if let Some(node) = self.node(&name) {
                node.kill();
            }
        }
    }

    /// Starts those relays and exits that do not run, with their keys.
    ///
    /// # Errors
    /// When one does not start.
    pub fn revive(&mut self) -> anyhow::Result<()> {
        for name in self.servers() {
            let Some(node) = self.node(&name).filter(|node| node.pid().is_none()) else { continue };
            node.run()?;
            let waited = Stopwatch::start();
            while !node.check_ready()? {
                ensure!(waited.elapsed() < Duration::from_secs(30), "{name} does not start");
                std::thread::sleep(LOOK);
            }
        }
        Ok(())
    }

    fn servers(&self) -> Vec<String> {
        let servers = self.nodes().iter().filter(|node| node.role() != Role::Originator);
        servers.map(|node| node.name().to_owned()).collect()
    }
}

/// Of `127.0.0.1:1` or `/ip4/127.0.0.1/udp/1/…`.
fn address_of(text: &str) -> anyhow::Result<SocketAddr> {
    let mut parts = text.split('/').skip(1);
    let address = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("ip4" | "ip6"), Some(ip), Some(_), Some(port)) => (ip.parse::<IpAddr>()?, port.parse()?).into(),
        _ => text.parse()?,
    };
    Ok(address)
}

/// Paths of the circuits that can be used.
#[must_use]
pub fn ready_paths(status: &NodeStatus) -> Vec<Vec<String>> {
    status.ready_circuits().map(|circuit| circuit.path.clone()).collect()
}

//! The composition: every room of a node, made and joined here and nowhere else.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use warren_core::{Core, CoreConfig, DESCRIPTOR_LIFETIME, OnionSecret, SystemClock};
use warren_overlay::{Event, Overlay};
use warren_ports::status::Status;
use warren_ports::{Clock, Isolation};
use warren_sandbox::Sandbox;
use warren_schemas::control::Limits;
use warren_schemas::{PeerId, Timestamp};
use warren_torrent::Torrents;
use warren_workers::WorkerFactory;

use crate::audit::Audit;
use crate::config::Config;
use crate::factory;
use crate::folders::{StateDir, control_socket};
use crate::front_door::FrontDoor;
use crate::guards;
use crate::health::Health;
use crate::identity::{self, OnionKeyFile, Secret};
use crate::operator::Operator;
use crate::swap::Swaps;
use warren_api::StatusSource;

/// How often circuits that should always be ready are asked for again: well within the time for
/// which the core keeps a circuit that nobody uses.
const PREBUILD_PERIOD: Duration = Duration::from_secs(30);
/// How often a relay looks whether its onion key is due.
const ROTATION_PERIOD: Duration = Duration::from_secs(3600);
/// How long saying goodbye may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// A running node.
pub struct Node {
    core: Arc<Core>,
    overlay: Overlay,
    torrents: Torrents,
    operator: Arc<Operator>,
    tasks: JoinSet<()>,
    state: StateDir,
}

impl Node {
    /// Makes all rooms and joins them. Must be called within a multi-thread tokio runtime.
    ///
    /// # Errors
    /// Says which room could not be made and why.
    pub async fn start(config: &Config, state: StateDir) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let socks = match config.socks.listen() {
            Some(address) => Some(warren_socks5::Server::bind(address, config.socks.token()).await?),
            None => None,
        };
        let identity = identity::secret(state.path(), "identity.key")?;
        let workers = factory::make(config)?;
        let core = Arc::new(warren_core::start(
            core_config(config, &state, &identity, workers.factory, clock.now())?,
            Arc::clone(&clock),
        )?);
        let (overlay, events) =
            warren_overlay::spawn(overlay_config(config, &identity), Arc::clone(&clock)).await?;
        let socks_address = socks.as_ref().map(warren_socks5::Server::local_addr);
        let torrents =
            Torrents::new(torrent_settings(config, &state, socks_address), core.dialer(), core.datagrams());
        let health = Arc::new(Health::new(config, &core, &overlay, socks_address, &clock));
        let changed = Arc::new(Notify::new());
        let swaps = swaps(config, &state, workers.sandbox, &core, &clock, &changed);
        let operator = Arc::new(Operator { health, swaps });
        let mut tasks = JoinSet::new();
        tasks.spawn(learn(events, Arc::clone(&core)));
        tasks.spawn(guards::keep(Arc::clone(&core), state.path().to_owned()));
        tasks.spawn(prebuild(config.circuits.prebuild_hops.clone(), Arc::clone(&core)));
        if config.relay.enabled {
            let publisher = Publisher { core: Arc::clone(&core), overlay: overlay.clone(), clock, changed };
            tasks.spawn(publisher.run(state.path().to_owned()));
        }
        if let Some(server) = socks {
            let door = FrontDoor {
                dial: core.dialer(),
                datagrams: core.datagrams(),
                torrents: torrents.clone(),
                default_hops: config.socks.default_hops,
            };
            tasks.spawn(door.run(server));
        }
        Ok(Self { core, overlay, torrents, operator, tasks, state })
    }

    /// Opens the control socket that `warren status` and `warren worker` ask.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_control(&mut self) -> anyhow::Result<()> {
        let server =
            warren_api::Server::bind(&control_socket(self.state.path()), Arc::clone(&self.operator) as _)?;
        self.tasks.spawn(server.run());
        Ok(())
    }

    /// The torrents.
    #[must_use]
    pub const fn torrents(&self) -> &Torrents {
        &self.torrents
    }

    /// The node as it is now.
    pub async fn status(&self) -> Status {
        self.operator.status().await
    }

    /// Stops the torrents, says goodbye on every circuit and closes everything; takes at most about
    /// 15 s.
    pub async fn shutdown(mut self) {
        self.torrents.stop().await;
        drop(guards::save(self.state.path(), &self.core.guards().await));
        let goodbye = async {
            self.overlay.shutdown().await;
            self.core.shutdown().await;
        };
        if tokio::time::timeout(GOODBYE, goodbye).await.is_err() {
            tracing::warn!("not everything closed in time");
        }
        self.tasks.shutdown().await;
    }
}

fn swaps(
    config: &Config,
    state: &StateDir,
    sandbox: Option<Sandbox>,
    core: &Arc<Core>,
    clock: &Arc<dyn Clock>,
    changed: &Arc<Notify>,
) -> Swaps {
    Swaps {
        exchange: Arc::clone(core) as _,
        sandbox,
        plugins: config.plugins.clone(),
        lab: config.lab.enabled(),
        audit: Arc::new(Audit::new(state.path())),
        clock: Arc::clone(clock),
        changed: Arc::clone(changed),
    }
}

fn core_config(
    config: &Config,
    state: &StateDir,
    identity: &Secret,
    factory: Arc<dyn WorkerFactory>,
    now: Timestamp,
) -> anyhow::Result<CoreConfig> {
    let (min_workers, max_workers) = config.workers.bounds(cores());
    let onion_keys = if config.relay.enabled { identity::onion_keys(state.path(), now)? } else { Vec::new() };
    let limits = Limits {
        circuits: config.relay.max_circuits,
        bytes_per_second: config.relay.bytes_per_second,
        ..Limits::default()
    };
    let rules = warren_circuits::Rules {
        own_peer: own_peer(identity),
        relax_same_network: config.lab.same_network(),
        guards: usize::from(config.circuits.guards),
        spare: usize::from(config.socks.listen().is_some()),
        spare_hops: config.socks.default_hops.max(1),
        ..Default::default()
    };
    Ok(CoreConfig {
        listen: config.tunnel.listen,
        advertise: config.tunnel.advertise.clone(),
        steering: config.tunnel.steering,
        min_workers,
        max_workers,
        sync: config.workers.sync(),
        pin: config.workers.pin,
        identity: identity.clone(),
        stream_key: identity::secret(state.path(), "stream.key")?,
        onion_keys: onion_secrets(&onion_keys),
        relay: config.relay.enabled,
        exit: config.exit.enabled.then(|| exit_policy(config)).transpose()?,
        allow_private: config.lab.allow_private(),
        congestion: config.lab.congestion(),
        limits,
        rules,
        operator: config.relay.operator(),
        guards: guards::load(state.path()),
        factory,
    })
}

fn own_peer(identity: &Secret) -> PeerId {
    PeerId(ed25519_dalek::SigningKey::from_bytes(identity).verifying_key().to_bytes())
}

fn onion_secrets(keys: &[OnionKeyFile]) -> Vec<OnionSecret> {
    let secret = |key: &OnionKeyFile| OnionSecret {
        epoch: key.epoch,
        secret: key.secret.clone(),
        accept_until: key.accept_until(),
    };
    keys.iter().map(secret).collect()
}

/// 1 to 255.
fn cores() -> u8 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u8::try_from(cores).unwrap_or(u8::MAX)
}

fn exit_policy(config: &Config) -> anyhow::Result<warren_exit::Policy> {
    let mut rules = Vec::new();
    for (address, prefix) in config.exit.deny() {
        let network =
            if address.is_ipv6() { format!("[{address}/{prefix}]") } else { format!("{address}/{prefix}") };
        rules.push(format!("deny {network}").parse()?);
    }
    let ports = config.exit.allow_ports();
    for (first, last) in &ports {
        rules.push(format!("allow *:{first}-{last}").parse()?);
    }
    if !ports.is_empty() {
        rules.push("deny *".parse()?);
    }
    let own: HashSet<_> = config.tunnel.advertise.iter().map(SocketAddr::ip).collect();
    Ok(warren_exit::Policy { allow_private: config.lab.allow_private(), rules, own, ..Default::default() })
}

fn overlay_config(config: &Config, identity: &Secret) -> warren_overlay::Config {
    warren_overlay::Config {
        secret: **identity,
        listen: config.overlay.listen.clone(),
        bootstrap: config.overlay.bootstrap.clone(),
        external: config.overlay.external.clone(),
        server: config.relay.enabled,
        max_connections: config.overlay.max_connections,
        allow_private: config.lab.allow_private(),
    }
}

fn torrent_settings(
    config: &Config,
    state: &StateDir,
    socks: Option<SocketAddr>,
) -> warren_torrent::Settings {
    warren_torrent::Settings {
        state_dir: state.path().join("torrents"),
        socks: socks.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
        socks_token: config.socks.token(),
        max_active: config.torrent.max_active,
        allow_private: config.lab.allow_private(),
    }
}

/// What the overlay hears of relays goes to the core.
async fn learn(mut events: mpsc::Receiver<Event>, core: Arc<Core>) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Descriptor(signed, descriptor) => core.handle_descriptor(signed, descriptor).await,
            Event::Listening(address) => tracing::debug!(address, "the overlay listens"),
            Event::PeerConnected(_) | Event::PeerLost(_) => {}
        }
    }
}

/// Keeps circuits of these lengths ready for SOCKS clients without an isolation of their own.
async fn prebuild(hops: Vec<u8>, core: Arc<Core>) {
    loop {
        for hops in &hops {
            core.want(Isolation { hops: *hops, key: Arc::from("") }).await;
        }
        tokio::time::sleep(PREBUILD_PERIOD).await;
    }
}

/// Publishes this relay's descriptor.
struct Publisher {
    core: Arc<Core>,
    overlay: Overlay,
    clock: Arc<dyn Clock>,
    /// Another module may speak other suites, which the descriptor names.
    changed: Arc<Notify>,
}

impl Publisher {
    /// Publishes at once, again at half of the descriptor's life, whenever the onion keys change and
    /// whenever another module may be in use.
    async fn run(self, state: PathBuf) {
        let mut published: Option<Timestamp> = None;
        let mut exchanged = false;
        let mut held = identity::onion_keys(&state, self.clock.now()).unwrap_or_default();
        loop {
            let now = self.clock.now();
            let rotated = self.rotate(&state, now, &mut held).await;
            let due = published.is_none_or(|at| now.since(at) >= DESCRIPTOR_LIFETIME / 2);
            if let Some(signed) = self.core.descriptor().filter(|_| due || rotated || exchanged) {
                self.overlay.publish(signed).await;
                published = Some(now);
            }
            exchanged = tokio::select! {
                () = tokio::time::sleep(ROTATION_PERIOD.min(DESCRIPTOR_LIFETIME / 2)) => false,
                () = self.changed.notified() => true,
            };
        }
    }

    /// Brings `held` up to date; whether it was not.
    async fn rotate(&self, state: &Path, now: Timestamp, held: &mut Vec<OnionKeyFile>) -> bool {
        let keys = identity::onion_keys(state, now).unwrap_or_else(|error| {
            tracing::error!("onion keys: {error}");
            held.clone()
        });
        let epochs = |keys: &[OnionKeyFile]| keys.iter().map(|key| key.epoch).collect::<Vec<_>>();
        let rotated = epochs(&keys) != epochs(held);
        *held = keys;
        if rotated {
            self.core.set_onion_keys(onion_secrets(held)).await;
        }
        rotated
    }
}

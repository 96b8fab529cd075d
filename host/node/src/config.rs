//! The configuration: a TOML file, overridden by the environment, overridden by flags.
//!
//! [`keys::KEYS`] is the one table of keys. Unknown keys are refused and the nearest known one is
//! named; a value of the wrong type is refused with its key and where it came from.

mod error;
pub mod keys;
pub mod kind;
pub mod lab;
mod load;
pub mod render;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use warren_core::Congestion;

use crate::signature::PublicKey;
pub use error::{ConfigError, Origin};
pub use load::{Sources, load};

/// `[node]`; see [`keys::KEYS`] for the meaning of every field here and below.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in keys::KEYS")]
pub struct Node {
    pub state_dir: PathBuf,
}

/// `[tunnel]`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in keys::KEYS")]
pub struct Tunnel {
    pub listen: SocketAddr,
    pub advertise: Vec<SocketAddr>,
    pub steering: bool,
}

/// `[overlay]`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in keys::KEYS")]
pub struct Overlay {
    pub listen: Vec<String>,
    pub bootstrap: Vec<String>,
    pub external: Vec<String>,
    pub max_connections: u32,
}

/// `[socks]`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in keys::KEYS")]
pub struct Socks {
    listen: String,
    token: String,
    pub default_hops: u8,
}

impl Socks {
    /// Where to listen; none for off.
    #[must_use]
    pub fn listen(&self) -> Option<SocketAddr> {
        self.listen.parse().ok()
    }

    /// The password that clients must give, if any.
    #[must_use]
    pub fn token(&self) -> Option<String> {
        (!self.token.is_empty()).then(|| self.token.clone())
    }
}

/// `[relay]`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in keys::KEYS")]
pub struct Relay {
    pub enabled: bool,
    pub bytes_per_second: u64,
    pub max_circuits: u32,
    operator: String,
}

impl Relay {
    /// The operator's public key, if one is stated.
    #[must_use]
    pub fn operator(&self) -> Option<[u8; 32]> {
        hex_key(&self.operator)
    }
}

/// `[exit]`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in keys::KEYS")]
pub struct Exit {
    pub enabled: bool,
    deny: Vec<String>,
    allow_ports: Vec<toml::Value>,
}

impl Exit {
    /// Networks refused: address and prefix length.
    #[must_use]
    pub fn deny(&self) -> Vec<(IpAddr, u8)> {
        self.deny.iter().filter_map(|text| kind::network(text)).collect()
    }

    /// Ports served, as ranges that include both ends; empty for all.
    #[must_use]
    pub fn allow_ports(&self) -> Vec<(u16, u16)> {
        self.allow_ports.iter().filter_map(kind::ports).collect()
    }
}

/// What runs the tunnel plugin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Its Wasm component, in the sandbox.
    Wasm,
    /// The same code linked in.
    Native,
}

/// `[workers]`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in keys::KEYS")]
pub struct Workers {
    count: u8,
    min: u8,
    max: u8,
    sync_ms: u64,
    pub mode: Mode,
    pub plugin: PathBuf,
    pub pin: bool,
    pub batch: bool,
}

impl Workers {
    /// Fewest and most worker threads, on a machine with so many cores: 1 ≤ first ≤ second.
    #[must_use]
    pub fn bounds(&self, cores: u8) -> (u8, u8) {
        if self.count > 0 {
            return (self.count, self.count);
        }
        let max = if self.max > 0 { self.max } else { cores };
        let min = self.min.max(1);
        (min, max.max(min))
    }

    /// Time between two reports of a worker; none for at once.
    #[must_use]
    pub fn sync(&self) -> Option<Duration> {
        (self.sync_ms > 0).then(|| Duration::from_millis(self.sync_ms))
    }
}

/// `[plugins]`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in keys::KEYS")]
pub struct Plugins {
    keys: Vec<String>,
    pub require_signature: bool,
    pub require_signature_at_start: bool,
}

impl Plugins {
    /// The keys whose signatures count.
    #[must_use]
    pub fn keys(&self) -> Vec<PublicKey> {
        self.keys.iter().filter_map(|text| PublicKey::read(text)).collect()
    }
}

/// `[circuits]`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in keys::KEYS")]
pub struct Circuits {
    pub prebuild_hops: Vec<u8>,
    pub guards: u8,
}

/// `[torrent]`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in keys::KEYS")]
pub struct Torrent {
    pub max_active: usize,
}

/// Form of log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "documented in keys::KEYS")]
pub struct Log {
    pub format: LogFormat,
    pub level: String,
}

/// `[lab]`
#[derive(Clone, Debug, Deserialize)]
pub struct Lab {
    enabled: bool,
    allow_private_exits: bool,
    same_network: bool,
    congestion: CongestionChoice,
}

/// `lab.congestion`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CongestionChoice {
    Steady,
    Cubic,
    NewReno,
    Bbr,
}

impl Lab {
    /// Whether the section is on.
    #[must_use]
    pub const fn enabled(&self) -> bool {
        self.enabled
    }

    /// Whether private addresses are let through.
    #[must_use]
    pub const fn allow_private(&self) -> bool {
        self.enabled && self.allow_private_exits
    }

    /// Whether the relays of a circuit may share a network.
    #[must_use]
    pub const fn same_network(&self) -> bool {
        self.enabled && self.same_network
    }

    /// The congestion controller of streams.
    #[must_use]
    pub fn congestion(&self) -> Congestion {
        match self.congestion {
            CongestionChoice::Cubic if self.enabled => Congestion::Cubic,
            CongestionChoice::NewReno if self.enabled => Congestion::NewReno,
            CongestionChoice::Bbr if self.enabled => Congestion::Bbr,
            _ => Congestion::default(),
        }
    }
}

/// All of it, checked.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "each section is documented at its type")]
pub struct Config {
    pub node: Node,
    pub tunnel: Tunnel,
    pub overlay: Overlay,
    pub socks: Socks,
    pub relay: Relay,
    pub exit: Exit,
    pub workers: Workers,
    pub plugins: Plugins,
    pub circuits: Circuits,
    pub torrent: Torrent,
    pub log: Log,
    pub lab: Lab,
    /// The values this was read from, for `config show`.
    #[serde(skip)]
    effective: toml::Table,
    /// The keys that somebody gave a value, as `section.name`.
    #[serde(skip)]
    stated: Vec<String>,
}

impl Config {
    /// The folder for keys and everything else that outlives a run.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        if self.node.state_dir.as_os_str().is_empty() {
            crate::folders::state()
        } else {
            self.node.state_dir.clone()
        }
    }

    /// This configuration as a client in the same program wants it: any free port, no listener in the
    /// overlay, neither relay nor exit, SOCKS on loopback behind `token`, circuits of `hops` (0: none).
    #[must_use]
    pub fn into_client(mut self, token: String, hops: u8) -> Self {
        self.tunnel.listen.set_port(0);
        self.tunnel.advertise.clear();
        self.overlay.listen.clear();
        self.overlay.external.clear();
        self.relay.enabled = false;
        self.exit.enabled = false;
        self.socks.listen = "127.0.0.1:0".into();
        self.socks.token = token;
        self.socks.default_hops = hops;
        self.workers.pin = false;
        self.circuits.prebuild_hops.clear();
        if self.log.level == "info" {
            // What a node has to say is not for the terminal of a download.
            self.log.level = "warn".into();
        }
        self
    }

    /// Checks what no single key can: that values go together.
    ///
    /// # Errors
    /// Names the keys that do not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let conflict = |text: &str| Err(ConfigError::Conflict(text.into()));
        if self.exit.enabled && !self.relay.enabled {
            return conflict("exit.enabled needs relay.enabled: an exit is the last relay of a circuit");
        }
        if self.relay.enabled && self.tunnel.listen.ip().is_unspecified() && self.tunnel.advertise.is_empty()
        {
            return conflict(
                "relay.enabled with tunnel.listen on every address needs tunnel.advertise: other nodes must know one address to send to",
            );
        }
        if self.socks.listen().is_some_and(|at| !at.ip().is_loopback()) && self.socks.token.is_empty() {
            return conflict("socks.listen is not on loopback, so socks.token must not be empty");
        }
        self.check_workers()?;
        lab::check(self, &lab::Routes::of_this_process())
    }

    fn check_workers(&self) -> Result<(), ConfigError> {
        let Workers { count, min, max, .. } = self.workers;
        let conflict = |text: String| Err(ConfigError::Conflict(text));
        if max > 0 && min > max {
            return conflict(format!(
                "workers.min is {min} and workers.max is {max}: the first must not be more"
            ));
        }
        for (key, value) in [("workers.min", min), ("workers.max", max)] {
            if count > 0 && value != count && self.stated.iter().any(|stated| stated == key) {
                return conflict(format!(
                    "workers.count is {count} and {key} is {value}: workers.count sets both, so leave one of them out"
                ));
            }
        }
        Ok(())
    }
}

/// 32 bytes from 64 hex digits.
#[must_use]
pub fn hex_key(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| pair.iter().fold(0_u8, |byte, digit| (byte << 4) | digit))
        .collect();
    (digits.len() == 64).then_some(())?;
    bytes.try_into().ok()
}

/// The file that is read when none is named.
#[must_use]
pub fn default_file() -> PathBuf {
    crate::folders::config().join("config.toml")
}

/// Whether a path is worth mentioning as missing: one that was asked for by name.
fn must_exist(explicit: Option<&Path>) -> bool {
    explicit.is_some()
}

#[cfg(test)]
mod tests;

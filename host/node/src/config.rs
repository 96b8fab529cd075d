//! The configuration: a TOML file, overridden by the environment, overridden by flags.
//!
//! [`keys::KEYS`] is the one table of keys. Unknown keys are refused and the nearest known one is
//! named; a value of the wrong type is refused with its key and where it came from.

pub mod keys;
pub mod kind;
pub mod lab;
mod load;
pub mod render;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use load::{Sources, load};

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// This file.
    File(PathBuf),
    /// This environment variable.
    Variable(String),
    /// `--set` or a flag of its own.
    Flag(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}: {detail}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// The parser's words, with line and column.
        detail: String,
    },
    /// No such section.
    #[error("{origin}: unknown section [{section}]{}", suggestion(nearest.as_deref()))]
    UnknownSection {
        /// Where it stands.
        origin: Origin,
        /// Its name.
        section: String,
        /// The known one it looks like.
        nearest: Option<String>,
    },
    /// No such key.
    #[error("{origin}: unknown key {key}{}", suggestion(nearest.as_deref()))]
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// `section.name`.
        key: String,
        /// The known one it looks like.
        nearest: Option<String>,
    },
    /// A value of the wrong type or out of range.
    #[error("{origin}: {key}: {detail}")]
    Value {
        /// Where it stands.
        origin: Origin,
        /// `section.name`.
        key: String,
        /// What was expected and found.
        detail: String,
    },
    /// Two values that do not go together.
    #[error("{0}")]
    Conflict(String),
    /// The lab section was turned on where it may not be.
    #[error("lab.enabled is refused: {0}")]
    Lab(String),
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

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
    pub count: u8,
    pub mode: Mode,
    pub plugin: PathBuf,
    pub pin: bool,
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
    pub circuits: Circuits,
    pub torrent: Torrent,
    pub log: Log,
    pub lab: Lab,
    /// The values this was read from, for `config show`.
    #[serde(skip)]
    effective: toml::Table,
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
        lab::check(self, &lab::Routes::of_this_process())
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

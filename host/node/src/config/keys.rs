//! Every key of the configuration, once: `config show`, `docs/configuration.md`, the checks and the
//! suggestions all read this table.

use warren_schemas::control::MOST_CIRCUITS;

use super::kind::Kind;

/// One key.
pub struct Key {
    /// Table of the TOML file.
    pub section: &'static str,
    /// Name within the table.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Its default, as TOML.
    pub default: &'static str,
    /// What it does, in one or two sentences.
    pub doc: &'static str,
}

impl Key {
    /// `section.name`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The environment variable that overrides it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("WARREN_{}_{}", self.section, self.name).to_uppercase()
    }
}

const fn key(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key { section, name, kind, default, doc }
}

/// What each section is about, in the order in which they are shown.
pub const SECTIONS: &[(&str, &str)] = &[
    ("node", "The node itself."),
    ("tunnel", "The UDP socket that carries cells."),
    ("overlay", "libp2p: how nodes find each other and learn which relays exist."),
    ("socks", "The SOCKS5 front door for any program on this machine."),
    ("relay", "Carrying other people's circuits."),
    ("exit", "Connecting to the world for other people's circuits."),
    ("workers", "What handles cells: one sandboxed worker per thread."),
    ("plugins", "Whose modules may replace the one in use."),
    ("circuits", "Which circuits this node builds for itself."),
    ("torrent", "Downloads and seeding."),
    ("log", "What is written to standard error."),
    ("lab", "Relaxed rules for test networks on one machine. Never for real use."),
];

/// The largest byte rate that fits into TOML's integers.
const ANY: Kind = Kind::Integer { min: 0, max: i64::MAX };

/// All keys, section by section.
pub const KEYS: &[Key] = &[
    key(
        "node",
        "state_dir",
        Kind::Path,
        "\"\"",
        "Folder for keys, guards, torrents and the control socket; empty takes $XDG_STATE_HOME/warren or ~/.local/state/warren.",
    ),
    key(
        "tunnel",
        "listen",
        Kind::Address,
        "\"0.0.0.0:7411\"",
        "UDP address for tunnel datagrams; port 0 takes any free port.",
    ),
    key(
        "tunnel",
        "advertise",
        Kind::Addresses,
        "[]",
        "Addresses other nodes reach a relay at, at most 4; empty takes the bound one. Needed by a relay that listens on 0.0.0.0 or [::].",
    ),
    key(
        "tunnel",
        "steering",
        Kind::Bool,
        "true",
        "Have the kernel give each datagram to the worker that it names, where it can (Linux). Without it workers pass on to each other what is not theirs.",
    ),
    key(
        "overlay",
        "listen",
        Kind::Multiaddrs,
        "[\"/ip4/0.0.0.0/udp/0/quic-v1\", \"/ip4/0.0.0.0/tcp/0\"]",
        "Multiaddrs on which the overlay listens; port 0 takes any free port.",
    ),
    key(
        "overlay",
        "bootstrap",
        Kind::Multiaddrs,
        "[]",
        "Nodes to join through: multiaddrs that end in /p2p/ and a peer id.",
    ),
    key(
        "overlay",
        "external",
        Kind::Multiaddrs,
        "[]",
        "Multiaddrs at which others reach this node, when they differ from the ones it listens on.",
    ),
    key(
        "overlay",
        "max_connections",
        Kind::Integer { min: 1, max: 65_535 },
        "256",
        "Most neighbours at one time.",
    ),
    key(
        "socks",
        "listen",
        Kind::AddressOrOff,
        "\"127.0.0.1:1080\"",
        "TCP address of the SOCKS5 server; empty turns it off. The user name chooses the circuit: h1, h2 or h3 for its length, h3-NAME for one that shares nothing with other names.",
    ),
    key(
        "socks",
        "token",
        Kind::Secret,
        "\"\"",
        "Password that SOCKS clients must give; empty asks for none. Needed when the address is not on loopback.",
    ),
    key(
        "socks",
        "default_hops",
        Kind::Integer { min: 1, max: 3 },
        "3",
        "Circuit length for SOCKS clients that give no user name.",
    ),
    key("relay", "enabled", Kind::Bool, "false", "Carry other nodes' circuits and be listed as a relay."),
    key("relay", "bytes_per_second", ANY, "0", "Bytes a second relayed for others; 0 is no limit."),
    key(
        "relay",
        "max_circuits",
        Kind::Integer { min: 0, max: MOST_CIRCUITS as i64 },
        "0",
        "Circuits carried for others at one time, in each worker; 0 takes the protocol's default.",
    ),
    key(
        "relay",
        "operator",
        Kind::HexKey,
        "\"\"",
        "Ed25519 public key (64 hex digits) of whoever runs this relay and others, so that no circuit uses two of them.",
    ),
    key(
        "exit",
        "enabled",
        Kind::Bool,
        "false",
        "Connect to the world for other nodes' circuits. Its traffic comes from your address: read docs/threat-model.md first.",
    ),
    key(
        "exit",
        "deny",
        Kind::Networks,
        "[]",
        "Networks the exit refuses besides private and reserved ones, as 203.0.113.0/24 or one address.",
    ),
    key(
        "exit",
        "allow_ports",
        Kind::Ports,
        "[]",
        "The only destination ports the exit serves, as 443 or \"8000-8999\"; empty serves all.",
    ),
    key(
        "workers",
        "count",
        Kind::Integer { min: 0, max: 255 },
        "0",
        "Worker threads, always so many: a short way to set min and max to one number. 0 leaves it to them.",
    ),
    key(
        "workers",
        "min",
        Kind::Integer { min: 1, max: 255 },
        "1",
        "Worker threads that run however little there is to do.",
    ),
    key(
        "workers",
        "max",
        Kind::Integer { min: 0, max: 255 },
        "0",
        "Worker threads there may be; they come and go with load and circuits. 0 takes as many as there are cores.",
    ),
    key(
        "workers",
        "sync_ms",
        Kind::Integer { min: 0, max: 3_600_000 },
        "5000",
        "Milliseconds between two reports of a worker on what changed; 0 has it report at once.",
    ),
    key(
        "workers",
        "mode",
        Kind::Choice(&["wasm", "native"]),
        "\"wasm\"",
        "\"wasm\" runs the tunnel plugin in its sandbox; \"native\" runs the same code linked into the program, unprotected.",
    ),
    key(
        "workers",
        "plugin",
        Kind::Path,
        "\"\"",
        "The tunnel plugin; empty looks for tunnel.wasm beside the program, then in the cache folder's plugins.",
    ),
    key(
        "workers",
        "pin",
        Kind::Bool,
        "true",
        "Keep each worker thread on one core. Turn it off where several nodes share a machine.",
    ),
    key(
        "workers",
        "batch",
        Kind::Bool,
        "true",
        "Run the node as batch work (Linux): it interrupts no other program that wants the processor, and takes longer turns itself, of 8 ms from Linux 6.12 on.",
    ),
    key(
        "plugins",
        "keys",
        Kind::MinisignKeys,
        "[]",
        "Minisign public keys of those whose modules `warren worker swap` takes; `warren plugin keygen` makes one.",
    ),
    key(
        "plugins",
        "require_signature",
        Kind::Bool,
        "true",
        "Refuse a module without a signature by one of the keys. A signature that is there must be right in any case.",
    ),
    key(
        "plugins",
        "require_signature_at_start",
        Kind::Bool,
        "false",
        "Ask for such a signature of the module that the node starts with too: turn it on where others can write that file. Native workers have no module.",
    ),
    key(
        "circuits",
        "prebuild_hops",
        Kind::Hops,
        "[]",
        "Lengths of circuits to keep ready for SOCKS clients before any asks, such as [3].",
    ),
    key(
        "circuits",
        "guards",
        Kind::Integer { min: 1, max: 16 },
        "3",
        "How many relays serve as first hop; they are kept for months.",
    ),
    key("torrent", "max_active", Kind::Integer { min: 1, max: 1000 }, "8", "Torrents active at one time."),
    key("log", "format", Kind::Choice(&["text", "json"]), "\"text\"", "Form of the log lines."),
    key(
        "log",
        "level",
        Kind::Filter,
        "\"info\"",
        "Least important level shown: error, warn, info, debug or trace; also per room, as \"info,warren_core=debug\". Addresses and infohashes appear from debug on.",
    ),
    key(
        "lab",
        "enabled",
        Kind::Bool,
        "false",
        "Turns this section on. Refused unless every listener is on loopback, or the process is in a network namespace without a default route.",
    ),
    key(
        "lab",
        "allow_private_exits",
        Kind::Bool,
        "true",
        "Lets exits connect to private and loopback addresses, and descriptors name them.",
    ),
    key(
        "lab",
        "same_network",
        Kind::Bool,
        "true",
        "Lets the relays of one circuit share an address or network.",
    ),
    key(
        "lab",
        "congestion",
        Kind::Choice(&["steady", "cubic", "newreno", "bbr"]),
        "\"steady\"",
        "Congestion controller of what this node sends into circuits; others than the default are for comparing.",
    ),
];

/// The key of this section and name.
#[must_use]
pub fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

/// The known key or section that looks most like `name`; none when nothing comes near.
#[must_use]
pub fn nearest(name: &str) -> Option<String> {
    let last = name.rsplit('.').next().unwrap_or(name);
    let likeness = |candidate: &Key| {
        let whole = strsim::normalized_damerau_levenshtein(name, &candidate.full_name());
        // The right name in the wrong section is nearer than a like name in the right one.
        let part = strsim::normalized_damerau_levenshtein(last, candidate.name) * 0.95;
        whole.max(part)
    };
    KEYS.iter()
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(score, _)| *score > 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.full_name())
}

/// The known section that looks most like `name`.
#[must_use]
pub fn nearest_section(name: &str) -> Option<&'static str> {
    SECTIONS
        .iter()
        .map(|(section, _)| (strsim::normalized_damerau_levenshtein(name, section), *section))
        .filter(|(score, _)| *score > 0.4)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, section)| section)
}

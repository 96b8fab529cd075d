//! What `warren status --json` says, as far as it is used here.

use serde::Deserialize;

/// A node, as it says of itself.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeStatus {
    /// Its id.
    pub peer_id: String,
    /// Where its SOCKS door is.
    pub socks_address: Option<String>,
    /// With `/p2p/` at the end.
    pub overlay_addresses: Vec<String>,
    /// Relays it knows.
    pub relays_known: usize,
    /// Exits among them.
    pub exits_known: usize,
    /// Its own circuits.
    pub circuits: Vec<Circuit>,
    /// Why traffic waits, one line each.
    pub waiting: Vec<String>,
    /// What it signed of itself, in hex, when it is a relay.
    pub descriptor: Option<String>,
    /// Its workers.
    #[serde(default)]
    pub workers: Vec<Worker>,
    /// Datagrams that its threads passed on to each other.
    #[serde(default)]
    pub handed_over: u64,
}

/// A worker.
#[derive(Clone, Debug, Deserialize)]
pub struct Worker {
    /// How often it was replaced after a fault.
    pub restarts: u64,
    /// Circuits of others.
    pub relayed_circuits: u32,
    /// Cells it relayed for others.
    pub cells_relayed: u64,
    /// Cells it sent on circuit ends of its own.
    pub cells_originated: u64,
    /// Cells and messages it dropped, all reasons together.
    pub drops: u64,
}

/// A circuit.
#[derive(Clone, Debug, Deserialize)]
pub struct Circuit {
    /// Peer ids, first hop first.
    pub path: Vec<String>,
    /// `ready` when it can be used.
    pub state: String,
    /// Streams open on it.
    pub streams: usize,
}

impl NodeStatus {
    /// The circuits that can be used.
    pub fn ready_circuits(&self) -> impl Iterator<Item = &Circuit> {
        self.circuits.iter().filter(|circuit| circuit.state == "ready")
    }

    /// What it signed of itself, as bytes; none when it is no relay.
    #[must_use]
    pub fn signed_descriptor(&self) -> Option<Vec<u8>> {
        let text = self.descriptor.as_deref()?;
        let digits = |at| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        (0..text.len()).step_by(2).map(digits).collect()
    }
}

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
}

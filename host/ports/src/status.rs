//! What a node says of itself to the person who runs it. Plain values; `host/core` fills them,
//! `host/api` hands them out, `warren status` prints them.

use serde::{Deserialize, Serialize};

/// The whole of it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// libp2p's spelling of the node's id.
    pub peer_id: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// `relay`, `exit`, or both; empty for a client.
    pub roles: Vec<String>,
    /// Where it takes tunnel datagrams.
    pub tunnel_addresses: Vec<String>,
    /// What it signed of itself as a relay, in hex; none when it is none. Public: the overlay spreads it.
    #[serde(default)]
    pub descriptor: Option<String>,
    /// Where libp2p listens, with `/p2p/` at the end: what others bootstrap from.
    pub overlay_addresses: Vec<String>,
    /// Where SOCKS listens, if it does.
    pub socks_address: Option<String>,
    /// Neighbours in the overlay.
    pub overlay_peers: usize,
    /// Relays it knows, and how many of them are exits.
    pub relays_known: usize,
    /// See `relays_known`.
    pub exits_known: usize,
    /// Its own circuits.
    pub circuits: Vec<CircuitStatus>,
    /// Why some traffic waits for a circuit, one line each.
    pub waiting: Vec<String>,
    /// Its workers.
    pub workers: Vec<WorkerStatus>,
    /// What its threads passed on to each other: datagrams that reached the wrong socket, and those of
    /// connections that another thread holds.
    #[serde(default)]
    pub handed_over: u64,
}

/// One circuit of this node's own.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct CircuitStatus {
    /// Worker index and that worker's handle, as `worker.handle`.
    pub id: String,
    /// Peer ids, first hop first.
    pub path: Vec<String>,
    /// Handshake suite of each hop.
    #[serde(default)]
    pub suites: Vec<u8>,
    /// `building`, `ready` or `closing`.
    pub state: String,
    /// The isolation key it serves.
    pub isolation: String,
    /// Streams open on it.
    pub streams: usize,
    /// Seconds since it stood.
    pub age_s: u64,
    /// Datagram bytes it carried away from here, since it stood.
    #[serde(default)]
    pub bytes_out: u64,
    /// Datagram bytes it brought here, since it stood.
    #[serde(default)]
    pub bytes_in: u64,
}

/// One worker.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its index.
    pub index: u8,
    /// Plugin name and version.
    pub plugin: String,
    /// How often it was replaced after a fault.
    pub restarts: u64,
    /// Circuits relayed for others.
    pub relayed_circuits: u32,
    /// Cells relayed for others.
    pub cells_relayed: u64,
    /// Cells sent on circuit ends of its own: as the originator, and answers of a last hop.
    #[serde(default)]
    pub cells_originated: u64,
    /// Datagram bytes relayed for others.
    pub bytes_relayed: u64,
    /// Cells and messages dropped, all reasons together.
    pub drops: u64,
    /// Links that stand.
    pub links: u32,
    /// CPU seconds of its thread.
    pub cpu_s: f64,
    /// `running`, `draining`, `quarantined` or whatever else its supervisor calls it; empty when nobody said.
    #[serde(default)]
    pub state: String,
    /// This node's own circuits on it.
    #[serde(default)]
    pub circuits: u32,
    /// Share of the last period that was CPU time of its thread, 0 to 1.
    #[serde(default)]
    pub busy: f64,
}

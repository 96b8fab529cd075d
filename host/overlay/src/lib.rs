//! How nodes find relays: libp2p, and the signed descriptors that travel over it.
//!
//! Neighbours are found from bootstrap addresses through Kademlia. A descriptor is published by
//! gossip and passed on only by nodes that verified it; whoever connects is asked for all it
//! holds, so that a newcomer knows every relay after one answer. Not here: tunnel cells (they have
//! their own sockets in `host/net`), the choice of relays (`host/circuits`), and the messages of
//! communities.
//!
//! I/O: QUIC and TCP sockets, on the caller's tokio runtime. One task owns libp2p's swarm and does
//! nothing long; a second verifies and keeps descriptors. Every queue between them is bounded. No
//! other crate names libp2p.

mod address;
mod behaviour;
mod keeper;
mod neighbours;
mod network;
mod pages;
mod store;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use warren_ports::Clock;
use warren_schemas::PeerId;
use warren_schemas::descriptor::{Descriptor, SignedDescriptor};

use network::{Command, Network};

/// Events that wait for the caller. When they are full, no further descriptor is taken until
/// there is room; other events are dropped.
const EVENTS: usize = 1024;
/// Commands that wait for the network task; callers wait when they are full.
const COMMANDS: usize = 64;

/// What a node is in the overlay. Addresses are multiaddresses in libp2p's spelling.
#[derive(Clone)]
pub struct Config {
    /// Secret half of the node's identity (Ed25519 seed).
    pub secret: [u8; 32],
    /// Where to listen: `/ip4/…/tcp/…` or `/ip4/…/udp/…/quic-v1`, port 0 for any. May be empty.
    pub listen: Vec<String>,
    /// Whom to start from; each ends with `/p2p/` and a peer id. Names are not resolved.
    pub bootstrap: Vec<String>,
    /// Addresses under which the world reaches this node, when they are not those it listens on.
    pub external: Vec<String>,
    /// Whether it answers Kademlia queries and tells its addresses: relays do, clients do not.
    pub server: bool,
    /// Most connections, at least 1.
    pub max_connections: u32,
    /// Whether addresses that the world cannot reach (private, loopback) are taken from others.
    pub allow_private: bool,
}

impl Config {
    /// A client that listens nowhere and knows nobody; 64 connections.
    #[must_use]
    pub const fn new(secret: [u8; 32]) -> Self {
        Self {
            secret,
            listen: Vec::new(),
            bootstrap: Vec::new(),
            external: Vec::new(),
            server: false,
            max_connections: 64,
            allow_private: false,
        }
    }
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all events are the large one")]
pub enum Event {
    /// A relay is known, or says something newer of itself. Verified.
    Descriptor(SignedDescriptor, Descriptor),
    /// It listens at this address, which ends with `/p2p/` and its peer id.
    Listening(String),
    /// A node became a neighbour.
    PeerConnected(PeerId),
    /// It is one no more.
    PeerLost(PeerId),
}

/// Why the overlay does not start, or an address is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The secret is no Ed25519 key.
    #[error("reading the node's identity key")]
    Identity,
    /// Not a multiaddress.
    #[error("{0:?} is not a multiaddress")]
    Address(String),
    /// A bootstrap address without a peer id.
    #[error("bootstrap address {0:?} does not end with /p2p/ and a peer id")]
    NoPeerId(String),
    /// A kind of address that it cannot listen on.
    #[error("cannot listen on {0:?}: only /tcp/… and /udp/…/quic-v1 over /ip4 or /ip6")]
    Unsupported(String),
    /// The system does not let it listen there.
    #[error("listening on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// libp2p refuses the configuration.
    #[error("setting up libp2p: {0}")]
    Setup(String),
}

impl Error {
    /// Whether another program has the port.
    #[must_use]
    pub fn is_port_in_use(&self) -> bool {
        matches!(self, Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

/// A handle to the overlay. The overlay ends when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Overlay {
    commands: mpsc::Sender<Command>,
}

/// Starts listening and joins. Returns once every listener stands.
///
/// # Errors
/// When an address cannot be read or listened on.
pub async fn spawn(config: Config, clock: Arc<dyn Clock>) -> Result<(Overlay, mpsc::Receiver<Event>), Error> {
    let (events, received) = mpsc::channel(EVENTS);
    let (commands, commanded) = mpsc::channel(COMMANDS);
    let keeper = keeper::spawn(Arc::clone(&clock), events.clone());
    let mut network = Network::new(&config, clock, keeper, events)?;
    network.listen(&config.listen).await?;
    tokio::spawn(network.run(commanded));
    Ok((Overlay { commands }, received))
}

impl Overlay {
    /// Publishes this node's own descriptor, now or as soon as there is a neighbour, and hands it
    /// to everyone who asks until it expires. It replaces an older one.
    pub async fn publish(&self, signed: SignedDescriptor) {
        self.command(Command::Publish(signed)).await;
    }

    /// How many neighbours there are.
    pub async fn peers(&self) -> usize {
        self.ask(Command::Peers).await.unwrap_or_default()
    }

    /// Where others reach this node; each ends with `/p2p/` and its peer id.
    pub async fn addresses(&self) -> Vec<String> {
        self.ask(Command::Addresses).await.unwrap_or_default()
    }

    /// Adds a node to start from, and dials it.
    ///
    /// # Errors
    /// When it is not a multiaddress with a peer id.
    pub async fn add_bootstrap(&self, address: &str) -> Result<(), Error> {
        let (peer, address) = address::with_peer(address)?;
        self.command(Command::AddBootstrap(peer, address)).await;
        Ok(())
    }

    /// Says goodbye to all neighbours and stops listening; returns after a second at most. A QUIC
    /// port may stay taken for a moment longer, while its connections drain.
    pub async fn shutdown(self) {
        self.ask(Command::Shutdown).await;
    }

    async fn command(&self, command: Command) {
        if self.commands.send(command).await.is_err() {
            tracing::debug!("the overlay has ended");
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.command(command(answer)).await;
        answered.await.ok()
    }
}

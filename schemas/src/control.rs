//! The control way: requests to a tunnel worker and events from it, as plain values.

use std::net::SocketAddr;

use flatbuffers::{FlatBufferBuilder, InvalidFlatbuffer, Push, UnionWIPOffset, VerifierOptions, WIPOffset};

mod sync;

use crate::descriptor::SignedDescriptor;
use crate::generated::control as fb;
pub use crate::generated::control::{CircuitEnd, CloseReason};
use crate::{Address, CircuitHandle, PeerId, RequestId, Timestamp};
pub use sync::{CircuitState, MOST_CIRCUITS, MOST_TOLD, SYNC_NEVER, Sync, SyncFrame, Told, TooMany};

/// Why bytes are not a control message.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// FlatBuffers cannot verify it.
    #[error("not a FlatBuffers control message: {0}")]
    Malformed(#[from] InvalidFlatbuffer),
    /// A field has a value it cannot have.
    #[error("control field {0} is out of range")]
    Field(&'static str),
}

/// A public onion key of this relay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OnionKey {
    /// Its number.
    pub epoch: u32,
    /// X25519 public key.
    pub public: [u8; 32],
    /// From when on it is no longer answered for.
    pub accept_until: Timestamp,
}

/// Bounds of a relay; 0 takes the default of docs/protocol.md, and no limit for rates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "documented in schemas/fbs/control.fbs and docs/protocol.md")]
pub struct Limits {
    pub circuits_per_link: u32,
    pub creates_per_second_per_link: u32,
    pub circuits: u32,
    pub links: u32,
    pub half_open_links: u32,
    pub link_handshakes_per_second: u32,
    pub bytes_per_second: u64,
    pub queue_cells_per_circuit: u32,
    pub queue_bytes: u64,
}

/// What a tunnel worker is told of its node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TunnelConfig {
    /// This worker's index, put into the link ids it chooses.
    pub worker_index: u8,
    /// How many workers share the node's address.
    pub workers: u8,
    /// The node's own id.
    pub peer_id: PeerId,
    /// Public onion keys it answers for, newest first; empty when not a relay.
    pub onion_keys: Vec<OnionKey>,
    /// Answers LINK and CREATE, and extends circuits.
    pub relay: bool,
    /// Accepts data at the last hop.
    pub exit: bool,
    /// Lets descriptors name private addresses: a lab on one machine.
    pub allow_private: bool,
    /// The node's own tunnel addresses.
    pub own_addresses: Vec<SocketAddr>,
    /// Bounds as a relay.
    pub limits: Limits,
    /// Key of the stateless cookies, shared by all workers of the node.
    pub cookie_key: [u8; 32],
    /// Period of [`Event::Sync`] in microseconds; 0 for at once, [`SYNC_NEVER`] for never.
    pub sync_period: u64,
    /// Takes no new circuits from neighbours, who ask again on another link; those that stand go on.
    pub draining: bool,
}

/// A request to a tunnel worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Make a circuit through these hops, first hop first: 1 to 3.
    Create {
        /// Each hop's descriptor.
        hops: Vec<SignedDescriptor>,
        /// The handshake suite of each hop, as many as hops.
        suites: Vec<u8>,
    },
    /// Close a circuit.
    Circuit {
        /// Which.
        handle: CircuitHandle,
        /// Why; goes over the wire.
        reason: CloseReason,
    },
    /// Send a full [`Event::Sync`] now.
    Monitor,
}

/// Something a worker tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The circuit that was asked for stands.
    CircuitReady {
        /// Its number from now on.
        handle: CircuitHandle,
        /// How many hops it has.
        hops: u8,
    },
    /// The circuit that was asked for does not.
    CircuitFailed {
        /// Why.
        reason: CloseReason,
        /// The hop that failed, counted from 1; 0 is this node's own fault.
        hop: u8,
    },
    /// A circuit end is gone.
    CircuitDead {
        /// Which.
        handle: CircuitHandle,
        /// Which end this worker held.
        end: CircuitEnd,
        /// Why.
        reason: CloseReason,
    },
    /// What changed of counts and circuits.
    Sync(SyncFrame),
}

fn options(max_tables: usize) -> VerifierOptions {
    VerifierOptions { max_depth: 6, max_tables, max_apparent_size: 1 << 22, ..Default::default() }
}

fn key32(bytes: &[u8], field: &'static str) -> Result<[u8; 32], ControlError> {
    bytes.try_into().map_err(|_| ControlError::Field(field))
}

impl TunnelConfig {
    /// The bytes for `configure`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut b = FlatBufferBuilder::with_capacity(1024);
        let keys: Vec<_> = self
            .onion_keys
            .iter()
            .map(|key| {
                let public = b.create_vector(&key.public);
                let args = fb::OnionKeyArgs {
                    epoch: key.epoch,
                    public: Some(public),
                    accept_until: key.accept_until.as_micros(),
                };
                fb::OnionKey::create(&mut b, &args)
            })
            .collect();
        let own: Vec<fb::Address> = self
            .own_addresses
            .iter()
            .map(|address| {
                let Address { high, low, port } = Address::from(*address);
                fb::Address::new(high, low, port)
            })
            .collect();
        let limits = limits_table(&mut b, &self.limits);
        let args = fb::TunnelConfigArgs {
            worker_index: self.worker_index,
            workers: self.workers,
            peer_id: Some(b.create_vector(&self.peer_id.0)),
            onion_keys: Some(b.create_vector(&keys)),
            relay: self.relay,
            exit: self.exit,
            allow_private: self.allow_private,
            own_addresses: Some(b.create_vector(&own)),
            limits: Some(limits),
            cookie_key: Some(b.create_vector(&self.cookie_key)),
            sync_period: self.sync_period,
            draining: self.draining,
        };
        let root = fb::TunnelConfig::create(&mut b, &args);
        b.finish(root, None);
        b.finished_data().to_vec()
    }

    /// Reads what `encode` wrote.
    ///
    /// # Errors
    /// When the bytes do not verify or a key has the wrong length.
    pub fn decode(bytes: &[u8]) -> Result<Self, ControlError> {
        let table = flatbuffers::root_with_opts::<fb::TunnelConfig>(&options(32), bytes)?;
        let mut onion_keys = Vec::new();
        for key in table.onion_keys().iter().flatten() {
            onion_keys.push(OnionKey {
                epoch: key.epoch(),
                public: key32(key.public().bytes(), "onion_keys")?,
                accept_until: Timestamp::from_micros(key.accept_until()),
            });
        }
        let own = table.own_addresses();
        Ok(Self {
            worker_index: table.worker_index(),
            workers: table.workers(),
            peer_id: PeerId(key32(table.peer_id().bytes(), "peer_id")?),
            onion_keys,
            relay: table.relay(),
            exit: table.exit(),
            allow_private: table.allow_private(),
            own_addresses: own
                .iter()
                .flatten()
                .map(|a| Address { high: a.high(), low: a.low(), port: a.port() }.into())
                .collect(),
            limits: table.limits().map(limits_value).unwrap_or_default(),
            cookie_key: key32(table.cookie_key().map(|key| key.bytes()).unwrap_or_default(), "cookie_key")?,
            sync_period: table.sync_period(),
            draining: table.draining(),
        })
    }
}

fn limits_table<'a>(b: &mut FlatBufferBuilder<'a>, limits: &Limits) -> WIPOffset<fb::Limits<'a>> {
    fb::Limits::create(
        b,
        &fb::LimitsArgs {
            circuits_per_link: limits.circuits_per_link,
            creates_per_second_per_link: limits.creates_per_second_per_link,
            circuits: limits.circuits,
            links: limits.links,
            half_open_links: limits.half_open_links,
            link_handshakes_per_second: limits.link_handshakes_per_second,
            bytes_per_second: limits.bytes_per_second,
            queue_cells_per_circuit: limits.queue_cells_per_circuit,
            queue_bytes: limits.queue_bytes,
        },
    )
}

fn limits_value(table: fb::Limits<'_>) -> Limits {
    Limits {
        circuits_per_link: table.circuits_per_link(),
        creates_per_second_per_link: table.creates_per_second_per_link(),
        circuits: table.circuits(),
        links: table.links(),
        half_open_links: table.half_open_links(),
        link_handshakes_per_second: table.link_handshakes_per_second(),
        bytes_per_second: table.bytes_per_second(),
        queue_cells_per_circuit: table.queue_cells_per_circuit(),
        queue_bytes: table.queue_bytes(),
    }
}

impl Request {
    /// The bytes for `control`, with the id its answers carry.
    #[must_use]
    pub fn encode(&self, id: RequestId) -> Vec<u8> {
        let mut b = FlatBufferBuilder::with_capacity(2048);
        let (kind, body) = match self {
            Self::Create { hops, suites } => (fb::RequestBody::Create, create_table(&mut b, hops, suites)),
            Self::Circuit { handle, reason } => {
                let args = fb::CircuitArgs { handle: handle.0, reason: *reason };
                (fb::RequestBody::Circuit, fb::Circuit::create(&mut b, &args).as_union_value())
            }
            Self::Monitor => {
                let table = fb::Monitor::create(&mut b, &fb::MonitorArgs {});
                (fb::RequestBody::Monitor, table.as_union_value())
            }
        };
        let root =
            fb::Request::create(&mut b, &fb::RequestArgs { id: id.0, body_type: kind, body: Some(body) });
        b.finish(root, None);
        b.finished_data().to_vec()
    }

    /// Reads what `encode` wrote.
    ///
    /// # Errors
    /// When the bytes do not verify, or name no request this version knows.
    pub fn decode(bytes: &[u8]) -> Result<(RequestId, Self), ControlError> {
        let table = flatbuffers::root_with_opts::<fb::Request>(&options(16), bytes)?;
        let id = RequestId(table.id());
        let request = if let Some(create) = table.body_as_create() {
            let hops =
                create.hops().iter().map(|hop| SignedDescriptor::from_bytes(hop.bytes().bytes().to_vec()));
            Self::Create { hops: hops.collect(), suites: create.suites().bytes().to_vec() }
        } else if let Some(circuit) = table.body_as_circuit() {
            Self::Circuit { handle: CircuitHandle(circuit.handle()), reason: circuit.reason() }
        } else if table.body_as_monitor().is_some() {
            Self::Monitor
        } else {
            return Err(ControlError::Field("body"));
        };
        Ok((id, request))
    }
}

fn create_table(
    b: &mut FlatBufferBuilder<'_>,
    hops: &[SignedDescriptor],
    suites: &[u8],
) -> WIPOffset<UnionWIPOffset> {
    let hops: Vec<_> = hops
        .iter()
        .map(|hop| {
            let bytes = b.create_vector(hop.as_bytes());
            fb::Descriptor::create(b, &fb::DescriptorArgs { bytes: Some(bytes) })
        })
        .collect();
    let hops = b.create_vector(&hops);
    let suites = Some(b.create_vector(suites));
    fb::Create::create(b, &fb::CreateArgs { hops: Some(hops), suites }).as_union_value()
}

impl Event {
    /// The bytes of an event slot. `request` is 0 when nothing asked.
    #[must_use]
    pub fn encode(&self, request: RequestId) -> Vec<u8> {
        let mut b = FlatBufferBuilder::with_capacity(256);
        let (kind, body) = match self {
            Self::CircuitReady { handle, hops } => {
                let args = fb::CircuitReadyArgs { handle: handle.0, hops: *hops };
                (fb::EventBody::CircuitReady, fb::CircuitReady::create(&mut b, &args).as_union_value())
            }
            Self::CircuitFailed { reason, hop } => {
                let args = fb::CircuitFailedArgs { reason: *reason, hop: *hop };
                (fb::EventBody::CircuitFailed, fb::CircuitFailed::create(&mut b, &args).as_union_value())
            }
            Self::CircuitDead { handle, end, reason } => {
                let args = fb::CircuitDeadArgs { handle: handle.0, end: *end, reason: *reason };
                (fb::EventBody::CircuitDead, fb::CircuitDead::create(&mut b, &args).as_union_value())
            }
            Self::Sync(sync) => (fb::EventBody::Sync, sync.table(&mut b)),
        };
        let args = fb::EventArgs { request: request.0, body_type: kind, body: Some(body) };
        let root = fb::Event::create(&mut b, &args);
        b.finish(root, None);
        b.finished_data().to_vec()
    }

    /// Reads what `encode` wrote; the bytes may come from a hostile worker.
    ///
    /// # Errors
    /// When the bytes do not verify, or name no event this version knows.
    pub fn decode(bytes: &[u8]) -> Result<(RequestId, Self), ControlError> {
        let table = flatbuffers::root_with_opts::<fb::Event>(&options(8192), bytes)?;
        let id = RequestId(table.request());
        let event = if let Some(ready) = table.body_as_circuit_ready() {
            Self::CircuitReady { handle: CircuitHandle(ready.handle()), hops: ready.hops() }
        } else if let Some(failed) = table.body_as_circuit_failed() {
            Self::CircuitFailed { reason: failed.reason(), hop: failed.hop() }
        } else if let Some(dead) = table.body_as_circuit_dead() {
            Self::CircuitDead { handle: CircuitHandle(dead.handle()), end: dead.end(), reason: dead.reason() }
        } else if let Some(sync) = table.body_as_sync() {
            Self::Sync(SyncFrame::of(sync))
        } else {
            return Err(ControlError::Field("body"));
        };
        Ok((id, event))
    }
}

fn tables<'a, T, A>(
    b: &mut FlatBufferBuilder<'a>,
    items: &[A],
    make: impl Fn(&mut FlatBufferBuilder<'a>, &A) -> WIPOffset<T>,
) -> Vec<WIPOffset<T>>
where
    WIPOffset<T>: Push,
{
    items.iter().map(|item| make(b, item)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_survives_the_boundary() {
        let config = TunnelConfig {
            worker_index: 1,
            workers: 2,
            peer_id: PeerId([1; 32]),
            onion_keys: vec![OnionKey { epoch: 7, public: [2; 32], accept_until: Timestamp::from_micros(5) }],
            relay: true,
            exit: true,
            allow_private: false,
            own_addresses: vec!["192.0.2.1:7".parse().unwrap()],
            limits: Limits { circuits: 9, ..Limits::default() },
            cookie_key: [3; 32],
            sync_period: 5_000_000,
            draining: true,
        };
        assert_eq!(TunnelConfig::decode(&config.encode()).unwrap(), config);
    }

    #[test]
    fn requests_and_events_survive_the_boundary() {
        let hops = vec![SignedDescriptor::from_bytes(vec![1, 2]), SignedDescriptor::from_bytes(vec![3])];
        let requests = [
            Request::Create { hops, suites: vec![2, 1] },
            Request::Circuit { handle: CircuitHandle(3), reason: CloseReason::Finished },
            Request::Monitor,
        ];
        for request in requests {
            assert_eq!(Request::decode(&request.encode(RequestId(8))).unwrap(), (RequestId(8), request));
        }
        let handle = CircuitHandle(4);
        let circuit = CircuitState { handle, end: CircuitEnd::LastHop, hops: 0, bytes_in: 1, bytes_out: 2 };
        let events = [
            Event::CircuitReady { handle, hops: 3 },
            Event::CircuitFailed { reason: CloseReason::Timeout, hop: 2 },
            Event::CircuitDead { handle, end: CircuitEnd::Originator, reason: CloseReason::Link },
            Event::Sync(SyncFrame {
                full: true,
                links: Some(3),
                drops: vec![(1, 5)],
                circuits: vec![circuit],
                ..SyncFrame::default()
            }),
        ];
        for event in events {
            assert_eq!(Event::decode(&event.encode(RequestId(1))).unwrap(), (RequestId(1), event));
        }
    }

    #[test]
    fn garbage_is_refused_without_panic() {
        let good = Request::Monitor.encode(RequestId(8));
        for length in 0..good.len() {
            assert!(Request::decode(&good[..length]).is_err());
        }
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0xff;
            drop((Request::decode(&bytes), Event::decode(&bytes), TunnelConfig::decode(&bytes)));
        }
    }
}

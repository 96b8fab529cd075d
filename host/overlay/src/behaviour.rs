//! libp2p, put together.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, ValidationMode};
use libp2p::kad::{self, store::MemoryStore, store::MemoryStoreConfig};
use libp2p::request_response::ProtocolSupport;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{
    StreamProtocol, Swarm, SwarmBuilder, identify, identity, noise, ping, request_response, tcp, yamux,
};

use crate::pages::{self, PROTOCOL};
use crate::store::name;
use crate::{Config, Error};

/// What identify says; nodes of other networks are disconnected.
pub(crate) const PROTOCOL_VERSION: &str = "/warren/1";
pub(crate) const KAD: StreamProtocol = StreamProtocol::new("/warren/kad/1");
const TOPIC: &str = "/warren/descriptors/1";
/// A descriptor with gossip's own signature and key, several to a frame.
const MAX_GOSSIP: usize = 16 * 1024;
/// Connections that nothing needs are closed.
const IDLE: Duration = Duration::from_secs(120);

type Filter = gossipsub::MaxCountSubscriptionFilter<gossipsub::WhitelistSubscriptionFilter>;
pub(crate) type Gossip = gossipsub::Behaviour<gossipsub::IdentityTransform, Filter>;

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    // First, so that a connection over the limit reaches none of the others.
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) kad: kad::Behaviour<MemoryStore>,
    pub(crate) gossip: Gossip,
    pub(crate) pages: request_response::Behaviour<pages::Codec>,
}

pub(crate) fn topic() -> IdentTopic {
    IdentTopic::new(TOPIC)
}

pub(crate) fn swarm(config: &Config) -> Result<Swarm<Behaviour>, Error> {
    let key = identity::Keypair::ed25519_from_bytes(config.secret).map_err(|_| Error::Identity)?;
    let behaviour = behaviour(&key, config)?;
    let tcp = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(|error| Error::Setup(error.to_string()))?;
    let quic =
        tcp.with_quic().with_behaviour(|_| behaviour).map_err(|error| Error::Setup(error.to_string()))?;
    Ok(quic.with_swarm_config(|swarm| swarm.with_idle_connection_timeout(IDLE)).build())
}

fn behaviour(key: &identity::Keypair, config: &Config) -> Result<Behaviour, Error> {
    let peer = key.public().to_peer_id();
    let identify = identify::Config::new(PROTOCOL_VERSION.to_owned(), key.public())
        .with_agent_version("warren".to_owned())
        .with_hide_listen_addrs(!config.server);
    let paging = request_response::Config::default()
        .with_request_timeout(Duration::from_secs(10))
        .with_max_concurrent_streams(32);
    Ok(Behaviour {
        limits: connection_limits::Behaviour::new(limits(config.max_connections.max(1))),
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::new(ping::Config::new()),
        kad: kademlia(peer, config.server),
        gossip: gossip(key, config.allow_private)?,
        pages: request_response::Behaviour::with_codec(
            pages::Codec,
            [(PROTOCOL, ProtocolSupport::Full)],
            paging,
        ),
    })
}

fn limits(most: u32) -> ConnectionLimits {
    // A quarter is kept for connections this node makes: strangers cannot take them all.
    let inbound = most - most / 4;
    ConnectionLimits::default()
        .with_max_pending_incoming(Some(32))
        .with_max_pending_outgoing(Some(32))
        .with_max_established_incoming(Some(inbound))
        .with_max_established(Some(most))
        .with_max_established_per_peer(Some(2))
}

fn kademlia(peer: libp2p::PeerId, server: bool) -> kad::Behaviour<MemoryStore> {
    let mut config = kad::Config::new(KAD);
    config
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .disjoint_query_paths(true)
        .set_query_timeout(Duration::from_secs(20))
        .set_periodic_bootstrap_interval(Some(Duration::from_secs(300)));
    // Peer routing only: nothing is stored for anybody.
    let empty = MemoryStoreConfig { max_records: 0, max_provided_keys: 0, ..MemoryStoreConfig::default() };
    let mut kad = kad::Behaviour::with_config(peer, MemoryStore::with_config(peer, empty), config);
    kad.set_mode(Some(if server { kad::Mode::Server } else { kad::Mode::Client }));
    kad
}

fn gossip(key: &identity::Keypair, allow_private: bool) -> Result<Gossip, Error> {
    let setup = |error: &dyn std::fmt::Display| Error::Setup(error.to_string());
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(|message| name(&message.data).to_vec().into())
        .max_transmit_size(MAX_GOSSIP)
        .heartbeat_initial_delay(Duration::from_millis(500))
        .duplicate_cache_time(Duration::from_secs(600))
        .connection_handler_queue_len(256)
        .build()
        .map_err(|error| setup(&error))?;
    let filter = gossipsub::MaxCountSubscriptionFilter {
        filter: gossipsub::WhitelistSubscriptionFilter(HashSet::from([topic().hash()])),
        max_subscribed_topics: 1,
        max_subscriptions_per_request: 8,
    };
    let signed = MessageAuthenticity::Signed(key.clone());
    let mut gossip =
        Gossip::new_with_subscription_filter(signed, config, filter).map_err(|error| setup(&error))?;
    gossip
        .with_peer_score(scores(allow_private), gossipsub::PeerScoreThresholds::default())
        .map_err(|error| setup(&error))?;
    gossip.subscribe(&topic()).map_err(|error| setup(&error))?;
    Ok(gossip)
}

/// gossipsub's defaults, except that a topic on which a relay speaks a few times a day expects
/// nothing of a mesh, and that a wrong descriptor weighs: the fourth within a minute or so ends
/// the exchange.
fn scores(allow_private: bool) -> gossipsub::PeerScoreParams {
    let descriptors = gossipsub::TopicScoreParams {
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(1),
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -10.0,
        invalid_message_deliveries_decay: 0.99,
        ..gossipsub::TopicScoreParams::default()
    };
    let mut scores = gossipsub::PeerScoreParams::default();
    scores.topics.insert(topic().hash(), descriptors);
    if allow_private {
        scores.ip_colocation_factor_weight = 0.0;
    }
    scores
}

/// How many peers a walk looks for.
pub(crate) const WALK: NonZeroUsize = NonZeroUsize::new(16).unwrap();

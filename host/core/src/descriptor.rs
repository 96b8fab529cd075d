//! The descriptor this node publishes of itself.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use warren_schemas::control::OnionKey;
use warren_schemas::descriptor::{Descriptor, SignedDescriptor};
use warren_schemas::{PeerId, Timestamp};

use crate::CoreConfig;
use crate::view::Suites;

/// How long a descriptor is valid; it is published again at half of that.
pub const LIFETIME: Duration = Duration::from_secs(3 * 3600);

/// Writes and signs this node's descriptors.
pub(crate) struct Author {
    key: SigningKey,
    stream_key: [u8; 32],
    addresses: Vec<SocketAddr>,
    onion: Arc<RwLock<Option<OnionKey>>>,
    relay: bool,
    exit: bool,
    bytes_per_second: u64,
    circuits: u32,
    operator: Option<[u8; 32]>,
    suites: Arc<Suites>,
}

impl Author {
    pub(crate) fn new(config: &CoreConfig, addresses: Vec<SocketAddr>, suites: Arc<Suites>) -> Self {
        let stream = SigningKey::from_bytes(&config.stream_key);
        let newest = config.onion_keys.first().map(crate::OnionSecret::public);
        Self {
            key: SigningKey::from_bytes(&config.identity),
            stream_key: stream.verifying_key().to_bytes(),
            addresses,
            onion: Arc::new(RwLock::new(newest)),
            relay: config.relay,
            exit: config.exit.is_some(),
            bytes_per_second: config.limits.bytes_per_second,
            circuits: config.limits.circuits,
            operator: config.operator,
            suites,
        }
    }

    pub(crate) fn peer_id(&self) -> PeerId {
        PeerId(self.key.verifying_key().to_bytes())
    }

    pub(crate) fn set_onion_key(&self, newest: Option<OnionKey>) {
        *self.onion.write().unwrap_or_else(PoisonError::into_inner) = newest;
    }

    /// A fresh descriptor; none when this node is no relay.
    pub(crate) fn write(&self, now: Timestamp) -> Option<SignedDescriptor> {
        let onion = (*self.onion.read().unwrap_or_else(PoisonError::into_inner))?;
        if !self.relay {
            return None;
        }
        let descriptor = Descriptor {
            peer_id: self.peer_id(),
            published: now,
            expires: now.after(LIFETIME),
            onion_epoch: onion.epoch,
            onion_key: onion.public,
            stream_key: self.stream_key,
            addresses: self.addresses.iter().copied().take(4).collect(),
            relay: self.relay,
            exit: self.exit,
            suites: self.suites.get(),
            bytes_per_second: self.bytes_per_second,
            circuits: self.circuits,
            operator: self.operator,
        };
        Some(descriptor.sign(&self.key))
    }
}

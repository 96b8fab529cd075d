//! What workers under measurement may ask for, and how they are configured.

use warren_schemas::control::{Limits, OnionKey, SYNC_NEVER, TunnelConfig};
use warren_schemas::{PeerId, Timestamp};
use warren_workers::{DhRefusal, LogLevel, WorkerHost};
use x25519_dalek::{PublicKey, StaticSecret};

/// Epoch of every onion key here.
pub(crate) const EPOCH: u32 = 7;
/// When everything here happens.
pub(crate) const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// Randomness from a seed, and an onion key. Nothing here is secret.
pub(crate) struct Host {
    state: u64,
    onion: StaticSecret,
}

impl Host {
    pub(crate) fn new(seed: u8) -> Self {
        Self { state: u64::from(seed), onion: StaticSecret::from([seed; 32]) }
    }
}

impl WorkerHost for Host {
    fn log(&mut self, _: LogLevel, _: &str) {}

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn random(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let word = (z ^ (z >> 31)).to_le_bytes();
            chunk.iter_mut().zip(word).for_each(|(byte, from)| *byte = from);
        }
    }

    fn onion_dh(&mut self, epoch: u32, point: &[u8]) -> Result<[u8; 32], DhRefusal> {
        let point: [u8; 32] = point.try_into().map_err(|_| DhRefusal::BadPoint)?;
        if epoch != EPOCH {
            return Err(DhRefusal::UnknownEpoch);
        }
        Ok(self.onion.diffie_hellman(&PublicKey::from(point)).to_bytes())
    }
}

/// The public half of the host's onion key.
pub(crate) fn onion_key(seed: u8) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from([seed; 32])).to_bytes()
}

/// A worker of a relay, or of an originator; it does nothing until it is asked to.
pub(crate) fn config(peer_id: PeerId, relay: Option<u8>) -> TunnelConfig {
    let key = |seed| OnionKey {
        epoch: EPOCH,
        public: onion_key(seed),
        accept_until: Timestamp::from_micros(u64::MAX),
    };
    TunnelConfig {
        worker_index: 0,
        workers: 1,
        peer_id,
        onion_keys: relay.map(key).into_iter().collect(),
        relay: relay.is_some(),
        exit: relay.is_some(),
        allow_private: true,
        own_addresses: Vec::new(),
        limits: Limits::default(),
        cookie_key: [2; 32],
        sync_period: SYNC_NEVER,
        draining: false,
    }
}

/// The configuration of a relay's worker.
pub(crate) fn idle() -> Vec<u8> {
    config(PeerId([1; 32]), Some(1)).encode()
}

//! What a worker may ask of this node: log, randomness, and a Diffie-Hellman with the onion key.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use warren_ports::Clock;
use warren_schemas::Timestamp;
use warren_schemas::control::OnionKey;
use warren_workers::{DhRefusal, LogLevel, WorkerHost};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

/// Diffie-Hellmans a worker may ask for in a second: one a handshake, at twice the rate at which
/// cookies start, and as many CREATEs.
const DH_PER_SECOND: u32 = 1000;

/// A private onion key of this relay.
#[derive(Clone)]
pub struct OnionSecret {
    /// Its number.
    pub epoch: u32,
    /// X25519 secret.
    pub secret: Zeroizing<[u8; 32]>,
    /// From when on it is no longer answered for.
    pub accept_until: Timestamp,
}

impl OnionSecret {
    /// What others may know of it.
    #[must_use]
    pub fn public(&self) -> OnionKey {
        let secret = StaticSecret::from(*self.secret);
        let public = PublicKey::from(&secret).to_bytes();
        OnionKey { epoch: self.epoch, public, accept_until: self.accept_until }
    }
}

/// The onion keys as all workers of the node use them.
pub(crate) struct OnionSecrets(RwLock<Vec<OnionSecret>>);

impl OnionSecrets {
    pub(crate) fn new(secrets: Vec<OnionSecret>) -> Self {
        Self(RwLock::new(secrets))
    }

    pub(crate) fn replace(&self, secrets: Vec<OnionSecret>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = secrets;
    }

    fn dh(&self, now: Timestamp, epoch: u32, point: [u8; 32]) -> Result<[u8; 32], DhRefusal> {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let held = secrets.iter().find(|held| held.epoch == epoch && now < held.accept_until);
        let secret = StaticSecret::from(*held.ok_or(DhRefusal::UnknownEpoch)?.secret);
        let shared = secret.diffie_hellman(&PublicKey::from(point));
        if shared.was_contributory() { Ok(shared.to_bytes()) } else { Err(DhRefusal::BadPoint) }
    }
}

/// One worker's [`WorkerHost`].
pub(crate) struct Host {
    index: u8,
    secrets: Arc<OnionSecrets>,
    clock: Arc<dyn Clock>,
    window: Timestamp,
    used: u32,
}

impl Host {
    pub(crate) fn new(index: u8, secrets: Arc<OnionSecrets>, clock: Arc<dyn Clock>) -> Self {
        Self { index, secrets, clock, window: Timestamp::default(), used: 0 }
    }
}

impl WorkerHost for Host {
    fn log(&mut self, level: LogLevel, line: &str) {
        let worker = self.index;
        match level {
            LogLevel::Error => tracing::error!(worker, "{line}"),
            LogLevel::Warn => tracing::warn!(worker, "{line}"),
            LogLevel::Info => tracing::info!(worker, "{line}"),
            LogLevel::Debug => tracing::debug!(worker, "{line}"),
        }
    }

    fn random(&mut self, bytes: &mut [u8]) {
        fill_random(bytes);
    }

    fn onion_dh(&mut self, epoch: u32, point: &[u8]) -> Result<[u8; 32], DhRefusal> {
        let now = self.clock.now();
        if now.since(self.window) >= Duration::from_secs(1) {
            self.window = now;
            self.used = 0;
        }
        if self.used >= DH_PER_SECOND {
            return Err(DhRefusal::RateLimited);
        }
        self.used += 1;
        self.secrets.dh(now, epoch, point.try_into().map_err(|_| DhRefusal::BadPoint)?)
    }
}

/// Fills `bytes` from the operating system. Without randomness nothing here is safe, so a node
/// whose system gives none stops.
#[expect(clippy::expect_used, reason = "no key or nonce may ever be made without randomness")]
pub(crate) fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives randomness");
}

/// `N` bytes from the operating system.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill_random(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemClock;

    fn host() -> (Host, OnionKey) {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let accept_until = clock.now().after(Duration::from_secs(60));
        let secret = OnionSecret { epoch: 4, secret: Zeroizing::new([7; 32]), accept_until };
        let public = secret.public();
        (Host::new(0, Arc::new(OnionSecrets::new(vec![secret])), clock), public)
    }

    #[test]
    fn both_sides_of_an_onion_dh_agree() {
        let (mut host, key) = host();
        let mine = StaticSecret::from([9; 32]);
        let expected = mine.diffie_hellman(&PublicKey::from(key.public)).to_bytes();
        assert_eq!(host.onion_dh(4, &PublicKey::from(&mine).to_bytes()), Ok(expected));
    }

    #[test]
    fn bad_points_and_unknown_epochs_are_refused() {
        let (mut host, _) = host();
        assert_eq!(host.onion_dh(5, &[9; 32]), Err(DhRefusal::UnknownEpoch));
        assert_eq!(host.onion_dh(4, &[9; 31]), Err(DhRefusal::BadPoint));
        assert_eq!(host.onion_dh(4, &[0; 32]), Err(DhRefusal::BadPoint));
    }

    #[test]
    fn a_worker_that_asks_too_often_is_refused() {
        let (mut host, _) = host();
        let refusals =
            (0..DH_PER_SECOND * 3).filter(|_| host.onion_dh(4, &[9; 32]) == Err(DhRefusal::RateLimited));
        assert!(refusals.count() > 0);
    }
}

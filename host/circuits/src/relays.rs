//! The relays that are known: what they say, what they share with each other, how they behaved.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use warren_schemas::descriptor::{Descriptor, SignedDescriptor};
use warren_schemas::{PeerId, Timestamp};

use crate::random::Random;

/// Most relays held; more are ignored.
const MAX_RELAYS: usize = 4096;
/// First pause after a relay failed; doubles with every failure in a row.
const BACKOFF: Duration = Duration::from_secs(2);
/// Longest pause.
const MAX_BACKOFF: Duration = Duration::from_secs(600);
/// How long a relay of a circuit that died, nobody knows where, comes last.
const SUSPICION: Duration = Duration::from_secs(60);

/// The IPv4 /16 or IPv6 /32 an address is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Network(u64);

impl Network {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(ip) => Self(u64::from(u32::from(ip) >> 16)),
            IpAddr::V6(ip) => Self((1 << 32) | (u128::from(ip) >> 96) as u64),
        }
    }
}

/// Which rules about two relays of one path hold. That they differ always holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Distinct {
    pub(crate) operators: bool,
    pub(crate) networks: bool,
}

#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) descriptor: Descriptor,
    pub(crate) signed: SignedDescriptor,
    /// Sorted, without repetition, never empty.
    pub(crate) networks: Vec<Network>,
    failures: u32,
    pub(crate) retry_at: Timestamp,
    suspect_until: Timestamp,
}

impl Relay {
    /// Whether both may be on one path.
    pub(crate) fn may_join(&self, other: &Self, distinct: Distinct) -> bool {
        let (a, b) = (&self.descriptor, &other.descriptor);
        a.peer_id != b.peer_id
            && !(distinct.operators && a.operator.is_some() && a.operator == b.operator)
            && !(distinct.networks && self.networks.iter().any(|network| other.networks.contains(network)))
    }

    pub(crate) fn rests(&self, now: Timestamp) -> bool {
        now < self.retry_at
    }

    pub(crate) fn suspect(&self, now: Timestamp) -> bool {
        now < self.suspect_until
    }
}

#[derive(Debug, Default)]
pub(crate) struct Relays {
    map: BTreeMap<PeerId, Relay>,
}

impl Relays {
    /// Takes a relay that is new, or newer than what is known of it. Says whether it did.
    pub(crate) fn insert(
        &mut self,
        now: Timestamp,
        descriptor: Descriptor,
        signed: SignedDescriptor,
    ) -> bool {
        let peer = descriptor.peer_id;
        let known = self.map.get(&peer);
        if known.is_some_and(|known| known.descriptor.published >= descriptor.published)
            || (known.is_none() && self.map.len() >= MAX_RELAYS)
            || descriptor.expires <= now
        {
            return false;
        }
        if !(descriptor.relay || descriptor.exit) {
            return self.map.remove(&peer).is_some();
        }
        let mut networks: Vec<_> = descriptor.addresses.iter().map(|a| Network::of(a.ip())).collect();
        networks.sort_unstable();
        networks.dedup();
        // A new descriptor earns one more try, not a clean sheet: failures go only with a success.
        let failures = known.map_or(0, |known| known.failures);
        let (retry_at, suspect_until) = Default::default();
        self.map.insert(peer, Relay { descriptor, signed, networks, failures, retry_at, suspect_until });
        true
    }

    pub(crate) fn get(&self, peer: &PeerId) -> Option<&Relay> {
        self.map.get(peer)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Relay> {
        self.map.values()
    }

    pub(crate) fn expire(&mut self, now: Timestamp) {
        self.map.retain(|_, relay| relay.descriptor.expires > now);
    }

    /// It did what it should.
    pub(crate) fn praise(&mut self, peer: &PeerId) {
        if let Some(relay) = self.map.get_mut(peer) {
            (relay.failures, relay.retry_at, relay.suspect_until) = Default::default();
        }
    }

    /// It failed: nothing goes through it for a while, longer each time.
    pub(crate) fn blame(&mut self, now: Timestamp, peer: &PeerId, random: &mut Random) {
        if let Some(relay) = self.map.get_mut(peer) {
            let pause = BACKOFF.saturating_mul(1 << relay.failures.min(16)).min(MAX_BACKOFF);
            relay.failures = relay.failures.saturating_add(1);
            relay.retry_at = now.after(pause.mul_f64(0.75 + 0.5 * random.unit()));
        }
    }

    /// It was on a circuit that died: others are taken first for a while.
    pub(crate) fn suspect(&mut self, now: Timestamp, peer: &PeerId) {
        if let Some(relay) = self.map.get_mut(peer) {
            relay.suspect_until = now.after(SUSPICION);
        }
    }

    /// When the next descriptor expires.
    pub(crate) fn next_expiry(&self) -> Option<Timestamp> {
        self.map.values().map(|relay| relay.descriptor.expires).min()
    }

    /// When the next resting relay may be tried again.
    pub(crate) fn next_retry(&self, now: Timestamp) -> Option<Timestamp> {
        self.map.values().map(|relay| relay.retry_at).filter(|at| *at > now).min()
    }
}

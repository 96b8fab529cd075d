//! The peers of one torrent, each under an alias in 127.64.0.0/10 that the engine sees.
//!
//! Pure. A peer keeps its alias address; the port tells how often it was announced. After a connection
//! ended, the peer is announced under the next port, because the engine waits 10, 60, 360 seconds
//! before it dials the same address again, and after it has everything hardly dials at all.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use warren_ports::Target;

/// 127.64.0.0
const BASE: u32 = 0x7f40_0000;
const FIRST_PORT: u16 = 1024;
/// Peers known at a time; a swarm's trackers name 50 to 200.
pub(crate) const MAX_PEERS: usize = 1000;
/// Seconds before a peer is announced again, by how often it failed in a row.
const REDIAL: [u64; 10] = [1, 2, 5, 10, 20, 40, 60, 60, 60, 60];
/// After those.
const REDIAL_LAST: u64 = 300;
/// A connection that moved less than this has failed, whatever the reason.
const WORTH_KEEPING: u64 = 256 * 1024;

/// A peer, by its place in the book.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct PeerIndex(u32);

/// How a connection to a peer ended, or why there was none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// No circuit: not the peer's fault.
    NoCircuit,
    /// The circuit died: not the peer's fault either.
    CircuitLost,
    /// It could not be reached.
    Unreachable,
    /// It was closed after so many bytes, both ways together.
    Closed(u64),
}

/// What an alias stands for.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) index: PeerIndex,
    pub(crate) target: Target,
    /// One permit: a peer has one connection at a time.
    pub(crate) gate: Arc<Semaphore>,
}

struct Peer {
    target: Target,
    port: u16,
    failures: u32,
    /// Named by the user or the magnet: never forgotten.
    pinned: bool,
    /// A tracker named it since its last failure.
    named: bool,
    gate: Arc<Semaphore>,
}

/// All peers of a torrent.
#[derive(Default)]
pub(crate) struct AliasBook {
    /// A forgotten peer leaves its place, and its port, to another.
    places: Vec<Place>,
    by_target: HashMap<Target, PeerIndex>,
    fresh: VecDeque<PeerIndex>,
}

enum Place {
    Taken(Peer),
    Free { port: u16 },
}

impl AliasBook {
    /// Takes in a peer. True when it is new.
    pub(crate) fn offer(&mut self, target: Target, pinned: bool) -> bool {
        if let Some(index) = self.by_target.get(&target).copied() {
            if let Some(peer) = self.peer(index) {
                peer.named = true;
                peer.pinned |= pinned;
            }
            return false;
        }
        let Some((index, port)) = self.place() else { return false };
        let gate = Arc::new(Semaphore::new(1));
        let peer = Peer { target: target.clone(), port, failures: 0, pinned, named: true, gate };
        if let Some(place) = self.places.get_mut(index.0 as usize) {
            *place = Place::Taken(peer);
        }
        self.by_target.insert(target, index);
        self.fresh.push_back(index);
        true
    }

    /// What the engine means by an address: nothing when we never gave it, or gave another since.
    pub(crate) fn resolve(&mut self, alias: SocketAddrV4) -> Option<Resolved> {
        let index = PeerIndex(u32::from(*alias.ip()).checked_sub(BASE + 1)?);
        let peer = self.peer(index)?;
        (peer.port == alias.port()).then(|| Resolved {
            index,
            target: peer.target.clone(),
            gate: peer.gate.clone(),
        })
    }

    /// Notes how a connection ended. How long to wait before [`Self::renew`]; nothing when the peer
    /// was forgotten.
    pub(crate) fn closed(&mut self, index: PeerIndex, end: End) -> Option<Duration> {
        let peer = self.peer(index)?;
        match end {
            End::NoCircuit => return Some(Duration::from_secs(2)),
            End::CircuitLost => return Some(Duration::from_secs(1)),
            End::Closed(moved) if moved >= WORTH_KEEPING => peer.failures = 0,
            End::Closed(_) | End::Unreachable => peer.failures += 1,
        }
        let failures = peer.failures as usize;
        if failures > REDIAL.len() && !peer.pinned && !std::mem::take(&mut peer.named) {
            self.forget(index);
            return None;
        }
        let place = failures.saturating_sub(1);
        Some(Duration::from_secs(REDIAL.get(place).copied().unwrap_or(REDIAL_LAST)))
    }

    /// Announces a peer under its next alias, unless it is connected.
    pub(crate) fn renew(&mut self, index: PeerIndex) {
        if let Some(peer) = self.peer(index)
            && peer.gate.available_permits() > 0
        {
            peer.port = next_port(peer.port);
            if !self.fresh.contains(&index) {
                self.fresh.push_back(index);
            }
        }
    }

    /// The aliases to announce now.
    pub(crate) fn take_fresh(&mut self) -> Vec<SocketAddrV4> {
        let fresh = std::mem::take(&mut self.fresh);
        fresh.into_iter().filter_map(|index| self.alias(index)).collect()
    }

    /// Every alias, for an engine that starts anew.
    pub(crate) fn take_all(&mut self) -> Vec<SocketAddrV4> {
        self.fresh.clear();
        let all = 0..u32::try_from(self.places.len()).unwrap_or_default();
        all.filter_map(|place| self.alias(PeerIndex(place))).collect()
    }

    /// How many peers there are.
    pub(crate) fn len(&self) -> usize {
        self.by_target.len()
    }

    fn alias(&self, index: PeerIndex) -> Option<SocketAddrV4> {
        match self.places.get(index.0 as usize)? {
            Place::Taken(peer) => Some(SocketAddrV4::new(Ipv4Addr::from(BASE + 1 + index.0), peer.port)),
            Place::Free { .. } => None,
        }
    }

    fn peer(&mut self, index: PeerIndex) -> Option<&mut Peer> {
        match self.places.get_mut(index.0 as usize)? {
            Place::Taken(peer) => Some(peer),
            Place::Free { .. } => None,
        }
    }

    fn forget(&mut self, index: PeerIndex) {
        if let Some(place) = self.places.get_mut(index.0 as usize)
            && let Place::Taken(peer) = place
        {
            self.by_target.remove(&peer.target);
            *place = Place::Free { port: next_port(peer.port) };
        }
    }

    /// A place for one more: a new one, a free one, or that of the peer that failed most.
    fn place(&mut self) -> Option<(PeerIndex, u16)> {
        if self.places.len() < MAX_PEERS {
            let index = PeerIndex(u32::try_from(self.places.len()).ok()?);
            self.places.push(Place::Free { port: FIRST_PORT });
            return Some((index, FIRST_PORT));
        }
        let worst = self.places.iter().enumerate().max_by_key(|(_, place)| match place {
            Place::Free { .. } => u32::MAX,
            Place::Taken(peer) if peer.pinned || peer.gate.available_permits() == 0 => 0,
            Place::Taken(peer) => peer.failures,
        });
        let index = PeerIndex(u32::try_from(worst?.0).ok()?);
        if self.peer(index).is_some_and(|peer| peer.failures == 0 || peer.pinned) {
            return None;
        }
        self.forget(index);
        match self.places.get(index.0 as usize)? {
            Place::Free { port } => Some((index, *port)),
            Place::Taken(_) => None,
        }
    }
}

fn next_port(port: u16) -> u16 {
    port.checked_add(1).unwrap_or(FIRST_PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(n: u32) -> Target {
        std::net::SocketAddr::from((Ipv4Addr::from(0x0100_0000 + n), 6881)).into()
    }

    #[test]
    fn an_alias_stands_for_its_peer_until_it_is_renewed() {
        let mut book = AliasBook::default();
        assert!(book.offer(target(1), false));
        assert!(!book.offer(target(1), false));
        let [alias] = book.take_fresh()[..] else { panic!() };
        assert_eq!(alias, "127.64.0.1:1024".parse().unwrap());
        assert!(book.take_fresh().is_empty());
        let peer = book.resolve(alias).unwrap();
        assert_eq!(peer.target, target(1));

        let permit = peer.gate.clone().try_acquire_owned().unwrap();
        book.renew(peer.index);
        assert!(book.take_fresh().is_empty(), "a connected peer is not announced");
        drop(permit);
        book.renew(peer.index);
        assert_eq!(book.take_fresh(), ["127.64.0.1:1025".parse().unwrap()]);
        assert!(book.resolve(alias).is_none(), "the old alias is dead");
        for other in
            ["127.64.0.2:1024", "127.64.0.0:1024", "127.0.0.1:1024", "192.0.2.1:80", "127.64.0.1:1026"]
        {
            assert!(book.resolve(other.parse().unwrap()).is_none());
        }
        assert_eq!(book.take_all(), ["127.64.0.1:1025".parse().unwrap()]);
    }

    #[test]
    fn redialling_slows_down_and_a_good_connection_resets_it() {
        let mut book = AliasBook::default();
        book.offer(target(1), true);
        let index = PeerIndex(0);
        let mut waits = |end| book.closed(index, end).unwrap().as_secs();
        assert_eq!([1, 2, 5, 10], [(); 4].map(|()| waits(End::Unreachable)));
        assert_eq!(waits(End::NoCircuit), 2);
        assert_eq!(waits(End::CircuitLost), 1);
        assert_eq!(waits(End::Closed(10)), 20);
        assert_eq!(waits(End::Closed(WORTH_KEEPING)), 1);
        for _ in 0..100 {
            waits(End::Unreachable);
        }
        assert_eq!(waits(End::Unreachable), 300, "a pinned peer is never forgotten");
    }

    #[test]
    fn a_peer_nobody_names_any_more_is_forgotten() {
        let mut book = AliasBook::default();
        book.offer(target(1), false);
        let waits = (0..50).take_while(|_| book.closed(PeerIndex(0), End::Unreachable).is_some()).count();
        assert_eq!(waits, REDIAL.len() + 1);
        assert_eq!(book.len(), 0);
        assert!(book.take_all().is_empty());
    }

    #[test]
    fn the_book_is_bounded_and_failed_peers_give_way_under_new_ports() {
        let mut book = AliasBook::default();
        let max = u32::try_from(MAX_PEERS).unwrap();
        for n in 0..max {
            assert!(book.offer(target(n), n == 0));
        }
        assert!(!book.offer(target(max), false), "nobody failed");
        book.closed(PeerIndex(0), End::Unreachable);
        assert!(!book.offer(target(max), false), "only a pinned one failed");
        book.closed(PeerIndex(7), End::Unreachable);
        assert!(book.offer(target(max), false));
        assert_eq!(book.len(), MAX_PEERS);
        assert!(book.resolve("127.64.0.8:1024".parse().unwrap()).is_none());
        assert_eq!(book.resolve("127.64.0.8:1025".parse().unwrap()).unwrap().target, target(max));
    }
}

//! How circuits are named towards QUIC, and connections in their ids.
//!
//! An originator's connection has one peer at one constant address, whichever circuit carries it. For a last hop a circuit
//! is an address, so that an originator that comes by another circuit is, for QUIC, a
//! client that migrated, and its path is validated.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use quinn_proto::{ConnectionId, ConnectionIdGenerator};
use warren_schemas::CircuitHandle;

use crate::Carrier;

/// Bytes of the connection ids, of originators and of last hops.
const ID_LEN: usize = 8;
/// A prefix of our own out of fd00::/8 (RFC 4193); never on any wire.
const PREFIX: u128 = 0xfd77_6172_7265_6e00 << 64;

/// The last hop, as an originator's connection sees it.
pub(crate) const LAST_HOP: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits(PREFIX)), 1);

/// The originator behind `carrier`, as the last hop's connection sees it.
pub(crate) fn address_of(carrier: Carrier) -> SocketAddr {
    let low = (1 << 40) | (u128::from(carrier.worker) << 32) | u128::from(carrier.circuit.0);
    SocketAddr::new(IpAddr::V6(Ipv6Addr::from_bits(PREFIX | low)), 1)
}

/// The circuit that `address_of` named.
pub(crate) fn carrier_of(address: SocketAddr) -> Carrier {
    match address.ip() {
        IpAddr::V6(ip) => {
            let low = ip.to_bits() as u64;
            Carrier { worker: (low >> 32) as u8, circuit: CircuitHandle(low as u32) }
        }
        IpAddr::V4(_) => Carrier::default(),
    }
}

/// The tag in the connection id that a QUIC datagram is addressed to (RFC 8999 section 5);
/// none when it has none of ours.
pub(crate) fn tag_of(datagram: &[u8]) -> Option<u32> {
    let long = datagram.first()? & 0x80 != 0;
    let id = if long {
        let length = usize::from(*datagram.get(5)?);
        datagram.get(6..).filter(|_| length == ID_LEN)?
    } else {
        datagram.get(1..)?
    };
    id.first_chunk().map(|tag| u32::from_be_bytes(*tag))
}

/// The worker whose last hop's connection a QUIC datagram is addressed to; none for long headers: only a
/// connection that stands may come by another circuit (RFC 9000 section 9), and those send short ones.
pub(crate) fn home_of(datagram: &[u8]) -> Option<u8> {
    let short = datagram.first()? & 0x80 == 0;
    datagram.get(1).copied().filter(|_| short && datagram.len() > ID_LEN)
}

/// Connection ids of a worker's last hop's connections: its index, and bytes that look random.
pub(crate) struct HomeIds {
    worker: u8,
    random: RandomState,
    next: u64,
}

impl HomeIds {
    pub(crate) fn new(worker: u8) -> Self {
        Self { worker, random: RandomState::new(), next: 0 }
    }
}

impl ConnectionIdGenerator for HomeIds {
    fn generate_cid(&mut self) -> ConnectionId {
        self.next += 1;
        let [_, random @ ..] = self.random.hash_one(self.next).to_be_bytes();
        let mut id = [self.worker; ID_LEN];
        if let Some(rest) = id.get_mut(1..) {
            rest.copy_from_slice(&random);
        }
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

/// Connection ids of one originator's connection: its tag, by which the port finds it, and bytes
/// that look random. Only the last hop sees them, and it knows that they are one connection's.
pub(crate) struct TaggedIds {
    tag: u32,
    random: RandomState,
    next: u64,
}

impl TaggedIds {
    pub(crate) fn new(tag: u32) -> Self {
        Self { tag, random: RandomState::new(), next: 0 }
    }
}

impl ConnectionIdGenerator for TaggedIds {
    fn generate_cid(&mut self) -> ConnectionId {
        self.next += 1;
        let low = self.random.hash_one(self.next) as u32;
        let id = (u64::from(self.tag) << 32) | u64::from(low);
        ConnectionId::new(&id.to_be_bytes())
    }

    fn cid_len(&self) -> usize {
        ID_LEN
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_circuits() {
        for circuit in [0, 1, 77, u32::MAX] {
            for worker in [0, 1, u8::MAX] {
                let carrier = Carrier { worker, circuit: CircuitHandle(circuit) };
                let address = address_of(carrier);
                assert_eq!(carrier_of(address), carrier);
                assert_ne!(address, LAST_HOP);
            }
        }
    }

    #[test]
    fn tags_are_found_in_short_and_long_headers() {
        let mut ids = TaggedIds::new(0x0102_0304);
        let (one, two) = (ids.generate_cid(), ids.generate_cid());
        assert_ne!(one, two);
        let short = [&[0x40][..], &one, b"rest"].concat();
        let long = [&[0xc0, 0, 0, 0, 1, 8][..], &two, b"rest"].concat();
        assert_eq!(tag_of(&short), Some(0x0102_0304));
        assert_eq!(tag_of(&long), Some(0x0102_0304));
        let foreign = [&[0xc0, 0, 0, 0, 1, 4][..], &two, b"rest"].concat();
        assert_eq!(tag_of(&foreign), None);
        for length in 0..5 {
            assert_eq!(tag_of(&short[..length]), None);
            assert_eq!(tag_of(&long[..length + 5]), None);
        }
    }

    #[test]
    fn ids_of_a_last_hop_name_its_worker() {
        let mut ids = HomeIds::new(3);
        let (one, two) = (ids.generate_cid(), ids.generate_cid());
        assert_ne!(one, two);
        let short = [&[0x40][..], &one, b"rest"].concat();
        assert_eq!(home_of(&short), Some(3));
        assert_eq!(home_of(&[&[0xc0, 0, 0, 0, 1, 8][..], &two, b"rest"].concat()), None);
        for length in 0..9 {
            assert_eq!(home_of(&short[..length]), None);
        }
    }
}

//! Multiaddresses: reading them, and telling which of them the world can reach.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::Error;

pub(crate) fn read(text: &str) -> Result<Multiaddr, Error> {
    text.parse().map_err(|_| Error::Address(text.to_owned()))
}

/// An address whose last part says who is there, taken apart.
pub(crate) fn with_peer(text: &str) -> Result<(PeerId, Multiaddr), Error> {
    let mut address = read(text)?;
    match address.pop() {
        Some(Protocol::P2p(peer)) if !address.is_empty() => Ok((peer, address)),
        _ => Err(Error::NoPeerId(text.to_owned())),
    }
}

/// Whether it is a plain IP address, and one that may be dialled because a stranger named it.
pub(crate) fn may_dial(address: &Multiaddr, allow_private: bool) -> bool {
    let named = address.iter().any(|part| matches!(part, Protocol::P2pCircuit | Protocol::Dns(_)));
    !named
        && match address.iter().next() {
            Some(Protocol::Ip4(ip)) => !ip.is_unspecified() && (allow_private || is_public_v4(ip)),
            Some(Protocol::Ip6(ip)) => !ip.is_unspecified() && (allow_private || is_public_v6(ip)),
            _ => false,
        }
}

/// Binds the port for a moment, alone. Addresses that are not of an IP port are left to libp2p.
pub(crate) fn probe(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port > 0 => TcpListener::bind((ip, port)).map(drop),
        Some(Protocol::Udp(port)) if port > 0 => UdpSocket::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}

/// IANA IPv4 special-purpose address registry: not globally reachable.
fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol = a == 192 && b == 0 && c == 0;
    let benchmark = a == 198 && (b == 18 || b == 19);
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        || shared
        || protocol
        || benchmark
        || a == 0
        || a >= 240)
}

/// IPv6 global unicast (2000::/3) without documentation, Teredo and 6to4.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    if let Some(ip) = ip.to_ipv4_mapped() {
        return is_public_v4(ip);
    }
    a & 0xe000 == 0x2000 && !(a == 0x2001 && (b == 0x0db8 || b == 0)) && a != 0x2002
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_cannot_name_private_addresses() {
        let may = |text: &str, private| may_dial(&read(text).unwrap(), private);
        for private in [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/10.1.2.3/tcp/1",
            "/ip4/192.168.0.1/udp/1/quic-v1",
            "/ip4/100.64.0.1/tcp/1",
            "/ip4/169.254.1.1/tcp/1",
            "/ip6/::1/tcp/1",
            "/ip6/fd00::1/tcp/1",
            "/ip6/fe80::1/tcp/1",
            "/ip6/::ffff:10.0.0.1/tcp/1",
        ] {
            assert!(!may(private, false), "{private}");
            assert!(may(private, true), "{private}");
        }
        assert!(may("/ip4/1.1.1.1/tcp/1", false));
        assert!(may("/ip6/2606:4700::1111/udp/1/quic-v1", false));
        for never in ["/ip4/0.0.0.0/tcp/1", "/dns/localhost/tcp/1", "/memory/1"] {
            assert!(!may(never, true), "{never}");
        }
    }

    #[test]
    fn bootstrap_needs_a_peer_id() {
        assert!(matches!(with_peer("nonsense"), Err(Error::Address(_))));
        assert!(matches!(with_peer("/ip4/127.0.0.1/tcp/1"), Err(Error::NoPeerId(_))));
        let peer = PeerId::random();
        assert!(matches!(with_peer(&format!("/p2p/{peer}")), Err(Error::NoPeerId(_))));
        let (read, address) = with_peer(&format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}")).unwrap();
        assert_eq!((read, address.to_string().as_str()), (peer, "/ip4/127.0.0.1/tcp/1"));
    }
}

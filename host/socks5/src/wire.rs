//! SOCKS5's bytes (RFC 1928): addresses, replies and the header of a datagram. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use warren_ports::{DialError, Host, Target};

pub(crate) const VERSION: u8 = 5;
pub(crate) const METHOD_NONE: u8 = 0;
pub(crate) const METHOD_PASSWORD: u8 = 2;
pub(crate) const NO_METHOD: u8 = 0xff;
pub(crate) const COMMAND_CONNECT: u8 = 1;
pub(crate) const COMMAND_ASSOCIATE: u8 = 3;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// The code in a reply (RFC 1928, section 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    Done = 0,
    Failure = 1,
    NotAllowed = 2,
    NetworkUnreachable = 3,
    HostUnreachable = 4,
    Refused = 5,
    /// "TTL expired": what clients show as a time-out, as with Tor.
    Expired = 6,
    CommandUnknown = 7,
    AddressUnknown = 8,
}

impl From<&DialError> for Reply {
    fn from(error: &DialError) -> Self {
        match error {
            DialError::Denied => Self::NotAllowed,
            DialError::NetworkUnreachable => Self::NetworkUnreachable,
            DialError::HostUnreachable => Self::HostUnreachable,
            DialError::Refused => Self::Refused,
            DialError::TimedOut => Self::Expired,
            DialError::NoCircuit(_) | DialError::CircuitLost | DialError::Limit | DialError::Failed => {
                Self::Failure
            }
        }
    }
}

/// A reply's bytes; no address is written as `0.0.0.0:0`.
pub(crate) fn reply(code: Reply, bound: Option<SocketAddr>) -> Vec<u8> {
    let mut bytes = vec![VERSION, code as u8, 0];
    put_address(&mut bytes, bound.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))));
    bytes
}

fn put_address(bytes: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            bytes.push(IPV4);
            bytes.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            bytes.push(IPV6);
            bytes.extend_from_slice(&ip.octets());
        }
    }
    bytes.extend_from_slice(&address.port().to_be_bytes());
}

/// How many bytes an address of type `kind` has, its port included, of which `first` is the first.
pub(crate) fn address_length(kind: u8, first: u8) -> Option<usize> {
    match kind {
        IPV4 => Some(4 + 2),
        NAME => Some(1 + usize::from(first) + 2),
        IPV6 => Some(16 + 2),
        _ => None,
    }
}

/// The target in `bytes`, which is exactly an address of type `kind` and its port. None when a name
/// is empty or not printable ASCII. A name that spells an address is that address.
pub(crate) fn target(kind: u8, bytes: &[u8]) -> Option<Target> {
    let (host, port) = bytes.split_last_chunk::<2>()?;
    let host = match kind {
        IPV4 => Host::Ip(<[u8; 4]>::try_from(host).ok()?.into()),
        IPV6 => Host::Ip(<[u8; 16]>::try_from(host).ok()?.into()),
        NAME => name(host.get(1..)?)?,
        _ => return None,
    };
    Some(Target { host, port: u16::from_be_bytes(*port) })
}

fn name(bytes: &[u8]) -> Option<Host> {
    let name = std::str::from_utf8(bytes).ok()?;
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return None;
    }
    Some(name.parse().map_or_else(|_| Host::Name(name.to_owned()), Host::Ip))
}

/// Target and payload of a client's datagram (RFC 1928, section 7). None when it is malformed or a
/// fragment: fragments are optional and dropped.
pub(crate) fn datagram(bytes: &[u8]) -> Option<(Target, &[u8])> {
    let ([0, 0, 0, kind], rest) = bytes.split_first_chunk::<4>()? else { return None };
    let length = address_length(*kind, *rest.first()?)?;
    let (address, payload) = rest.split_at_checked(length)?;
    Some((target(*kind, address)?, payload))
}

/// Puts the header of a datagram that came from `from` into `bytes`.
pub(crate) fn put_datagram_header(bytes: &mut Vec<u8>, from: &Target) {
    bytes.extend_from_slice(&[0, 0, 0]);
    match &from.host {
        Host::Ip(ip) => put_address(bytes, SocketAddr::new(*ip, from.port)),
        Host::Name(name) => {
            let name = name.as_bytes().get(..255).unwrap_or(name.as_bytes());
            bytes.push(NAME);
            bytes.push(name.len().try_into().unwrap_or(u8::MAX));
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(&from.port.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_read_what_they_write() {
        let name = Host::Name("example.org".to_owned());
        for host in [name, Host::Ip([1, 2, 3, 4].into()), Host::Ip("2001:db8::1".parse().unwrap())] {
            let from = Target { host, port: 0x1234 };
            let mut bytes = Vec::new();
            put_datagram_header(&mut bytes, &from);
            let header = bytes.len();
            bytes.extend_from_slice(b"payload");
            assert_eq!(datagram(&bytes), Some((from, &b"payload"[..])));
            for length in 0..header {
                assert_eq!(datagram(&bytes[..length]), None);
            }
            bytes[2] = 1;
            assert_eq!(datagram(&bytes), None, "a fragment");
        }
        assert_eq!(datagram(&[0, 0, 0, 3, 0, 0, 80]), None, "an empty name");
        assert_eq!(datagram(&[0, 0, 0, 2, 0, 0, 80]), None, "an unknown type");
    }

    #[test]
    fn an_address_spelled_as_a_name_is_an_address() {
        assert_eq!(name(b"1.2.3.4"), Some(Host::Ip([1, 2, 3, 4].into())));
        assert_eq!(name(b"::1"), Some(Host::Ip("::1".parse().unwrap())));
        assert_eq!(name(b"1.2.3"), Some(Host::Name("1.2.3".to_owned())));
        assert_eq!(name(b"a\0b"), None);
        assert_eq!(name(&[0xc3, 0xa9]), None);
    }

    #[test]
    fn replies_tell_dial_errors_apart() {
        assert_eq!(reply(Reply::Done, None), [5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        let v6 = reply(Reply::Done, Some("[::1]:80".parse().unwrap()));
        assert_eq!(v6, [5, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 80]);
        for (error, code) in [
            (DialError::NoCircuit(String::new()), 1),
            (DialError::CircuitLost, 1),
            (DialError::Denied, 2),
            (DialError::NetworkUnreachable, 3),
            (DialError::HostUnreachable, 4),
            (DialError::Refused, 5),
            (DialError::TimedOut, 6),
            (DialError::Limit, 1),
            (DialError::Failed, 1),
        ] {
            assert_eq!(Reply::from(&error) as u8, code, "{error}");
        }
    }
}

//! A socket address as the schemas hold it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// An IPv6 address as two halves held as numbers, and a port; IPv4 as IPv4-mapped IPv6. Flow label and
/// scope are not kept.
///
/// Three numbers and nothing to tell apart, so that it can be passed on by those who need no more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    /// The first eight bytes of the IPv6 address, big-endian.
    pub high: u64,
    /// The last eight.
    pub low: u64,
    /// The port.
    pub port: u16,
}

impl Address {
    /// The unspecified address, for where none has a meaning.
    pub const NONE: Self = Self { high: 0, low: 0, port: 0 };
}

impl From<SocketAddr> for Address {
    #[inline]
    fn from(address: SocketAddr) -> Self {
        let bits = match address.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        Self { high: (bits >> 64) as u64, low: bits as u64, port: address.port() }
    }
}

/// IPv4-mapped becomes IPv4.
impl From<Address> for SocketAddr {
    #[inline]
    fn from(address: Address) -> Self {
        let bits = (u128::from(address.high) << 64) | u128::from(address.low);
        Self::new(Ipv6Addr::from_bits(bits).to_canonical(), address.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_and_a_mapped_one_as_ipv4() {
        for text in ["192.0.2.7:4500", "[2001:db8::7]:1", "[::]:0", "0.0.0.0:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(SocketAddr::from(Address::from(address)), address);
        }
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:4500".parse().unwrap();
        assert_eq!(SocketAddr::from(Address::from(mapped)), "192.0.2.7:4500".parse().unwrap());
        assert_eq!(SocketAddr::from(Address::NONE), "[::]:0".parse().unwrap());
    }
}

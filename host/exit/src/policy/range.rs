//! The parts of the address space that are not the public Internet.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range that an exit does not serve (IANA's special-purpose address registries,
/// RFC 6890 and successors).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Range {
    /// `0.0.0.0/8` and `::`.
    Unspecified,
    /// `127.0.0.0/8` and `::1`.
    Loopback,
    /// `10/8`, `172.16/12`, `192.168/16` (RFC 1918).
    Private,
    /// `fc00::/7` (RFC 4193).
    UniqueLocal,
    /// `169.254/16` and `fe80::/10`; clouds answer for their metadata there.
    LinkLocal,
    /// `100.64/10` (RFC 6598).
    SharedAddress,
    /// `192.0.0.0/24` and `2001::/23`, Teredo apart.
    ProtocolAssignments,
    /// `198.18/15` and `2001:2::/48`.
    Benchmarking,
    /// `192.0.2/24`, `198.51.100/24`, `203.0.113/24`, `2001:db8::/32`, `3fff::/20`.
    Documentation,
    /// `224/4` and `ff00::/8`.
    Multicast,
    /// `240/4` but for broadcast, and all of IPv6 outside `2000::/3`.
    Reserved,
    /// `255.255.255.255`.
    Broadcast,
    /// `192.88.99/24` and `2002::/16` (RFC 7526): holds an IPv4 address of any range.
    SixToFour,
    /// `2001::/32` (RFC 4380): holds an IPv4 address of any range.
    Teredo,
    /// `64:ff9b::/96` and `64:ff9b:1::/48` (RFC 6052, RFC 8215): holds an IPv4 address of any range.
    Nat64,
    /// `168.63.129.16`, which is public but answered by the cloud's own host for its guests.
    CloudHost,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::UniqueLocal => "unique-local",
            Self::LinkLocal => "link-local",
            Self::SharedAddress => "carrier-grade NAT",
            Self::ProtocolAssignments => "protocol assignment",
            Self::Benchmarking => "benchmarking",
            Self::Documentation => "documentation",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
            Self::Broadcast => "broadcast",
            Self::SixToFour => "6to4",
            Self::Teredo => "Teredo",
            Self::Nat64 => "NAT64",
            Self::CloudHost => "cloud host",
        })
    }
}

impl Range {
    /// The range `ip` lies in; none for the public Internet. IPv4-mapped is judged as IPv4.
    #[must_use]
    pub fn of(ip: IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            IpAddr::V4(ip) => of_v4(ip),
            IpAddr::V6(ip) => of_v6(ip),
        }
    }

    /// The ranges a lab may open: a machine's own and a site's own.
    #[must_use]
    pub const fn is_private(self) -> bool {
        matches!(self, Self::Loopback | Self::Private | Self::UniqueLocal)
    }
}

fn of_v4(ip: Ipv4Addr) -> Option<Range> {
    let range = match ip.octets() {
        [0, ..] => Range::Unspecified,
        [127, ..] => Range::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Range::Private,
        [169, 254, ..] => Range::LinkLocal,
        [100, 64..=127, ..] => Range::SharedAddress,
        [192, 0, 0, _] => Range::ProtocolAssignments,
        [198, 18..=19, ..] => Range::Benchmarking,
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => Range::Documentation,
        [192, 88, 99, _] => Range::SixToFour,
        [168, 63, 129, 16] => Range::CloudHost,
        [224..=239, ..] => Range::Multicast,
        [255, 255, 255, 255] => Range::Broadcast,
        [240..=255, ..] => Range::Reserved,
        _ => return None,
    };
    Some(range)
}

fn of_v6(ip: Ipv6Addr) -> Option<Range> {
    let range = match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Range::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Range::Loopback,
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => Range::Nat64,
        [0x2001, 0, ..] => Range::Teredo,
        [0x2001, 2, 0, ..] => Range::Benchmarking,
        [0x2001, 0..=0x1ff, ..] => Range::ProtocolAssignments,
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Range::Documentation,
        [0x2002, ..] => Range::SixToFour,
        [0xfc00..=0xfdff, ..] => Range::UniqueLocal,
        [0xfe80..=0xfebf, ..] => Range::LinkLocal,
        [0xff00..=0xffff, ..] => Range::Multicast,
        [0x2000..=0x3fff, ..] => return None,
        _ => Range::Reserved,
    };
    Some(range)
}

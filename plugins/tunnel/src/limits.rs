//! The bounds of section 8 of docs/protocol.md, as one worker applies them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use warren_schemas::control::{Limits, MOST_CIRCUITS, TunnelConfig};

/// How long an answer to a handshake is given again unchanged.
pub(crate) const SAME_ANSWER: Duration = Duration::from_secs(30);
/// How long a half-open link lives.
pub(crate) const HALF_OPEN: Duration = Duration::from_secs(10);
/// Silence after which a link or circuit end that carries circuits asks for a sign of life.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);
/// The same for an originator that has sent something: a circuit in use is known to be dead sooner.
pub(crate) const UNANSWERED: Duration = Duration::from_secs(3);
/// The same for a link without circuits.
pub(crate) const SILENCE_UNUSED: Duration = Duration::from_secs(60);
/// How long a link lives without a circuit.
pub(crate) const LINK_UNUSED: Duration = Duration::from_secs(120);
/// How long a key of a link's direction is used.
pub(crate) const REKEY: Duration = Duration::from_secs(3600);
/// The least time between two path challenges on a link.
pub(crate) const CHALLENGE_PAUSE: Duration = Duration::from_secs(1);
/// How long a relay keeps a circuit on which nothing comes.
pub(crate) const CIRCUIT_IDLE: Duration = Duration::from_secs(120);
/// How long any circuit lives.
pub(crate) const CIRCUIT_LIFE: Duration = Duration::from_secs(24 * 3600);
/// Distinct EXTENDs on one circuit.
pub(crate) const MAX_EXTENDS: u32 = 8;
/// Links for this node's own circuits above the bound that all others share.
pub(crate) const OWN_LINKS: usize = 64;
/// Links that may wait at once for an answer from one public IP address.
pub(crate) const MAX_PENDING_AT: usize = 8;
/// Ephemeral keys that are remembered against a second use within [`SAME_ANSWER`]; the oldest give way.
pub(crate) const MAX_RECENT: usize = 32_768;

/// Bounds with the defaults filled in, shares of one worker where they are the node's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub circuits_per_link: usize,
    pub creates_per_second: u64,
    pub circuits: usize,
    pub links: usize,
    pub half_open: usize,
    pub handshakes_per_second: u64,
    pub bytes_per_second: u64,
    pub queue_cells: usize,
    pub queue_bytes: usize,
}

impl Bounds {
    /// `limits` with defaults for zeros; rate and queue are this worker's share of `workers`.
    pub(crate) fn of(limits: &Limits, workers: u8) -> Self {
        let share = u64::from(workers.max(1));
        let or = |value: u32, default: u32| if value == 0 { default } else { value };
        let queue = if limits.queue_bytes == 0 { 64 << 20 } else { limits.queue_bytes / share };
        Self {
            circuits_per_link: or(limits.circuits_per_link, 4096) as usize,
            creates_per_second: u64::from(or(limits.creates_per_second_per_link, 100)),
            circuits: or(limits.circuits, 16_384).min(MOST_CIRCUITS) as usize,
            links: or(limits.links, 4096) as usize,
            half_open: or(limits.half_open_links, 256) as usize,
            handshakes_per_second: u64::from(or(limits.link_handshakes_per_second, 200)),
            // A stated limit must not become "unlimited" by division.
            bytes_per_second: if limits.bytes_per_second == 0 {
                0
            } else {
                (limits.bytes_per_second / share).max(1)
            },
            queue_cells: or(limits.queue_cells_per_circuit, 256) as usize,
            queue_bytes: usize::try_from(queue).unwrap_or(usize::MAX),
        }
    }

    /// Bytes that may go out at once: a tenth of a second's, at least two batches of cells.
    pub(crate) fn burst(&self) -> u64 {
        (self.bytes_per_second / 10).max(16 * 1350)
    }
}

/// Whether a relay or originator may send tunnel datagrams to `address` because a descriptor says so.
pub(crate) fn may_send_to(config: &TunnelConfig, address: SocketAddr) -> bool {
    // Behind an address of our own there is no other relay that a path may lead to.
    let same = |own: &SocketAddr| *own == address || (!config.allow_private && own.ip() == address.ip());
    let own = config.own_addresses.iter().any(same);
    let named = !address.ip().is_unspecified() && !is_multicast(address.ip()) && address.port() != 0;
    named && !own && (config.allow_private || is_public(address.ip()))
}

fn is_multicast(ip: IpAddr) -> bool {
    ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Whether `ip` is a unicast address of the public Internet (IANA special-purpose registries,
/// RFC 6890 and its updates). Addresses that hold an IPv4 address are judged by that one.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = matches!(
        (a, b, c),
        (0 | 10 | 127, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224.., ..)
    );
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(v4) = ip.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    let [a, b, ..] = ip.segments();
    // 2000::/3 is all that is given out; within it Teredo, ORCHID, documentation, 6to4.
    let global = (a & 0xe000) == 0x2000;
    let special = matches!((a, b), (0x2001, 0..=0x01ff | 0x0db8) | (0x2002 | 0x3fff, _));
    global && !special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_addresses_are_not_public() {
        let special = [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.9.9",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "64:ff9b::1.2.3.4",
            "2001::1",
            "2001:db8::1",
            "2002:a00::1",
            "3fff::1",
        ];
        for ip in special {
            assert!(!is_public(ip.parse().unwrap()), "{ip}");
        }
        for ip in
            ["1.1.1.1", "100.63.0.1", "100.128.0.1", "172.32.0.1", "198.20.0.1", "2a00::1", "2001:4860::1"]
        {
            assert!(is_public(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn zero_is_the_default_and_rates_are_shared() {
        let bounds = Bounds::of(&Limits::default(), 4);
        assert_eq!(bounds.circuits_per_link, 4096);
        assert_eq!(bounds.bytes_per_second, 0);
        let limits = Limits { bytes_per_second: 3, queue_bytes: 4000, ..Limits::default() };
        let bounds = Bounds::of(&limits, 4);
        assert_eq!(bounds.bytes_per_second, 1);
        assert_eq!(bounds.queue_bytes, 1000);
    }
}

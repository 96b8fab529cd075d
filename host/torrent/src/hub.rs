//! Where peers come together: sources offer them, the in-process tracker announces them, connections
//! report how they fared.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use warren_ports::{Host, Target};

use crate::alias::{AliasBook, End, PeerIndex, Resolved};

/// The peers of one torrent, shared by all who deal with them.
pub(crate) struct Hub {
    book: Mutex<AliasBook>,
    /// Counts announcements that wait to be taken; the value itself means nothing.
    news: watch::Sender<u64>,
    /// Lab: private and loopback peers are peers.
    allow_private: bool,
}

impl Hub {
    pub(crate) fn new(allow_private: bool) -> Self {
        Self { book: Mutex::default(), news: watch::Sender::new(0), allow_private }
    }

    fn book(&self) -> MutexGuard<'_, AliasBook> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes peers that somebody out there named; those that cannot be peers are left out.
    pub(crate) fn offer(&self, peers: impl IntoIterator<Item = Target>, pinned: bool) -> usize {
        let fit = peers.into_iter().filter(|peer| is_public(peer, self.allow_private));
        self.add(fit, pinned)
    }

    /// Takes peers the user named, as they are.
    pub(crate) fn add(&self, peers: impl IntoIterator<Item = Target>, pinned: bool) -> usize {
        let mut book = self.book();
        let new = peers.into_iter().filter(|peer| book.offer(peer.clone(), pinned)).count();
        drop(book);
        if new > 0 {
            self.tell();
        }
        new
    }

    pub(crate) fn resolve(&self, alias: SocketAddrV4) -> Option<Resolved> {
        self.book().resolve(alias)
    }

    pub(crate) fn closed(&self, index: PeerIndex, end: End) -> Option<Duration> {
        self.book().closed(index, end)
    }

    pub(crate) fn renew(&self, index: PeerIndex) {
        self.book().renew(index);
        self.tell();
    }

    pub(crate) fn len(&self) -> usize {
        self.book().len()
    }

    fn tell(&self) {
        self.news.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// All aliases, for an engine that starts.
    pub(crate) fn all(&self) -> Vec<SocketAddrV4> {
        self.book().take_all()
    }

    /// The aliases that were not announced yet; waits until there is one.
    pub(crate) async fn fresh(&self) -> Vec<SocketAddrV4> {
        let mut news = self.news.subscribe();
        loop {
            let fresh = self.book().take_fresh();
            if !fresh.is_empty() || news.changed().await.is_err() {
                return fresh;
            }
        }
    }
}

/// Whether a destination that a stranger named may be asked for. The exit has its own, stricter say;
/// this keeps nonsense from costing a circuit, and strangers from reaching our own network when a
/// person chose 0 hops.
pub(crate) fn is_public(target: &Target, allow_private: bool) -> bool {
    if target.port == 0 {
        return false;
    }
    match &target.host {
        Host::Ip(ip) => is_public_address(ip.to_canonical(), allow_private),
        Host::Name(_) if allow_private => true,
        Host::Name(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            let last = name.rsplit('.').next().unwrap_or_default();
            // A last part of digits is an address in a spelling that some resolvers take.
            !last.is_empty()
                && !last.bytes().all(|b| b.is_ascii_digit())
                && !matches!(last, "localhost" | "local" | "internal" | "invalid" | "test" | "lan")
        }
    }
}

fn is_public_address(ip: IpAddr, allow_private: bool) -> bool {
    if ip.is_unspecified() || ip.is_multicast() {
        return false;
    }
    match ip {
        IpAddr::V4(ip) if is_alias(ip) || ip.is_broadcast() => false,
        _ if allow_private => true,
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && b & 0xc0 == 64;
            let testing = a == 198 && b & 0xfe == 18;
            let reserved = a == 0 || a >= 240;
            !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || shared || testing || reserved)
        }
        IpAddr::V6(ip) => is_global_v6(ip),
    }
}

/// 2000::/3 without the ranges that carry an IPv4 address (6to4, Teredo).
fn is_global_v6(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.segments();
    first & 0xe000 == 0x2000 && first != 0x2002 && !(first == 0x2001 && second == 0)
}

pub(crate) fn is_alias(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    a == 127 && b & 0xc0 == 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_may_name() {
        let parse = |text: &str| crate::magnet::parse_peer(text).unwrap();
        for good in ["1.2.3.4:5", "[2a00::1]:5", "peer.example:5"] {
            assert!(is_public(&parse(good), false), "{good}");
        }
        let private = [
            "127.0.0.1:5",
            "10.0.0.1:5",
            "192.168.1.1:5",
            "169.254.169.254:80",
            "100.64.0.1:5",
            "198.18.0.1:5",
            "[::1]:5",
            "[fd00::1]:5",
            "[fe80::1]:5",
            "[::ffff:10.0.0.1]:5",
            "[2002:a00:1::]:5",
            "localhost:5",
            "x.localhost:5",
            "tracker.internal.invalid:80",
        ];
        for bad in private {
            assert!(!is_public(&parse(bad), false), "{bad}");
            assert!(is_public(&parse(bad), true), "{bad}");
        }
        for never in ["127.64.0.1:1024", "127.127.0.1:1024", "0.0.0.0:5", "224.0.0.1:5", "255.255.255.255:5"]
        {
            assert!(!is_public(&parse(never), true), "{never}");
        }
        assert!(!is_public(&parse("2130706433:80"), false));
    }

    #[tokio::test]
    async fn fresh_waits_for_a_peer() {
        let hub = Hub::new(false);
        let (fresh, ()) = tokio::join!(hub.fresh(), async {
            tokio::task::yield_now().await;
            assert_eq!(hub.offer(crate::magnet::parse_peer("127.0.0.1:5"), false), 0);
            assert_eq!(hub.offer(crate::magnet::parse_peer("1.2.3.4:5"), false), 1);
        });
        assert_eq!(fresh, ["127.64.0.1:1024".parse().unwrap()]);
    }
}

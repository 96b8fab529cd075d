//! The torrent's own trackers, asked by us and not by the engine, through the torrent's circuits.

use std::time::Duration;

use url::Url;
use warren_ports::Target;

use crate::InfoHash;

pub(crate) mod http;
pub(crate) mod udp;

/// Trackers are not asked more often than this, whatever they say.
const MIN_INTERVAL: Duration = Duration::from_secs(30);
const MAX_INTERVAL: Duration = Duration::from_secs(3600);
/// Peers taken from one answer.
const MAX_PEERS: usize = 500;
/// Peers asked for.
const WANTED: u32 = 100;

/// Who we are to one torrent's trackers and peers: made anew for every session of a torrent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub(crate) peer_id: [u8; 20],
    /// The port we say we listen on; trackers take no 0.
    pub(crate) port: u16,
    pub(crate) key: u32,
}

impl Identity {
    /// A random one.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 26];
        getrandom::fill(&mut bytes)?;
        let (key, rest) =
            (u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]), [bytes[4], bytes[5]]);
        let mut peer_id = *b"-WR0100-000000000000";
        // Letters and digits, as most clients have it.
        const DIGITS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        for (to, from) in peer_id.iter_mut().skip(8).zip(bytes.iter().skip(6)) {
            *to = DIGITS.get(usize::from(from & 31)).copied().unwrap_or(b'0');
        }
        Ok(Self { peer_id, port: 1024 + u16::from_le_bytes(rest) % 60_000, key })
    }
}

/// Why an announce is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    Regular,
    Completed,
    Started,
    Stopped,
}

/// What a tracker is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announce {
    pub(crate) infohash: InfoHash,
    pub(crate) identity: Identity,
    pub(crate) uploaded: u64,
    pub(crate) downloaded: u64,
    pub(crate) left: u64,
    pub(crate) event: Event,
}

/// What a tracker says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Answer {
    /// When to ask again.
    pub(crate) interval: Duration,
    pub(crate) peers: Vec<Target>,
}

impl Answer {
    fn new(seconds: u64, mut peers: Vec<Target>) -> Self {
        peers.truncate(MAX_PEERS);
        Self { interval: Duration::from_secs(seconds).clamp(MIN_INTERVAL, MAX_INTERVAL), peers }
    }
}

/// Why a tracker gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrackerError {
    /// Neither http, https nor udp, or without host or port.
    #[error("not a tracker address we can ask")]
    Address,
    /// The tracker says no.
    #[error("the tracker refuses: {0}")]
    Refused(String),
    /// What came is not a tracker's answer.
    #[error("not a tracker's answer")]
    Malformed,
    /// Nothing came.
    #[error("no answer")]
    Silent,
    /// No circuit, or the exit failed.
    #[error(transparent)]
    Dial(#[from] warren_ports::DialError),
    /// HTTP failed, or no connection.
    #[error("{0}")]
    Http(String),
}

/// A tracker of a kind we can ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Tracker {
    Http(Url),
    Udp(Target),
}

impl Tracker {
    /// Reads a tracker's address.
    ///
    /// # Errors
    /// When it is of another kind (`wss`, …), or broken.
    pub(crate) fn parse(text: &str) -> Result<Self, TrackerError> {
        let url = Url::parse(text.trim()).map_err(|_| TrackerError::Address)?;
        match url.scheme() {
            "http" | "https" if url.host().is_some() => Ok(Self::Http(url)),
            "udp" => {
                let (host, port) = (url.host_str(), url.port());
                let (host, port) = host.zip(port).ok_or(TrackerError::Address)?;
                crate::magnet::parse_peer(&format!("{host}:{port}"))
                    .map(Self::Udp)
                    .ok_or(TrackerError::Address)
            }
            _ => Err(TrackerError::Address),
        }
    }
}

/// Addresses as they stand side by side in answers (BEP 23, BEP 7): 6 bytes each, or 18.
fn compact(bytes: &[u8], v6: bool) -> impl Iterator<Item = Target> + '_ {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
    bytes.chunks_exact(if v6 { 18 } else { 6 }).filter_map(|peer| {
        let (ip, port) = peer.split_last_chunk::<2>().map(|(ip, port)| (ip, u16::from_be_bytes(*port)))?;
        let ip = match (<[u8; 4]>::try_from(ip), <[u8; 16]>::try_from(ip)) {
            (Ok(v4), _) => Ipv4Addr::from(v4).into(),
            (_, Ok(v6)) => Ipv6Addr::from(v6).into(),
            _ => return None,
        };
        (port != 0).then(|| SocketAddr::new(ip, port).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_trackers_can_be_asked() {
        let udp = |text| match Tracker::parse(text) {
            Ok(Tracker::Udp(target)) => target.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(udp("udp://t.example:80/announce"), "t.example:80");
        assert_eq!(udp("udp://192.0.2.1:6969"), "192.0.2.1:6969");
        assert_eq!(udp("udp://[2001:db8::1]:6969/announce"), "[2001:db8::1]:6969");
        assert!(matches!(Tracker::parse("https://t.example/a?passkey=1"), Ok(Tracker::Http(_))));
        for bad in ["udp://t.example", "wss://t.example", "t.example:80", "", "http://", "udp://t.example:0"]
        {
            assert!(Tracker::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn identities_differ() {
        let (a, b) = (Identity::random().unwrap(), Identity::random().unwrap());
        assert_ne!(a.peer_id, b.peer_id);
        assert!(a.peer_id.starts_with(b"-WR0100-") && a.port >= 1024);
    }
}

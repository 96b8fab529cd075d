//! Magnet links (BEP 9), with `x.pe` which the engine does not read.

use std::net::IpAddr;

use url::form_urlencoded;
use warren_ports::{Host, Target};

use crate::{Error, InfoHash};

const MAX_LEN: usize = 64 * 1024;
const MAX_TRACKERS: usize = 20;
const MAX_PEERS: usize = 100;

/// What a magnet link says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Magnet {
    /// `xt=urn:btih:`
    pub infohash: InfoHash,
    /// `dn`
    pub name: Option<String>,
    /// `tr`, in order, each once, at most 20.
    pub trackers: Vec<String>,
    /// `x.pe`: IPv4, IPv6 in brackets, or a name, each with a port; at most 100. Others are left out.
    pub peers: Vec<Target>,
}

impl Magnet {
    /// Reads a link.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(link: &str) -> Result<Self, Error> {
        let link = link.trim();
        let head = link.get(..8).ok_or(Error::NotAMagnet)?;
        let query = link.get(8..).ok_or(Error::NotAMagnet)?;
        if link.len() > MAX_LEN || !head.eq_ignore_ascii_case("magnet:?") {
            return Err(Error::NotAMagnet);
        }
        let (mut infohash, mut v2, mut name) = (None, false, None);
        let (mut trackers, mut peers) = (Vec::new(), Vec::new());
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match unnumbered(&key) {
                "xt" if infohash.is_none() => match xt(&value)? {
                    Topic::V1(hash) => infohash = Some(hash),
                    Topic::V2 => v2 = true,
                    Topic::Other => {}
                },
                "dn" if name.is_none() => name = Some(value.into_owned()),
                "tr" if trackers.len() < MAX_TRACKERS && !trackers.iter().any(|t| *t == value) => {
                    trackers.push(value.into_owned());
                }
                "x.pe" if peers.len() < MAX_PEERS => peers.extend(parse_peer(&value)),
                _ => {}
            }
        }
        let infohash = infohash.ok_or(if v2 { Error::MagnetV2Only } else { Error::MagnetWithoutInfohash })?;
        Ok(Self { infohash, name, trackers, peers })
    }

    /// The link, as others read it.
    #[must_use]
    pub fn format(&self) -> String {
        let mut link = format!("magnet:?xt=urn:btih:{}", self.infohash);
        let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        if let Some(name) = &self.name {
            // Not every client reads '+' as a space.
            link.push_str(&format!("&dn={}", encode(name).replace('+', "%20")));
        }
        for tracker in &self.trackers {
            link.push_str(&format!("&tr={}", encode(tracker)));
        }
        for peer in &self.peers {
            link.push_str(&format!("&x.pe={peer}"));
        }
        link
    }
}

enum Topic {
    V1(InfoHash),
    V2,
    Other,
}

fn xt(value: &str) -> Result<Topic, Error> {
    let lower = value.to_ascii_lowercase();
    match (lower.strip_prefix("urn:btih:"), lower.starts_with("urn:btmh:")) {
        (Some(hash), _) => Ok(Topic::V1(hash.parse()?)),
        (None, true) => Ok(Topic::V2),
        (None, false) => Ok(Topic::Other),
    }
}

/// `tr.1` is `tr`, and `x.pe` is itself.
fn unnumbered(key: &str) -> &str {
    match key.rsplit_once('.') {
        Some((base, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => base,
        _ => key,
    }
}

/// Reads `address:port`, `[v6]:port` or `name:port`; nothing when it is none of them.
#[must_use]
pub fn parse_peer(text: &str) -> Option<Target> {
    if let Ok(address) = text.parse::<std::net::SocketAddr>() {
        return (address.port() != 0).then(|| address.into());
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    let host = match host.parse::<IpAddr>() {
        Ok(ip) if ip.is_ipv4() => Host::Ip(ip),
        // An IPv6 address without brackets leaves open where it ends.
        Ok(_) => return None,
        Err(_) => Host::Name(host_name(host)?),
    };
    Some(Target { host, port })
}

fn host_name(host: &str) -> Option<String> {
    let fits = !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    fits.then(|| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "cab507494d02ebb1178b38f2e9d7be299c86b862";

    #[test]
    fn hex_base32_peers_and_numbered_keys() {
        let link = format!(
            "magnet:?xt=urn:btih:{}&dn=a+b%26c&tr=udp%3A%2F%2Ft.example%3A80&tr.1=http://u.example/announce\
             &tr=udp://t.example:80&x.pe=192.0.2.1:6881&x.pe=[2001:db8::1]:6882&x.pe=Peer.example:6883\
             &x.pe=2001:db8::1:6884&x.pe=192.0.2.1:0&x.pe=nonsense&so=1",
            HEX.to_uppercase()
        );
        let magnet = Magnet::parse(&link).unwrap();
        assert_eq!(magnet.infohash.to_string(), HEX);
        assert_eq!(magnet.name.as_deref(), Some("a b&c"));
        assert_eq!(magnet.trackers, ["udp://t.example:80", "http://u.example/announce"]);
        let peers: Vec<_> = magnet.peers.iter().map(ToString::to_string).collect();
        assert_eq!(peers, ["192.0.2.1:6881", "[2001:db8::1]:6882", "peer.example:6883"]);
        assert_eq!(Magnet::parse(&magnet.format()).unwrap(), magnet);

        // RFC 4648 base32 of the same twenty bytes.
        let base32: InfoHash = "zk2qosknalv3cf4lhdzotv56fgoinodc".parse().unwrap();
        assert_eq!(base32, magnet.infohash);
    }

    #[test]
    fn broken_links_say_what_is_wrong() {
        assert!(matches!(Magnet::parse("http://example.org"), Err(Error::NotAMagnet)));
        assert!(matches!(Magnet::parse("magnet"), Err(Error::NotAMagnet)));
        assert!(matches!(Magnet::parse("größe:?x"), Err(Error::NotAMagnet)));
        assert!(matches!(Magnet::parse("magnet:?dn=x"), Err(Error::MagnetWithoutInfohash)));
        assert!(matches!(Magnet::parse("magnet:?xt=urn:btih:12"), Err(Error::MagnetInfohash)));
        let bad = format!("magnet:?xt=urn:btih:{}", "g".repeat(40));
        assert!(matches!(Magnet::parse(&bad), Err(Error::MagnetInfohash)));
        let v2 = format!("magnet:?xt=urn:btmh:1220{}", "a".repeat(64));
        assert!(matches!(Magnet::parse(&v2), Err(Error::MagnetV2Only)));
        let long = format!("magnet:?xt=urn:btih:{HEX}&dn={}", "a".repeat(MAX_LEN));
        assert!(matches!(Magnet::parse(&long), Err(Error::NotAMagnet)));
    }
}

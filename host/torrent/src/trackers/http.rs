//! HTTP trackers (BEP 3, 7, 23, 31).

use std::time::Duration;

use reqwest::Client;
use url::Url;
use warren_ports::{Host, Target};

use super::{Announce, Answer, Event, TrackerError, WANTED, compact};
use crate::Error;
use crate::bencode::{self, Item, Value};

/// The longest answer read, in bytes.
const MAX_ANSWER: usize = 256 * 1024;
/// For a whole exchange, circuit and handshakes included.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A client that knows no way out but our SOCKS server, and names are not resolved here. It says
/// nothing of itself: no user agent, no referer, no cookies.
///
/// # Errors
/// When TLS cannot be set up: a machine without CA certificates.
pub(crate) fn client(proxy: &str) -> Result<Client, Error> {
    build(proxy).map_err(|error| Error::Engine(chain(&error.without_url())))
}

fn build(proxy: &str) -> Result<Client, reqwest::Error> {
    Client::builder()
        .proxy(reqwest::Proxy::all(proxy)?)
        .redirect(reqwest::redirect::Policy::limited(3))
        .referer(false)
        .pool_max_idle_per_host(0)
        .timeout(TIMEOUT)
        .build()
}

/// Asks a tracker.
///
/// # Errors
/// Why there is no answer.
pub(crate) async fn announce(client: &Client, url: &Url, what: &Announce) -> Result<Answer, TrackerError> {
    let body = get(client, with_query(url, what), MAX_ANSWER).await?;
    decode(&body)
}

/// Fetches at most `limit` bytes.
///
/// # Errors
/// When it fails, is no success, or is longer.
pub(crate) async fn get(client: &Client, url: Url, limit: usize) -> Result<Vec<u8>, TrackerError> {
    // Without the address: what is fetched is nobody's business in a log.
    let http = |error: reqwest::Error| TrackerError::Http(chain(&error.without_url()));
    let mut response = client.get(url).send().await.map_err(http)?;
    let status = response.status();
    if !status.is_success() {
        return Err(TrackerError::Http(format!("HTTP status {status}")));
    }
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(http)? {
        if body.len() + part.len() > limit {
            return Err(TrackerError::Http(format!("more than {limit} bytes")));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

fn with_query(url: &Url, what: &Announce) -> Url {
    let mut query = url.query().map(|query| format!("{query}&")).unwrap_or_default();
    let identity = &what.identity;
    query.push_str(&format!(
        "info_hash={}&peer_id={}&port={}&uploaded={}&downloaded={}&left={}&compact=1&numwant={}&key={:08x}",
        escape(&what.infohash.0),
        escape(&identity.peer_id),
        identity.port,
        what.uploaded,
        what.downloaded,
        what.left,
        if what.event == Event::Stopped { 0 } else { WANTED },
        identity.key,
    ));
    query.push_str(match what.event {
        Event::Regular => "",
        Event::Completed => "&event=completed",
        Event::Started => "&event=started",
        Event::Stopped => "&event=stopped",
    });
    let mut url = url.clone();
    url.set_query(Some(&query));
    url
}

fn escape(bytes: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    bytes.iter().map(|b| if plain(b) { char::from(*b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// Reads a tracker's answer.
///
/// # Errors
/// When it is none, or a refusal.
pub(crate) fn decode(body: &[u8]) -> Result<Answer, TrackerError> {
    let (root, _) = bencode::parse_prefix(body).map_err(|_| TrackerError::Malformed)?;
    if !root.is_dict() {
        return Err(TrackerError::Malformed);
    }
    if let Some(reason) = root.get("failure reason").and_then(Item::bytes) {
        let reason = reason.get(..reason.len().min(200)).unwrap_or_default();
        return Err(TrackerError::Refused(String::from_utf8_lossy(reason).into_owned()));
    }
    let seconds = |key| root.get(key).and_then(Item::int).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    let mut peers = Vec::new();
    match root.get("peers").map(|peers| &peers.value) {
        Some(Value::Bytes(bytes)) => peers.extend(compact(bytes, false)),
        Some(Value::List(list)) => peers.extend(list.iter().filter_map(spelled_out)),
        _ => {}
    }
    if let Some(bytes) = root.get("peers6").and_then(Item::bytes) {
        peers.extend(compact(bytes, true));
    }
    Ok(Answer::new(seconds("interval").max(seconds("min interval")), peers))
}

fn spelled_out(peer: &Item<'_>) -> Option<Target> {
    let port = u16::try_from(peer.get("port")?.int()?).ok().filter(|port| *port != 0)?;
    let host = peer.get("ip")?.text()?;
    match host.parse() {
        Ok(ip) => Some(Target { host: Host::Ip(ip), port }),
        Err(_) => crate::magnet::parse_peer(&format!("{host}:{port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InfoHash;
    use crate::trackers::Identity;

    #[test]
    fn answers_compact_and_spelled_out() {
        let compact = b"d8:intervali1800e5:peers12:\x01\x02\x03\x04\x1a\xe1\x01\x02\x03\x05\0\0\
            6:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe2e";
        let answer = decode(compact).unwrap();
        let peers: Vec<_> = answer.peers.iter().map(ToString::to_string).collect();
        assert_eq!(peers, ["1.2.3.4:6881", "[2001:db8::1]:6882"]);
        assert_eq!(answer.interval.as_secs(), 1800);

        let dict = b"d8:intervali1e5:peersld2:ip7:1.2.3.44:porti6881eed2:ip11:2001:db8::14:porti6882ee\
            d2:ip6:peer.x4:porti6883eed2:ip7:1.2.3.54:porti70000eeee";
        let answer = decode(dict).unwrap();
        let peers: Vec<_> = answer.peers.iter().map(ToString::to_string).collect();
        assert_eq!(peers, ["1.2.3.4:6881", "[2001:db8::1]:6882", "peer.x:6883"]);
        assert_eq!(answer.interval.as_secs(), 30, "not asked more often than that");
        assert_eq!(decode(b"d8:intervali99999999ee").unwrap().interval.as_secs(), 3600);
    }

    #[test]
    fn refusals_and_garbage() {
        let refused = decode(b"d14:failure reason2:noe");
        assert!(matches!(refused, Err(TrackerError::Refused(reason)) if reason == "no"));
        for bad in [&b"<html>"[..], b"", b"le", b"d8:interval"] {
            assert!(matches!(decode(bad), Err(TrackerError::Malformed)));
        }
    }

    #[test]
    fn the_query_says_what_bep_3_asks_for() {
        let infohash = InfoHash(*b"0123456789\0\xff &=?/+%x");
        let identity = Identity { peer_id: *b"-WR0100-abcdefghijkl", port: 6881, key: 0xab };
        let what =
            Announce { infohash, identity, uploaded: 1, downloaded: 2, left: 3, event: Event::Started };
        let url = with_query(&Url::parse("http://t.example/announce?passkey=1").unwrap(), &what);
        assert_eq!(
            url.as_str(),
            "http://t.example/announce?passkey=1&info_hash=0123456789%00%FF%20%26%3D%3F%2F%2B%25x\
             &peer_id=-WR0100-abcdefghijkl&port=6881&uploaded=1&downloaded=2&left=3&compact=1&numwant=100\
             &key=000000ab&event=started"
        );
    }
}

//! The tracker the engine knows: HTTP on the very stream with which the engine asked our SOCKS server
//! for [`HOST`]. Answers when there is a peer to announce (a long poll), so that a peer is known to
//! the engine about a second after it is known to us.

use std::net::SocketAddrV4;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use warren_ports::BoxStream;

use crate::bencode;
use crate::hub::Hub;

/// Its name, which no resolver is ever asked for (RFC 6761).
pub(crate) const HOST: &str = "tracker.internal.invalid";
/// What the engine is configured with.
pub(crate) const URL: &str = "http://tracker.internal.invalid/announce";
/// An empty answer after this long keeps the connection from looking dead.
const POLL: Duration = Duration::from_secs(45);
const MAX_HEAD: usize = 8 * 1024;

/// Answers announces until the engine hangs up. What the engine does wrong ends it too.
pub(crate) async fn serve(mut stream: BoxStream, hub: &Hub) -> std::io::Result<()> {
    let mut input = Vec::new();
    loop {
        let Some(started) = read_head(&mut stream, &mut input).await? else { return Ok(()) };
        let mut peers = if started { hub.all() } else { Vec::new() };
        if peers.is_empty() {
            match wait(&mut stream, &mut input, hub).await? {
                Some(fresh) => peers = fresh,
                None => return Ok(()),
            }
        }
        stream.write_all(&answer(&peers)).await?;
        stream.flush().await?;
    }
}

/// Fresh aliases, none after [`POLL`], or `None` when the engine hung up meanwhile.
async fn wait(
    stream: &mut BoxStream,
    input: &mut Vec<u8>,
    hub: &Hub,
) -> std::io::Result<Option<Vec<SocketAddrV4>>> {
    let deadline = tokio::time::sleep(POLL);
    tokio::pin!(deadline);
    loop {
        let mut more = [0; 512];
        tokio::select! {
            // An engine that left must not take the aliases with it.
            biased;
            read = stream.read(&mut more) => {
                let got = read?;
                input.extend_from_slice(more.get(..got).unwrap_or_default());
                if got == 0 || input.len() > MAX_HEAD {
                    return Ok(None);
                }
            }
            fresh = hub.fresh() => return Ok(Some(fresh)),
            () = &mut deadline => return Ok(Some(Vec::new())),
        }
    }
}

/// Reads one request's head and leaves in `input` what follows it. Whether it is a first announce;
/// `None` at the end of the stream.
async fn read_head(stream: &mut BoxStream, input: &mut Vec<u8>) -> std::io::Result<Option<bool>> {
    loop {
        if let Some(end) = input.windows(4).position(|w| w == b"\r\n\r\n") {
            let head: Vec<u8> = input.drain(..end + 4).collect();
            let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
            let started = b"event=started";
            return Ok(Some(line.windows(started.len()).any(|w| w == started)));
        }
        if input.len() > MAX_HEAD || stream.read_buf(input).await? == 0 {
            return Ok(None);
        }
    }
}

fn answer(peers: &[SocketAddrV4]) -> Vec<u8> {
    let mut compact = Vec::with_capacity(peers.len() * 6);
    for peer in peers {
        compact.extend_from_slice(&peer.ip().octets());
        compact.extend_from_slice(&peer.port().to_be_bytes());
    }
    // The engine sleeps the interval and does not clamp it: 0 would spin when peers come quickly.
    let mut body = b"d8:intervali1e12:min intervali1e5:peers".to_vec();
    bencode::put_bytes(&mut body, &compact);
    body.push(b'e');
    let mut out =
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", body.len())
            .into_bytes();
    out.extend_from_slice(&body);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn response(client: &mut tokio::io::DuplexStream) -> Vec<u8> {
        let mut got = Vec::new();
        loop {
            if let Some(end) = got.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8(got[..end].to_vec()).unwrap();
                let length: usize = head.rsplit(": ").next().unwrap().parse().unwrap();
                if got.len() == end + 4 + length {
                    return got.split_off(end + 4);
                }
            }
            assert_ne!(client.read_buf(&mut got).await.unwrap(), 0);
        }
    }

    #[tokio::test]
    async fn long_polls_and_starts_over() {
        let hub = std::sync::Arc::new(Hub::new(false));
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let task = tokio::spawn({
            let hub = hub.clone();
            async move { serve(Box::new(server), &hub).await }
        });
        let first = b"GET /announce?info_hash=x&event=started HTTP/1.1\r\nhost: x\r\n\r\n";
        client.write_all(first).await.unwrap();
        tokio::task::yield_now().await;
        hub.offer(crate::magnet::parse_peer("1.2.3.4:5"), false);
        let one = b"d8:intervali1e12:min intervali1e5:peers6:\x7f\x40\x00\x01\x04\x00e";
        assert_eq!(response(&mut client).await, one);

        client.write_all(b"GET /announce?info_hash=x HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        tokio::task::yield_now().await;
        hub.offer(crate::magnet::parse_peer("1.2.3.5:5"), false);
        assert!(response(&mut client).await.ends_with(b"peers6:\x7f\x40\x00\x02\x04\x00e"));

        client.write_all(first).await.unwrap();
        let all = b"peers12:\x7f\x40\x00\x01\x04\x00\x7f\x40\x00\x02\x04\x00e";
        assert!(response(&mut client).await.ends_with(all), "a new start gets all");
        drop(client);
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_engine_that_left_takes_no_alias_with_it() {
        let hub = std::sync::Arc::new(Hub::new(false));
        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(b"GET /announce HTTP/1.1\r\n\r\n").await.unwrap();
        drop(client);
        hub.offer(crate::magnet::parse_peer("1.2.3.4:5"), false);
        serve(Box::new(server), &hub).await.unwrap();
        assert_eq!(hub.fresh().await.len(), 1);
    }

    #[tokio::test]
    async fn endless_heads_end() {
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        client.write_all(&vec![b'a'; 32 * 1024]).await.unwrap();
        serve(Box::new(server), &Hub::new(false)).await.unwrap();
    }
}

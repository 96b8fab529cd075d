//! An HTTP tracker that knows one peer and remembers who asked.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

#[derive(Clone, Debug)]
pub(super) struct Announced {
    pub(super) event: String,
    pub(super) peer_id: String,
    pub(super) head: String,
}

pub(super) struct TestTracker {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

struct Shared {
    peer: SocketAddr,
    announces: Mutex<Vec<Announced>>,
    torrent: Mutex<Vec<u8>>,
}

impl Drop for TestTracker {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl TestTracker {
    pub(super) async fn start(peer: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { peer, announces: Mutex::default(), torrent: Mutex::default() });
        let server = tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(answer(stream, shared.clone()));
                }
            }
        });
        Self { address, shared, server }
    }

    /// A .torrent of what is at `path`, which names this tracker.
    pub(super) fn torrent(&self, path: &Path) -> Vec<u8> {
        let info = crate::create::create(path).unwrap().info;
        let announce = format!("http://{}/announce", self.address);
        let head = format!("d8:announce{}:{announce}4:info", announce.len());
        [head.as_bytes(), &info, b"e"].concat()
    }

    pub(super) fn serve_torrent(&self, torrent: &[u8]) {
        *self.shared.torrent.lock().unwrap() = torrent.to_vec();
    }

    pub(super) fn torrent_url(&self) -> String {
        format!("http://{}/x.torrent", self.address)
    }

    pub(super) fn announces(&self) -> Vec<Announced> {
        self.shared.announces.lock().unwrap().clone()
    }
}

/// A UDP tracker (BEP 15) that knows one peer; answers until it is dropped. Its address, and the events
/// it was told.
pub(super) async fn udp(peer: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<u32>>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = events.clone();
    tokio::spawn(async move {
        let mut request = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut request).await {
            let reply = match length {
                16 => [&request[8..16], &[3; 8]].concat(),
                98 => {
                    assert_eq!(request[..8], [3; 8]);
                    told.lock().unwrap().push(u32::from_be_bytes(request[80..84].try_into().unwrap()));
                    let IpAddr::V4(ip) = peer.ip() else { panic!() };
                    let counts = [0, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 1];
                    [&request[8..16], &counts, &ip.octets(), &peer.port().to_be_bytes()].concat()
                }
                _ => continue,
            };
            socket.send_to(&reply, from).await.unwrap();
        }
    });
    (address, events)
}

async fn answer(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let head = String::from_utf8(head).unwrap();
    let field = |name: &str| {
        let query = head.split_whitespace().nth(1).unwrap().split_once('?').map_or("", |(_, query)| query);
        let pair = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        pair.unwrap_or_default().to_owned()
    };
    let body = if head.starts_with("GET /x.torrent ") {
        shared.torrent.lock().unwrap().clone()
    } else {
        let announced = Announced { event: field("event"), peer_id: field("peer_id"), head: head.clone() };
        shared.announces.lock().unwrap().push(announced);
        let IpAddr::V4(ip) = shared.peer.ip() else { panic!() };
        let peer = [&ip.octets()[..], &shared.peer.port().to_be_bytes()].concat();
        [b"d8:intervali1800e5:peers6:", &peer[..], b"e"].concat()
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
}

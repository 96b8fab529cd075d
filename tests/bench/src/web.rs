//! A web server on loopback: `GET /<bytes>` answers with so many bytes of a known pattern.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

const BLOCK: usize = 256 * 1024;
/// Connections served at once; more are closed.
const MAX_CONNECTIONS: usize = 2048;
/// The most bytes of a request.
const MAX_REQUEST: u64 = 16 * 1024;

/// What all answers repeat. One for all of them: a block each of a thousand would take the processor's cache from the nodes that
/// are measured.
static ANSWER: LazyLock<Vec<u8>> = LazyLock::new(|| (0..BLOCK).map(pattern).collect());

/// A running server; dropping it stops it.
pub struct WebServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl WebServer {
    /// Starts one on a free port, in threads of this process.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, connections) = (stop.clone(), Arc::new(AtomicUsize::new(0)));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let count = connections.clone();
                if count.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
                    count.fetch_sub(1, Ordering::Relaxed);
                    continue;
                }
                std::thread::spawn(move || {
                    // A client that leaves early is its own business.
                    let _ = serve(&stream);
                    count.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Ok(Self { address, stop })
    }

    /// The address of `bytes` bytes.
    #[must_use]
    pub fn url(&self, bytes: u64) -> String {
        format!("http://{}/{bytes}", self.address)
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener so that it sees the flag; if it cannot, the process' end does.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

fn serve(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(300)))?;
    let mut reader = BufReader::new(io::Read::take(stream, MAX_REQUEST));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let length = request.split(' ').nth(1).and_then(|path| path.strip_prefix('/')?.parse::<u64>().ok());
    let Some(length) = length else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut left = length;
    while left > 0 {
        let take = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        stream.write_all(ANSWER.get(..take).unwrap_or_default())?;
        left -= take as u64;
    }
    Ok(())
}

/// The byte at `offset` of every answer; the pattern repeats with a period that no buffer has.
#[must_use]
pub fn pattern(offset: usize) -> u8 {
    ((offset % BLOCK) % 251) as u8
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn get(server: &WebServer, path: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    #[test]
    fn it_serves_as_many_bytes_as_asked() {
        let server = WebServer::start().unwrap();
        for length in [0, 1, BLOCK, BLOCK * 3 + 7] {
            let answer = get(&server, &format!("/{length}"));
            let head = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
            assert_eq!(answer.len() - head, length);
            assert!(answer[head..].iter().enumerate().all(|(offset, byte)| *byte == pattern(offset)));
        }
        assert!(get(&server, "/nothing").starts_with(b"HTTP/1.1 404"));
    }
}

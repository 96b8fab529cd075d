//! A web server on loopback whose pages can be checked without keeping them.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;

/// Byte `at` of every page: no period that a lost or repeated block could hide behind.
#[must_use]
pub fn byte_at(at: u64) -> u8 {
    let mixed = (at / 8 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bytes = (mixed ^ (mixed >> 29)).to_le_bytes();
    bytes.get(usize::try_from(at % 8).unwrap_or(0)).copied().unwrap_or(0)
}

/// `GET /N` gives N bytes of [`byte_at`]. Serves until the process ends.
pub struct Origin {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Origin {
    /// Listens on 127.0.0.1, any port.
    ///
    /// # Errors
    /// When it cannot.
    pub fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                // A client that goes away is the client's business.
                std::thread::spawn(move || drop(answer(stream)));
            }
        });
        Ok(Self { address, requests })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections it has had.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn answer(stream: TcpStream) -> anyhow::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let path = request.split(' ').nth(1).context("no path")?;
    let length: u64 = path.trim_start_matches('/').parse()?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
    }
    let mut out = std::io::BufWriter::with_capacity(1 << 16, stream);
    write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    let mut block = Vec::with_capacity(1 << 16);
    let mut at = 0;
    while at < length {
        let end = length.min(at + (1 << 16));
        block.clear();
        block.extend((at..end).map(byte_at));
        out.write_all(&block)?;
        at = end;
    }
    out.flush()?;
    Ok(())
}

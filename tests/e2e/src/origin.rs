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

/// `GET /N` gives N bytes of [`byte_at`]; a file may be served beside. Serves until the process ends.
pub struct Origin {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

/// A page that is no [`byte_at`].
#[derive(Debug)]
struct File {
    name: String,
    bytes: Vec<u8>,
}

impl Origin {
    /// Listens on 127.0.0.1, any port.
    ///
    /// # Errors
    /// When it cannot.
    pub fn start() -> anyhow::Result<Self> {
        Self::listen("127.0.0.1:0", None)
    }

    /// The same on `[::1]`.
    ///
    /// # Errors
    /// When it cannot.
    pub fn start_v6() -> anyhow::Result<Self> {
        Self::listen("[::1]:0", None)
    }

    /// The same on 127.0.0.1, and `GET /NAME` gives these bytes.
    ///
    /// # Errors
    /// When it cannot.
    pub fn with_file(name: &str, bytes: Vec<u8>) -> anyhow::Result<Self> {
        Self::listen("127.0.0.1:0", Some(File { name: name.to_owned(), bytes }))
    }

    fn listen(address: &str, file: Option<File>) -> anyhow::Result<Self> {
        let (listener, file) = (TcpListener::bind(address)?, Arc::new(file));
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                // A client that goes away is the client's business.
                let file = Arc::clone(&file);
                std::thread::spawn(move || drop(answer(stream, file.as_ref().as_ref())));
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

fn answer(stream: TcpStream, file: Option<&File>) -> anyhow::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let path = request.split(' ').nth(1).context("no path")?;
    let path = path.trim_start_matches('/');
    let file = file.filter(|file| file.name == path);
    let length = file.map_or_else(|| path.parse(), |file| Ok(file.bytes.len() as u64))?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
    }
    let mut out = std::io::BufWriter::with_capacity(1 << 16, stream);
    write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    if let Some(file) = file {
        out.write_all(&file.bytes)?;
        return Ok(out.flush()?);
    }
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

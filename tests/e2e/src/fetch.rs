//! A small SOCKS5 client (RFC 1928, RFC 1929) of our own, and HTTP over it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::origin::byte_at;

/// How long a read may hang: longer than a dial waits for a circuit.
const PATIENCE: Duration = Duration::from_secs(90);

/// A SOCKS server and the password it wants.
#[derive(Clone, Debug)]
pub struct Door {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its password.
    pub password: String,
}

/// Connects to `target` through the SOCKS server as `user`.
///
/// # Errors
/// With the reply code, or when the server does not speak SOCKS.
pub fn connect(door: &Door, user: &str, target: SocketAddr) -> anyhow::Result<TcpStream> {
    let SocketAddr::V4(v4) = target else { bail!("IPv4 only") };
    let mut stream = TcpStream::connect(door.address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[5, 1, 2])?;
    let mut two = [0; 2];
    stream.read_exact(&mut two)?;
    ensure!(two == [5, 2], "method refused: {two:?}");
    let mut login = vec![1, u8::try_from(user.len())?];
    login.extend(user.bytes());
    login.push(u8::try_from(door.password.len())?);
    login.extend(door.password.bytes());
    stream.write_all(&login)?;
    stream.read_exact(&mut two)?;
    ensure!(two == [1, 0], "login refused: {two:?}");
    let mut request = vec![5, 1, 0, 1];
    request.extend(v4.ip().octets());
    request.extend(v4.port().to_be_bytes());
    stream.write_all(&request)?;
    let mut reply = [0; 4];
    stream.read_exact(&mut reply)?;
    let [_, code, _, kind] = reply;
    ensure!(code == 0, "SOCKS reply {code}");
    let mut bound = vec![0; if kind == 4 { 18 } else { 6 }];
    stream.read_exact(&mut bound)?;
    Ok(stream)
}

/// A page being fetched.
pub struct Page {
    reader: BufReader<TcpStream>,
    length: u64,
    at: u64,
}

impl Page {
    /// Asks `origin` for `length` bytes through the SOCKS server.
    ///
    /// # Errors
    /// When the connection or the answer fails.
    pub fn open(door: &Door, user: &str, origin: SocketAddr, length: u64) -> anyhow::Result<Self> {
        let mut stream = connect(door, user, origin)?;
        write!(stream, "GET /{length} HTTP/1.1\r\nHost: {origin}\r\n\r\n")?;
        let mut reader = BufReader::with_capacity(1 << 16, stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        ensure!(line.starts_with("HTTP/1.1 200"), "{line:?}");
        while line.trim() != "" {
            line.clear();
            ensure!(reader.read_line(&mut line)? > 0, "the head ended early");
        }
        Ok(Self { reader, length, at: 0 })
    }

    /// Reads and checks up to byte `end`.
    ///
    /// # Errors
    /// When it ends early or a byte is not the right one.
    pub fn read_to(&mut self, end: u64) -> anyhow::Result<()> {
        let end = end.min(self.length);
        while self.at < end {
            let block = self.reader.fill_buf()?;
            ensure!(!block.is_empty(), "ended after {} of {} bytes", self.at, self.length);
            let take = block.len().min(usize::try_from(end - self.at)?);
            let taken = block.get(..take).context("no block")?;
            for (byte, at) in taken.iter().zip(self.at..) {
                ensure!(*byte == byte_at(at), "byte {at} is wrong");
            }
            self.reader.consume(take);
            self.at += take as u64;
        }
        Ok(())
    }

    /// Reads and checks all of it, and that nothing follows.
    ///
    /// # Errors
    /// As [`Self::read_to`].
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.read_to(self.length)?;
        ensure!(self.reader.fill_buf()?.is_empty(), "more than was asked for");
        Ok(())
    }
}

/// Fetches and checks `length` bytes.
///
/// # Errors
/// As [`Page`].
pub fn page(door: &Door, user: &str, origin: SocketAddr, length: u64) -> anyhow::Result<()> {
    Page::open(door, user, origin, length)?.finish()
}

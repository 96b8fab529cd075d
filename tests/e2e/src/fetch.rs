//! A small SOCKS5 client (RFC 1928, RFC 1929) of our own, and HTTP over it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
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

/// Where a request goes, as SOCKS writes it.
#[derive(Clone, Debug)]
pub enum Target {
    /// An address.
    Address(SocketAddr),
    /// A name that the exit resolves.
    Name(String, u16),
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl Target {
    fn encode(&self) -> anyhow::Result<Vec<u8>> {
        let (mut bytes, port) = match self {
            Self::Address(SocketAddr::V4(v4)) => ([&[1], &v4.ip().octets()[..]].concat(), v4.port()),
            Self::Address(SocketAddr::V6(v6)) => ([&[4], &v6.ip().octets()[..]].concat(), v6.port()),
            Self::Name(name, port) => ([&[3, u8::try_from(name.len())?], name.as_bytes()].concat(), *port),
        };
        bytes.extend(port.to_be_bytes());
        Ok(bytes)
    }
}

/// Logs in as `user`, makes a request and reads its reply: the stream, and the address it names.
fn request(door: &Door, user: &str, verb: u8, target: &Target) -> anyhow::Result<(TcpStream, SocketAddr)> {
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
    stream.write_all(&[&[5, verb, 0], target.encode()?.as_slice()].concat())?;
    let mut reply = [0; 4];
    stream.read_exact(&mut reply)?;
    let [_, code, _, kind] = reply;
    ensure!(code == 0, "SOCKS reply {code}");
    ensure!(kind == 1, "a reply of address kind {kind}");
    let mut bound = [0; 6];
    stream.read_exact(&mut bound)?;
    let [a, b, c, d, high, low] = bound;
    Ok((stream, SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])))))
}

/// Connects to `target` through the SOCKS server as `user`.
///
/// # Errors
/// With the reply code, or when the server does not speak SOCKS.
pub fn connect(door: &Door, user: &str, target: impl Into<Target>) -> anyhow::Result<TcpStream> {
    Ok(request(door, user, 1, &target.into())?.0)
}

/// A UDP association: datagrams go and come through it as long as it lives.
pub struct Association {
    socket: UdpSocket,
    relay: SocketAddr,
    _control: TcpStream,
}

impl Association {
    /// Asks for one as `user`.
    ///
    /// # Errors
    /// With the reply code, or when the server does not speak SOCKS.
    pub fn open(door: &Door, user: &str) -> anyhow::Result<Self> {
        let anything = Target::Address(SocketAddr::from(([0, 0, 0, 0], 0)));
        let (control, relay) = request(door, user, 3, &anything)?;
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        Ok(Self { socket, relay, _control: control })
    }

    /// Sends `payload` to `target`, an address, until an answer comes from there, every second, and
    /// gives the answer without its header.
    ///
    /// # Errors
    /// When none comes in ten tries.
    pub fn ask(&self, target: &Target, payload: &[u8]) -> anyhow::Result<Vec<u8>> {
        let datagram = [&[0, 0, 0], target.encode()?.as_slice(), payload].concat();
        self.socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut buffer = [0; 2048];
        for _ in 0..10 {
            self.socket.send_to(&datagram, self.relay)?;
            let Ok((length, from)) = self.socket.recv_from(&mut buffer) else { continue };
            ensure!(from == self.relay, "an answer from {from}");
            let answer = buffer.get(..length).context("too long")?;
            // Reserved 2, fragment 1, kind 1, address, port 2: the source is who was asked.
            let header = [&[0, 0, 0], target.encode()?.as_slice()].concat();
            return Ok(answer.strip_prefix(header.as_slice()).context("from somebody else")?.to_vec());
        }
        bail!("no answer")
    }
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

/// A page that is read no faster than it is meant to be, on a thread of its own, until this is dropped.
pub struct Steady {
    reader: Option<JoinHandle<anyhow::Result<()>>>,
    pace: Arc<AtomicU8>,
    at: Arc<AtomicU64>,
}

/// As it is meant to be.
const STEADY: u8 = 0;
/// As fast as it comes.
const HURRIED: u8 = 1;
/// Not at all.
const STOPPED: u8 = 2;
/// How often it reads some.
const TICK: Duration = Duration::from_millis(10);

impl Steady {
    /// Goes on reading `page`, about so many bytes a second.
    #[must_use]
    pub fn read(mut page: Page, rate: u64) -> Self {
        let pace = Arc::new(AtomicU8::new(STEADY));
        let at = Arc::new(AtomicU64::new(page.at));
        let (told, tells) = (Arc::clone(&pace), Arc::clone(&at));
        let reader = std::thread::spawn(move || {
            while told.load(Ordering::SeqCst) == STEADY && page.at < page.length {
                page.read_to(page.at + rate / 100)?;
                tells.store(page.at, Ordering::SeqCst);
                std::thread::sleep(TICK);
            }
            if told.load(Ordering::SeqCst) == STOPPED { Ok(()) } else { page.finish() }
        });
        Self { reader: Some(reader), pace, at }
    }

    /// How many bytes have come, as long as it is steady.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at.load(Ordering::SeqCst)
    }

    /// Whether it is neither whole nor broken yet.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.reader.as_ref().is_some_and(|reader| !reader.is_finished())
    }

    /// Reads the rest as fast as it comes.
    ///
    /// # Errors
    /// As [`Page`].
    pub fn finish(mut self) -> anyhow::Result<()> {
        self.pace.store(HURRIED, Ordering::SeqCst);
        let reader = self.reader.take().context("no reader")?;
        reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        // A finished one was told to hurry and is done.
        self.pace.store(STOPPED, Ordering::SeqCst);
    }
}

/// Fetches and checks `length` bytes.
///
/// # Errors
/// As [`Page`].
pub fn page(door: &Door, user: &str, origin: SocketAddr, length: u64) -> anyhow::Result<()> {
    Page::open(door, user, origin, length)?.finish()
}

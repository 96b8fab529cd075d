//! Many downloads at once through a SOCKS door, read by one thread.
//!
//! Every stream connects by itself, blocking; then all are read as the bytes come. What they are is not
//! looked at: [`crate::fetch`] does that.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::Stopwatch;

/// How long a step of the SOCKS handshake may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest that all streams may be silent.
const SILENCE: Duration = Duration::from_secs(30);
const STEP_MS: libc::c_int = 200;
const BUFFER: usize = 256 * 1024;
/// The most bytes of an answer's head.
const MAX_HEAD: usize = 4096;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// A connection through a SOCKS door to a [`crate::web::WebServer`].
pub struct Stream {
    tcp: TcpStream,
    server: SocketAddr,
    /// The answer's head, as far as it came.
    head: Vec<u8>,
    /// Bytes behind it that are still to come.
    left: u64,
}

impl Stream {
    /// Connects to `server` through the door, as `user` with `password`.
    ///
    /// # Errors
    /// When the door or the server refuses.
    pub fn open(door: &str, user: &str, password: &str, server: SocketAddr) -> anyhow::Result<Self> {
        let mut tcp = TcpStream::connect(door).with_context(|| format!("connecting to {door}"))?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_nodelay(true)?;
        let ip = match server {
            SocketAddr::V4(v4) => v4.ip().octets(),
            SocketAddr::V6(_) => bail!("{server} is no IPv4 address"),
        };
        // RFC 1928 and RFC 1929: greeting, user and password, CONNECT.
        let answer: [u8; 2] = exchange(&mut tcp, &[5, 1, 2])?;
        ensure!(answer == [5, 2], "the door wants no password: {answer:?}");
        let (user_len, password_len) = (u8::try_from(user.len())?, u8::try_from(password.len())?);
        let login = [&[1, user_len], user.as_bytes(), &[password_len], password.as_bytes()].concat();
        let answer: [u8; 2] = exchange(&mut tcp, &login)?;
        ensure!(answer == [1, 0], "the door refuses {user}");
        let connect = [&[5, 1, 0, 1][..], &ip, &server.port().to_be_bytes()].concat();
        let answer: [u8; 10] = exchange(&mut tcp, &connect)?;
        ensure!(answer.starts_with(&[5, 0, 0, 1]), "the door does not connect {user}: {answer:?}");
        Ok(Self { tcp, server, head: Vec::new(), left: 0 })
    }

    /// Asks for `bytes` bytes; [`finish`] reads them.
    ///
    /// # Errors
    /// When the stream has ended.
    pub fn ask(&mut self, bytes: u64) -> anyhow::Result<()> {
        let request = format!("GET /{bytes} HTTP/1.1\r\nHost: {}\r\n\r\n", self.server);
        self.tcp.write_all(request.as_bytes()).context("asking")?;
        self.tcp.set_nonblocking(true)?;
        self.left = bytes;
        self.head.clear();
        Ok(())
    }

    /// Reads what is there, once.
    fn read(&mut self, buffer: &mut [u8]) -> anyhow::Result<()> {
        match self.tcp.read(buffer) {
            Ok(0) => bail!("a stream ended {} bytes too early", self.left),
            Ok(length) => self.take(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error).context("reading a stream"),
        }
    }

    /// The head first, then what counts.
    fn take(&mut self, mut bytes: &[u8]) -> anyhow::Result<()> {
        while !self.head.ends_with(END_OF_HEAD) {
            let Some((first, rest)) = bytes.split_first() else { return Ok(()) };
            ensure!(self.head.len() < MAX_HEAD, "the answer's head is too long");
            self.head.push(*first);
            bytes = rest;
        }
        ensure!(self.head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&self.head));
        self.left = self.left.checked_sub(bytes.len() as u64).context("more came than was asked for")?;
        Ok(())
    }
}

fn exchange<const N: usize>(tcp: &mut TcpStream, say: &[u8]) -> anyhow::Result<[u8; N]> {
    tcp.write_all(say)?;
    let mut answer = [0; N];
    tcp.read_exact(&mut answer).context("the SOCKS door does not answer")?;
    Ok(answer)
}

/// Reads all that was asked for, from all streams as it comes, as long as `go_on` says so.
///
/// # Errors
/// When a stream ends early, or all fall silent.
pub fn finish(streams: &mut [Stream], go_on: &dyn Fn() -> bool) -> anyhow::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut heard = Stopwatch::start();
    loop {
        let mut waiting: Vec<&mut Stream> = streams.iter_mut().filter(|stream| stream.left > 0).collect();
        if waiting.is_empty() {
            return Ok(());
        }
        ensure!(go_on(), "interrupted");
        ensure!(heard.elapsed() < SILENCE, "{} streams are silent", waiting.len());
        let poll = |stream: &&mut Stream| libc::pollfd {
            fd: stream.tcp.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let mut sockets: Vec<libc::pollfd> = waiting.iter().map(poll).collect();
        // SAFETY: the pointer and the length are of one live, exclusively borrowed vector.
        unsafe { libc::poll(sockets.as_mut_ptr(), sockets.len() as libc::nfds_t, STEP_MS) };
        for (stream, socket) in waiting.iter_mut().zip(&sockets) {
            if socket.revents != 0 {
                stream.read(&mut buffer)?;
                heard = Stopwatch::start();
            }
        }
    }
}

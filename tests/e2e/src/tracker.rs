//! Trackers of our own on loopback: HTTP with compact answers (BEP 3, BEP 23) and UDP (BEP 15).

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;

/// Seconds between announces that answers ask for.
const INTERVAL: u32 = 60;

/// What trackers answer and have heard; clones are the same.
#[derive(Clone, Default)]
pub struct Swarm(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    peers: Vec<SocketAddrV4>,
    announces: Vec<String>,
}

impl Swarm {
    /// A swarm of these peers.
    #[must_use]
    pub fn of(peers: &[SocketAddrV4]) -> Self {
        Self(Arc::new(Mutex::new(State { peers: peers.to_vec(), announces: Vec::new() })))
    }

    /// What was announced: request lines over HTTP, `udp EVENT` over UDP.
    #[must_use]
    pub fn announces(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).announces.clone()
    }

    fn handle(&self, announce: String) -> Vec<u8> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.announces.push(announce);
        state
            .peers
            .iter()
            .flat_map(|peer| [&peer.ip().octets()[..], &peer.port().to_be_bytes()].concat())
            .collect()
    }

    /// Starts an HTTP tracker that lives as long as this process, and gives its address.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn serve_http(&self) -> anyhow::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, swarm) = (listener.local_addr()?, self.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Whoever asks badly gets no answer.
                let _ = swarm.answer_http(stream);
            }
        });
        Ok(address)
    }

    fn answer_http(&self, mut stream: TcpStream) -> anyhow::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut request = String::new();
        reader.read_line(&mut request)?;
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            line.clear();
        }
        let peers = self.handle(request.trim().to_owned());
        let mut body = format!("d8:intervali{INTERVAL}e5:peers{}:", peers.len()).into_bytes();
        body.extend(peers);
        body.push(b'e');
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
        stream.write_all(&body)?;
        Ok(())
    }

    /// Starts a UDP tracker that lives as long as this process, and gives its address.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn serve_udp(&self) -> anyhow::Result<SocketAddr> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let (address, swarm) = (socket.local_addr()?, self.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let answer = buffer.get(..length).and_then(|request| swarm.answer_udp(request).ok());
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(address)
    }

    fn answer_udp(&self, request: &[u8]) -> anyhow::Result<Vec<u8>> {
        let word = |at: usize| -> anyhow::Result<[u8; 4]> {
            Ok(request.get(at..at + 4).context("too short")?.try_into()?)
        };
        let (action, transaction) = (word(8)?, word(12)?);
        let mut answer = [action, transaction].concat();
        match u32::from_be_bytes(action) {
            0 => answer.extend(0x0123_4567_89ab_cdef_u64.to_be_bytes()),
            1 => {
                let event = u32::from_be_bytes(word(80)?);
                for number in [INTERVAL, 0, 1] {
                    answer.extend(number.to_be_bytes());
                }
                answer.extend(self.handle(format!("udp {event}")));
            }
            _ => anyhow::bail!("unknown action"),
        }
        Ok(answer)
    }
}

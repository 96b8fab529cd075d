//! A client that asked for UDP.

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use warren_ports::{Association, DialError, Target};

use crate::connect::refuse;
use crate::wire::{self, Reply};

/// The most bytes of a datagram's payload.
const MAX_PAYLOAD: usize = 1500;
/// Room for a payload, the longest header and one byte that shows a datagram is too long.
const BUFFER: usize = MAX_PAYLOAD + 4 + 1 + 255 + 2 + 1;

/// A client that waits for the outcome of its UDP ASSOCIATE. May move between runtimes; dropping it
/// closes the connection without a reply.
#[derive(Debug)]
pub struct AssociateClient {
    control: std::net::TcpStream,
    /// The port that the client said it will send from; 0 when it did not say.
    port: u16,
}

impl AssociateClient {
    pub(crate) fn new(control: TcpStream, port: u16) -> io::Result<Self> {
        Ok(Self { control: control.into_std()?, port })
    }

    /// Binds a UDP socket on the address the client reached, tells it, and carries datagrams
    /// between it and `association` until the client closes its TCP connection or the association
    /// ends. Only the first to send from the client's address is served.
    ///
    /// # Errors
    /// When no socket can be bound or the client was gone before.
    pub async fn run(self, association: Box<dyn Association>) -> io::Result<()> {
        let mut control = TcpStream::from_std(self.control)?;
        let socket = match UdpSocket::bind((control.local_addr()?.ip(), 0)).await {
            Ok(socket) => socket,
            Err(error) => {
                refuse(control, Reply::Failure).await;
                return Err(error);
            }
        };
        control.write_all(&wire::reply(Reply::Done, Some(socket.local_addr()?))).await?;
        let client_ip = control.peer_addr()?.ip();
        let relay = Relay { socket, association, client_ip, port: self.port };
        relay.run(&mut control).await;
        Ok(())
    }

    /// Tells the client why not, and closes. Takes at most a second.
    pub async fn refuse(self, error: &DialError) {
        if let Ok(control) = TcpStream::from_std(self.control) {
            refuse(control, error.into()).await;
        }
    }
}

struct Relay {
    socket: UdpSocket,
    association: Box<dyn Association>,
    client_ip: IpAddr,
    port: u16,
}

impl Relay {
    async fn run(&self, control: &mut TcpStream) {
        let mut client = None;
        let mut buffer = [0; BUFFER];
        let mut ignored = [0; 64];
        let mut answer = Vec::with_capacity(BUFFER);
        loop {
            let goes_on = tokio::select! {
                read = control.read(&mut ignored) => matches!(read, Ok(1..)),
                got = self.socket.recv_from(&mut buffer) => match got {
                    Ok((length, from)) => {
                        self.handle_client(&mut client, from, buffer.get(..length).unwrap_or_default()).is_ok()
                    }
                    // The client's port is closed for a moment; its TCP connection says when it is gone.
                    Err(_) => true,
                },
                got = self.association.recv() => match got {
                    Ok((from, payload)) => self.handle_answer(client, &from, &payload, &mut answer).await,
                    Err(_) => false,
                },
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Sends on what the client sent. An error says that the association is over.
    fn handle_client(
        &self,
        client: &mut Option<SocketAddr>,
        from: SocketAddr,
        bytes: &[u8],
    ) -> io::Result<()> {
        let is_expected = from.ip() == self.client_ip && (self.port == 0 || self.port == from.port());
        if !is_expected || client.is_some_and(|known| known != from) {
            return Ok(());
        }
        let Some((target, payload)) = wire::datagram(bytes) else { return Ok(()) };
        if payload.len() > MAX_PAYLOAD {
            return Ok(());
        }
        *client = Some(from);
        self.association.send(&target, Bytes::copy_from_slice(payload))
    }

    async fn handle_answer(
        &self,
        client: Option<SocketAddr>,
        from: &Target,
        payload: &[u8],
        answer: &mut Vec<u8>,
    ) -> bool {
        if let Some(client) = client {
            answer.clear();
            wire::put_datagram_header(answer, from);
            answer.extend_from_slice(payload);
            // UDP may lose it: the client's TCP connection says when it is gone.
            let _ = self.socket.send_to(answer, client).await;
        }
        true
    }
}

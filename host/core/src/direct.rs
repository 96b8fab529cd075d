//! Zero hops: a connection without any circuit, for those who asked for just that.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use warren_ports::{Association, BoxFuture, DialError, Host, Target};

/// How long a direct connection may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The longest datagram an association carries.
const MAX_DATAGRAM: usize = 1500;

/// Connects to `target`; a name is resolved here.
pub(crate) async fn connect(target: &Target) -> Result<TcpStream, DialError> {
    let connecting = async {
        match &target.host {
            Host::Ip(ip) => TcpStream::connect((*ip, target.port)).await,
            Host::Name(name) => TcpStream::connect((name.as_str(), target.port)).await,
        }
    };
    let outcome = tokio::time::timeout(TIMEOUT, connecting).await.map_err(|_| DialError::TimedOut)?;
    let stream = outcome.map_err(|error| DialError::from(&error))?;
    drop(stream.set_nodelay(true));
    Ok(stream)
}

/// Opens UDP sockets of this machine.
pub(crate) async fn associate() -> Result<Box<dyn Association>, DialError> {
    let v4 = UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0)).await;
    let v4 = v4.map_err(|error| DialError::from(&error))?;
    let v6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await.ok();
    Ok(Box::new(Direct { v4: v4.into(), v6: v6.map(Into::into) }))
}

struct Direct {
    v4: std::sync::Arc<UdpSocket>,
    v6: Option<std::sync::Arc<UdpSocket>>,
}

impl Direct {
    fn send_to(&self, address: SocketAddr, payload: &[u8]) -> io::Result<()> {
        let socket = if address.is_ipv4() { Some(&self.v4) } else { self.v6.as_ref() };
        match socket.ok_or(io::ErrorKind::NetworkUnreachable)?.try_send_to(payload, address) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}

impl Association for Direct {
    fn send(&self, target: &Target, payload: Bytes) -> io::Result<()> {
        match &target.host {
            Host::Ip(ip) => self.send_to(SocketAddr::new(*ip, target.port), &payload),
            Host::Name(name) => {
                let (name, port) = (name.clone(), target.port);
                let sockets = Self { v4: self.v4.clone(), v6: self.v6.clone() };
                tokio::spawn(async move {
                    let found = lookup_host((name, port)).await.ok().and_then(|mut all| all.next());
                    if let Some(address) = found {
                        drop(sockets.send_to(address, &payload));
                    }
                });
                Ok(())
            }
        }
    }

    fn recv(&self) -> BoxFuture<'_, io::Result<(Target, Bytes)>> {
        Box::pin(async move {
            let (mut first, mut second) = ([0; MAX_DATAGRAM], [0; MAX_DATAGRAM]);
            let from_v6 = async {
                match &self.v6 {
                    Some(socket) => socket.recv_from(&mut second).await.map(|(n, from)| (n, from, true)),
                    None => std::future::pending().await,
                }
            };
            let received = tokio::select! {
                received = self.v4.recv_from(&mut first) => received.map(|(n, from)| (n, from, false)),
                received = from_v6 => received,
            };
            let (length, from, v6) = received?;
            let bytes = if v6 { second.get(..length) } else { first.get(..length) };
            Ok((Target::from(from), Bytes::copy_from_slice(bytes.unwrap_or_default())))
        })
    }
}

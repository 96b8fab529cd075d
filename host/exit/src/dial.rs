//! TCP to the world.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use warren_ports::{DialError, Host, Target};

use crate::{DropReason, Permit, Share, resolve};

#[cfg(test)]
mod tests;

/// Addresses of one name that are tried.
const MAX_ATTEMPTS: usize = 4;
/// How long an attempt has before the next one starts beside it (RFC 8305, section 8).
const STAGGER: Duration = Duration::from_millis(250);

/// A connection that an exit opened; it keeps its place in the bounds while it lives.
pub struct Outbound {
    stream: TcpStream,
    _permit: Permit,
}

impl Outbound {
    /// Its two directions, to be used at the same time.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        self.stream.split()
    }
}

pub(crate) async fn connect(share: &Share, target: &Target) -> Result<(Outbound, SocketAddr), DialError> {
    if let Err(denied) = share.exit.policy().check_target(target) {
        return Err(deny(share, denied));
    }
    let Some(permit) = share.socket() else {
        share.count(DropReason::NoRoom);
        return Err(DialError::Limit);
    };
    let addresses = addresses(share, target).await?;
    let racing = tokio::time::timeout(share.exit.limits.connect, race(&addresses));
    let (stream, address) = racing.await.map_err(|_| DialError::TimedOut)??;
    stream.set_nodelay(true).map_err(|error| dial_error(&error))?;
    Ok((Outbound { stream, _permit: permit }, address))
}

/// The addresses of `target` that may be connected to: never empty.
async fn addresses(share: &Share, target: &Target) -> Result<Vec<SocketAddr>, DialError> {
    let found = match &target.host {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, target.port)],
        Host::Name(name) => resolve::lookup(share, name, target.port).await?,
    };
    let mut denied = None;
    let mut allowed = Vec::new();
    for address in found {
        match share.exit.check(address) {
            Ok(address) => allowed.push(address),
            Err(reason) => denied = Some(reason),
        }
    }
    match denied {
        Some(reason) if allowed.is_empty() => Err(deny(share, reason)),
        _ => Ok(interleave(allowed)),
    }
}

fn deny(share: &Share, denied: crate::Denied) -> DialError {
    tracing::debug!(%denied, "destination denied");
    share.count(DropReason::Denied);
    DialError::Denied
}

/// The two families in turn, so that a family without a route costs one stagger and not all tries.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (ours, others): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let longer = ours.len().max(others.len());
    let pairs = (0..longer).flat_map(|i| [ours.get(i).copied(), others.get(i).copied()]);
    pairs.flatten().take(MAX_ATTEMPTS).collect()
}

/// The first of `addresses` to connect; a new one starts when one fails or is slow.
async fn race(addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), DialError> {
    let mut waiting = addresses.iter().copied();
    let mut attempts = FuturesUnordered::new();
    let mut failure = DialError::HostUnreachable;
    loop {
        if let Some(address) = waiting.next() {
            attempts.push(async move { TcpStream::connect(address).await.map(|stream| (stream, address)) });
        }
        if attempts.is_empty() {
            return Err(failure);
        }
        tokio::select! {
            Some(outcome) = attempts.next() => match outcome {
                Ok(connected) => return Ok(connected),
                Err(error) => failure = dial_error(&error),
            },
            () = tokio::time::sleep(STAGGER), if waiting.len() > 0 => {}
        }
    }
}

fn dial_error(error: &io::Error) -> DialError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => DialError::Refused,
        io::ErrorKind::NetworkUnreachable => DialError::NetworkUnreachable,
        io::ErrorKind::HostUnreachable | io::ErrorKind::AddrNotAvailable => DialError::HostUnreachable,
        io::ErrorKind::TimedOut => DialError::TimedOut,
        _ => DialError::Failed,
    }
}

/// Whether `address` is one of this machine's: the source that routing picks for it is itself.
/// Connecting a UDP socket asks the routing table and sends nothing.
pub(crate) fn is_own(address: SocketAddr) -> bool {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let source = || {
        let socket = std::net::UdpSocket::bind(any)?;
        socket.connect(address)?;
        socket.local_addr()
    };
    source().is_ok_and(|source: SocketAddr| source.ip() == address.ip())
}

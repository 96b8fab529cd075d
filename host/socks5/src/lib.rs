//! The front door: takes SOCKS5 clients, does their handshake, and hands out what they ask for.
//!
//! CONNECT and UDP ASSOCIATE (RFC 1928), user name and password (RFC 1929); BIND is refused with
//! reply 0x07. The [`User`] name says how many hops and which isolation. Names pass through: nothing
//! is resolved or dialled here. Not the `fast-socks5` library: that logs passwords at debug level
//! and refuses empty user names and passwords, which real clients send.
//! I/O: one TCP listener, its connections, and one UDP socket for each association.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use warren_ports::Target;

mod associate;
mod connect;
mod handshake;
#[cfg(test)]
mod tests;
mod user;
mod wire;

pub use associate::AssociateClient;
pub use connect::{ConnectClient, splice};
pub use user::{User, UserError};

/// Clients whose handshake is not done; more wait in the kernel's backlog.
pub const MAX_HALF_OPEN: usize = 256;
/// How long a handshake may take.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// How long to leave the listener alone after it failed, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the front door does not open.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something else listens there.
    #[error("SOCKS port {0} is in use: choose another socks.listen, or stop what listens there")]
    PortInUse(SocketAddr),
    /// Others than this machine's users could use it.
    #[error("SOCKS on {0} would be open to the network: set socks.token, or listen on a loopback address")]
    Open(SocketAddr),
    /// The operating system refuses it.
    #[error("cannot listen for SOCKS on {address}: {source}")]
    Bind {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
}

/// A client whose handshake is done.
#[derive(Debug)]
pub struct Accepted {
    /// Who it says it is.
    pub user: User,
    /// What it asks for.
    pub request: Request,
}

/// What a client asks for. The client waits for the answer.
#[derive(Debug)]
pub enum Request {
    /// A TCP connection.
    Connect {
        /// Where to, as the client wrote it; a name that spells an address has become one.
        target: Target,
        /// The client.
        client: ConnectClient,
    },
    /// A way for UDP datagrams.
    Associate {
        /// The client.
        client: AssociateClient,
    },
}

/// The listener and the handshakes under way.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<Arc<str>>,
    deadline: Duration,
    half_open: JoinSet<Option<Accepted>>,
}

impl Server {
    /// Listens on `address`; port 0 takes any. With a token, each client must give it as its
    /// password; without one, only a loopback address will do.
    ///
    /// # Errors
    /// When it cannot listen there, or should not.
    pub async fn bind(address: SocketAddr, token: Option<String>) -> Result<Self, Error> {
        if token.is_none() && !address.ip().to_canonical().is_loopback() {
            return Err(Error::Open(address));
        }
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => Error::PortInUse(address),
            _ => Error::Bind { address, source },
        };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let token = token.map(Arc::from);
        Ok(Self { listener, address, token, deadline: HANDSHAKE_DEADLINE, half_open: JoinSet::new() })
    }

    /// Where it listens.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next client whose handshake is done. Dropping the future loses nothing.
    pub async fn accept(&mut self) -> Accepted {
        loop {
            tokio::select! {
                Some(done) = self.half_open.join_next() => {
                    if let Ok(Some(accepted)) = done {
                        return accepted;
                    }
                }
                stream = self.listener.accept(), if self.half_open.len() < MAX_HALF_OPEN => {
                    self.handle_client(stream).await;
                }
            }
        }
    }

    async fn handle_client(&mut self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, _)) => {
                let (token, deadline) = (self.token.clone(), self.deadline);
                self.half_open.spawn(async move {
                    let greeting = handshake::run(stream, token.as_deref());
                    match tokio::time::timeout(deadline, greeting).await {
                        Ok(Ok(accepted)) => Some(accepted),
                        Ok(Err(fault)) => {
                            tracing::debug!(%fault, "SOCKS client turned away");
                            None
                        }
                        Err(_) => {
                            tracing::debug!("SOCKS client was too slow");
                            None
                        }
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "SOCKS listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

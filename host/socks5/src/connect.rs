//! A client that asked for a TCP connection, and the copying once it has one.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use warren_ports::{BoxStream, DialError};

use crate::wire::{self, Reply};

/// Bytes read at once when copying, each way.
const COPY_BUFFER: usize = 64 * 1024;
/// How long a refused client has to take its reply before the connection is closed under it.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes of a refused client that are read and thrown away, so that closing does not reset the
/// connection before the reply is read.
const MAX_THROWN_AWAY: u64 = 64 * 1024;

/// A client that waits for the outcome of its CONNECT. Not bound to a runtime: it may move to the
/// one that owns the circuit. Dropping it closes the connection without a reply.
#[derive(Debug)]
pub struct ConnectClient(std::net::TcpStream);

impl ConnectClient {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        Ok(Self(stream.into_std()?))
    }

    /// Tells the client that it is connected, from `bound` if that is known, and gives the stream
    /// that now carries its bytes.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn accept(self, bound: impl Into<Option<SocketAddr>>) -> io::Result<TcpStream> {
        let mut stream = TcpStream::from_std(self.0)?;
        stream.write_all(&wire::reply(Reply::Done, bound.into())).await?;
        Ok(stream)
    }

    /// Tells the client why not, and closes. Takes at most a second.
    pub async fn refuse(self, error: &DialError) {
        if let Ok(stream) = TcpStream::from_std(self.0) {
            refuse(stream, error.into()).await;
        }
    }
}

pub(crate) async fn refuse(mut stream: TcpStream, code: Reply) {
    let say = async {
        stream.write_all(&wire::reply(code, None)).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(MAX_THROWN_AWAY), &mut tokio::io::sink()).await
    };
    // Either way the connection ends here.
    let _ = tokio::time::timeout(LINGER, say).await;
}

/// Copies both ways until both sides have ended; the end of one is passed on to the other while the
/// other direction goes on. Returns the bytes that went from and to the client.
///
/// # Errors
/// The first of either side.
pub async fn splice(mut client: TcpStream, mut stream: BoxStream) -> io::Result<(u64, u64)> {
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut stream, COPY_BUFFER, COPY_BUFFER).await
}

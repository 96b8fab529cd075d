//! A client that asked for a TCP connection, and the copying once it has one.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
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
    let (mut up, mut down) = (Way::default(), Way::default());
    poll_fn(|context| {
        let up = up.poll(context, &mut client, &mut stream)?;
        let down = down.poll(context, &mut stream, &mut client)?;
        match (up, down) {
            (Poll::Ready(up), Poll::Ready(down)) => Poll::Ready(Ok((up, down))),
            _ => Poll::Pending,
        }
    })
    .await
}

thread_local! {
    /// What is being copied on this thread. One for all connections: a buffer each would be more than the processor's
    /// cache holds.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// One direction.
#[derive(Default)]
struct Way {
    /// What was read and could not be written yet.
    rest: BytesMut,
    copied: u64,
    ended: bool,
    closed: bool,
}

impl Way {
    /// Ready with the bytes copied, when `to` has taken all of them and the end.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<u64>> {
        let (mut from, mut to) = (Pin::new(from), Pin::new(to));
        while !self.rest.is_empty() {
            let written = ready!(poll_some(context, to.as_mut(), &self.rest))?;
            self.rest.advance(written);
            self.copied += written as u64;
        }
        while !self.ended {
            let mut buffer = BUFFER.take();
            buffer.resize(COPY_BUFFER, 0);
            let step = self.step(context, from.as_mut(), to.as_mut(), &mut buffer);
            BUFFER.set(buffer);
            ready!(step)?;
        }
        if !self.closed {
            ready!(to.poll_shutdown(context))?;
            self.closed = true;
        }
        Poll::Ready(Ok(self.copied))
    }

    /// Reads once and writes that; what cannot be written now is kept.
    fn step(
        &mut self,
        context: &mut Context<'_>,
        from: Pin<&mut impl AsyncRead>,
        mut to: Pin<&mut impl AsyncWrite>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<()>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(from.poll_read(context, &mut buffer))?;
        let mut left = buffer.filled();
        self.ended = left.is_empty();
        while !left.is_empty() {
            match poll_some(context, to.as_mut(), left) {
                Poll::Ready(written) => {
                    let written = written?;
                    left = left.get(written..).unwrap_or_default();
                    self.copied += written as u64;
                }
                Poll::Pending => {
                    self.rest = BytesMut::from(left);
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn poll_some(
    context: &mut Context<'_>,
    to: Pin<&mut impl AsyncWrite>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    match ready!(to.poll_write(context, bytes))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => Poll::Ready(Ok(written)),
    }
}

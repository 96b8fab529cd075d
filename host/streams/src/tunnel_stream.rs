//! A stream inside a circuit, as bytes both ways.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use quinn_proto::VarInt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::Shared;
use crate::fair::Flow;
use crate::quic::{RecvStream, SendStream};

/// Bytes that QUIC is given at once: it makes room for others when all of such a piece were acknowledged.
const PIECE: usize = 16 * 1024;
/// The most bytes of a turn in [`AsyncWrite`].
const TURN: usize = 64 * 1024;
/// Application error code of a stream that was dropped before its end.
const RESET: VarInt = VarInt::from_u32(1);

/// A stream inside a circuit. `shutdown` sends a FIN and reading goes on; dropping it before
/// that resets it, which the other side reads as an error. Its connection lives as long as it.
#[derive(Debug)]
pub struct TunnelStream {
    send: SendStream,
    recv: RecvStream,
    flow: Flow,
    finished: bool,
    pub(crate) bound: Option<SocketAddr>,
    pub(crate) shared: Arc<Shared>,
}

impl TunnelStream {
    pub(crate) fn new(shared: Arc<Shared>, (send, recv): (SendStream, RecvStream)) -> Self {
        shared.open.fetch_add(1, Ordering::Relaxed);
        let flow = Flow::new(shared.queue.clone());
        Self { send, recv, flow, finished: false, bound: None, shared }
    }

    /// The address from which the exit connected, when it said so.
    #[must_use]
    pub fn bound(&self) -> Option<SocketAddr> {
        self.bound
    }

    /// Its two directions, to be used at the same time.
    pub fn halves(&mut self) -> (impl AsyncRead + Unpin + '_, Writing<'_>) {
        let Self { send, recv, flow, finished, .. } = self;
        (recv, Writing { send, flow, finished })
    }

    /// What its datagrams are marked with; none past the 2^32nd stream of a connection.
    pub(crate) fn index(&self) -> Option<u32> {
        self.send.index().try_into().ok()
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.recv), context, buffer)
    }
}

/// Each write is a turn among the streams of the connection.
impl AsyncWrite for TunnelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { send, flow, .. } = &mut *self;
        let bytes = bytes.get(..TURN).unwrap_or(bytes);
        let written = ready!(flow.poll(context, |context, priority| {
            begin(send, priority);
            poll_pieces(send, context, bytes)
        }));
        flow.add(*written.as_ref().unwrap_or(&0));
        flow.finish();
        Poll::Ready(written)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.finished {
            return Poll::Ready(Ok(()));
        }
        self.finished = true;
        self.flow.give_up();
        Poll::Ready(self.send.finish())
    }
}

/// A turn of `send` begins when `priority` is a new one.
fn begin(send: &SendStream, priority: Option<i32>) {
    if let Some(priority) = priority {
        send.set_priority(priority);
    }
}

/// Writes as many pieces as there is room for.
fn poll_pieces(send: &SendStream, context: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    let mut written = 0;
    for piece in bytes.chunks(PIECE) {
        match send.poll_write(context, piece) {
            Poll::Ready(Ok(length)) if length == piece.len() => written += length,
            Poll::Ready(Ok(length)) => return Poll::Ready(Ok(written + length)),
            other if written == 0 => return other,
            // The next write tells.
            _ => break,
        }
    }
    Poll::Ready(Ok(written))
}

/// What goes into a [`TunnelStream`].
#[derive(Debug)]
pub struct Writing<'a> {
    send: &'a SendStream,
    flow: &'a mut Flow,
    finished: &'a mut bool,
}

impl Writing<'_> {
    /// Waits until it is this stream's turn among those of its connection. Called when there is something to write.
    pub async fn turn(&mut self) -> Turn<'_> {
        poll_fn(|context| self.flow.poll_turn(context)).await;
        Turn { send: self.send, flow: self.flow }
    }

    /// Sends a FIN.
    ///
    /// # Errors
    /// When the other side wants no more of it.
    pub fn finish(&mut self) -> io::Result<()> {
        *self.finished = true;
        self.flow.give_up();
        self.send.finish()
    }
}

/// A stream's turn to write. Others wait until it has written or is dropped, or has brought nothing for a while.
#[derive(Debug)]
pub struct Turn<'a> {
    send: &'a SendStream,
    flow: &'a mut Flow,
}

impl Turn<'_> {
    /// Writes `bytes`, without a copy.
    ///
    /// # Errors
    /// When the stream or its connection is over.
    pub async fn write(self, mut bytes: Bytes) -> io::Result<()> {
        self.flow.add(bytes.len());
        while !bytes.is_empty() {
            let mut piece = bytes.split_to(bytes.len().min(PIECE));
            while !piece.is_empty() {
                let written = poll_fn(|context| {
                    self.flow.poll(context, |context, priority| {
                        begin(self.send, priority);
                        self.send.poll_write_bytes(context, &mut piece)
                    })
                });
                written.await?;
                if !(piece.is_empty() && bytes.is_empty()) {
                    self.flow.let_pass();
                }
            }
        }
        self.flow.finish();
        Ok(())
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.flow.give_up();
    }
}

impl Drop for TunnelStream {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        if !self.finished {
            self.send.reset(RESET);
        }
    }
}

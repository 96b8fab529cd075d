//! A stream inside a circuit, as bytes both ways.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use quinn::{RecvStream, SendStream, VarInt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::Shared;
use crate::fair::{FairQueue, Flow, Place};

/// Bytes that QUIC is given at once: it makes room for others when all of such a piece were acknowledged.
const PIECE: usize = 16 * 1024;
/// Application error code of a stream that was dropped before its end.
const RESET: VarInt = VarInt::from_u32(1);

/// A stream inside a circuit. `shutdown` sends a FIN and reading goes on; dropping it before
/// that resets it, which the other side reads as an error. Its connection lives as long as it.
#[derive(Debug)]
pub struct TunnelStream {
    send: SendStream,
    recv: RecvStream,
    finished: bool,
    pub(crate) bound: Option<SocketAddr>,
    pub(crate) shared: Arc<Shared>,
}

impl TunnelStream {
    pub(crate) fn new(shared: Arc<Shared>, (send, recv): (SendStream, RecvStream)) -> Self {
        shared.open.fetch_add(1, Ordering::Relaxed);
        Self { send, recv, finished: false, bound: None, shared }
    }

    /// The address from which the exit connected, when it said so.
    #[must_use]
    pub fn bound(&self) -> Option<SocketAddr> {
        self.bound
    }

    /// Its two directions, to be used at the same time.
    pub fn halves(&mut self) -> (impl AsyncRead + Unpin + '_, Writing<'_>) {
        let Self { send, recv, finished, shared, .. } = self;
        (recv, Writing { send, finished, flow: Flow::new(), queue: &shared.queue })
    }

    /// What its datagrams are marked with; none past the 2^32nd stream of a connection.
    pub(crate) fn index(&self) -> Option<u32> {
        self.send.id().index().try_into().ok()
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

impl AsyncWrite for TunnelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.finished {
            return Poll::Ready(Ok(()));
        }
        self.finished = true;
        ready!(AsyncWrite::poll_shutdown(Pin::new(&mut self.send), context))?;
        Poll::Ready(Ok(()))
    }
}

/// What goes into a [`TunnelStream`].
#[derive(Debug)]
pub struct Writing<'a> {
    send: &'a mut SendStream,
    finished: &'a mut bool,
    flow: Flow,
    queue: &'a FairQueue,
}

impl Writing<'_> {
    /// Waits until it is this stream's turn among those of its connection. Called when there is something to write.
    pub async fn turn(&mut self) -> Turn<'_> {
        let place = self.flow.turn(self.queue).await;
        // Fails only when the stream is over.
        drop(self.send.set_priority(place.priority));
        Turn { send: self.send, flow: &mut self.flow, place }
    }

    /// Sends a FIN.
    ///
    /// # Errors
    /// When the other side wants no more of it.
    pub fn finish(&mut self) -> io::Result<()> {
        *self.finished = true;
        Ok(self.send.finish()?)
    }
}

/// A stream's turn to write. Others wait until it has written or is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    send: &'a mut SendStream,
    flow: &'a mut Flow,
    place: Place,
}

impl Turn<'_> {
    /// Writes `bytes`, without a copy.
    ///
    /// # Errors
    /// When the stream or its connection is over.
    pub async fn write(mut self, mut bytes: Bytes) -> io::Result<()> {
        self.flow.add(bytes.len());
        while !bytes.is_empty() {
            let mut piece = bytes.split_to(bytes.len().min(PIECE));
            while !piece.is_empty() {
                // Can be dropped while it is pending: it has written nothing then.
                let written = self.place.run(self.send.write_chunks(slice::from_mut(&mut piece))).await;
                written.transpose()?;
                if !piece.is_empty() {
                    self.place.again().await;
                }
            }
        }
        self.flow.wrote();
        Ok(())
    }
}

impl Drop for TunnelStream {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        if !self.finished {
            // Fails only when the stream is over already.
            drop(self.send.reset(RESET));
        }
    }
}

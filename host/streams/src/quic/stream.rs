//! The two directions of a stream.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use quinn_proto::{ConnectionError, FinishError, ReadError, ReadableError, StreamId, VarInt, WriteError};
use tokio::io::{AsyncRead, ReadBuf};

use super::Quic;

/// Both directions of stream `id`.
pub(super) fn halves(quic: &Quic, id: StreamId) -> (SendStream, RecvStream) {
    let recv = RecvStream { quic: quic.clone(), id, over: false, reset: None };
    (SendStream { quic: quic.clone(), id }, recv)
}

fn lost(error: &ConnectionError) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, error.clone())
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the stream is closed")
}

fn stopped(code: VarInt) -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        format!("the other side wants no more of it: error {code}"),
    )
}

fn reset(code: VarInt) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, format!("the other side reset it: error {code}"))
}

/// What goes out. Whoever drops it finishes or resets it first. What was finished still arrives, if the other side wants it.
#[derive(Debug)]
pub(crate) struct SendStream {
    quic: Quic,
    id: StreamId,
}

impl SendStream {
    /// The how-manieth of the connection it is, from 0 on.
    pub(crate) fn index(&self) -> u64 {
        self.id.index()
    }

    /// Those of higher priority are sent before it.
    pub(crate) fn set_priority(&self, priority: i32) {
        // Fails only when the stream is over.
        drop(self.quic.lock().proto.send_stream(self.id).set_priority(priority));
    }

    /// Copies as much as there is room for.
    pub(crate) fn poll_write(&self, context: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(context, |stream| stream.write(bytes))
    }

    /// Takes as much as there is room for off the front of `bytes`, without a copy.
    pub(crate) fn poll_write_bytes(&self, context: &Context<'_>, bytes: &mut Bytes) -> Poll<io::Result<()>> {
        self.poll(context, |stream| stream.write_chunks(std::slice::from_mut(bytes)).map(drop))
    }

    fn poll<T>(
        &self,
        context: &Context<'_>,
        write: impl FnOnce(&mut quinn_proto::SendStream<'_>) -> Result<T, WriteError>,
    ) -> Poll<io::Result<T>> {
        let mut state = self.quic.lock();
        if let Some(error) = &state.error {
            return Poll::Ready(Err(lost(error)));
        }
        let written = match write(&mut state.proto.send_stream(self.id)) {
            Err(WriteError::Blocked) => {
                state.writers.insert(self.id, context.waker().clone());
                return Poll::Pending;
            }
            Err(WriteError::Stopped(code)) => Err(stopped(code)),
            Err(WriteError::ClosedStream) => Err(closed()),
            Ok(written) => Ok(written),
        };
        state.wake();
        Poll::Ready(written)
    }

    /// Sends a FIN. No error when the other side wants no more of it.
    pub(crate) fn finish(&self) -> io::Result<()> {
        let mut state = self.quic.lock();
        if let Some(error) = &state.error {
            return Err(lost(error));
        }
        let finished = state.proto.send_stream(self.id).finish();
        state.wake();
        match finished {
            Ok(()) | Err(FinishError::Stopped(_)) => Ok(()),
            Err(FinishError::ClosedStream) => Err(closed()),
        }
    }

    /// Gives it up.
    pub(crate) fn reset(&self, code: VarInt) {
        let mut state = self.quic.lock();
        if state.error.is_some() {
            return;
        }
        // Fails only when the stream is over.
        drop(state.proto.send_stream(self.id).reset(code));
        state.wake();
    }
}

/// One that the other side has stopped is over only when it is reset.
impl Drop for SendStream {
    fn drop(&mut self) {
        let mut state = self.quic.lock();
        state.writers.remove(&self.id);
        if state.error.is_some() {
            return;
        }
        let mut stream = state.proto.send_stream(self.id);
        if let Ok(Some(code)) = stream.stopped() {
            // Fails only when it was reset before.
            drop(stream.reset(code));
            state.wake();
        }
    }
}

/// What comes in. Dropped before its end, the other side is told to stop.
#[derive(Debug)]
pub(crate) struct RecvStream {
    quic: Quic,
    id: StreamId,
    /// Nothing more will come.
    over: bool,
    /// The other side reset it.
    reset: Option<VarInt>,
}

impl AsyncRead for RecvStream {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(code) = self.reset {
            return Poll::Ready(Err(reset(code)));
        }
        if self.over || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let Self { quic, id, over, reset: was_reset } = &mut *self;
        let mut state = quic.lock();
        if let (true, Some(error)) = (state.broken, &state.error) {
            return Poll::Ready(Err(lost(error)));
        }
        let mut stream = state.proto.recv_stream(*id);
        let mut chunks = match stream.read(true) {
            Ok(chunks) => chunks,
            Err(ReadableError::ClosedStream | ReadableError::IllegalOrderedRead) => {
                return Poll::Ready(Err(closed()));
            }
        };
        let before = buffer.filled().len();
        let end = loop {
            match chunks.next(buffer.remaining()) {
                Ok(Some(chunk)) => buffer.put_slice(&chunk.bytes),
                end => break end.map(drop),
            }
            if buffer.remaining() == 0 {
                break Err(ReadError::Blocked);
            }
        };
        if chunks.finalize().should_transmit() {
            state.wake();
        }
        let read = buffer.filled().len() > before;
        match end {
            Ok(()) => *over = true,
            Err(ReadError::Reset(code)) => {
                (*over, *was_reset) = (true, Some(code));
                if !read {
                    return Poll::Ready(Err(reset(code)));
                }
            }
            Err(ReadError::Blocked) if read => {}
            Err(ReadError::Blocked) => {
                if let Some(error) = &state.error {
                    return Poll::Ready(Err(lost(error)));
                }
                state.readers.insert(*id, context.waker().clone());
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        let mut state = self.quic.lock();
        state.readers.remove(&self.id);
        if !self.over && state.error.is_none() {
            // Fails only when the stream is over.
            drop(state.proto.recv_stream(self.id).stop(VarInt::from_u32(0)));
            state.wake();
        }
    }
}

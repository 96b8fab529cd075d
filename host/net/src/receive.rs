//! Where datagrams are received, and how a coalesced buffer is taken apart.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;

use quinn_udp::RecvMeta;

/// Buffers of one receive call, at most.
const BUFFERS: usize = 16;
/// Bytes of each: what the kernel coalesces at most.
const BUFFER_LEN: usize = 65_536;

/// Where one socket receives: up to 16 buffers of 64 KB, touched only as they fill. What
/// [`Socket::receive`](crate::Socket::receive) could not hand over yet stays in it.
///
/// A call is given as many buffers as bring about 64 KB: one when the kernel fills it, all when each gets a single
/// datagram. More would only move what waits from the kernel's memory to here, out of the processor's cache.
pub struct ReceiveBuffers {
    storage: Box<[u8]>,
    metas: [RecvMeta; BUFFERS],
    /// Buffers of the next call.
    offered: usize,
    filled: usize,
    /// The next datagram: its buffer, and its offset in there.
    buffer: usize,
    offset: usize,
}

impl Default for ReceiveBuffers {
    fn default() -> Self {
        Self {
            storage: vec![0; BUFFERS * BUFFER_LEN].into_boxed_slice(),
            metas: [RecvMeta::default(); BUFFERS],
            offered: 1,
            filled: 0,
            buffer: 0,
            offset: 0,
        }
    }
}

impl ReceiveBuffers {
    /// New buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fills the buffers with `receive`. Call it only when `next` has nothing left.
    pub(crate) fn fill(
        &mut self,
        receive: impl FnOnce(&mut [IoSliceMut<'_>], &mut [RecvMeta]) -> io::Result<usize>,
    ) -> io::Result<()> {
        (self.filled, self.buffer, self.offset) = (0, 0, 0);
        let mut chunks = self.storage.chunks_exact_mut(BUFFER_LEN);
        let mut slices: [IoSliceMut<'_>; BUFFERS] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let offered = self.offered.min(BUFFERS);
        let (slices, _) = slices.split_at_mut(offered);
        let (metas, _) = self.metas.split_at_mut(offered);
        self.filled = receive(slices, metas)?;
        for meta in self.metas.iter_mut().take(self.filled) {
            meta.addr = canonical(meta.addr);
        }
        self.offer();
        Ok(())
    }

    /// Goes by what the last call brought.
    fn offer(&mut self) {
        let bytes: usize = self.metas.iter().take(self.filled).map(|meta| meta.len).sum();
        if bytes > BUFFER_LEN {
            self.offered = (self.offered / 2).max(1);
        } else if self.filled >= self.offered && bytes < BUFFER_LEN / 2 {
            self.offered = (self.offered * 2).min(BUFFERS);
        }
    }

    /// The next datagram and where it came from; none when all were handed over.
    pub(crate) fn next(&mut self) -> Option<(SocketAddr, &[u8])> {
        loop {
            let meta = self.metas.get(..self.filled)?.get(self.buffer)?;
            if self.offset >= meta.len {
                self.buffer += 1;
                self.offset = 0;
                continue;
            }
            let start = self.buffer * BUFFER_LEN + self.offset;
            let length = meta.stride.max(1).min(meta.len - self.offset);
            self.offset += length;
            return Some((meta.addr, self.storage.get(start..start + length)?));
        }
    }
}

/// An IPv4-mapped address as IPv4; no flow label, no scope: one peer, one address.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => address,
        _ => SocketAddr::new(address.ip().to_canonical(), address.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A call that brings as many datagrams of `length` bytes as there is room for, `segments` in a buffer. Answers the
    /// number of buffers.
    fn bring(buffers: &mut ReceiveBuffers, segments: usize, length: usize) -> usize {
        let mut offered = 0;
        let receive = |slices: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]| {
            offered = slices.len();
            assert_eq!(metas.len(), offered);
            for (index, (slice, meta)) in slices.iter_mut().zip(metas).enumerate() {
                slice[..segments * length].fill(index as u8);
                (meta.len, meta.stride) = (segments * length, length);
            }
            Ok(offered)
        };
        buffers.fill(receive).unwrap();
        for index in 0..offered * segments {
            let (_, datagram) = buffers.next().unwrap();
            assert_eq!((datagram.len(), usize::from(datagram[0])), (length, index / segments));
        }
        assert!(buffers.next().is_none());
        offered
    }

    #[test]
    fn a_call_has_as_many_buffers_as_bring_64_kb() {
        let mut buffers = ReceiveBuffers::new();
        let mut calls = |segments, length| [(); 7].map(|()| bring(&mut buffers, segments, length));
        assert_eq!(calls(47, 1350), [1; 7], "the kernel fills one");
        assert_eq!(calls(1, 1350), [1, 2, 4, 8, 16, 16, 16], "a datagram in each");
        assert_eq!(calls(20, 1350), [16, 8, 4, 2, 2, 2, 2]);
        assert_eq!(calls(10, 1350), [2, 4, 4, 4, 4, 4, 4]);
        assert_eq!(calls(48, 1350), [4, 2, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn a_call_that_leaves_buffers_empty_changes_nothing() {
        let mut buffers = ReceiveBuffers::new();
        assert_eq!([(); 3].map(|()| bring(&mut buffers, 1, 40)), [1, 2, 4]);
        for _ in 0..3 {
            let receive = |slices: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]| {
                assert_eq!(slices.len(), 8);
                (metas[0].len, metas[0].stride) = (40, 40);
                Ok(1)
            };
            buffers.fill(receive).unwrap();
        }
    }
}

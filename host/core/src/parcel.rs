//! What worker threads pass to each other on the data way: datagrams that the kernel gave to the wrong
//! thread's socket, and those of a QUIC connection whose circuit another thread's worker has.
//!
//! Packed, one parcel a turn for each neighbour, so that a datagram costs a copy and no allocation.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use warren_schemas::CircuitHandle;

/// Parcels that may wait for a thread.
const MAX_PARCELS: usize = 1024;
/// Bytes in them. A parcel that finds no room is dropped, and its datagrams are counted.
const MAX_WAITING: usize = 4 << 20;

/// Notices of ends that are kept for the next parcel when one was refused.
const MAX_NOTICES: usize = 4096;

/// What one piece of a parcel is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Piece {
    /// A datagram from this neighbour of the node, for the receiver's worker.
    Datagram(SocketAddr),
    /// A QUIC datagram that came by this circuit of the sender's worker, for a last hop's connection
    /// that the receiver holds.
    Inner(CircuitHandle),
    /// A QUIC datagram of such a connection, to be sent on this circuit of the receiver's worker.
    Outer(CircuitHandle),
    /// This circuit of the sender's worker, by which the receiver's connections were reached, is dead.
    Dead(CircuitHandle),
    /// All circuits of the sender's worker are.
    AllDead,
}

#[derive(Default)]
struct Parcel {
    from: u8,
    bytes: Vec<u8>,
    pieces: Vec<(Piece, usize)>,
}

/// A thread's way to one of its neighbours.
pub(crate) struct Post {
    own: u8,
    to: mpsc::Sender<Parcel>,
    waiting: Arc<AtomicUsize>,
    packing: Parcel,
}

/// Makes the data way into one thread: its end, and what the others make their [`Post`] of.
pub(crate) fn data_way() -> (Slot, Inbox) {
    let (to, from) = mpsc::channel(MAX_PARCELS);
    let waiting = Arc::new(AtomicUsize::new(0));
    let slot = Slot { to, waiting: Arc::clone(&waiting) };
    (slot, Inbox { from, waiting, open: None })
}

/// Where a thread's parcels are dropped.
#[derive(Clone)]
pub(crate) struct Slot {
    to: mpsc::Sender<Parcel>,
    waiting: Arc<AtomicUsize>,
}

impl Slot {
    /// The way there of thread `own`.
    pub(crate) fn post_of(&self, own: u8) -> Post {
        let packing = Parcel { from: own, ..Parcel::default() };
        Post { own, to: self.to.clone(), waiting: Arc::clone(&self.waiting), packing }
    }
}

impl Post {
    /// Packs a piece; it leaves with the next [`flush`](Self::flush).
    pub(crate) fn pack(&mut self, piece: Piece, bytes: &[u8]) {
        self.packing.bytes.extend_from_slice(bytes);
        self.packing.pieces.push((piece, bytes.len()));
    }

    /// Sends what was packed. Answers how many pieces went, or how many were dropped because the
    /// other thread is behind or gone.
    pub(crate) fn flush(&mut self) -> Result<u64, u64> {
        let pieces = self.packing.pieces.len() as u64;
        if pieces == 0 {
            return Ok(0);
        }
        let parcel = std::mem::replace(&mut self.packing, Parcel { from: self.own, ..Parcel::default() });
        let length = parcel.bytes.len();
        let refused = if self.waiting.fetch_add(length, Ordering::AcqRel) + length > MAX_WAITING {
            parcel
        } else {
            match self.to.try_send(parcel) {
                Ok(()) => return Ok(pieces),
                Err(error) => error.into_inner(),
            }
        };
        self.waiting.fetch_sub(length, Ordering::AcqRel);
        self.keep_notices(&refused);
        Err(pieces - self.packing.pieces.len() as u64)
    }
}

impl Post {
    /// That something ended is said with the next parcel: once for each circuit, so they stay few.
    fn keep_notices(&mut self, refused: &Parcel) {
        let notices = refused.pieces.iter().filter(|(_, length)| *length == 0);
        let kept =
            notices.take(MAX_NOTICES).filter(|(piece, _)| matches!(piece, Piece::Dead(_) | Piece::AllDead));
        self.packing.pieces.extend(kept);
    }
}

/// A thread's end of the data way.
pub(crate) struct Inbox {
    from: mpsc::Receiver<Parcel>,
    waiting: Arc<AtomicUsize>,
    open: Option<Open>,
}

/// A parcel that is being unpacked.
struct Open {
    parcel: Parcel,
    next: usize,
    at: usize,
}

impl Inbox {
    /// Waits until something is there. Loses nothing when dropped.
    pub(crate) async fn ready(&mut self) {
        while self.open.is_none() {
            let Some(parcel) = self.from.recv().await else { return std::future::pending().await };
            self.open = Some(Open { parcel, next: 0, at: 0 });
        }
    }

    /// Gives pieces to `take`, with the sender's index, in the order in which they were packed, at most
    /// `most`.
    pub(crate) fn unpack(&mut self, most: usize, mut take: impl FnMut(u8, Piece, &[u8])) {
        for _ in 0..most {
            if self.open.is_none() {
                let Ok(parcel) = self.from.try_recv() else { return };
                self.open = Some(Open { parcel, next: 0, at: 0 });
            }
            let Some(Open { parcel, next, at }) = &mut self.open else { return };
            if let Some((piece, length)) = parcel.pieces.get(*next) {
                take(parcel.from, *piece, parcel.bytes.get(*at..*at + length).unwrap_or_default());
                *at += length;
                *next += 1;
            }
            if *next >= parcel.pieces.len() {
                self.waiting.fetch_sub(parcel.bytes.len(), Ordering::AcqRel);
                self.open = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_arrive_in_order_over_parcels_and_turns() {
        let (slot, mut inbox) = data_way();
        let mut post = slot.post_of(3);
        let source: SocketAddr = "192.0.2.1:9".parse().unwrap();
        post.pack(Piece::Datagram(source), b"one");
        post.pack(Piece::Inner(CircuitHandle(2)), b"two");
        assert_eq!(post.flush(), Ok(2));
        post.pack(Piece::Dead(CircuitHandle(2)), b"");
        assert_eq!(post.flush(), Ok(1));
        assert_eq!(post.flush(), Ok(0));
        let mut got = Vec::new();
        for most in [1, 1, 5] {
            inbox.unpack(most, |from, piece, bytes| got.push((from, piece, bytes.to_vec())));
        }
        assert_eq!(
            got,
            [
                (3, Piece::Datagram(source), b"one".to_vec()),
                (3, Piece::Inner(CircuitHandle(2)), b"two".to_vec()),
                (3, Piece::Dead(CircuitHandle(2)), Vec::new()),
            ]
        );
        assert_eq!(inbox.waiting.load(Ordering::Acquire), 0);
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let (slot, mut inbox) = data_way();
        let mut post = slot.post_of(0);
        let mut kept = 0;
        let dropped = loop {
            (0..16).for_each(|_| post.pack(Piece::Outer(CircuitHandle(1)), &[0; 65_536]));
            match post.flush() {
                Ok(pieces) => kept += pieces,
                Err(pieces) => break pieces,
            }
        };
        assert_eq!((kept, dropped), (64, 16));
        let mut got = 0;
        inbox.unpack(1000, |_, _, _| got += 1);
        assert_eq!(got, 64);
        post.pack(Piece::AllDead, b"");
        assert_eq!(post.flush(), Ok(1), "there is room again");
        for circuit in 0..2 * MAX_PARCELS as u32 {
            post.pack(Piece::Dead(CircuitHandle(circuit)), b"");
            post.pack(Piece::Outer(CircuitHandle(circuit)), b"cell");
            _ = post.flush();
        }
        let (mut dead, mut cells) = (0, 0);
        for _ in 0..2 {
            inbox.unpack(10 * MAX_PARCELS, |_, piece, _| match piece {
                Piece::Dead(_) => dead += 1,
                _ => cells += 1,
            });
            assert!(post.flush().is_ok());
        }
        assert_eq!(dead, 2 * MAX_PARCELS, "ends are told however late");
        assert!(cells < dead, "{cells}");
    }
}

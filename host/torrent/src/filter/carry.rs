//! Moving the bytes of one conversation through the filter.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Direction, DropReason, Step, directions};
use crate::InfoHash;
use warren_ports::Stream;

/// Two blocks of 16 KiB and their headers fit many times; reads and writes are this large at most.
const BUFFER: usize = 128 * 1024;

/// Moves bytes between engine and peer until either side closes, and adds what passed to `moved`.
/// Both streams are closed when it returns.
///
/// # Errors
/// When the filter ended it.
pub(crate) async fn carry<E: Stream, P: Stream>(
    engine: E,
    peer: P,
    infohash: InfoHash,
    peer_id: [u8; 20],
    moved: &AtomicU64,
) -> Result<(), DropReason> {
    let (outward, inward) = directions(infohash, peer_id);
    let (engine_read, mut engine_write) = tokio::io::split(engine);
    let (peer_read, mut peer_write) = tokio::io::split(peer);
    // When one side closed there is nothing left to say to the other: BitTorrent has no half-close.
    let end = tokio::select! {
        end = one_way(engine_read, &mut peer_write, outward, moved) => end,
        end = one_way(peer_read, &mut engine_write, inward, moved) => end,
    };
    let _ = tokio::join!(engine_write.shutdown(), peer_write.shutdown());
    end
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
    mut direction: Direction,
    moved: &AtomicU64,
) -> Result<(), DropReason> {
    let mut buffer = vec![0; BUFFER];
    let mut held = 0;
    loop {
        let free = buffer.get_mut(held..).unwrap_or_default();
        match from.read(free).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(got) => held += got,
        }
        let Some(used) = pass(&mut direction, buffer.get(..held).unwrap_or_default(), to, moved).await?
        else {
            return Ok(());
        };
        buffer.copy_within(used..held, 0);
        held -= used;
    }
}

/// Writes what may go on. How much of the input was used up; nothing when the receiver is gone.
async fn pass(
    direction: &mut Direction,
    input: &[u8],
    to: &mut (impl AsyncWrite + Unpin),
    moved: &AtomicU64,
) -> Result<Option<usize>, DropReason> {
    let mut used = 0;
    loop {
        let rest = input.get(used..).unwrap_or_default();
        let (taken, written) = match direction.step(rest)? {
            Step::More => return Ok(to.flush().await.is_ok().then_some(used)),
            Step::Pass(n) => (n, to.write_all(rest.get(..n).unwrap_or_default()).await),
            Step::Swap { taken, bytes } => (taken, to.write_all(&bytes).await),
        };
        if written.is_err() {
            return Ok(None);
        }
        used += taken;
        moved.fetch_add(u64::try_from(taken).unwrap_or_default(), Ordering::Relaxed);
    }
}

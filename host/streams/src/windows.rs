//! How much connections may have sent and not seen acknowledged: as much as each needs, and of a last hop's no more than
//! there is for all of them.
//!
//! What a connection needs is a product of its line's bandwidth and its round trip, which is what its congestion
//! window comes to, and more than that when something was lost: what came after it waits until it was sent again. Those of
//! a last hop differ by a factor of a hundred, and a window is also what it buffers for an originator that reads
//! slowly. So the window follows the congestion window. (An originator's too: with a large one those
//! who write first fill it, and the others wait until that has left.) There is a purse that all of a last hop's are paid from;
//! when it is empty, a connection keeps what it has, at least [`LEAST`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What every connection has, whatever the purse holds.
pub(crate) const LEAST: u64 = 64 * 1024;
/// A send window, in congestion windows: one on its way, one that is acknowledged when a lost datagram has been sent again,
/// and as much once more because the window may double before it is looked at again.
const CONGESTION_WINDOWS: u64 = 4;
/// How often a connection's window is looked at while it sends, and while it does not.
const LOOK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// Looks without anything sent after which a window is given back.
const IDLE_LOOKS: u32 = 10;

/// What all connections of an endpoint may have beyond [`LEAST`] each.
#[derive(Debug)]
pub(crate) struct Purse(AtomicU64);

impl Purse {
    /// Of `total` bytes for at most so many connections.
    pub(crate) fn new(total: u64, connections: usize) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(total.saturating_sub(LEAST * connections as u64))))
    }

    /// What a connection has that shares with none: at most `most`.
    pub(crate) fn of_one(most: u64) -> Share {
        Self::new(most.max(LEAST), 1).open(most)
    }

    /// A connection's share of it, nothing yet.
    pub(crate) fn open(self: &Arc<Self>, most: u64) -> Share {
        Share { purse: Arc::clone(self), held: 0, most }
    }
}

/// One connection's part of a [`Purse`], given back when dropped.
#[derive(Debug)]
pub(crate) struct Share {
    purse: Arc<Purse>,
    /// Beyond [`LEAST`].
    held: u64,
    most: u64,
}

impl Share {
    /// Takes what is missing to `wanted` bytes, as far as there is any, or gives back what is too much. Answers what it
    /// comes to.
    pub(crate) fn adjust(&mut self, wanted: u64) -> u64 {
        let wanted = wanted.min(self.most).saturating_sub(LEAST);
        if wanted < self.held {
            self.purse.0.fetch_add(self.held - wanted, Ordering::Relaxed);
            self.held = wanted;
        } else {
            let missing = wanted - self.held;
            let take = |left: u64| Some(left - missing.min(left));
            let left = self.purse.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
            self.held += missing.min(left.unwrap_or_default());
        }
        (LEAST + self.held).min(self.most)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.purse.0.fetch_add(self.held, Ordering::Relaxed);
    }
}

/// What a look at a connection says.
#[derive(Debug, Default)]
struct Watch {
    gives_back: bool,
    sent: u64,
    idle: u32,
}

impl Watch {
    /// The window that is wanted, and when to look again.
    fn look(&mut self, congestion_window: u64, sent: u64) -> (u64, Duration) {
        let sends = sent != self.sent;
        self.sent = sent;
        self.idle = if sends { 0 } else { self.idle.saturating_add(1) };
        let gives_back = self.gives_back && self.idle >= IDLE_LOOKS;
        let wanted = if gives_back { LEAST } else { CONGESTION_WINDOWS * congestion_window };
        (wanted, if sends { LOOK.0 } else { LOOK.1 })
    }
}

/// Keeps the send window of `quic` as large as it needs, as long as it is polled. When it is idle, it gives back what
/// others may need.
pub(crate) async fn follow(quic: quinn::Connection, mut share: Share, gives_back: bool) {
    let mut watch = Watch { gives_back, ..Watch::default() };
    loop {
        let (window, sent) =
            (quic.congestion_state().metrics().congestion_window, quic.stats().frame_tx.stream);
        let (wanted, pause) = watch.look(window, sent);
        quic.set_send_window(share.adjust(wanted));
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_paid_from_one_purse_and_given_back() {
        let purse = Purse::new(10 * LEAST, 2);
        let (mut one, mut two) = (purse.open(100 * LEAST), purse.open(100 * LEAST));
        assert_eq!(one.adjust(6 * LEAST), 6 * LEAST);
        assert_eq!(two.adjust(6 * LEAST), 4 * LEAST);
        assert_eq!(one.adjust(2 * LEAST), 2 * LEAST);
        assert_eq!(two.adjust(6 * LEAST), 6 * LEAST);
        drop(two);
        assert_eq!(one.adjust(u64::MAX), 9 * LEAST);
        drop(one);
        assert_eq!(purse.0.load(Ordering::Relaxed), 8 * LEAST);
    }

    #[test]
    fn a_window_has_its_bounds() {
        let purse = Purse::new(0, 1000);
        assert_eq!(purse.open(1 << 20).adjust(1 << 20), LEAST);
        // An endpoint may be set to less than the least.
        assert_eq!(purse.open(1000).adjust(1 << 20), 1000);
        let purse = Purse::new(1 << 30, 1);
        assert_eq!(purse.open(1 << 20).adjust(1 << 21), 1 << 20);
        assert_eq!(purse.open(1 << 20).adjust(0), LEAST);
    }

    #[test]
    fn a_window_follows_while_something_is_sent_and_is_given_back_after_a_while() {
        let mut watch = Watch { gives_back: true, ..Watch::default() };
        assert_eq!(watch.look(100_000, 5), (400_000, LOOK.0));
        assert_eq!(watch.look(200_000, 9), (800_000, LOOK.0));
        for _ in 1..IDLE_LOOKS {
            assert_eq!(watch.look(200_000, 9), (800_000, LOOK.1));
        }
        assert_eq!(watch.look(200_000, 9), (LEAST, LOOK.1));
        watch.gives_back = false;
        assert_eq!(watch.look(200_000, 9), (800_000, LOOK.1));
        assert_eq!(watch.look(200_000, 10), (800_000, LOOK.0));
    }
}

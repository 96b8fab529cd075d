//! How much connections may have sent and not seen acknowledged, and received and not read: as much as each needs, and no
//! more than there is for all of them.
//!
//! What a connection needs to send is a product of its line's bandwidth and its round trip, which is what its congestion
//! window comes to, and more than that when something was lost: what came after it waits until it was sent again. Those of
//! a last hop differ by a factor of a hundred, and a window is also what it buffers for an originator that reads
//! slowly. So the window follows the congestion window. (An originator's too: with a large one those
//! who write first fill it, and the others wait until that has left.)
//!
//! What it needs to receive is what all of its streams but one may have unread, and some more for that one. With less, a few
//! that nobody reads, such as downloads that were paused, fill it, and no other stream gets a byte.
//!
//! There are purses that these windows are paid from; when one is empty, a connection keeps what it has, at least the
//! window's least.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::quic::Quic;

/// What every connection may send, whatever the purse holds.
pub(crate) const LEAST: u64 = 64 * 1024;
/// A send window, in congestion windows: one on its way, one that is acknowledged when a lost datagram has been sent again,
/// and as much once more because the window may double before it is looked at again.
const CONGESTION_WINDOWS: u64 = 4;
/// How often a connection's windows are looked at while it sends, and while it does not.
const LOOK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// Looks without anything sent after which a window is given back.
const IDLE_LOOKS: u32 = 10;

/// What several connections may have beyond the least of each.
#[derive(Debug)]
pub(crate) struct Purse(AtomicU64);

impl Purse {
    /// Of so many bytes.
    pub(crate) fn new(total: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(total)))
    }

    /// A window of `least` to `most` bytes that is paid from it.
    pub(crate) fn open(self: &Arc<Self>, least: u64, most: u64) -> Window {
        Window { purse: Arc::clone(self), held: 0, least: least.min(most), most }
    }
}

/// One connection's window. What it took of its [`Purse`] is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Window {
    purse: Arc<Purse>,
    /// Beyond `least`.
    held: u64,
    least: u64,
    most: u64,
}

impl Window {
    /// Takes what is missing to `wanted` bytes, as far as there is any, or gives back what is too much. Answers what it
    /// comes to.
    pub(crate) fn adjust(&mut self, wanted: u64) -> u64 {
        let wanted = wanted.min(self.most).saturating_sub(self.least);
        if wanted < self.held {
            self.purse.0.fetch_add(self.held - wanted, Ordering::Relaxed);
            self.held = wanted;
        } else {
            let missing = wanted - self.held;
            let take = |left: u64| Some(left - missing.min(left));
            let left = self.purse.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
            self.held += missing.min(left.unwrap_or_default());
        }
        self.least + self.held
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.purse.0.fetch_add(self.held, Ordering::Relaxed);
    }
}

/// The windows of one connection.
#[derive(Debug)]
pub(crate) struct Windows {
    pub(crate) send: Window,
    /// The send window is given back while the connection is idle, as others may need it.
    pub(crate) gives_back: bool,
    pub(crate) receive: Window,
    /// What a stream may have unread.
    pub(crate) of_a_stream: u32,
}

impl Windows {
    /// What may be unread with so many open streams: all but one of them may be full. It never becomes less: the other side
    /// may go on as it was told, however small QUIC's window is until as much was read, and would be told of room again.
    fn receive(&mut self, streams: usize) -> u64 {
        let others = streams.saturating_sub(1) as u64 * u64::from(self.of_a_stream);
        self.receive.adjust(self.receive.least + others.max(self.receive.held))
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

/// Keeps the windows of `quic`, of which so many `streams` are open, as large as it needs, as long as it is polled.
pub(crate) async fn follow(quic: Quic, mut windows: Windows, streams: Arc<AtomicUsize>) {
    let mut watch = Watch { gives_back: windows.gives_back, ..Watch::default() };
    let mut receive = windows.receive(0);
    loop {
        let (window, sent) = quic.sending();
        let (wanted, pause) = watch.look(window, sent);
        quic.set_send_window(windows.send.adjust(wanted));
        let before = std::mem::replace(&mut receive, windows.receive(streams.load(Ordering::Relaxed)));
        if receive != before {
            quic.set_receive_window(receive);
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_paid_from_one_purse_and_given_back() {
        let purse = Purse::new(8);
        let (mut one, mut two) = (purse.open(1, 100), purse.open(1, 100));
        assert_eq!(one.adjust(6), 6);
        assert_eq!(two.adjust(6), 4);
        assert_eq!(one.adjust(2), 2);
        assert_eq!(two.adjust(6), 6);
        drop(two);
        assert_eq!(one.adjust(u64::MAX), 9);
        drop(one);
        assert_eq!(purse.0.load(Ordering::Relaxed), 8);
    }

    #[test]
    fn a_window_has_its_bounds() {
        let purse = Purse::new(0);
        assert_eq!(purse.open(LEAST, 1 << 20).adjust(1 << 20), LEAST);
        // An endpoint may be set to less than the least.
        assert_eq!(purse.open(LEAST, 1000).adjust(1 << 20), 1000);
        let purse = Purse::new(1 << 30);
        assert_eq!(purse.open(LEAST, 1 << 20).adjust(1 << 21), 1 << 20);
        assert_eq!(purse.open(LEAST, 1 << 20).adjust(0), LEAST);
    }

    #[test]
    fn streams_that_nobody_reads_leave_the_least() {
        let (purse, none) = (Purse::new(100), Purse::new(0));
        let of = |purse: &Arc<Purse>| {
            let (send, receive) = (none.open(0, 0), purse.open(16, 128));
            Windows { send, gives_back: false, receive, of_a_stream: 8 }
        };
        let mut windows = of(&purse);
        assert_eq!(
            [0, 1, 2, 9, 2].map(|streams| windows.receive(streams)),
            [16, 16, 24, 80, 80],
            "never less"
        );
        let mut other = of(&purse);
        assert_eq!(other.receive(9), 16 + 36);
        drop(other);
        assert_eq!([15, 1000].map(|streams| windows.receive(streams)), [116, 116]);
        assert_eq!((purse.0.load(Ordering::Relaxed), of(&none).receive(9)), (0, 16));
        drop(windows);
        assert_eq!(purse.0.load(Ordering::Relaxed), 100);
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

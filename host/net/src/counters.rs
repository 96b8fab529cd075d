//! What a socket has counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a socket has counted since it was bound. Bytes are UDP payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Datagrams handed over.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Datagrams skipped because they were longer than a tunnel datagram may be.
    pub oversized: u64,
    /// Receive calls that failed for another reason than that nothing waits.
    pub receive_errors: u64,
    /// Datagrams the kernel took.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Send calls that took them.
    pub send_calls: u64,
    /// Datagrams lost because the path's MTU is too small (EMSGSIZE).
    pub too_large: u64,
    /// Datagrams lost because their destination cannot be reached from here.
    pub unreachable: u64,
    /// Datagrams lost to any other error of a send call.
    pub send_errors: u64,
}

/// [`Counters`] while they are counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) received: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) oversized: AtomicU64,
    pub(crate) receive_errors: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) send_calls: AtomicU64,
    pub(crate) too_large: AtomicU64,
    pub(crate) unreachable: AtomicU64,
    pub(crate) send_errors: AtomicU64,
}

/// Adds to a counter that has one writer.
pub(crate) fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

impl Tally {
    pub(crate) fn snapshot(&self) -> Counters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            received: read(&self.received),
            received_bytes: read(&self.received_bytes),
            oversized: read(&self.oversized),
            receive_errors: read(&self.receive_errors),
            sent: read(&self.sent),
            sent_bytes: read(&self.sent_bytes),
            send_calls: read(&self.send_calls),
            too_large: read(&self.too_large),
            unreachable: read(&self.unreachable),
            send_errors: read(&self.send_errors),
        }
    }
}

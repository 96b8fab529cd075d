//! What a worker thread counts for the status page. Written by that thread only.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one thread.
#[derive(Default)]
pub(crate) struct Gauge {
    plugin: String,
    restarts: AtomicU64,
    cpu_us: AtomicU64,
    handed_over: AtomicU64,
    handover_drops: AtomicU64,
    strays: AtomicU64,
}

impl Gauge {
    pub(crate) fn new(plugin: &str) -> Self {
        Self { plugin: plugin.to_owned(), ..Self::default() }
    }

    pub(crate) fn plugin(&self) -> &str {
        &self.plugin
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    pub(crate) fn set_restarts(&self, restarts: u64) {
        self.restarts.store(restarts, Ordering::Relaxed);
    }

    /// CPU seconds of the thread, as of its last turn.
    pub(crate) fn cpu_s(&self) -> f64 {
        self.cpu_us.load(Ordering::Relaxed) as f64 / 1e6
    }

    /// Reads the calling thread's CPU time.
    pub(crate) fn set_cpu(&self) {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid timespec for the call to write to.
        if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } == 0 {
            let micros = time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000;
            self.cpu_us.store(micros, Ordering::Relaxed);
        }
    }

    /// So many datagrams that belong to another thread were handed over, or dropped because it was
    /// behind.
    pub(crate) fn count_handovers(&self, sent: Result<u64, u64>) {
        match sent {
            Ok(pieces) => self.handed_over.fetch_add(pieces, Ordering::Relaxed),
            Err(pieces) => self.handover_drops.fetch_add(pieces, Ordering::Relaxed),
        };
    }

    /// A datagram that belongs to nobody.
    pub(crate) fn count_stray(&self) {
        self.strays.fetch_add(1, Ordering::Relaxed);
    }

    /// Datagrams dropped before any worker saw them.
    pub(crate) fn drops(&self) -> u64 {
        self.handover_drops.load(Ordering::Relaxed) + self.strays.load(Ordering::Relaxed)
    }
}

//! What a worker thread counts for the status page. Written by that thread only.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What the worker of a thread does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub(crate) enum State {
    /// There is none.
    #[default]
    Parked = 0,
    /// It takes whatever comes.
    Running = 1,
    /// It takes nothing new.
    Draining = 2,
    /// Its module failed again and again.
    Quarantined = 3,
}

impl State {
    const ALL: [Self; 4] = [Self::Parked, Self::Running, Self::Draining, Self::Quarantined];

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Quarantined => "quarantined",
        }
    }
}

/// CPU time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the call to write to.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } == 0 {
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    } else {
        Duration::ZERO
    }
}

/// Counts of one thread.
#[derive(Default)]
pub(crate) struct Gauge {
    plugin: Mutex<String>,
    state: AtomicU8,
    restarts: AtomicU64,
    cpu_us: AtomicU64,
    handed_over: AtomicU64,
    handover_drops: AtomicU64,
    strays: AtomicU64,
}

impl Gauge {
    pub(crate) fn new(plugin: &str) -> Self {
        Self { plugin: Mutex::new(plugin.to_owned()), ..Self::default() }
    }

    pub(crate) fn plugin(&self) -> String {
        self.plugin.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Name and version of the module, for people.
    pub(crate) fn set_plugin(&self, plugin: &str) {
        plugin.clone_into(&mut self.plugin.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn state(&self) -> State {
        let state = usize::from(self.state.load(Ordering::Relaxed));
        State::ALL.get(state).copied().unwrap_or_default()
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    pub(crate) fn set_restarts(&self, restarts: u64) {
        self.restarts.store(restarts, Ordering::Relaxed);
    }

    /// CPU seconds of the thread, as of a turn that was not 50 ms before its last one.
    pub(crate) fn cpu_s(&self) -> f64 {
        self.cpu_us.load(Ordering::Relaxed) as f64 / 1e6
    }

    /// Reads the calling thread's CPU time.
    pub(crate) fn set_cpu(&self) {
        let micros = thread_cpu().as_micros();
        self.cpu_us.store(u64::try_from(micros).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// So many datagrams that belong to another thread were handed over, or dropped because it was
    /// behind.
    pub(crate) fn count_handovers(&self, sent: Result<u64, u64>) {
        match sent {
            Ok(pieces) => self.handed_over.fetch_add(pieces, Ordering::Relaxed),
            Err(pieces) => self.handover_drops.fetch_add(pieces, Ordering::Relaxed),
        };
    }

    /// Pieces that went to other threads.
    pub(crate) fn handed_over(&self) -> u64 {
        self.handed_over.load(Ordering::Relaxed)
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

//! The clock of a laboratory, and an alarm finer than the runtime's, whose timers have 1 ms.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use warren_schemas::Timestamp;

/// Time since it was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "the lab's thread is where its time comes from")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::default().after(self.0.elapsed())
    }
}

/// One alarm (timerfd_create(2)).
#[derive(Debug)]
pub(crate) struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    /// In the tokio runtime that this is called in.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; what it answers is checked.
        let fd =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: the descriptor is its own until it is dropped.
        Ok(Self(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?))
    }

    /// Rings once after `wait`, instead of when it would have.
    pub(crate) fn set(&self, wait: Duration) {
        // Zero would turn it off.
        let wait = wait.max(Duration::from_nanos(1));
        let value =
            libc::timespec { tv_sec: wait.as_secs() as libc::time_t, tv_nsec: wait.subsec_nanos().into() };
        let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = libc::itimerspec { it_interval: never, it_value: value };
        // SAFETY: the descriptor is a timer's, and `spec` lives through the call.
        unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &raw const spec, std::ptr::null_mut()) };
    }

    /// Waits until it rings.
    pub(crate) async fn rings(&self) -> io::Result<()> {
        let mut guard = self.0.readable().await?;
        let mut count = [0_u8; 8];
        // SAFETY: the buffer has the eight bytes that timerfd_create(2) asks for.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        guard.clear_ready();
        Ok(())
    }
}

//! How this program shares the processor with others.

use std::io;

/// How long a thread keeps the processor while others wait, in nanoseconds.
#[cfg(target_os = "linux")]
const SLICE: u64 = 8_000_000;

/// Makes this thread, and those it starts from now on, batch work: woken up, they wait for what runs to end its
/// turn, and their own turns are long. What arrives meanwhile is handled together, and fewer switches
/// leave more in the caches. Where every thread has a processor, it changes nothing.
///
/// A policy that someone chose for this process is kept, and so is its nice value. Linux before 6.12 takes no
/// length of a turn and ignores it (sched(7), kernel/sched/syscalls.c).
///
/// # Errors
/// When the kernel refuses.
#[cfg(target_os = "linux")]
pub(crate) fn batch() -> io::Result<()> {
    // SAFETY: all of its fields are integers.
    let mut now: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::sched_attr>() as u32;
    // SAFETY: the kernel writes at most `size` bytes to `now`, which is as long.
    let asked = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut now, size, 0) };
    if asked != 0 {
        return Err(io::Error::last_os_error());
    }
    if now.sched_policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    let wanted =
        libc::sched_attr { size, sched_policy: libc::SCHED_BATCH as u32, sched_runtime: SLICE, ..now };
    // SAFETY: the kernel reads `size` bytes of `wanted`, which lives until it returns.
    let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wanted, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Does nothing here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn batch() -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    /// The policy of the calling thread.
    fn policy() -> i32 {
        // SAFETY: takes no pointer.
        unsafe { libc::sched_getscheduler(0) }
    }

    fn choose(policy: i32) {
        let none = libc::sched_param { sched_priority: 0 };
        // SAFETY: `none` lives until the call returns.
        assert_eq!(unsafe { libc::sched_setscheduler(0, policy, &raw const none) }, 0);
    }

    #[test]
    fn a_thread_and_those_it_starts_are_batch_work() {
        let started = std::thread::spawn(|| {
            choose(libc::SCHED_OTHER);
            super::batch().unwrap();
            (policy(), std::thread::spawn(policy).join().unwrap())
        });
        assert_eq!(started.join().unwrap(), (libc::SCHED_BATCH, libc::SCHED_BATCH));
    }

    #[test]
    fn a_policy_that_was_chosen_is_kept() {
        let kept = std::thread::spawn(|| {
            choose(libc::SCHED_IDLE);
            super::batch().unwrap();
            policy()
        });
        assert_eq!(kept.join().unwrap(), libc::SCHED_IDLE);
    }
}

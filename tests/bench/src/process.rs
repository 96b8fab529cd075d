//! Child processes that do not outlive this one.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::Context;

use crate::Stopwatch;

/// How long a process has to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(10);

/// A child. Dropping it ends it: SIGTERM, then SIGKILL. It is killed when the thread that started it
/// dies, however that happens.
#[derive(Debug)]
pub struct Process {
    child: Child,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        die_with_parent(command);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child, status: None })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its status, once it has ended by itself or was stopped. Reaps it: its CPU time is gone then.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// Waits for its end as long as `go_on` says so; then ends it.
    pub fn wait(&mut self, mut go_on: impl FnMut() -> bool) -> Option<ExitStatus> {
        while self.ended().is_none() {
            if !go_on() {
                self.stop();
                return None;
            }
            std::thread::sleep(STEP);
        }
        self.status
    }

    /// Sends a signal, if it still runs.
    pub fn signal(&mut self, signal: libc::c_int) {
        if self.ended().is_none()
            && let Ok(pid) = libc::pid_t::try_from(self.child.id())
        {
            // SAFETY: kill has no preconditions; the child is not reaped, so the id is still its.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// Ends it, gently first.
    pub fn stop(&mut self) {
        self.signal(libc::SIGTERM);
        let waited = Stopwatch::start();
        while self.ended().is_none() && waited.elapsed() < GRACE {
            std::thread::sleep(STEP);
        }
        self.kill();
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        self.status = self.status.or_else(|| self.child.wait().ok());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes the kernel kill the child when the thread that starts it dies.
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let arm = move || {
        // SAFETY: prctl with PR_SET_PDEATHSIG takes a signal number; both calls may be made between
        // fork and exec.
        let (armed, now) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), libc::getppid()) };
        if armed != 0 {
            return Err(std::io::Error::last_os_error());
        }
        if u32::try_from(now) != Ok(parent) {
            return Err(std::io::Error::other("the parent died first"));
        }
        Ok(())
    };
    // SAFETY: the closure makes two system calls and does not allocate unless it fails.
    unsafe { command.pre_exec(arm) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ignores_sigterm_is_killed_and_one_that_ends_tells_its_status() {
        let mut short = Process::start(Command::new("sh").args(["-c", "exit 3"])).unwrap();
        assert_eq!(short.wait(|| true).unwrap().code(), Some(3));
        let mut long = Process::start(Command::new("sleep").arg("1000")).unwrap();
        assert!(long.ended().is_none());
        assert_eq!(long.wait(|| false), None);
        assert!(long.ended().is_some());
    }

    #[test]
    fn a_child_dies_with_the_thread_that_started_it() {
        let (pid, mut child) = std::thread::spawn(|| {
            let mut process = Process::start(Command::new("sleep").arg("1000")).unwrap();
            (process.pid(), std::mem::replace(process.child(), Command::new("true").spawn().unwrap()))
        })
        .join()
        .unwrap();
        assert_eq!(child.id(), pid);
        assert!(!child.wait().unwrap().success());
    }
}

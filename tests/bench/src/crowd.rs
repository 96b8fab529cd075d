//! Idle circuits on other people's relays: a crowd of originators in one thread of this process.
//!
//! Each member is a tunnel worker with a socket of its own, so each has a link of its own to every
//! relay, and the bounds of docs/protocol.md on a link (circuits made in a second) hold for each alone.
//! Circuits have one hop. They carry nothing but the pings that keep them alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use warren_schemas::descriptor::SignedDescriptor;

use crate::clock::Clock;

mod member;

use member::Member;

/// Circuits that a member asks one relay for in a second; the bound of a link is 100.
const CREATES_PER_SECOND: f64 = 80.0;
/// The longest the thread sleeps.
const LONGEST_SLEEP: Duration = Duration::from_millis(10);

/// What the thread tells.
#[derive(Default)]
struct Told {
    stop: AtomicBool,
    stand: AtomicU64,
    failed: AtomicU64,
    died: AtomicU64,
}

/// Originators that keep circuits on relays until this is dropped.
pub struct Crowd {
    told: Arc<Told>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Crowd {
    /// Starts `members` that together keep `circuits` on each of `relays`. They stand after a while.
    ///
    /// # Errors
    /// When sockets or the thread cannot be made.
    pub fn start(relays: &[SignedDescriptor], members: u16, circuits: u32) -> anyhow::Result<Self> {
        let told = Arc::new(Told::default());
        let clock = Clock::start();
        let each = circuits.div_ceil(u32::from(members.max(1)));
        let mut crowd =
            (0..members).map(|_| Member::new(clock, relays, each)).collect::<anyhow::Result<Vec<_>>>()?;
        let tell = Arc::clone(&told);
        let body = move || {
            while !tell.stop.load(Ordering::Relaxed) {
                turn(&mut crowd, clock)?;
                let sum = |count: fn(&Member) -> u64| crowd.iter().map(count).sum::<u64>();
                tell.stand.store(sum(Member::stand), Ordering::Relaxed);
                tell.failed.store(sum(Member::failed), Ordering::Relaxed);
                tell.died.store(sum(Member::died), Ordering::Relaxed);
            }
            Ok(())
        };
        let thread = std::thread::Builder::new().name("crowd".to_owned()).spawn(body);
        Ok(Self { told, thread: Some(thread.context("starting the crowd")?) })
    }

    /// Circuits that stand.
    #[must_use]
    pub fn stand(&self) -> u64 {
        self.told.stand.load(Ordering::Relaxed)
    }

    /// Circuits that were asked for in vain.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.told.failed.load(Ordering::Relaxed)
    }

    /// Circuits that stood and died.
    #[must_use]
    pub fn died(&self) -> u64 {
        self.told.died.load(Ordering::Relaxed)
    }

    /// Fails when its thread has ended.
    ///
    /// # Errors
    /// With what ended it.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.thread.take_if(|thread| thread.is_finished()).map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(ended)) => ended,
            Some(Err(_)) => anyhow::bail!("the crowd's thread panicked"),
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.told.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Everybody does what is to do, then all sleep until a datagram comes or the next deed is due.
fn turn(crowd: &mut [Member], clock: Clock) -> anyhow::Result<()> {
    for member in &mut *crowd {
        member.work(clock)?;
    }
    let mut sockets: Vec<libc::pollfd> = crowd.iter().map(Member::pollfd).collect();
    let wait = i32::try_from(LONGEST_SLEEP.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the pointer and the length are of one live, exclusively borrowed vector.
    unsafe { libc::poll(sockets.as_mut_ptr(), sockets.len() as libc::nfds_t, wait) };
    Ok(())
}

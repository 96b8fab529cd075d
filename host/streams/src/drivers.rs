//! Where connections' drivers run, and those who copy from streams and into them: one task that takes them depth first.
//!
//! As tasks of tokio they would have their turns one behind the other: with many circuits all connections, then all
//! readers. Here whoever a driver wakes comes next, within bounds, when what it
//! is woken for is likely to be in the processor's cache, and a turn is less work than a task's. It took some 4 % less CPU with one download
//! (docs/benchmarks.md); which of the two did it was not told apart.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use tokio::task::{unconstrained, yield_now};

use crate::lock;

/// Those who have a turn because one before them woke them, until the next in line has one.
const DEPTH: usize = 8;
/// Turns in a row, until the thread's loop and its tasks have theirs.
const TURNS: usize = 512;

/// What has turns.
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Gives turns to whoever is added. Clones are the same.
#[derive(Clone)]
pub(crate) struct Drivers(Arc<Line>);

impl fmt::Debug for Drivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Drivers")
    }
}

impl Drivers {
    /// Starts the task on the tokio runtime in which this is called; it and all drivers end with that.
    pub(crate) fn start() -> Self {
        let line = Arc::new(Line::default());
        tokio::spawn(Turns { line: line.clone(), taken: 0, chain: 0 });
        Self(line)
    }

    /// Has `work` take its turns among them. It ends when it is done, when it panics, or with the runtime.
    pub(crate) fn add(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.add(work);
    }
}

/// Those who want a turn, and all who live.
#[derive(Default)]
struct Line(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Arc<Driver>>,
    living: HashMap<u64, Arc<Driver>>,
    next: u64,
    /// The task has ended: nobody has turns any more.
    over: bool,
    /// The task, when nobody waits.
    task: Option<Waker>,
}

impl Line {
    fn add(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let mut inner = lock(&self.0);
        if inner.over {
            return;
        }
        inner.next += 1;
        let number = inner.next;
        // tokio's budget is one task's, and this is one task. What bounds a turn is the driver's own limit, and the windows
        // and buffers of whoever copies.
        let work = Mutex::new(Some(Box::pin(unconstrained(work)) as Work));
        let driver = Arc::new(Driver {
            number,
            work,
            waits: AtomicBool::new(false),
            chain: AtomicU64::new(0),
            line: self.clone(),
        });
        inner.living.insert(number, driver.clone());
        drop(inner);
        driver.wake();
    }

    fn push(&self, driver: Arc<Driver>) {
        let mut inner = lock(&self.0);
        if inner.over {
            return;
        }
        inner.waiting.push_back(driver);
        let task = inner.task.take();
        drop(inner);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// The first in line, and how many wait behind it; none, and the task is woken when there is one.
    fn first(&self, context: &Context<'_>) -> Option<(Arc<Driver>, usize)> {
        let mut inner = lock(&self.0);
        let Some(first) = inner.waiting.pop_front() else {
            inner.task = Some(context.waker().clone());
            return None;
        };
        Some((first, inner.waiting.len()))
    }

    /// The first of those who came when `others` waited already, and had no turn in this chain.
    fn woken(&self, others: usize, chain: u64) -> Option<Arc<Driver>> {
        let waiting = &mut lock(&self.0).waiting;
        let fresh = |driver: &Arc<Driver>| driver.chain.load(Ordering::Relaxed) != chain;
        let index = waiting.iter().skip(others).position(fresh)?;
        waiting.remove(others + index)
    }
}

/// One who has turns.
struct Driver {
    number: u64,
    /// None when it is done.
    work: Mutex<Option<Work>>,
    waits: AtomicBool,
    /// The chain in which it last had a turn.
    chain: AtomicU64,
    line: Arc<Line>,
}

impl Wake for Driver {
    fn wake(self: Arc<Self>) {
        if !self.waits.swap(true, Ordering::AcqRel) {
            self.line.clone().push(self);
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.waits.swap(true, Ordering::AcqRel) {
            self.line.push(self.clone());
        }
    }
}

impl Driver {
    fn turn(self: Arc<Self>, chain: u64) {
        self.chain.store(chain, Ordering::Relaxed);
        // From here on whoever wakes it wants another turn; what others did before they woke it is seen in this one.
        self.waits.swap(false, Ordering::AcqRel);
        let waker = Waker::from(self.clone());
        let mut work = lock(&self.work);
        let Some(running) = work.as_mut() else { return };
        let poll = || running.as_mut().poll(&mut Context::from_waker(&waker));
        // One that panics ends, as a task would, and nobody else.
        let done = !matches!(catch_unwind(AssertUnwindSafe(poll)), Ok(Poll::Pending));
        if done {
            let over = work.take();
            drop(work);
            end(over);
            lock(&self.line.0).living.remove(&self.number);
        }
    }
}

/// Drops what had turns. What panics in that is no matter of the others.
fn end(over: Option<Work>) {
    drop(catch_unwind(AssertUnwindSafe(|| drop(over))));
}

/// The task.
struct Turns {
    line: Arc<Line>,
    /// Turns since the thread's loop had its turn.
    taken: usize,
    /// Counts those who were next in line. Nobody has two turns in what one of them set off: who wakes itself, as
    /// a connection's driver does that has more to send, lets others go first.
    chain: u64,
}

impl Future for Turns {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        while self.taken < TURNS {
            let Some((first, others)) = self.line.first(context) else { return Poll::Pending };
            self.chain += 1;
            self.taken += 1;
            first.turn(self.chain);
            for _ in 0..DEPTH {
                let Some(woken) = self.line.woken(others, self.chain) else { break };
                self.taken += 1;
                woken.turn(self.chain);
            }
        }
        self.taken = 0;
        // Not before the thread's loop had its turn: waking the task right here would put it before that.
        pin!(yield_now()).poll(context)
    }
}

/// The runtime ends. A driver that is not done would keep itself: what it waits for has its waker.
impl Drop for Turns {
    fn drop(&mut self) {
        let (waiting, living) = {
            let mut inner = lock(&self.line.0);
            inner.over = true;
            (std::mem::take(&mut inner.waiting), std::mem::take(&mut inner.living))
        };
        drop(waiting);
        for driver in living.values() {
            let over = lock(&driver.work).take();
            end(over);
        }
    }
}

#[cfg(test)]
mod tests;

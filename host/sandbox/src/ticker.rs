//! The thread that makes running workers look at their budget: it moves the engine's epoch on
//! while at least one call runs, and sleeps without waking otherwise.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use wasmtime::EngineWeak;

/// Ticks without a call after which the thread parks: short calls in a row should not pay for
/// waking it each time.
const IDLE_TICKS: u32 = 50;

#[derive(Debug, Default)]
struct Shared {
    calls: AtomicUsize,
    parked: AtomicBool,
    stop: AtomicBool,
}

/// Owner of the thread; dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

/// A call that runs, for as long as this lives.
pub(crate) struct Call<'a>(&'a Shared);

impl Ticker {
    pub(crate) fn spawn(engine: EngineWeak, tick: Duration) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let builder = thread::Builder::new().name("worker-ticker".to_owned());
        let handle = builder.spawn(move || theirs.run(&engine, tick))?;
        Ok(Self { shared, thread: handle.thread().clone(), handle: Some(handle) })
    }

    /// Makes sure that the epoch moves until the answer is dropped.
    pub(crate) fn enter(&self) -> Call<'_> {
        self.shared.calls.fetch_add(1, SeqCst);
        // Either this sees `parked`, or the thread sees the call before it parks (both SeqCst).
        if self.shared.parked.load(SeqCst) {
            self.thread.unpark();
        }
        Call(&self.shared)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        self.thread.unpark();
        if let Some(handle) = self.handle.take()
            && handle.join().is_err()
        {
            tracing::error!("the thread that watches workers panicked");
        }
    }
}

impl Shared {
    fn run(&self, engine: &EngineWeak, tick: Duration) {
        let mut idle = 0;
        while !self.stop.load(SeqCst) {
            if self.calls.load(SeqCst) > 0 {
                idle = 0;
            } else if idle < IDLE_TICKS {
                idle += 1;
            } else {
                self.park();
                idle = 0;
            }
            thread::sleep(tick);
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
        }
    }

    fn park(&self) {
        self.parked.store(true, SeqCst);
        if self.calls.load(SeqCst) == 0 && !self.stop.load(SeqCst) {
            thread::park();
        }
        self.parked.store(false, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `parked` comes to be `wanted` before the test is given up.
    fn comes_to(ticker: &Ticker, wanted: bool) -> bool {
        (0..10_000).any(|_| {
            thread::sleep(Duration::from_millis(1));
            ticker.shared.parked.load(SeqCst) == wanted
        })
    }

    #[test]
    fn the_thread_sleeps_between_calls_and_wakes_for_one() {
        let engine = wasmtime::Engine::default();
        let ticker = Ticker::spawn(engine.weak(), Duration::from_millis(1)).unwrap();
        for _ in 0..3 {
            assert!(comes_to(&ticker, true), "without calls it parks");
            let call = ticker.enter();
            assert!(comes_to(&ticker, false), "a call wakes it");
            drop(call);
        }
    }
}

//! What circuits on which nothing happens cost a relay: their memory, and the time to hand them to a
//! successor. `cargo run --release -p warren-tunnel --example idle_circuits [COUNT]`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use warren_tunnel::Tunnel;
use warren_tunnel::testing::Net;

struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(clippy::disallowed_methods, reason = "a measurement of wall time")]
fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let start = std::time::Instant::now();
    let done = run();
    (done, start.elapsed())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count = std::env::args().nth(1).map_or(Ok(4000), |count| count.parse())?;
    let mut net = Net::with_idle_circuits(1, count);
    let now = net.now;
    let [_, relay, ..] = net.nodes.as_mut_slice() else { return Err("no relay".into()) };
    let (mut out, mut over, mut length) = (Vec::new(), Vec::new(), 0);
    for _ in 0..101 {
        let mut heir = Tunnel::new();
        heir.configure(now, relay.config.clone())?;
        let (state, time) = timed(|| relay.tunnel.export_state());
        let state = state?;
        out.push(time);
        length = state.len();
        let (taken, time) = timed(|| heir.import_state(now, &state));
        taken?;
        over.push(time);
        relay.tunnel = heir;
    }
    out.sort_unstable();
    over.sort_unstable();
    let held = HELD.load(Ordering::Relaxed);
    relay.tunnel = Tunnel::new();
    let freed = held - HELD.load(Ordering::Relaxed);
    println!("{count} circuits, {length} bytes of state ({} a circuit)", length / count.max(1));
    let middle = |times: &[Duration]| times.get(times.len() / 2).copied().unwrap_or_default();
    println!("export p50 {:?}, import p50 {:?}", middle(&out), middle(&over));
    println!("memory {freed} bytes ({} a circuit)", freed / count.max(1));
    Ok(())
}

//! How long memory takes to be written that was left alone for a while: on some machines the hypervisor has taken it
//! away by then. `cargo run --release -p warren-bench --example cold_memory`.

use std::hint::black_box;
use std::time::Duration;

use warren_bench::Stopwatch;

/// Bytes that are left alone, and of a page.
const BYTES: usize = 4 << 20;
const PAGE: usize = 4096;
const ROUNDS: usize = 8;

fn main() {
    let mut memory = vec![0u8; BYTES];
    for wait in [10, 500, 2000, 5000].map(Duration::from_millis) {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            memory.fill(7);
            std::thread::sleep(wait);
            let (all, mut slow) = (Stopwatch::start(), 0);
            for page in memory.chunks_exact_mut(PAGE) {
                let one = Stopwatch::start();
                page.iter_mut().take(1).for_each(|byte| *byte = black_box(7));
                slow += u32::from(one.elapsed() > Duration::from_micros(20));
            }
            rounds.push((all.elapsed(), slow));
        }
        rounds.sort_unstable();
        let pages = BYTES / PAGE;
        for (time, slow) in rounds.iter().skip(ROUNDS / 2).take(1) {
            println!("after {wait:?}: {pages} pages in {time:?} (median), {slow} of them over 20 µs");
        }
    }
}

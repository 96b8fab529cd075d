//! The hot functions of the tunnel, natively: each is called twice, and the second call goes through
//! [`warren_guard_counted`], where callgrind counts and then writes down. Prints their names in that order.
//!
//! `cargo xtask guard` builds and runs it, and compares the counts with those in `baselines.toml`. Seeds
//! and virtual time make every run the same; there is one thread, no I/O but the names, and nothing that
//! looks at the processor: see the flags in `xtask/src/guard.rs`. Not here: times.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what is counted must have worked; anything else may fail loudly"
)]

mod batches;
mod cells;
mod handshakes;

/// A name, and what is called: first with 0, to warm tables up, then with 1.
type Hot<'a> = (&'static str, Box<dyn FnMut(usize) + 'a>);

/// The one place where callgrind counts; it dumps what it counted whenever this returns.
#[unsafe(no_mangle)]
#[inline(never)]
fn warren_guard_counted(run: &mut dyn FnMut(usize)) {
    run(1);
}

fn count((name, mut run): Hot<'_>) {
    run(0);
    warren_guard_counted(&mut *run);
    println!("{name}");
}

fn main() {
    cells::hot().into_iter().for_each(count);
    handshakes::hot().into_iter().for_each(count);
    batches::run();
}

//! The program that libFuzzer drives, for the target that `WARREN_FUZZ_TARGET` names. `cargo xtask fuzz`
//! builds it, with our own crates instrumented, and runs it.
#![no_main]

use std::sync::OnceLock;

use warren_fuzz::Target;

static TARGET: OnceLock<Target> = OnceLock::new();

/// Finds the target, and answers `WARREN_FUZZ_SEEDS`, a folder, by writing the target's seeds there.
#[expect(clippy::panic, reason = "nothing can be done without a target")]
fn start() {
    let name = std::env::var("WARREN_FUZZ_TARGET").unwrap_or_default();
    let Some(target) = warren_fuzz::target(&name) else { panic!("no target is called {name:?}") };
    if let Some(folder) = std::env::var_os("WARREN_FUZZ_SEEDS")
        && let Err(error) = target.write_seeds(folder.as_ref())
    {
        panic!("seeds: {error}");
    }
    TARGET.get_or_init(|| target);
}

libfuzzer_sys::fuzz_target!(
    init: start(),
    |input: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(input);
        }
    }
);

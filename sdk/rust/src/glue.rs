//! What [`worker!`](crate::worker) expands to calls of. Not for authors.

use std::alloc::System;
use std::cell::RefCell;
use std::panic;

use warren_schemas::Timestamp;

use crate::memory::Wiping;
pub use crate::memory::touch;
use crate::{Host, Level};

#[global_allocator]
static MEMORY: Wiping<System> = Wiping::new(System);

/// Generated from `wit/`.
#[expect(missing_docs, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "warren:worker/tunnel",
        pub_export_macro: true,
        export_macro_name: "export",
        default_bindings_module: "warren_sdk::glue::bindings",
    });
}

pub use bindings::exports::warren::worker::machine::{Description, Guest};

/// The machine, and a panic hook that writes file, line and words to the log before the trap.
#[must_use]
pub fn begin<M: Default>() -> RefCell<M> {
    panic::set_hook(Box::new(|info| {
        let line = info.to_string().replace('\n', " ");
        Host::of_this_worker().log(Level::Error, &line);
    }));
    RefCell::new(M::default())
}

/// Whether what this call and its return free holds secrets. The worker that gives its whole state away
/// is destroyed after it; one that gave a copy goes on.
pub fn secrets_are_freed(they_are: bool) {
    MEMORY.wipe(they_are);
}

/// The contract's words for a description.
#[must_use]
pub fn description(description: crate::Description) -> Description {
    let crate::Description { name, version, suites, writes_state, reads_state } = description;
    Description { name, version, suites, writes_state, reads_state }
}

/// The contract's time.
#[must_use]
pub const fn time(now: u64) -> Timestamp {
    Timestamp::from_micros(now)
}

//! What reads hostile bytes, each as one function of bytes that panics when a promise is broken.
//!
//! | target | what its bytes are | what must hold |
//! | --- | --- | --- |
//! | `cipher` | key, nonce, associated data, length, damage | our cipher is the crate's, natively and in Wasm; damage is found, and changes nothing |
//! | `datagrams` | what strangers, neighbours and a rogue with keys send to a machine | answers are batches, go to known addresses, and are not larger than what a stranger sent |
//! | `batch` | a batch | it is refused or answered |
//! | `state` | a predecessor's state, or damage to a real one | refused, or as good a machine as any |
//! | `messages` | messages, handshakes, parts | what is read is written the same |
//! | `control` | configurations, requests, events, SYNC frames, streams | the same |
//! | `descriptor` | a descriptor, unsigned or signed | what verifies is what was signed |
//!
//! `cargo xtask fuzz` lets libFuzzer look for inputs, guided by the branches they reach, for as long as
//! one likes; the tests here replay seeds and what was found before, and try some thousand mutations from a
//! seed. Inputs that once broke something are kept under `found/TARGET/`. No clock, no socket; reads the
//! components that `WARREN_PLUGINS` names.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a target says by panicking that a promise is broken"
)]

mod input;
mod targets;
mod world;

use std::path::Path;
use std::{fs, io};

/// One thing that reads bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Reads an input; panics when a promise is broken.
    pub run: fn(&[u8]),
    seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 7] = [
    Target { name: "cipher", run: targets::cipher::run, seeds: targets::cipher::seeds },
    Target { name: "datagrams", run: targets::datagrams::run, seeds: targets::datagrams::seeds },
    Target { name: "batch", run: targets::batch::run, seeds: targets::batch::seeds },
    Target { name: "state", run: targets::state::run, seeds: targets::state::seeds },
    Target { name: "messages", run: targets::messages::run, seeds: targets::messages::seeds },
    Target { name: "control", run: targets::control::run, seeds: targets::control::seeds },
    Target { name: "descriptor", run: targets::descriptor::run, seeds: targets::descriptor::seeds },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

impl Target {
    /// Inputs to start from.
    #[must_use]
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        (self.seeds)()
    }

    /// Writes them into a folder, a file each.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_seeds(&self, folder: &Path) -> io::Result<()> {
        for (number, seed) in self.seeds().iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! What the demo, the benchmarks and the end-to-end tests share: a network of `warren` processes on
//! loopback, a web server for them to fetch from, and the measuring of what they cost.
//!
//! It knows `warren` by its command line and configuration only. Of its crates it links the native
//! worker, from which it makes originators of its own ([`crowd`]) and the two ends of a circuit ([`lone`]).
//! I/O: child processes (which die with this one), a folder for their files, loopback TCP, `/proc`,
//! the clock.

pub mod content;
pub mod cpu;
pub mod crowd;
pub mod curl;
pub mod fetch;
pub mod lone;
pub mod many;
pub mod network;
pub mod peers;
pub mod process;
pub mod web;

mod clock;
mod host;
mod stopwatch;

pub use stopwatch::Stopwatch;

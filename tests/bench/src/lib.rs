//! What the demo, the benchmarks and the end-to-end tests share: a network of `warren` processes on
//! loopback, a web server for them to fetch from, and the measuring of what they cost.
//!
//! It knows `warren` by its command line and configuration only, and links none of its crates.
//! I/O: child processes (which die with this one), a folder for their files, loopback TCP, `/proc`,
//! the clock.

pub mod content;
pub mod cpu;
pub mod network;
pub mod process;
pub mod web;

mod stopwatch;

pub use stopwatch::Stopwatch;

//! Swaps that nobody notices, and states that are none.

mod golden;
mod lies;
mod suites;
mod swaps;

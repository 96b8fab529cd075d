//! The project's tools.
fn main() {}

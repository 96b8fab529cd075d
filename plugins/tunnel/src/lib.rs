//! The onion state machine: links between neighbours, circuits over them, and the layers of their cells.
//!
//! [`Tunnel`] is the whole of it: originator, relay and last hop in one. Time, randomness and bytes
//! come in as arguments, a [`Batch`](warren_schemas::batch::Batch) of actions comes out. It does no
//! I/O, reads no clock and starts no thread; the same code is a native library and, with the feature
//! `guest`, a Wasm worker. Not here: which paths are wanted (`host/circuits`), sockets, QUIC, what an
//! exit may reach. The protocol is docs/protocol.md.

mod bucket;
mod circuit;
mod describe;
mod env;
#[cfg(all(target_arch = "wasm32", feature = "guest"))]
mod guest;
mod limits;
mod link;
mod machine;
mod output;
mod queue;
mod retry;
mod table;
mod timers;

pub mod cookie;
pub mod counter;
pub mod crypto;
pub mod drop_reason;
pub mod fragments;
pub mod layer;
pub mod link_keys;
pub mod message;
pub mod ntor;
#[cfg(any(test, feature = "probe"))]
pub mod probe;
pub mod replay;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(any(test, feature = "probe"))]
pub mod vectors;

pub use describe::{NAME, SelfTestError, VERSION, reads_state, writes_state};
pub use env::{Env, Level};
pub use machine::{ConfigError, StateError, Tunnel};
pub use ntor::suites;

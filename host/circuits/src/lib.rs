//! How many circuits are wanted, through whom, and what replaces one that died.
//!
//! [`Circuits`] is told which relays exist, which [`Isolation`](warren_ports::Isolation)s traffic
//! has, and what became of the circuits it asked for; it answers with [`Command`]s to build and
//! close. It is not the protocol that builds them (`plugins/tunnel`), nor the queues to the workers
//! (`host/workers`), nor what decides where an exit may connect (`host/exit`).
//!
//! The rules of a path are never relaxed: the originator chooses every hop, never itself, never a
//! relay twice, never two of one operator, one address or one network; the last hop is an exit and
//! the first a guard. When they cannot be met it waits, and [`Circuits::waiting`] says why.
//!
//! No I/O of any kind, no clock, no thread. Time is an argument; choices follow from a seed.

mod circuits;
mod guards;
mod paths;
mod random;
mod relays;
mod rules;
mod waiting;

pub use circuits::{CircuitRef, CircuitReport, CircuitState, Circuits, Command};
pub use guards::Guard;
pub use rules::{Rules, Weighting};
pub use waiting::Waiting;

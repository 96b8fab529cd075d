//! What an attacker may send, and what comes of it: nothing but a count, and never an answer.
//!
//! The attacker speaks the protocol well enough to be believed up to the point under test: as an
//! anonymous initiator (`rogue::Initiator`), as a relay (`rogue::Relay`) and as all hops of a circuit
//! (`hops::Hops`). Everything else is the machine through its public doors, on virtual time.

#[cfg(test)]
mod cells;
#[cfg(test)]
mod covers;
#[cfg(test)]
mod extend;
#[cfg(test)]
mod handshakes;
#[cfg(test)]
mod hops;
#[cfg(test)]
#[cfg(feature = "hybrid")]
mod hybrid;
#[cfg(test)]
mod noise;
#[cfg(test)]
mod responder;
#[cfg(test)]
mod rogue;

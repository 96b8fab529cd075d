//! What every worker must do the same, and what every bad one must come to.
//!
//! Tests only. `bad_workers`: each misbehaviour ends with the fault that `WorkerFault` documents.
//! `exchange`: so does each that is exchanged, or exchanged for. `seats`: a network whose workers are
//! killed, swapped and rolled back all the time.
//! `twins`: a network of machines, each a native worker and a Wasm worker that get the same calls,
//! time and randomness, and whose actions are equal byte for byte. `vectors`: published vectors
//! computed inside Wasm. They need the components that `cargo xtask build-plugins` makes, in the
//! folder that `WARREN_PLUGINS` names.

#[cfg(test)]
mod bad_workers;
#[cfg(test)]
mod exchange;
#[cfg(test)]
mod host;
#[cfg(test)]
mod seats;
#[cfg(test)]
mod twins;
#[cfg(test)]
mod vectors;

//! What every step of the machine is given and gives.

use std::net::SocketAddr;
use std::ops::Range;

use warren_schemas::control::CircuitEnd;
use warren_schemas::{CircuitHandle, Timestamp};

use crate::drop_reason::DropReason;
use crate::env::Env;

/// The caller's time and services.
pub(super) struct Context<'a> {
    pub env: &'a mut dyn Env,
    pub now: Timestamp,
}

impl Context<'_> {
    /// Fresh random bytes.
    pub(super) fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.env.random(&mut bytes);
        bytes
    }
}

/// What came of a slot. Places count from the start of the slot's region.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The region holds a datagram for that address.
    Send(SocketAddr, Range<usize>),
    /// The region holds an inner datagram for the host.
    Deliver(CircuitHandle, CircuitEnd, Range<usize>),
    /// It was taken; if there are answers they are among the extras.
    Taken,
}

/// A verdict, or the peer's fault.
pub(super) type Outcome = Result<Verdict, DropReason>;

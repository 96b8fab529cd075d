//! UDP in batches: one [`Socket`] a worker, segmentation offload (GSO, GRO) both ways, DF set.
//!
//! Knows datagrams and addresses, and nothing of what is in them, except which byte names a
//! worker ([`bind_group`] may ask the kernel to steer by it). Its I/O is UDP sockets. Nothing that a single
//! destination or sender does is an error: it is counted ([`Counters`]).

mod counters;
mod outbox;
mod receive;
mod socket;
mod steer;

use std::io;
use std::net::SocketAddr;

pub use counters::Counters;
pub use outbox::Outbox;
pub use receive::ReceiveBuffers;
pub use socket::{Bound, Socket, bind_group};

/// Why a socket could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another socket has the port.
    #[error(
        "UDP {0} is in use: stop the program that has it, or choose another port (0 lets the system choose)"
    )]
    InUse(SocketAddr),
    /// The system refused the address for another reason.
    #[error("cannot bind UDP {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The bound socket could not be set up.
    #[error("cannot set up the UDP socket on {address}: {source}")]
    Setup {
        /// The address it is bound to.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
}

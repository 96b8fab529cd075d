//! Streams inside circuits: QUIC between an originator and the last hop, whose datagrams the circuit
//! carries.
//!
//! A last hop's connection belongs to the worker thread that took it, though its originator may later
//! come by a circuit of another one: connection ids of a last hop name the thread
//! ([`CircuitPort::home_of`]), and a [`Carrier`] names circuits of all threads.
//!
//! One [`endpoint`] a worker thread gives an [`Endpoint`], through which connections are made and
//! taken, and a [`CircuitPort`], through which core moves the QUIC datagrams between it and the
//! worker's circuits. The only crate that names quinn-proto. It opens no socket and connects to nothing
//! (that is `host/exit`), knows no path and no cell, and picks no circuit (that is core). Its
//! only I/O is timers, of the tokio runtime that [`endpoint`] is called in.
//!
//! # On the wire
//!
//! QUIC version 1, TLS 1.3, ALPN `warren/1`. The last hop proves with a raw Ed25519 public key
//! (RFC 7250) that it is the relay of the descriptor; the originator proves nothing. Only the originator opens streams, bidirectional
//! ones. Its first message is a `Request` (schemas/fbs/stream.fbs) preceded by its length in two
//! bytes, big-endian; the answer is a `Reply` in the same form; after `Done` the stream is the
//! connection's bytes (Connect) or stays silent as long as the association lives (Associate).
//! The datagrams of an association are QUIC datagrams:
//!
//! ```text
//! | association 4 | part 1 | sequence 2, only if part is 1 or 2 | body …
//! body: | length of target 2 | Target (stream.fbs) | payload, at most 1,500 bytes
//! ```
//!
//! `association` is the index of its stream (RFC 9000 section 2.1, the id without its low two
//! bits), `part` 0 for a whole body, 1 and 2 for its halves, which `sequence` joins.

mod addresses;
mod association;
mod congestion;
mod connection;
mod datagram;
mod drivers;
mod endpoint;
mod fair;
mod message;
mod port;
mod queue;
mod quic;
mod server;
mod settings;
mod tls;
mod tunnel_stream;
mod windows;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use association::TunnelAssociation;
pub use congestion::Congestion;
pub use connection::Connection;
pub use endpoint::{Endpoint, endpoint};
pub use port::{CircuitPort, Counters};
pub use server::{Answer, Asked, Incoming, ServerConnection};
pub use settings::{Receive, Settings};
pub use tls::public_key;
pub use tunnel_stream::{TunnelStream, Turn, Writing};
use warren_schemas::CircuitHandle;
pub use warren_schemas::control::CircuitEnd;

/// A circuit end of this node: the worker that has it, and what that worker calls it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Carrier {
    /// Index of the worker.
    pub worker: u8,
    /// Its own number.
    pub circuit: CircuitHandle,
}

/// What failed, in this crate's own words: quinn-proto's types stay here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings cannot be used.
    #[error("cannot set up streams: {0}")]
    Setup(String),
    /// The endpoint was closed, or has all the connections it may have.
    #[error("no connection can be made: {0}")]
    Unavailable(&'static str),
    /// The last hop did not prove that it holds the expected key.
    #[error("the last hop is not who it should be: {0}")]
    Unauthenticated(String),
    /// No answer within the time a handshake may take.
    #[error("the handshake was not answered in time")]
    TimedOut,
    /// The circuit died, or the other side closed the connection.
    #[error("the connection is gone: {0}")]
    Lost(String),
}

/// The kinds of [`Error`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    /// Ours: settings.
    Setup,
    /// Ours: closed or full.
    Unavailable,
    /// The peer's: it cannot prove its key. The relay is not to be used.
    Unauthenticated,
    /// The circuit's: try another.
    Lost,
}

impl Error {
    /// Settings that cannot be used.
    fn setup(error: impl std::fmt::Display) -> Self {
        Self::Setup(error.to_string())
    }

    /// Which kind it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Setup(_) => ErrorKind::Setup,
            Self::Unavailable(_) => ErrorKind::Unavailable,
            Self::Unauthenticated(_) => ErrorKind::Unauthenticated,
            Self::TimedOut | Self::Lost(_) => ErrorKind::Lost,
        }
    }
}

impl From<quinn_proto::ConnectionError> for Error {
    fn from(error: quinn_proto::ConnectionError) -> Self {
        use quinn_proto::ConnectionError as Cause;
        match &error {
            // RFC 9001 section 4.8: a TLS alert is a code of 0x0100 to 0x01ff.
            Cause::TransportError(fault) if (0x100..0x200).contains(&u64::from(fault.code)) => {
                Self::Unauthenticated(fault.to_string())
            }
            Cause::TimedOut => Self::TimedOut,
            _ => Self::Lost(error.to_string()),
        }
    }
}

/// Locks; what a panicking holder left is whole, because no holder panics half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

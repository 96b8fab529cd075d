//! Where rooms meet: the traits and plain types that let one room use another without naming it.
//!
//! No runtime, no I/O, no policy: `socks5` and `torrent` ask for a [`Dial`], `core` is one.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use warren_schemas::Timestamp;
pub use warren_schemas::stream::{Host, Target};

/// A future on the heap that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Any stream.
pub type BoxStream = Box<dyn Stream>;

/// The only clock. `host/core` implements it; tests have their own.
pub trait Clock: Send + Sync {
    /// Now. Never less than what it answered before.
    fn now(&self) -> Timestamp;
}

/// What a piece of traffic may share a circuit with, and how long that circuit is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Isolation {
    /// 1 to 3; 0 is a direct connection, used only when a person asked for it.
    pub hops: u8,
    /// Traffic of different keys never shares a circuit.
    pub key: Arc<str>,
}

/// Why a destination was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No circuit stood within the time a dial waits; the text names the rule that is not met.
    #[error("no circuit: {0}")]
    NoCircuit(String),
    /// The circuit died before the exit answered.
    #[error("the circuit is gone")]
    CircuitLost,
    /// The exit's policy denies it.
    #[error("the exit denies this destination")]
    Denied,
    /// The network it is in cannot be reached.
    #[error("network unreachable")]
    NetworkUnreachable,
    /// It cannot be reached, or its name does not resolve.
    #[error("host unreachable")]
    HostUnreachable,
    /// It refused the connection.
    #[error("connection refused")]
    Refused,
    /// It did not answer in time.
    #[error("timed out")]
    TimedOut,
    /// A limit was reached.
    #[error("too many connections")]
    Limit,
    /// Anything else.
    #[error("failed")]
    Failed,
}

impl From<&io::Error> for DialError {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::NetworkUnreachable => Self::NetworkUnreachable,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NotFound => Self::HostUnreachable,
            _ => Self::Failed,
        }
    }
}

/// Runs with the outcome of a dial, on the thread that owns the circuit.
pub type DialJob = Box<dyn FnOnce(Result<BoxStream, DialError>) -> BoxFuture<'static, ()> + Send>;

/// Opens TCP connections to the world, through a circuit of the given isolation.
pub trait Dial: Send + Sync {
    /// Waits for a circuit (bounded by the implementation), connects to `target` from its exit, and
    /// runs `job` with the outcome on the thread that owns the circuit. `job` is called exactly
    /// once. The future returns when it was handed over; dropping it before that runs `job` with
    /// [`DialError::Failed`] or not at all.
    fn dial(&self, isolation: Isolation, target: Target, job: DialJob) -> BoxFuture<'static, ()>;
}

/// A CONNECT that was read at the SOCKS front door and waits for its answer.
pub trait SocksClient: Send {
    /// Says yes; what follows are the client's bytes.
    fn accept(self: Box<Self>) -> BoxFuture<'static, io::Result<BoxStream>>;

    /// Says why not, and closes.
    fn refuse(self: Box<Self>, error: DialError) -> BoxFuture<'static, ()>;
}

/// UDP to the world, from one exit.
pub trait Association: Send + Sync {
    /// Sends one datagram of at most 1,500 bytes. May drop it, as UDP may.
    ///
    /// # Errors
    /// When the association is over.
    fn send(&self, target: &Target, payload: Bytes) -> io::Result<()>;

    /// The next datagram, with the address it came from.
    ///
    /// # Errors
    /// When the association is over.
    fn recv(&self) -> BoxFuture<'_, io::Result<(Target, Bytes)>>;
}

/// Opens UDP associations through a circuit of the given isolation.
pub trait Datagrams: Send + Sync {
    /// Waits for a circuit as [`Dial::dial`] does.
    fn associate(&self, isolation: Isolation) -> BoxFuture<'static, Result<Box<dyn Association>, DialError>>;
}

pub mod status;
pub mod swap;

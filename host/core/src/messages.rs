//! What the keeper and the worker threads say to each other.

use tokio::sync::oneshot;
use warren_circuits::Guard;
use warren_ports::status::Status;
use warren_ports::{Association, DialError, DialJob, Isolation, Target};
use warren_schemas::control::{CloseReason, Request, Sync, TunnelConfig};
use warren_schemas::descriptor::{Descriptor, SignedDescriptor};
use warren_schemas::{CircuitHandle, RequestId, Timestamp};
use warren_streams::Connection;

/// To a worker thread.
pub(crate) enum ToWorker {
    /// Make a circuit; its last hop must prove `exit_key`.
    Build { request: RequestId, hops: Vec<SignedDescriptor>, suites: Vec<u8>, exit_key: [u8; 32] },
    /// Ask the worker for something that is not a circuit.
    Request(RequestId, Request),
    /// Use this circuit for that.
    Open { handle: CircuitHandle, ask: Ask },
    /// The last hop of a new circuit proved itself on this connection, or why it did not.
    Attach { request: RequestId, handle: CircuitHandle, proof: Result<Connection, CloseReason> },
    /// A connection of this thread's circuits was closed, by whichever side.
    ConnectionClosed,
    /// Move the connection of a dead circuit to this one, which has the same last hop.
    Migrate { from: CircuitHandle, to: CircuitHandle },
    /// Close the connection of a dead circuit: nothing takes its place.
    Abandon { handle: CircuitHandle },
    /// The configuration changed.
    Configure(Box<TunnelConfig>),
    /// Say goodbye and end.
    Shutdown,
}

/// To the keeper.
pub(crate) enum ToKeeper {
    /// Somebody wants to reach something.
    Ask(Ask),
    /// Circuits of this isolation should be kept ready.
    Want(Isolation),
    /// A relay's words.
    Relay(Box<Descriptor>, SignedDescriptor),
    /// A circuit stands and its last hop proved itself.
    Ready { request: RequestId, worker: u8, handle: CircuitHandle },
    /// A circuit could not be made.
    Failed { request: RequestId, reason: CloseReason, hop: u8 },
    /// A circuit is gone; its connection waits for `Migrate` or `Abandon`.
    Dead { worker: u8, handle: CircuitHandle, reason: CloseReason },
    /// A worker was replaced; all its circuits are gone.
    WorkerLost { worker: u8 },
    /// Streams came to a circuit with the connection that migrated to it.
    StreamsMoved { worker: u8, to: CircuitHandle, streams: u32 },
    /// A stream on a circuit ended.
    StreamEnded { worker: u8, handle: CircuitHandle },
    /// A worker's counts.
    Counts { worker: u8, sync: Sync },
    /// What there is to say of circuits.
    Status(oneshot::Sender<Status>),
    /// The guards in use.
    Guards(oneshot::Sender<Vec<Guard>>),
    /// End.
    Shutdown,
}

/// Something to be done on a circuit.
pub(crate) struct Ask {
    pub(crate) isolation: Isolation,
    pub(crate) what: What,
    /// When to give up waiting for a circuit.
    pub(crate) deadline: Timestamp,
}

/// What is to be done.
pub(crate) enum What {
    Connect { target: Target, job: DialJob },
    Associate { answer: oneshot::Sender<Result<Box<dyn Association>, DialError>> },
}

impl Ask {
    /// Tells whoever asked that it did not work. A job takes as long as its client likes to read
    /// the answer, so it runs as a task: nobody here waits for it.
    pub(crate) fn fail(self, error: DialError) {
        match self.what {
            What::Connect { job, .. } => drop(tokio::spawn(job(Err(error)))),
            What::Associate { answer } => drop(answer.send(Err(error))),
        }
    }
}

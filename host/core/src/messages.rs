//! What the keeper and the worker threads say to each other.

use std::ops::Range;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use warren_circuits::Guard;
use warren_ports::status::Status;
use warren_ports::swap::{SwapStep, WorkerSwap};
use warren_ports::{Association, DialError, DialJob, Isolation, Target};
use warren_schemas::control::{CloseReason, Request, SyncFrame, TunnelConfig};
use warren_schemas::descriptor::{Descriptor, SignedDescriptor};
use warren_schemas::{CircuitHandle, RequestId, Timestamp};
use warren_streams::Connection;
use warren_workers::{Description, Retired, ShadowVerdict, WorkerFactory};

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
    /// To the worker's seat.
    Seat(SeatOrder),
}

/// About the worker itself.
pub(crate) enum SeatOrder {
    /// Fill an empty seat, or have a worker of that module stay that was about to go.
    Start { factory: Arc<dyn WorkerFactory>, answer: oneshot::Sender<Result<Started, String>> },
    /// Make a successor of this module and have it prove itself.
    Prepare { factory: Arc<dyn WorkerFactory>, answer: oneshot::Sender<Result<Description, String>> },
    /// Let the prepared module follow the worker for so many answers.
    Shadow { answers: u32, answer: oneshot::Sender<ShadowVerdict> },
    /// Go through a page of both workers' memory; answers whether there are more.
    Warm { page: u32, answer: oneshot::Sender<Result<bool, String>> },
    /// Hand the state to the successor. Who had it before comes back to be dropped, which is not quick.
    Commit { answer: oneshot::Sender<Result<(WorkerSwap, Option<Retired>), String>> },
    /// The module that has the seat is no longer on trial.
    Trust,
    /// Go back to the module before, with the state as it is.
    Revert { answer: oneshot::Sender<Result<WorkerSwap, String>> },
    /// Forget the successor.
    Abandon,
    /// How often a worker was replaced so far, and why the last time.
    Faults { answer: oneshot::Sender<Faults> },
    /// What the worker told cannot be: drop it, as after any bad answer.
    Reject { what: &'static str, detail: String },
    /// Drop the worker as if it had failed; answers whether there was one.
    Kill { answer: oneshot::Sender<bool> },
    /// Replace it no more: it goes when its circuits have.
    Retire,
}

/// A worker that takes new circuits from now on.
pub(crate) struct Started {
    pub(crate) module: Description,
    /// Whether the seat was empty before.
    pub(crate) fresh: bool,
}

/// How a seat's workers have failed.
pub(crate) struct Faults {
    pub(crate) count: u64,
    /// The last fault: plugin, call and limit.
    pub(crate) last: Option<String>,
}

/// On the exit way, which is never behind another: the worker leaves. One that has circuits stays, unless
/// its thread ends.
pub(crate) struct Leave {
    pub(crate) reason: CloseReason,
    /// Whether the thread ends with it.
    pub(crate) end: bool,
    /// Told once, when it has left or stays.
    pub(crate) answer: oneshot::Sender<Exited>,
}

/// How a worker left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Exited {
    /// It said goodbye on its circuits, for this reason.
    Said(CloseReason),
    /// It was stopped from outside; why.
    Enforced(String),
    /// The seat was empty.
    Nobody,
    /// It has circuits, and its thread goes on: it stays.
    Stayed,
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
    /// What changed of a worker's counts and circuits.
    Sync { worker: u8, frame: SyncFrame },
    /// A circuit end of another node's circuit is gone.
    EndDead { worker: u8, handle: CircuitHandle },
    /// Which module a worker runs from now on.
    Module { worker: u8, module: Description },
    /// A worker that should have taken new circuits did not start.
    StartFailed { worker: u8 },
    /// A worker left its seat, as it was told; its circuits are gone.
    Left { worker: u8 },
    /// Somebody wants to exchange modules: until `Release` the pool stays as it is.
    Lease(oneshot::Sender<Option<Lease>>),
    /// The exchange is over; with the module that is in use now, if it is another.
    Release { exchanged: Option<Arc<dyn WorkerFactory>> },
    /// These workers of a new module take new circuits; all others drain. Ends the lease.
    Drain { to: Range<u8>, factory: Arc<dyn WorkerFactory>, audit: mpsc::Sender<SwapStep> },
    /// What there is to say of circuits.
    Status(oneshot::Sender<Status>),
    /// The guards in use.
    Guards(oneshot::Sender<Vec<Guard>>),
    /// End.
    Shutdown,
}

/// What an exchange of modules works on.
pub(crate) struct Lease {
    /// Workers that take new circuits. Those that drain keep the module they have.
    pub(crate) acting: Vec<u8>,
    /// Indices that workers of another module may have beside them. Workers of the module before may
    /// still drain there.
    pub(crate) beside: Range<u8>,
    pub(crate) current: Arc<dyn WorkerFactory>,
    pub(crate) previous: Option<Arc<dyn WorkerFactory>>,
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

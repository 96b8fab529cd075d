//! Carrying out what a worker answered: datagrams, deliveries, events; and its faults.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use warren_schemas::batch::{Batch, SlotKind};
use warren_schemas::control::{CircuitEnd, CloseReason, Event, Request};
use warren_schemas::descriptor::SignedDescriptor;
use warren_schemas::{CircuitHandle, RequestId};
use warren_streams::Connection;
use warren_workers::Lost;

use super::WorkerLoop;
use crate::messages::{ToKeeper, ToWorker};

/// How long the last hop may take to prove itself.
const PROOF_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages that may wait for the keeper; beyond that the oldest counts are of no use anyway.
const MAX_REPORT: usize = 16_384;

/// Circuits being built: the key that each last hop has to prove.
#[derive(Default)]
pub(super) struct Builds(HashMap<RequestId, [u8; 32]>);

/// What waits to be told to the keeper. The loop never waits for it.
pub(super) struct Report {
    keeper: mpsc::Sender<ToKeeper>,
    waiting: VecDeque<ToKeeper>,
}

impl Report {
    pub(super) fn new(keeper: mpsc::Sender<ToKeeper>) -> Self {
        Self { keeper, waiting: VecDeque::new() }
    }

    /// Puts a message behind those that wait. When far too many do, it is dropped with a warning:
    /// the keeper is stuck and the node with it.
    pub(super) fn push(&mut self, message: ToKeeper) {
        if self.waiting.len() >= MAX_REPORT {
            tracing::error!("the keeper does not listen; a message to it is dropped");
            return;
        }
        self.waiting.push_back(message);
    }

    /// Sends as many as the keeper takes now.
    pub(super) fn flush(&mut self) {
        while let Some(message) = self.waiting.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(message)) = self.keeper.try_send(message) {
                self.waiting.push_front(message);
                return;
            }
        }
    }
}

impl WorkerLoop {
    /// Does what the worker's answer says.
    pub(super) fn carry_out(&mut self, answer: Result<Batch, Lost>) {
        let batch = match answer {
            Ok(batch) => batch,
            Err(lost) => return self.lose_worker(&lost),
        };
        self.wake_at = batch.wake_at();
        for slot in batch.slots() {
            let bytes = batch.bytes_of(&slot);
            match slot.kind {
                SlotKind::Send => drop(self.outbox.push(slot.address, bytes)),
                SlotKind::Deliver => self.port.deliver(slot.handle, CircuitEnd(slot.detail), bytes),
                SlotKind::Event => self.handle_event(bytes),
                _ => {}
            }
        }
    }

    fn handle_event(&mut self, bytes: &[u8]) {
        match Event::decode(bytes) {
            Ok((request, Event::CircuitReady { handle, .. })) => self.prove(request, handle),
            Ok((request, Event::CircuitFailed { reason, hop })) => {
                self.builds.0.remove(&request);
                self.report.push(ToKeeper::Failed { request, reason, hop });
            }
            Ok((_, Event::CircuitDead { handle, end, reason })) => self.handle_dead(handle, end, reason),
            Ok((_, Event::Sync(sync))) => self.report.push(ToKeeper::Counts { worker: self.index, sync }),
            Err(error) => tracing::warn!(worker = self.index, %error, "the worker told something unreadable"),
        }
    }

    /// Starts a circuit.
    pub(super) fn build(&mut self, request: RequestId, hops: Vec<SignedDescriptor>, exit_key: [u8; 32]) {
        self.builds.0.insert(request, exit_key);
        let suite = 1;
        self.control(request, &Request::Create { hops, suite });
    }

    /// A circuit stands: its last hop now proves its stream key, as a task that reports back through
    /// this thread's own mailbox.
    fn prove(&mut self, request: RequestId, handle: CircuitHandle) {
        let Some(exit_key) = self.builds.0.remove(&request) else {
            return;
        };
        let (endpoint, own) = (Arc::clone(&self.endpoint), self.neighbours.get(usize::from(self.index)).cloned());
        tokio::spawn(async move {
            let connecting = endpoint.connect(handle, exit_key);
            let connected = match tokio::time::timeout(PROOF_TIMEOUT, connecting).await {
                Ok(Ok(connection)) => Some(connection),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the last hop did not prove itself");
                    None
                }
                Err(_) => None,
            };
            if let Some(own) = own {
                drop(own.send(ToWorker::Attach { request, handle, connected }).await);
            }
        });
    }

    /// The outcome of `prove`.
    pub(super) fn attach(
        &mut self,
        request: RequestId,
        handle: CircuitHandle,
        connected: Option<Connection>,
    ) {
        if let Some(connection) = connected {
            self.ends.insert(handle, connection);
            self.report.push(ToKeeper::Ready { request, worker: self.index, handle });
        } else {
            let reason = CloseReason::Handshake;
            self.control(RequestId::default(), &Request::Circuit { handle, reason });
            self.report.push(ToKeeper::Failed { request, reason, hop: 0 });
        }
    }

    fn handle_dead(&mut self, handle: CircuitHandle, end: CircuitEnd, reason: CloseReason) {
        if end == CircuitEnd::Originator && self.ends.holds(handle) {
            self.report.push(ToKeeper::Dead { worker: self.index, handle, reason });
        } else {
            self.port.circuit_dead(handle);
        }
    }

    /// Nothing takes a dead circuit's place: its streams are reset.
    pub(super) fn abandon(&mut self, handle: CircuitHandle) {
        self.ends.remove(handle);
        self.port.circuit_dead(handle);
    }

    /// The worker failed, or its seat is still empty. In the first case every circuit it held is
    /// gone; `workers` seats another, at the latest when it is next asked at `wake_at`.
    pub(super) fn lose_worker(&mut self, lost: &Lost) {
        self.wake_at = Some(lost.wake_at);
        let Some(fault) = &lost.fault else {
            return;
        };
        tracing::error!(worker = self.index, %fault, "worker lost; its circuits are dead");
        self.builds.0.clear();
        for handle in self.ends.clear() {
            self.port.circuit_dead(handle);
        }
        self.port.all_dead();
        self.report.push(ToKeeper::WorkerLost { worker: self.index });
    }
}

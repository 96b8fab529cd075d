//! Carrying out what a worker answered: datagrams, deliveries, events; and its faults.

use std::collections::{HashMap, VecDeque};
use std::iter;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use warren_schemas::batch::{Batch, Slot, SlotKind};
use warren_schemas::control::{CircuitEnd, CloseReason, Event, MOST_TOLD, Request, SyncFrame};
use warren_schemas::descriptor::SignedDescriptor;
use warren_schemas::{CircuitHandle, RequestId};
use warren_streams::{Carrier, Connection, ErrorKind};
use warren_workers::Lost;

use super::WorkerLoop;
use crate::messages::{ToKeeper, ToWorker};
use crate::parcel::Piece;

/// How long the last hop may take to prove itself.
const PROOF_TIMEOUT: Duration = Duration::from_secs(10);
/// Circuits that are remembered as lent to other threads; the rest ends by QUIC's idle time.
const MAX_LENT: usize = 65_536;
/// Messages that may wait for the keeper; beyond that the oldest counts are of no use anyway.
const MAX_REPORT: usize = 16_384;

/// Circuits being built.
#[derive(Default)]
pub(super) struct Builds(HashMap<RequestId, Build>);

/// One of them.
struct Build {
    /// What its last hop has to prove.
    exit_key: [u8; 32],
    /// Which hop that is, counted from 1.
    last_hop: u8,
    /// The circuit, while its last hop proves itself.
    proving: Option<CircuitHandle>,
}

/// What waits to be told to the keeper. The loop never waits for it.
pub(super) struct Report {
    keeper: mpsc::Sender<ToKeeper>,
    waiting: VecDeque<ToKeeper>,
    /// Circuit ends and counts in the frames that wait.
    told: usize,
}

impl Report {
    pub(super) fn new(keeper: mpsc::Sender<ToKeeper>) -> Self {
        Self { keeper, waiting: VecDeque::new(), told: 0 }
    }

    /// Whether the keeper keeps up with what this worker tells: as many ends may wait as there may be.
    fn has_room(&self, frame: &SyncFrame) -> bool {
        self.told + size(frame) <= MOST_TOLD
    }

    /// Puts a message behind those that wait. When far too many do, it is dropped with a warning:
    /// the keeper is stuck and the node with it.
    pub(super) fn push(&mut self, message: ToKeeper) {
        if self.waiting.len() >= MAX_REPORT {
            tracing::error!("the keeper does not listen; a message to it is dropped");
            return;
        }
        self.told += told_in(&message);
        self.waiting.push_back(message);
    }

    /// Sends as many as the keeper takes now.
    pub(super) fn flush(&mut self) {
        while let Some(message) = self.waiting.pop_front() {
            let told = told_in(&message);
            if let Err(mpsc::error::TrySendError::Full(message)) = self.keeper.try_send(message) {
                self.waiting.push_front(message);
                return;
            }
            self.told -= told;
        }
    }
}

fn told_in(message: &ToKeeper) -> usize {
    if let ToKeeper::Sync { frame, .. } = message { size(frame) } else { 0 }
}

fn size(frame: &SyncFrame) -> usize {
    frame.circuits.len() + frame.drops.len()
}

impl WorkerLoop {
    /// Does what the worker's answer says.
    pub(super) fn carry_out(&mut self, answer: Result<Batch, Lost>) {
        let batch = match answer {
            Ok(batch) => batch,
            Err(lost) => return self.lose_worker(&lost),
        };
        self.wake_at = batch.wake_at();
        let mut next = 0;
        while let Some(slot) = batch.slot(next) {
            next += 1;
            let bytes = batch.bytes_of(&slot);
            match slot.kind {
                SlotKind::Send => drop(self.outbox.push(slot.address, bytes)),
                SlotKind::Deliver => {
                    let (handle, end) = (slot.handle, slot.detail);
                    let same = move |slot: &Slot| {
                        slot.kind == SlotKind::Deliver && slot.handle == handle && slot.detail == end
                    };
                    let more = (next..).map_while(|index| batch.slot(index)).take_while(same);
                    next += more.clone().count();
                    let datagrams = iter::once(bytes).chain(more.map(|slot| batch.bytes_of(&slot)));
                    self.deliver(handle, CircuitEnd(end), datagrams);
                }
                SlotKind::Event => self.handle_event(bytes),
                _ => {}
            }
        }
        self.intake.reuse(batch);
    }

    /// Gives QUIC datagrams of a circuit to the thread that holds their connection: nearly always this one,
    /// another when the originator came back by a circuit of this thread's worker.
    fn deliver<'a>(
        &mut self,
        circuit: CircuitHandle,
        end: CircuitEnd,
        datagrams: impl Iterator<Item = &'a [u8]>,
    ) {
        let (carrier, port) = (self.carrier(circuit), &self.port);
        let (own, posts, lent) = (self.index, &mut self.posts, &mut self.lent);
        let kept = datagrams.filter(|bytes| {
            let home = port.home_of(end, bytes);
            let Some(post) = posts.get_mut(usize::from(home)).filter(|_| home != own) else { return true };
            post.pack(Piece::Inner(circuit), bytes);
            if lent.len() < MAX_LENT {
                lent.insert(circuit);
            }
            false
        });
        port.deliver_all(carrier, end, kept);
    }

    /// What ended here may concern a connection of any of them.
    fn tell_others(&mut self, piece: Piece) {
        for (_, post) in (0u8..).zip(&mut self.posts).filter(|(index, _)| *index != self.index) {
            post.pack(piece, b"");
        }
    }

    fn carrier(&self, circuit: CircuitHandle) -> Carrier {
        Carrier { worker: self.index, circuit }
    }

    fn handle_event(&mut self, bytes: &[u8]) {
        match Event::decode(bytes) {
            Ok((request, Event::CircuitReady { handle, .. })) => self.prove(request, handle),
            Ok((request, Event::CircuitFailed { reason, hop })) => {
                self.builds.0.remove(&request);
                self.report.push(ToKeeper::Failed { request, reason, hop });
            }
            Ok((_, Event::CircuitDead { handle, end, reason })) => self.handle_dead(handle, end, reason),
            Ok((_, Event::Sync(frame))) if self.report.has_room(&frame) => {
                self.report.push(ToKeeper::Sync { worker: self.index, frame });
            }
            Ok((_, Event::Sync(_))) => {
                self.reject("SYNC", format!("more than {MOST_TOLD} changes at a time"))
            }
            Err(error) => self.reject("an event", error.to_string()),
        }
    }

    /// Starts a circuit.
    pub(super) fn build(
        &mut self,
        request: RequestId,
        hops: Vec<SignedDescriptor>,
        suites: Vec<u8>,
        exit_key: [u8; 32],
    ) {
        let last_hop = u8::try_from(hops.len()).unwrap_or(u8::MAX);
        if self.seat.is_none() {
            self.report.push(ToKeeper::Failed { request, reason: CloseReason::Unspecified, hop: 0 });
            return;
        }
        self.builds.0.insert(request, Build { exit_key, last_hop, proving: None });
        self.control(request, &Request::Create { hops, suites });
    }

    /// A circuit stands: its last hop now proves its stream key, as a task that reports back through
    /// this thread's own mailbox.
    fn prove(&mut self, request: RequestId, handle: CircuitHandle) {
        let Some(build) = self.builds.0.get_mut(&request) else {
            // Nobody waits for it, so nobody would ever close it.
            return self.close(handle, CloseReason::Finished);
        };
        build.proving = Some(handle);
        let exit_key = build.exit_key;
        let (endpoint, own) = (Arc::clone(&self.endpoint), self.own.clone());
        tokio::spawn(async move {
            let connecting = endpoint.connect(handle, exit_key);
            let proof = match tokio::time::timeout(PROOF_TIMEOUT, connecting).await {
                Ok(Ok(connection)) => Ok(connection),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the last hop did not prove itself");
                    Err(blame_for(&error))
                }
                Err(_) => Err(CloseReason::Timeout),
            };
            let Some(own) = own else { return };
            let closed = proof.as_ref().ok().map(Connection::closed);
            drop(own.send(ToWorker::Attach { request, handle, proof }).await);
            if let Some(closed) = closed {
                closed.await;
                drop(own.send(ToWorker::ConnectionClosed).await);
            }
        });
    }

    /// The outcome of `prove`. When the circuit, or the worker that had it, died meanwhile, that
    /// was told already.
    pub(super) fn attach(
        &mut self,
        request: RequestId,
        handle: CircuitHandle,
        proof: Result<Connection, CloseReason>,
    ) {
        let Some(build) = self.builds.0.remove(&request) else { return };
        let open = |connection: Connection| {
            if connection.is_closed() { Err(CloseReason::Timeout) } else { Ok(connection) }
        };
        match proof.and_then(open) {
            // A number that the connection of a dead circuit still goes by cannot have two meanings.
            Ok(_) if self.ends.holds(handle) => {
                let reason = CloseReason::Unspecified;
                self.report.push(ToKeeper::Failed { request, reason, hop: 0 });
                self.close(handle, reason);
            }
            Ok(connection) => {
                self.ends.insert(handle, connection);
                self.report.push(ToKeeper::Ready { request, worker: self.index, handle });
            }
            Err(reason) => {
                // What this node had no room for is nobody else's fault.
                let hop = if reason == CloseReason::Limit { 0 } else { build.last_hop };
                self.report.push(ToKeeper::Failed { request, reason, hop });
                self.close(handle, reason);
            }
        }
    }

    /// Circuits whose last hop hung up, or fell silent, carry nothing any more. Others take their
    /// place; whoever was about to use them is sent there.
    pub(super) fn close_bare(&mut self) {
        for handle in self.ends.sweep() {
            let reason = CloseReason::Timeout;
            self.report.push(ToKeeper::Dead { worker: self.index, handle, reason });
            self.close(handle, reason);
        }
    }

    fn close(&mut self, handle: CircuitHandle, reason: CloseReason) {
        self.control(RequestId::default(), &Request::Circuit { handle, reason });
    }

    /// Moves the connections of a dead circuit to another.
    pub(super) fn migrate(&mut self, from: CircuitHandle, to: CircuitHandle) {
        let streams = self.ends.migrate(from, to);
        if streams > 0 {
            self.report.push(ToKeeper::StreamsMoved { worker: self.index, to, streams });
        }
    }

    fn handle_dead(&mut self, handle: CircuitHandle, end: CircuitEnd, reason: CloseReason) {
        let mut builds = self.builds.0.iter();
        let proving = builds.find(|(_, build)| build.proving == Some(handle)).map(|(request, _)| *request);
        if let Some((request, build)) = proving.and_then(|request| self.builds.0.remove_entry(&request)) {
            // Which hop it was is not known; the last one had the word.
            self.report.push(ToKeeper::Failed { request, reason, hop: build.last_hop });
        }
        if end == CircuitEnd::Originator && self.ends.holds(handle) {
            self.report.push(ToKeeper::Dead { worker: self.index, handle, reason });
            return;
        }
        self.report.push(ToKeeper::EndDead { worker: self.index, handle });
        self.port.circuit_dead(self.carrier(handle));
        if self.lent.remove(&handle) {
            self.tell_others(Piece::Dead(handle));
        }
    }

    /// Nothing takes a dead circuit's place: its streams are reset.
    pub(super) fn abandon(&mut self, handle: CircuitHandle) {
        self.ends.remove(handle);
        self.port.circuit_dead(self.carrier(handle));
    }

    /// The worker failed, or its seat is still empty. In the first case every circuit it held is
    /// gone; `workers` seats another, at the latest when it is next asked at `wake_at`.
    pub(super) fn lose_worker(&mut self, lost: &Lost) {
        self.wake_at = Some(lost.wake_at);
        let Some(fault) = &lost.fault else {
            // Asked of an empty seat: nobody else will answer.
            for (request, _) in self.builds.0.drain() {
                self.report.push(ToKeeper::Failed { request, reason: CloseReason::Unspecified, hop: 0 });
            }
            return;
        };
        tracing::error!(worker = self.index, %fault, "worker lost; its circuits are dead");
        self.drop_circuits();
        self.report.push(ToKeeper::WorkerLost { worker: self.index });
    }

    /// The worker that had them is gone.
    pub(super) fn drop_circuits(&mut self) {
        self.builds.0.clear();
        // Connections with an end here wait for the keeper's word: another circuit may save their streams.
        self.port.all_dead(self.index, |circuit| self.ends.holds(circuit));
        if !self.lent.is_empty() {
            self.lent.clear();
            self.tell_others(Piece::AllDead);
        }
    }
}

/// Why a circuit fails whose last hop did not prove itself.
fn blame_for(error: &warren_streams::Error) -> CloseReason {
    match error.kind() {
        ErrorKind::Unauthenticated => CloseReason::Handshake,
        ErrorKind::Lost => CloseReason::Timeout,
        ErrorKind::Setup | ErrorKind::Unavailable => CloseReason::Limit,
    }
}

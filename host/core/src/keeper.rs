//! The keeper: one task that decides which circuits there are and who uses which.
//!
//! It owns the policy (`host/circuits`), sends its commands to the worker threads and parks what
//! asks for a circuit until one stands. It never touches a cell.

mod seats;
mod status;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use warren_circuits::{CircuitRef, CircuitReport, Circuits, Command, Guard, Rules};
use warren_ports::{Clock, DialError, Isolation};
use warren_schemas::control::{CloseReason, Request};
use warren_schemas::descriptor::{Descriptor, SignedDescriptor};
use warren_schemas::{CircuitHandle, PeerId, RequestId, Timestamp};

use crate::host::random_bytes;
use crate::messages::{Ask, Leave, SeatOrder, ToKeeper, ToWorker};
use crate::pool::Pool;
use crate::thread::Gauge;
use crate::tunnel_ports::TunnelPorts;
use crate::view::{Suites, View};

/// Asks that may wait for a circuit; one more fails at once.
const MAX_PARKED: usize = 4096;
/// Messages that may wait for full mailboxes; when there are more, the oldest is dropped. What it
/// would have closed then ends by itself, when it is idle or too old.
const MAX_UNSENT: usize = 4096;
/// The longest between two looks at what is due.
const LONGEST_LOOK: Duration = Duration::from_secs(1);
/// How long a connection waits for another circuit to its last hop. Shorter than QUIC's idle time.
const ORPHAN_WAIT: Duration = Duration::from_secs(20);

/// The task's state.
pub(crate) struct Keeper {
    circuits: Circuits,
    inbox: mpsc::Receiver<ToKeeper>,
    workers: Vec<mpsc::Sender<ToWorker>>,
    gauges: Vec<Arc<Gauge>>,
    view: View,
    clock: Arc<dyn Clock>,
    /// When it last looked at what is due.
    looked: Timestamp,
    parked: VecDeque<Ask>,
    /// Connections whose circuit died, by what they were: a new circuit of the same isolation to
    /// the same exit saves their streams.
    orphans: Vec<Orphan>,
    /// What found a mailbox full and must still arrive.
    unsent: VecDeque<(u8, ToWorker)>,
    tunnel_ports: TunnelPorts,
    pool: Pool,
    /// The exit ways of all threads.
    exits: Vec<mpsc::Sender<Leave>>,
    /// What our workers speak, for the descriptor.
    suites: Arc<Suites>,
}

/// A connection that waits for another circuit to its last hop.
struct Orphan {
    worker: u8,
    /// The dead circuit it used.
    handle: CircuitHandle,
    isolation: Isolation,
    exit: PeerId,
    until: Timestamp,
}

impl Keeper {
    pub(crate) fn new(
        rules: Rules,
        guards: Vec<Guard>,
        inbox: mpsc::Receiver<ToKeeper>,
        workers: Vec<mpsc::Sender<ToWorker>>,
        gauges: Vec<Arc<Gauge>>,
        (tunnel_ports, pool, exits, suites): (TunnelPorts, Pool, Vec<mpsc::Sender<Leave>>, Arc<Suites>),
        clock: Arc<dyn Clock>,
    ) -> Self {
        let mut circuits = Circuits::new(rules, u64::from_le_bytes(random_bytes()));
        circuits.set_guards(guards);
        Self {
            circuits,
            inbox,
            workers,
            gauges,
            view: View::default(),
            looked: clock.now(),
            clock,
            parked: VecDeque::new(),
            orphans: Vec::new(),
            unsent: VecDeque::new(),
            tunnel_ports,
            pool,
            exits,
            suites,
        }
    }

    /// Runs until told to stop or everybody who could ask is gone.
    pub(crate) async fn run(mut self) {
        loop {
            let wake = self.next_wake();
            let message = tokio::select! {
                message = self.inbox.recv() => message,
                () = tokio::time::sleep(wake) => {
                    self.handle_time();
                    continue;
                }
            };
            match message {
                None | Some(ToKeeper::Shutdown) => break,
                Some(message) => self.handle(message),
            }
            self.carry_out();
            if self.clock.now().since(self.looked) >= LONGEST_LOOK {
                // Messages without end must not keep it from what is due.
                self.handle_time();
            }
        }
        for ask in self.parked {
            ask.fail(DialError::Failed);
        }
    }

    fn next_wake(&self) -> Duration {
        let now = self.clock.now();
        let parked = self.parked.iter().map(|ask| ask.deadline);
        let next = self.circuits.poll_timeout().into_iter().chain(parked).min();
        let wait = next.map_or(LONGEST_LOOK, |at| at.since(now));
        wait.clamp(Duration::from_millis(1), LONGEST_LOOK)
    }

    fn handle_time(&mut self) {
        let now = self.clock.now();
        self.looked = now;
        self.resend();
        self.circuits.handle_timeout(now);
        self.carry_out();
        if self.circuits.poll_released() {
            self.serve_parked(now);
        }
        self.abandon(now);
        self.give_up(now);
        self.look_at_pool(now);
        self.tunnel_ports.tell(now, self.circuits.tunnel_addresses());
    }

    fn handle(&mut self, message: ToKeeper) {
        let now = self.clock.now();
        match message {
            ToKeeper::Ask(ask) => self.handle_ask(now, ask),
            ToKeeper::Want(isolation) => self.circuits.want(now, &isolation),
            ToKeeper::Relay(descriptor, signed) => self.handle_relay(now, *descriptor, signed),
            ToKeeper::Ready { request, worker, handle } => {
                self.circuits.handle_ready(now, request, worker, handle);
                self.adopt(worker, handle);
                self.serve_parked(now);
            }
            ToKeeper::Failed { request, reason, hop } => {
                tracing::debug!(hop, reason = ?reason, "circuit failed");
                self.circuits.handle_failed(now, request, reason, hop);
            }
            ToKeeper::Dead { worker, handle, reason } => self.handle_dead(now, worker, handle, reason),
            ToKeeper::WorkerLost { worker } => self.handle_worker_lost(now, worker),
            ToKeeper::StreamsMoved { worker, to, streams } => {
                self.circuits.streams_changed(worker, to, i32::try_from(streams).unwrap_or(i32::MAX));
            }
            ToKeeper::StreamEnded { worker, handle } => self.circuits.streams_changed(worker, handle, -1),
            ToKeeper::Sync { worker, frame } => {
                if let Err(excess) = self.view.apply(worker, &frame) {
                    let order = SeatOrder::Reject { what: "SYNC", detail: excess.to_string() };
                    self.post(worker, ToWorker::Seat(order));
                }
            }
            ToKeeper::EndDead { worker, handle } => self.view.circuit_dead(worker, handle),
            ToKeeper::Module { worker, module } => {
                self.pool.set_module(worker, module);
                self.agree_on_suites(now);
            }
            ToKeeper::Left { worker } => {
                self.handle_worker_lost(now, worker);
                self.pool.tell_drained(now, worker);
                self.pool.left(worker);
                self.agree_on_suites(now);
            }
            ToKeeper::StartFailed { worker } => {
                self.pool.start_failed(worker);
                self.circuits.set_workers(now, self.pool.open());
            }
            ToKeeper::Lease(answer) => {
                if let Err(Some(_)) = answer.send(self.pool.lease()) {
                    self.pool.release(None);
                }
            }
            ToKeeper::Release { exchanged } => self.pool.release(exchanged),
            ToKeeper::Drain { to, factory, audit } => self.drain(now, to, factory, audit),
            ToKeeper::Status(answer) => drop(answer.send(self.status(now))),
            ToKeeper::Guards(answer) => drop(answer.send(self.circuits.guards())),
            ToKeeper::Shutdown => {}
        }
    }

    fn handle_ask(&mut self, now: Timestamp, ask: Ask) {
        self.circuits.want(now, &ask.isolation);
        self.place(now, ask);
    }

    /// Sends it to a circuit, or parks it. One that comes back again and again is late some day and
    /// parked for `give_up`.
    fn place(&mut self, now: Timestamp, ask: Ask) {
        match self.circuits.select(&ask.isolation).filter(|_| now < ask.deadline) {
            Some(circuit) => self.open(&circuit, ask),
            None if self.parked.len() < MAX_PARKED => self.parked.push_back(ask),
            None => ask.fail(DialError::Limit),
        }
    }

    fn open(&mut self, circuit: &CircuitRef, ask: Ask) {
        let (worker, handle) = (circuit.worker, circuit.handle);
        self.circuits.streams_changed(worker, handle, 1);
        if let Err(ToWorker::Open { ask, .. }) = self.send(worker, ToWorker::Open { handle, ask }) {
            self.circuits.streams_changed(worker, handle, -1);
            ask.fail(DialError::Limit);
        }
    }

    /// Never waits: a worker thread waits for nobody either, so neither can hold the other up.
    fn send(&self, worker: u8, message: ToWorker) -> Result<(), ToWorker> {
        match self.workers.get(usize::from(worker)) {
            Some(mailbox) => mailbox.try_send(message).map_err(mpsc::error::TrySendError::into_inner),
            None => Err(message),
        }
    }

    /// Sends what cannot be left unsaid: at once, or when there is room.
    fn post(&mut self, worker: u8, message: ToWorker) {
        let waits = self.unsent.iter().any(|(of, _)| *of == worker);
        let sent = if waits { Err(message) } else { self.send(worker, message) };
        if let Err(message) = sent {
            if self.unsent.len() >= MAX_UNSENT {
                let droppable = |(_, message): &(u8, ToWorker)| !matches!(message, ToWorker::Seat(_));
                let oldest = self.unsent.iter().position(droppable);
                drop(oldest.and_then(|oldest| self.unsent.remove(oldest)));
            }
            self.unsent.push_back((worker, message));
        }
    }

    fn resend(&mut self) {
        for (worker, message) in std::mem::take(&mut self.unsent) {
            self.post(worker, message);
        }
    }

    /// What is parked wants its circuits already.
    fn serve_parked(&mut self, now: Timestamp) {
        for ask in std::mem::take(&mut self.parked) {
            self.place(now, ask);
        }
    }

    /// Its circuits are gone, but the connections that used them are the thread's: those with streams
    /// wait for circuits of the successor, which never uses the same handles.
    fn handle_worker_lost(&mut self, now: Timestamp, lost: u8) {
        for (worker, message) in &mut self.unsent {
            if let ToWorker::Migrate { from, .. } = message
                && *worker == lost
            {
                *message = ToWorker::Abandon { handle: *from };
            }
        }
        let reports: Vec<CircuitReport> =
            self.circuits.statuses(now).into_iter().filter(|circuit| circuit.worker == lost).collect();
        self.circuits.handle_worker_lost(now, lost);
        self.view.forget(lost);
        for report in reports {
            let Some(handle) = report.handle else { continue };
            self.keep_or_abandon(now, lost, handle, &report);
        }
    }

    /// Fails what waited too long, with the rule that stands in its way.
    fn give_up(&mut self, now: Timestamp) {
        let (late, waiting) =
            std::mem::take(&mut self.parked).into_iter().partition(|ask| ask.deadline <= now);
        self.parked = waiting;
        let late: VecDeque<Ask> = late;
        if late.is_empty() {
            return;
        }
        let reasons = self.circuits.waiting(now);
        for ask in late {
            let reason = reasons.iter().find(|(isolation, _)| *isolation == ask.isolation);
            let text = reason.map_or_else(|| "none stood in time".to_owned(), |(_, why)| why.to_string());
            ask.fail(DialError::NoCircuit(text));
        }
    }

    /// Learns a relay; an exit denies its tunnel ports as destinations.
    fn handle_relay(&mut self, now: Timestamp, descriptor: Descriptor, signed: SignedDescriptor) {
        self.circuits.handle_relay(now, descriptor, signed);
        self.tunnel_ports.handle_change();
    }

    /// A circuit is gone. Its connection waits when another circuit to its exit is on its way,
    /// else its streams are reset by the thread that owns it.
    fn handle_dead(&mut self, now: Timestamp, worker: u8, handle: CircuitHandle, reason: CloseReason) {
        self.view.circuit_dead(worker, handle);
        let report =
            self.circuits.statuses(now).into_iter().find(|c| c.worker == worker && c.handle == Some(handle));
        self.circuits.handle_dead(now, worker, handle, reason);
        match report {
            Some(report) => {
                tracing::info!(hops = report.path.len(), ?reason, streams = report.streams, "a circuit died");
                self.keep_or_abandon(now, worker, handle, &report);
            }
            None => self.post(worker, ToWorker::Abandon { handle }),
        }
    }

    /// What becomes of the connection of a dead circuit.
    fn keep_or_abandon(&mut self, now: Timestamp, worker: u8, handle: CircuitHandle, report: &CircuitReport) {
        let CircuitReport { isolation: Some(isolation), path, streams: 1.., .. } = report else {
            self.post(worker, ToWorker::Abandon { handle });
            return;
        };
        let exit = path.last().copied().unwrap_or(PeerId([0; 32]));
        if let Some(other) = self.circuits.same_last_hop_on(worker, isolation, exit) {
            self.post(worker, ToWorker::Migrate { from: handle, to: other.handle });
        } else if self.circuits.rebuilding(isolation, exit) {
            let until = now.after(ORPHAN_WAIT);
            self.orphans.push(Orphan { worker, handle, isolation: isolation.clone(), exit, until });
        } else {
            self.post(worker, ToWorker::Abandon { handle });
        }
    }

    /// Gives a new circuit the connections that wait for its last hop.
    fn adopt(&mut self, worker: u8, to: CircuitHandle) {
        let now = self.clock.now();
        let reports = self.circuits.statuses(now);
        let Some(new) = reports.iter().find(|c| c.worker == worker && c.handle == Some(to)) else {
            return;
        };
        let fits = |orphan: &mut Orphan| {
            orphan.worker == worker
                && new.isolation.as_ref() == Some(&orphan.isolation)
                && new.path.last() == Some(&orphan.exit)
        };
        let adopted: Vec<Orphan> = self.orphans.extract_if(.., fits).collect();
        for orphan in adopted {
            self.post(worker, ToWorker::Migrate { from: orphan.handle, to });
        }
    }

    /// Resets what waited in vain.
    fn abandon(&mut self, now: Timestamp) {
        let late: Vec<Orphan> = self.orphans.extract_if(.., |orphan| orphan.until <= now).collect();
        for Orphan { worker, handle, .. } in late {
            self.post(worker, ToWorker::Abandon { handle });
        }
    }

    fn carry_out(&mut self) {
        while let Some(command) = self.circuits.poll_command() {
            match command {
                Command::Build { request, worker, hops, suites, .. } => {
                    self.build(request, worker, hops, suites)
                }
                Command::Close { worker, handle, reason } => {
                    let request = Request::Circuit { handle, reason };
                    self.post(worker, ToWorker::Request(RequestId::default(), request));
                }
            }
        }
    }

    fn build(&mut self, request: RequestId, worker: u8, hops: Vec<SignedDescriptor>, suites: Vec<u8>) {
        let now = self.clock.now();
        let exit_key = hops.last().and_then(|exit| exit.verify(now).ok()).map(|exit| exit.stream_key);
        let sent =
            exit_key.map(|exit_key| self.send(worker, ToWorker::Build { request, hops, suites, exit_key }));
        if !matches!(sent, Some(Ok(()))) {
            self.circuits.handle_failed(now, request, CloseReason::Limit, 0);
        }
    }
}

#[cfg(test)]
mod tests;

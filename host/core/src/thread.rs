//! A worker thread: one socket, one worker, one QUIC endpoint, one loop.
//!
//! Each turn waits for anything to do, or not when the batch before was full, gathers at most one
//! batch from the socket, from other threads and from the QUIC endpoint, hands it to the worker in
//! one call and carries out what comes back. Nothing here blocks but the wait: what cannot be sent
//! at once waits in bounded queues of the rooms it belongs to.

mod alarm;
mod carry;
mod duty;
mod gauge;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use tokio::sync::mpsc;
use warren_exit::Exit;
use warren_net::{Bound, Outbox, ReceiveBuffers, Socket};
use warren_ports::Clock;
use warren_schemas::control::{CloseReason, TunnelConfig};
use warren_schemas::{CircuitHandle, RequestId, Timestamp};
use warren_streams::{Carrier, CircuitEnd, CircuitPort, Congestion, Endpoint, Settings};
use warren_workers::{HostMaker, ReconfigureError, Seat, WorkerFactory};
use zeroize::Zeroizing;

use crate::Error;
use crate::ends::Ends;
use crate::host::{Host, OnionSecrets};
use crate::intake::{Intake, SLOTS};
use crate::last_hop;
use crate::messages::{Exited, Leave, ToKeeper, ToWorker};
use crate::open::Open;
use crate::parcel::{Inbox, Piece, Post};
use alarm::Alarm;
use carry::Builds;
pub(crate) use gauge::{Gauge, State};

/// Messages of the control way that are taken in one turn, so that cells are not kept waiting for ever.
const CONTROL_PER_TURN: usize = 256;
/// How often a thread tells how much of the processor it took: asking is a call of the kernel.
const CPU_SHOWN: Duration = Duration::from_millis(50);
/// A streak: turns that follow a full batch at once, before anything else is looked at, and how long they may take.
const STREAK: (u32, Duration) = (16, Duration::from_millis(2));
/// Tasks that have a turn between two looks at the loop: all those of many circuits, after what a streak brought.
const TASKS: u32 = 512;
/// The longest the loop sleeps, so that its counts stay fresh.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// What a thread is started with.
pub(crate) struct Parts {
    pub(crate) index: u8,
    pub(crate) socket: Bound,
    /// The exit way.
    pub(crate) leave: mpsc::Receiver<Leave>,
    /// The control way.
    pub(crate) mailbox: mpsc::Receiver<ToWorker>,
    /// The other end of `mailbox`, for tasks of this thread.
    pub(crate) own: Option<mpsc::Sender<ToWorker>>,
    pub(crate) data: Inbox,
    /// The data ways into all threads, by index.
    pub(crate) posts: Vec<Post>,
    pub(crate) keeper: mpsc::Sender<ToKeeper>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tunnel: TunnelConfig,
    pub(crate) secrets: Arc<OnionSecrets>,
    /// Whose worker it starts with; none for a thread that waits for its time.
    pub(crate) factory: Option<Arc<dyn WorkerFactory>>,
    pub(crate) stream_key: Option<Zeroizing<[u8; 32]>>,
    pub(crate) congestion: Congestion,
    pub(crate) exit: Option<Arc<Exit>>,
    pub(crate) gauge: Arc<Gauge>,
    /// Workers that take new circuits.
    pub(crate) open: Arc<Open>,
    /// The core to keep to.
    pub(crate) core: Option<core_affinity::CoreId>,
}

/// Starts the thread and waits until its worker is configured.
///
/// # Errors
/// When the thread, its endpoint or its worker cannot be made.
pub(crate) fn start(parts: Parts) -> Result<std::thread::JoinHandle<()>, Error> {
    let (ready, started) = sync_channel(1);
    let name = format!("warren-worker-{}", parts.index);
    let body = move || {
        if let Some(core) = parts.core {
            core_affinity::set_for_current(core);
        }
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = match builder.event_interval(TASKS).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(Error::Thread(error)))),
        };
        runtime.block_on(async move {
            match WorkerLoop::new(parts) {
                Ok(worker_loop) => {
                    drop(ready.send(Ok(())));
                    worker_loop.run().await;
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        });
        runtime.shutdown_timeout(Duration::from_millis(200));
    };
    let handle = std::thread::Builder::new().name(name).spawn(body).map_err(Error::Thread)?;
    match started.recv() {
        Ok(Ok(())) => Ok(handle),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::Thread(io::Error::other("the thread ended while starting"))),
    }
}

/// One thread's part of what the node's endpoints may hold together.
fn share(stream_key: Option<[u8; 32]>, worker: u8, threads: usize) -> Settings {
    let (all, threads) = (Settings::default(), threads.max(1));
    Settings {
        stream_key,
        worker,
        connections: (all.connections / threads).max(1),
        last_hop_send_total: all.last_hop_send_total / threads as u64,
        ..all
    }
}

/// The state of the loop.
struct WorkerLoop {
    index: u8,
    socket: Socket,
    outbox: Outbox,
    buffers: ReceiveBuffers,
    leave: mpsc::Receiver<Leave>,
    mailbox: mpsc::Receiver<ToWorker>,
    own: Option<mpsc::Sender<ToWorker>>,
    data: Inbox,
    posts: Vec<Post>,
    /// Circuits of this one's worker by which connections of other threads were reached.
    lent: HashSet<CircuitHandle>,
    report: carry::Report,
    clock: Arc<dyn Clock>,
    /// None while this thread only passes on what is not its own.
    seat: Option<Seat>,
    hosts: Box<dyn Fn() -> HostMaker + Send>,
    config: TunnelConfig,
    /// Who waits for a shadow.
    watch: Option<duty::Watch>,
    endpoint: Arc<Endpoint>,
    port: CircuitPort,
    ends: Ends,
    builds: Builds,
    intake: Intake,
    cpu_shown_at: Timestamp,
    wake_at: Option<Timestamp>,
    alarm: Alarm,
    gauge: Arc<Gauge>,
    open: Arc<Open>,
    stopping: bool,
}

impl WorkerLoop {
    fn new(parts: Parts) -> Result<Self, Error> {
        let index = parts.index;
        let settings = share(parts.stream_key.map(|key| *key), index, parts.posts.len());
        let settings = Settings { congestion: parts.congestion, ..settings };
        let (endpoint, port) = warren_streams::endpoint(settings)?;
        let endpoint = Arc::new(endpoint);
        let (secrets, clock) = (parts.secrets, Arc::clone(&parts.clock));
        let hosts = move || -> HostMaker {
            let (secrets, clock) = (Arc::clone(&secrets), Arc::clone(&clock));
            Box::new(move || Box::new(Host::new(index, Arc::clone(&secrets), Arc::clone(&clock))))
        };
        if let Some(exit) = parts.exit {
            tokio::spawn(last_hop::serve(endpoint.clone(), exit));
        }
        let mut worker_loop = Self {
            index,
            socket: parts.socket.start()?,
            outbox: Outbox::default(),
            buffers: ReceiveBuffers::default(),
            leave: parts.leave,
            mailbox: parts.mailbox,
            own: parts.own,
            data: parts.data,
            posts: parts.posts,
            lent: HashSet::new(),
            report: carry::Report::new(parts.keeper.clone()),
            alarm: Alarm::new(parts.clock.now()),
            clock: parts.clock,
            seat: None,
            hosts: Box::new(hosts),
            config: parts.tunnel,
            watch: None,
            ends: Ends::new(index, parts.keeper.clone(), endpoint.clone()),
            endpoint,
            port,
            builds: Builds::default(),
            intake: Intake::default(),
            cpu_shown_at: Timestamp::default(),
            wake_at: None,
            gauge: parts.gauge,
            open: parts.open,
            stopping: false,
        };
        if let Some(factory) = parts.factory {
            worker_loop.sit(factory).map_err(|fault| Error::Worker { index, fault })?;
        }
        Ok(worker_loop)
    }

    async fn run(mut self) {
        let (mut streak, mut since) = (0, self.clock.now());
        while !self.stopping {
            if streak == 0 {
                self.wait().await;
            }
            // Half a turn before what comes in: a flood must not keep this node's own words back.
            self.take_outgoing(SLOTS / 2);
            self.take_parcels();
            self.take_datagrams();
            self.take_outgoing(SLOTS);
            let full = self.intake.room() == 0;
            let now = self.clock.now();
            self.hand_over(now);
            self.keep_time(now);
            self.send(full);
            self.send_parcels();
            self.report.flush();
            self.show_cpu(now);
            self.show_seat();
            self.look_at_shadow();
            // The QUIC endpoint and the exit's sockets are tasks of this thread: let them run. After a full batch
            // there is more to take, and each of them then has more to do at once.
            since = if streak == 0 { now } else { since };
            streak = if full && streak < STREAK.0 && now.since(since) < STREAK.1 { streak + 1 } else { 0 };
            if streak == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.say_goodbye();
    }

    /// Waits until there is something to do. The exit way comes first, then the control way: what they say is
    /// handled here.
    async fn wait(&mut self) {
        let now = self.clock.now();
        let latest = now.after(LONGEST_SLEEP);
        self.alarm.set(now, self.wake_at.map_or(latest, |at| at.min(latest)));
        let message = tokio::select! {
            biased;
            leave = self.leave.recv() => {
                match leave {
                    Some(leave) => self.handle_leave(leave),
                    None => self.stopping = true,
                }
                None
            }
            message = self.mailbox.recv() => Some(message),
            () = self.data.ready() => None,
            _ = self.socket.readable() => None,
            _ = self.socket.writable(), if !self.outbox.is_empty() => None,
            () = self.port.outgoing() => None,
            () = self.alarm.ring() => None,
        };
        match message {
            Some(Some(message)) => {
                self.handle(message);
                self.take_control();
            }
            Some(None) => self.stopping = true,
            None => {}
        }
    }

    fn handle_leave(&mut self, leave: Leave) {
        if leave.end {
            self.endpoint.close();
            self.stopping = true;
        } else if self.is_needed() {
            return drop(leave.answer.send(Exited::Stayed));
        }
        let exited = self.leave(leave.reason);
        self.socket.send(&mut self.outbox);
        drop(leave.answer.send(exited));
    }

    /// Takes what else is said on the control way, before any datagram.
    fn take_control(&mut self) {
        for _ in 0..CONTROL_PER_TURN {
            match self.mailbox.try_recv() {
                Ok(message) if !self.stopping => self.handle(message),
                _ => return,
            }
        }
    }

    /// Takes what other threads passed on, as long as the batch has room.
    fn take_parcels(&mut self) {
        // Half of it: a thread must not be kept from its own socket by what comes over others.
        let room = self.intake.room() / 2;
        let (intake, port) = (&mut self.intake, &self.port);
        self.data.unpack(room, |worker, piece, bytes| match piece {
            Piece::Datagram(source) => intake.received(source, bytes),
            Piece::Outer(handle) => intake.outgoing(handle, bytes),
            Piece::Inner(circuit) => port.deliver(Carrier { worker, circuit }, CircuitEnd::LastHop, bytes),
            Piece::Dead(circuit) => port.circuit_dead(Carrier { worker, circuit }),
            Piece::AllDead => port.all_dead(worker, |_| false),
        });
    }

    /// After a full batch there is nearly always another: the kernel then gets runs as long as it takes. As long as
    /// something waits here, the next turn comes at once.
    fn send(&mut self, full: bool) {
        if full {
            self.socket.send_full(&mut self.outbox);
        } else {
            self.socket.send(&mut self.outbox);
        }
    }

    fn send_parcels(&mut self) {
        for post in &mut self.posts {
            self.gauge.count_handovers(post.flush());
        }
    }

    fn handle(&mut self, message: ToWorker) {
        match message {
            ToWorker::Build { request, hops, suites, exit_key } => {
                self.build(request, hops, suites, exit_key)
            }
            ToWorker::Request(id, request) => self.control(id, &request),
            ToWorker::Open { handle, ask } => self.ends.open(handle, ask),
            ToWorker::Attach { request, handle, proof } => self.attach(request, handle, proof),
            ToWorker::ConnectionClosed => self.close_bare(),
            ToWorker::Migrate { from, to } => self.migrate(from, to),
            ToWorker::Abandon { handle } => self.abandon(handle),
            // Whether it drains is known here only.
            ToWorker::Configure(config) => {
                self.configure(&TunnelConfig { draining: self.config.draining, ..*config });
            }
            ToWorker::Seat(order) => self.handle_order(order),
        }
    }

    /// Reads the socket; what belongs to another thread's worker goes there.
    fn take_datagrams(&mut self) {
        let room = self.intake.room();
        let (workers, own, open) = (self.posts.len() as u8, self.index, self.open.get());
        let (intake, posts, gauge) = (&mut self.intake, &mut self.posts, &self.gauge);
        let taken =
            self.socket.receive(
                &mut self.buffers,
                room,
                |source, datagram| match warren_dispatch::worker_of(datagram, source, workers, &open) {
                    Some(worker) if worker == own => intake.received(source, datagram),
                    Some(worker) => match posts.get_mut(usize::from(worker)) {
                        Some(post) => post.pack(Piece::Datagram(source), datagram),
                        None => gauge.count_stray(),
                    },
                    None => gauge.count_stray(),
                },
            );
        if let Err(error) = taken {
            tracing::debug!(%error, "reading the tunnel socket");
        }
    }

    /// Takes what the QUIC endpoint wants to send on circuits, at most `most`.
    fn take_outgoing(&mut self, most: usize) {
        let (own, intake, posts) = (self.index, &mut self.intake, &mut self.posts);
        self.port.drain(intake.room().min(most), |Carrier { worker, circuit }, datagram| {
            if worker == own {
                intake.outgoing(circuit, datagram);
            } else if let Some(post) = posts.get_mut(usize::from(worker)) {
                post.pack(Piece::Outer(circuit), datagram);
            }
        });
    }

    /// One call for the batch.
    fn hand_over(&mut self, now: Timestamp) {
        if self.intake.is_empty() {
            return;
        }
        let batch = self.intake.take();
        if let Some(seat) = &mut self.seat {
            let answer = seat.data(now, batch);
            self.carry_out(answer);
        }
    }

    fn keep_time(&mut self, now: Timestamp) {
        if self.wake_at.is_some_and(|at| at <= now) {
            self.wake_at = None;
            if let Some(seat) = &mut self.seat {
                let answer = seat.timeout(now);
                self.carry_out(answer);
            }
        }
    }

    fn show_cpu(&mut self, now: Timestamp) {
        if now >= self.cpu_shown_at.after(CPU_SHOWN) {
            self.cpu_shown_at = now;
            self.gauge.set_cpu();
        }
    }

    fn control(&mut self, id: RequestId, request: &warren_schemas::control::Request) {
        if let Some(seat) = &mut self.seat {
            let answer = seat.control(self.clock.now(), &request.encode(id));
            self.carry_out(answer);
        }
    }

    fn configure(&mut self, config: &TunnelConfig) {
        self.config.clone_from(config);
        let Some(seat) = &mut self.seat else { return };
        match seat.configure(self.clock.now(), config.encode()) {
            Ok(()) => self.wake_at = Some(self.clock.now()),
            Err(ReconfigureError::Refused(fault)) => {
                tracing::error!(worker = self.index, %fault, "configuration")
            }
            Err(ReconfigureError::Lost(lost)) => self.lose_worker(&lost),
        }
    }

    /// Also when nobody said `Leave`, because everybody who could is gone.
    fn say_goodbye(mut self) {
        self.endpoint.close();
        self.leave(CloseReason::Shutdown);
        self.socket.send(&mut self.outbox);
        self.report.flush();
    }
}

//! The circuits that stand, those being built, and who wants them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use warren_ports::Isolation;
use warren_schemas::control::CloseReason;
use warren_schemas::descriptor::{Descriptor, SignedDescriptor};
use warren_schemas::{CircuitHandle, PeerId, RequestId, Timestamp};

use crate::guards::{Guard, Guards, Settling};
use crate::random::Random;
use crate::relays::Relays;
use crate::rules::Rules;

mod choice;
mod plan;
mod report;
#[cfg(test)]
mod tests;

pub use report::{CircuitReport, CircuitState};

/// The longest path.
const MAX_HOPS: u8 = 3;
/// Most isolations served at a time; the one unused for longest gives way.
const MAX_WANTED: usize = 1024;
/// First pause after this node itself could not build a circuit; doubles up to 64 times this.
const OWN_BACKOFF: Duration = Duration::from_millis(500);

/// What the caller is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Ask a worker for a circuit, and answer with [`Circuits::handle_ready`] or
    /// [`Circuits::handle_failed`].
    Build {
        /// Id of the answer.
        request: RequestId,
        /// Which worker.
        worker: u8,
        /// First hop first; 1 to 3.
        hops: Vec<SignedDescriptor>,
        /// The handshake suite of each hop.
        suites: Vec<u8>,
        /// Whom it is for. A spare circuit, which is for nobody yet, has an empty key.
        isolation: Isolation,
    },
    /// Close a circuit. It is forgotten here already.
    Close {
        /// Which worker.
        worker: u8,
        /// That worker's handle.
        handle: CircuitHandle,
        /// Why.
        reason: CloseReason,
    },
}

/// A circuit to send on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CircuitRef {
    /// Which worker.
    pub worker: u8,
    /// That worker's handle.
    pub handle: CircuitHandle,
    /// What the last hop said of itself when the circuit was built.
    pub exit: Descriptor,
    /// Peer ids, first hop first.
    pub path: Vec<PeerId>,
}

/// How long a circuit of a worker that drains waits for the connection it was built for.
const ADOPTION: Duration = Duration::from_secs(2);

/// Streams that a circuit takes while it is the only one, and how long more of them wait for the next one: many
/// that are asked for at once, as a torrent's are, shall not all go by the circuit that happens to stand first.
const ALONE: (u32, Duration) = (4, Duration::from_secs(1));

/// An isolation, in an order.
type Owner = (Arc<str>, u8);

#[derive(Debug)]
struct Want {
    until: Timestamp,
    /// Until when streams wait for a second circuit, and whether it was told that they no longer do.
    alone: Option<(Timestamp, bool)>,
    /// What would save the streams of circuits that died.
    pinned: VecDeque<Pin>,
}

/// A circuit to this exit, on the worker whose thread has the QUIC connection to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Pin {
    worker: u8,
    exit: PeerId,
}

#[derive(Debug)]
struct Build {
    /// None for a spare.
    owner: Option<Owner>,
    worker: u8,
    exit: Descriptor,
    path: Vec<PeerId>,
    suites: Vec<u8>,
    pin: Option<Pin>,
    started: Timestamp,
}

#[derive(Debug)]
struct Circuit {
    worker: u8,
    owner: Option<Owner>,
    exit: Descriptor,
    path: Vec<PeerId>,
    suites: Vec<u8>,
    ready: Timestamp,
    streams: u32,
}

impl Circuit {
    /// A fresh circuit of a worker that takes none was built for a connection that is about to move to it.
    fn retires(&self, now: Timestamp, retire_after: Duration, workers: &Range<u8>) -> bool {
        let age = now.since(self.ready);
        age >= retire_after || (age >= ADOPTION && !workers.contains(&self.worker))
    }
}

/// The policy. See the crate's first lines.
///
/// `handle_*`, [`want`](Self::want) and [`unwant`](Self::unwant) take what happened; afterwards
/// [`poll_command`](Self::poll_command) is to be drained and [`handle_timeout`](Self::handle_timeout)
/// called at [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Circuits {
    rules: Rules,
    random: Random,
    relays: Relays,
    guards: Guards,
    settling: Settling,
    wants: BTreeMap<Owner, Want>,
    builds: BTreeMap<RequestId, Build>,
    circuits: BTreeMap<(u8, CircuitHandle), Circuit>,
    commands: VecDeque<Command>,
    next_request: u64,
    /// Workers that take new circuits; those of others retire.
    workers: Range<u8>,
    next_worker: u8,
    own_failures: u32,
    own_retry_at: Timestamp,
    /// The latest time heard of.
    now: Timestamp,
}

fn owner(isolation: &Isolation) -> Owner {
    (Arc::clone(&isolation.key), isolation.hops)
}

fn isolation(owner: &Owner) -> Isolation {
    Isolation { hops: owner.1, key: Arc::clone(&owner.0) }
}

impl Circuits {
    /// A policy that knows nobody. `seed` is secret and random: whoever knows it knows the paths.
    #[must_use]
    pub fn new(rules: Rules, seed: u64) -> Self {
        Self {
            rules: Rules { workers: rules.workers.max(1), ..rules },
            random: Random::new(seed),
            relays: Relays::default(),
            guards: Guards::default(),
            settling: Settling::Empty,
            wants: BTreeMap::new(),
            builds: BTreeMap::new(),
            circuits: BTreeMap::new(),
            commands: VecDeque::new(),
            next_request: 1,
            workers: 0..rules.workers.max(1),
            next_worker: 0,
            own_failures: 0,
            own_retry_at: Timestamp::default(),
            now: Timestamp::default(),
        }
    }

    /// The guards, to be kept for the next run.
    #[must_use]
    pub fn guards(&self) -> Vec<Guard> {
        self.guards.list().to_vec()
    }

    /// Takes the guards of an earlier run, oldest first; at most 20 are kept.
    pub fn set_guards(&mut self, guards: Vec<Guard>) {
        self.guards.set(guards);
    }

    /// A relay is known, or says something newer of itself. `descriptor` is what verifying
    /// `signed` gave. No guard is chosen until no relay was new for 300 ms, or 1 s after the first
    /// one; what needs none, or has one of an earlier run, does not wait.
    pub fn handle_relay(&mut self, now: Timestamp, descriptor: Descriptor, signed: SignedDescriptor) {
        self.advance(now);
        if descriptor.peer_id == self.rules.own_peer {
            return;
        }
        let peer = descriptor.peer_id;
        let known = self.relays.get(&peer).is_some();
        if self.relays.insert(now, descriptor, signed) {
            if !known && self.relays.get(&peer).is_some() {
                self.settling.heard(self.now);
            }
            self.plan();
        }
    }

    /// Our workers speak other suites from now on, best first: see [`Rules::suites`]. While they do
    /// not all speak the same, these are the ones that all of them speak. What is built stays.
    pub fn set_suites(&mut self, now: Timestamp, suites: Vec<u8>) {
        self.advance(now);
        if self.rules.suites != suites {
            self.rules.suites = suites;
            self.plan();
        }
    }

    /// Someone needs a circuit of this isolation now. It stays wanted for [`Rules::linger`] after
    /// the last call, or the last stream. No hops means no circuit, and nothing is done.
    pub fn want(&mut self, now: Timestamp, isolation: &Isolation) {
        self.advance(now);
        if isolation.hops == 0 {
            return;
        }
        let owner = owner(isolation);
        let until = self.now.after(self.rules.linger);
        if let Some(want) = self.wants.get_mut(&owner) {
            want.until = until;
        } else {
            self.make_room();
            self.wants.insert(owner, Want { until, alone: None, pinned: VecDeque::new() });
        }
        self.plan();
    }

    /// Nobody needs it any more: its circuits are closed when their last stream is.
    pub fn unwant(&mut self, isolation: &Isolation) {
        self.wants.remove(&owner(isolation));
        self.close_unwanted();
        self.plan();
    }

    /// The worker built the circuit that was asked for.
    pub fn handle_ready(&mut self, now: Timestamp, request: RequestId, worker: u8, handle: CircuitHandle) {
        self.advance(now);
        self.own_failures = 0;
        let Some(build) = self.builds.remove(&request) else {
            // Given up before: nobody would ever close it.
            self.commands.push_back(Command::Close { worker, handle, reason: CloseReason::Finished });
            return;
        };
        for peer in &build.path {
            self.relays.praise(peer);
        }
        let Build { owner, exit, path, suites, .. } = build;
        let circuit = Circuit { worker, owner, exit, path, suites, ready: self.now, streams: 0 };
        self.circuits.insert((worker, handle), circuit);
        self.close_unwanted();
        self.plan();
    }

    /// The worker could not build it. `hop` counts from 1; 0 is this node's own fault.
    pub fn handle_failed(&mut self, now: Timestamp, request: RequestId, reason: CloseReason, hop: u8) {
        self.advance(now);
        let Some(build) = self.builds.remove(&request) else { return };
        self.blame(&build, reason, hop);
        self.plan();
    }

    fn blame(&mut self, build: &Build, reason: CloseReason, hop: u8) {
        let at = usize::from(hop).checked_sub(1);
        let Some(peer) = at.and_then(|at| build.path.get(at)) else {
            self.own_failures = self.own_failures.saturating_add(1);
            self.own_retry_at = self.now.after(OWN_BACKOFF * (1 << self.own_failures.min(6)));
            return;
        };
        self.relays.blame(self.now, peer, &mut self.random);
        // A hop that did not answer may be one that the hop before did not ask.
        let before = at.and_then(|at| at.checked_sub(1)).and_then(|at| build.path.get(at));
        if let Some(before) = before.filter(|_| matches!(reason, CloseReason::Timeout | CloseReason::Link)) {
            self.relays.suspect(self.now, before);
        }
        let failed = *peer;
        self.keep_pin(build, Some(failed));
    }

    /// A pin whose exit failed is given up: it is the exit that died. Otherwise it is tried again.
    fn keep_pin(&mut self, build: &Build, failed: Option<PeerId>) {
        if let Some(pin) = build.pin.filter(|pin| failed != Some(pin.exit)) {
            self.pin(build.owner.as_ref(), pin);
        }
    }

    fn pin(&mut self, owner: Option<&Owner>, pin: Pin) {
        let stands = owner.is_some_and(|owner| self.find(owner, pin.exit).any(|(id, _)| id.0 == pin.worker));
        let want = owner.and_then(|owner| self.wants.get_mut(owner));
        if let Some(want) = want.filter(|want| !stands && !want.pinned.contains(&pin))
            && want.pinned.len() < self.rules.per_isolation
        {
            want.pinned.push_back(pin);
        }
    }

    fn pin_streams(&mut self, worker: u8, circuit: &Circuit) {
        if circuit.streams > 0 {
            self.pin(circuit.owner.as_ref(), Pin { worker, exit: circuit.exit.peer_id });
        }
    }

    fn find<'a>(
        &'a self,
        owner: &'a Owner,
        exit: PeerId,
    ) -> impl Iterator<Item = (&'a (u8, CircuitHandle), &'a Circuit)> {
        let owned = self.circuits.iter().filter(move |(_, circuit)| circuit.owner.as_ref() == Some(owner));
        owned.filter(move |(_, circuit)| circuit.exit.peer_id == exit)
    }

    /// A circuit is gone.
    pub fn handle_dead(&mut self, now: Timestamp, worker: u8, handle: CircuitHandle, reason: CloseReason) {
        self.advance(now);
        let Some(circuit) = self.circuits.remove(&(worker, handle)) else { return };
        if !matches!(reason, CloseReason::Finished | CloseReason::Expired | CloseReason::Shutdown) {
            for peer in &circuit.path {
                self.relays.suspect(self.now, peer);
            }
        }
        self.pin_streams(worker, &circuit);
        self.plan();
    }

    /// New circuits go to `workers` from now on, at least one. Circuits of other workers take new streams
    /// only as long as there is no other, and are closed when they have none; a circuit that replaces
    /// one with open streams is still built where their connection lives.
    pub fn set_workers(&mut self, now: Timestamp, workers: Range<u8>) {
        self.advance(now);
        if !workers.is_empty() {
            self.workers = workers;
        }
        self.close_unwanted();
        self.plan();
    }

    /// A worker was replaced: what it had is gone, and no relay is to blame.
    pub fn handle_worker_lost(&mut self, now: Timestamp, worker: u8) {
        self.advance(now);
        let builds: Vec<_> = self.builds.extract_if(.., |_, build| build.worker == worker).collect();
        let circuits: Vec<_> = self.circuits.extract_if(.., |(at, _), _| *at == worker).collect();
        for (_, build) in &builds {
            self.keep_pin(build, None);
        }
        for (_, circuit) in &circuits {
            self.pin_streams(worker, circuit);
        }
        self.commands.retain(|command| match command {
            Command::Build { worker: at, .. } | Command::Close { worker: at, .. } => *at != worker,
        });
        self.plan();
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.advance(now);
        self.relays.expire(self.now);
        self.guards.expire(self.now);
        self.give_up_builds();
        let used: Vec<Owner> =
            self.circuits.values().filter(|c| c.streams > 0).filter_map(|c| c.owner.clone()).collect();
        for owner in used {
            if let Some(want) = self.wants.get_mut(&owner) {
                want.until = want.until.max(self.now.after(self.rules.linger));
            }
        }
        self.wants.retain(|_, want| want.until > self.now);
        self.close_unwanted();
        self.plan();
    }

    fn give_up_builds(&mut self) {
        let (now, limit) = (self.now, self.rules.build_timeout);
        let late: Vec<_> = self
            .builds
            .extract_if(.., |_, build| now.since(build.started) >= limit)
            .map(|(_, b)| b)
            .collect();
        for build in late {
            for peer in &build.path {
                self.relays.suspect(now, peer);
            }
            // Nobody said which hop it was: as likely as not the exit.
            self.keep_pin(&build, Some(build.exit.peer_id));
        }
    }

    /// The next thing to do, if any. To be drained after every call that takes `&mut self`.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let builds = self.builds.values().map(|build| {
            let slow = build.started.after(self.rules.slow_build);
            if slow > self.now { slow } else { build.started.after(self.rules.build_timeout) }
        });
        let wants = self.wants.values().map(|want| want.until);
        let retired = self.circuits.values().map(|circuit| circuit.ready.after(self.rules.retire_after));
        let retry = self.relays.next_retry(self.now).filter(|_| self.has_deficit());
        let own = Some(self.own_retry_at).filter(|at| *at > self.now);
        let due = builds.chain(wants).chain(retired.filter(|at| *at > self.now));
        let settled = self.settling.due().filter(|_| self.has_deficit());
        let alone = self.wants.values().filter_map(|want| want.alone.filter(|(_, told)| !told));
        let due = due.chain(alone.map(|(until, _)| until));
        due.chain(retry).chain(own).chain(settled).chain(self.relays.next_expiry()).min()
    }

    /// The least loaded circuit of this isolation, if one stands. One that is alone takes only a few streams until
    /// another one stands that is being built, for a second at most; see [`poll_released`](Self::poll_released).
    pub fn select(&mut self, isolation: &Isolation) -> Option<CircuitRef> {
        let owner = owner(isolation);
        let owned = self.circuits.iter().filter(|(_, circuit)| circuit.owner.as_ref() == Some(&owner));
        let (id, circuit) =
            owned.min_by_key(|(id, circuit)| (self.retiring(circuit), circuit.streams, **id))?;
        let (found, streams) = (reference(*id, circuit), circuit.streams);
        (!self.waits_for_another(&owner, streams)).then_some(found)
    }

    /// Whether the least loaded circuit of `owner` is alone, has its part, and another one is on its way.
    fn waits_for_another(&mut self, owner: &Owner, streams: u32) -> bool {
        let (ready, building) = self.count(Some(owner));
        let (now, is_alone) = (self.now, ready == 1 && building > 0);
        let Some(want) = self.wants.get_mut(owner) else { return false };
        if !is_alone {
            want.alone = None;
            return false;
        }
        let (until, _) = *want.alone.get_or_insert((now.after(ALONE.1), false));
        streams >= ALONE.0 && now < until
    }

    /// Whether what [`select`](Self::select) refused for a moment may have changed with time alone. Asking takes the
    /// answer back.
    pub fn poll_released(&mut self) -> bool {
        let mut released = false;
        for (until, told) in self.wants.values_mut().filter_map(|want| want.alone.as_mut()) {
            if *until <= self.now && !*told {
                (*told, released) = (true, true);
            }
        }
        released
    }

    /// A circuit of this isolation whose last hop is `exit`: what a connection whose circuit died
    /// moves to.
    #[must_use]
    pub fn same_last_hop(&self, isolation: &Isolation, exit: PeerId) -> Option<CircuitRef> {
        let owner = owner(isolation);
        let first = self.find(&owner, exit).next();
        first.map(|(id, circuit)| reference(*id, circuit))
    }

    /// The same, on that worker.
    #[must_use]
    pub fn same_last_hop_on(&self, worker: u8, isolation: &Isolation, exit: PeerId) -> Option<CircuitRef> {
        let owner = owner(isolation);
        let mut found = self.find(&owner, exit).filter(|(id, _)| id.0 == worker);
        found.next().map(|(id, circuit)| reference(*id, circuit))
    }

    /// Whether a circuit of this isolation to `exit` is being built, or will be before any other:
    /// a connection whose circuit died may wait for it. One that replaces a circuit with open
    /// streams is built by the same worker.
    #[must_use]
    pub fn rebuilding(&self, isolation: &Isolation, exit: PeerId) -> bool {
        let owner = owner(isolation);
        let pinned =
            self.wants.get(&owner).is_some_and(|want| want.pinned.iter().any(|pin| pin.exit == exit));
        let mut builds = self.builds.values();
        pinned || builds.any(|build| build.owner.as_ref() == Some(&owner) && build.exit.peer_id == exit)
    }

    /// Streams were opened on a circuit, or closed.
    pub fn streams_changed(&mut self, worker: u8, handle: CircuitHandle, delta: i32) {
        let until = self.now.after(self.rules.linger);
        let Some(circuit) = self.circuits.get_mut(&(worker, handle)) else { return };
        circuit.streams = circuit.streams.saturating_add_signed(delta);
        if let Some(want) = circuit.owner.as_ref().and_then(|owner| self.wants.get_mut(owner)) {
            want.until = want.until.max(until);
        }
        if circuit.streams == 0 {
            self.close_unwanted();
        }
    }

    fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        self.settling.advance(self.now);
    }

    fn make_room(&mut self) {
        if self.wants.len() >= MAX_WANTED {
            let oldest = self.wants.iter().min_by_key(|(_, want)| want.until).map(|(owner, _)| owner.clone());
            self.wants.retain(|owner, _| Some(owner) != oldest.as_ref());
            self.close_unwanted();
        }
    }

    fn retiring(&self, circuit: &Circuit) -> bool {
        circuit.retires(self.now, self.rules.retire_after, &self.workers)
    }
}

fn reference((worker, handle): (u8, CircuitHandle), circuit: &Circuit) -> CircuitRef {
    CircuitRef { worker, handle, exit: circuit.exit.clone(), path: circuit.path.clone() }
}

//! A network whose machines are seats: workers are killed, swapped, shadowed and rolled back at random
//! points between their calls, native for Wasm and back, on virtual time and from a seed.
//!
//! What is looked at from outside, at every step: no link counter is used twice under one link, no
//! layer's counter twice under one key (its receiver would drop the second as a replay, and no such
//! drop is allowed), no cell that is played again is accepted, and nothing is lost by a swap.

use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use warren_native::NativeFactory;
use warren_schemas::batch::{Batch, MAX_SLOTS, SlotKind};
use warren_schemas::cell::{Header, Kind};
use warren_schemas::control::{CircuitEnd, Event, Limits, OnionKey, Request, TunnelConfig};
use warren_schemas::descriptor::{Descriptor, SignedDescriptor};
use warren_schemas::{CircuitHandle, PeerId, RequestId, Timestamp};
use warren_tunnel::drop_reason::DropReason;
use warren_workers::{
    Description, HostMaker, Lost, Seat, ShadowVerdict, Worker, WorkerFactory, WorkerFault, WorkerHost,
};

use crate::host::{EPOCH, Seeded, SeededHost, factory, settings};

const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
const FOREVER: Timestamp = Timestamp::from_micros(u64::MAX);

struct Machine {
    seat: Seat,
    host: SeededHost,
    key: SigningKey,
    config: TunnelConfig,
    address: SocketAddr,
    wake_at: Option<Timestamp>,
}

/// What happens before a call, of a thousand calls.
#[derive(Clone, Copy)]
struct Odds {
    swap: u64,
    rollback: u64,
    kill: u64,
    /// Of a thousand datagrams, those that come twice.
    twice: u64,
}

const QUIET: Odds = Odds { swap: 0, rollback: 0, kill: 0, twice: 0 };

#[derive(Default, Debug)]
struct Counts {
    swaps: u64,
    rollbacks: u64,
    kills: u64,
    shadows_agreed: u64,
    /// Datagrams that were played again, and drops of such.
    played_again: u64,
    replays_dropped: u64,
}

struct Net {
    seed: u64,
    now: Timestamp,
    machines: Vec<Machine>,
    modules: Vec<Arc<dyn WorkerFactory>>,
    flights: BTreeMap<(Timestamp, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    dice: Seeded,
    odds: Odds,
    flown: u64,
    /// Receiver, its link, counter: of everything that was ever sent.
    used: HashSet<(SocketAddr, u32, u32)>,
    ready: BTreeMap<u64, CircuitHandle>,
    /// Numbers of the inner datagrams that came back to machine 0.
    returned: Vec<u64>,
    /// Inner datagrams that the last hops got.
    delivered: HashSet<u64>,
    counts: Counts,
}

impl Net {
    fn new(seed: u64, modules: &[Arc<dyn WorkerFactory>], relays: u8) -> Self {
        let mut net = Self {
            seed,
            now: START,
            machines: Vec::new(),
            modules: modules.to_vec(),
            flights: BTreeMap::new(),
            dice: Seeded(seed),
            odds: QUIET,
            flown: 0,
            used: HashSet::new(),
            ready: BTreeMap::new(),
            returned: Vec::new(),
            delivered: HashSet::new(),
            counts: Counts::default(),
        };
        for index in 0..=relays {
            net.add(index, index > 0);
        }
        net
    }

    fn add(&mut self, index: u8, relay: bool) {
        let host = SeededHost::new(self.dice.word());
        let key = SigningKey::from_bytes(&self.dice.bytes());
        let address = SocketAddr::from((Ipv4Addr::new(5, index, 0, 1), 4000));
        let onion = OnionKey { epoch: EPOCH, public: host.public_onion_key(), accept_until: FOREVER };
        let config = TunnelConfig {
            worker_index: index,
            workers: 8,
            peer_id: PeerId(key.verifying_key().to_bytes()),
            onion_keys: if relay { vec![onion] } else { Vec::new() },
            relay,
            exit: relay,
            allow_private: false,
            own_addresses: vec![address],
            limits: Limits::default(),
            cookie_key: self.dice.bytes(),
            sync_period: 5_000_000,
            draining: false,
        };
        let (template, mut seeds) = (host.clone(), Seeded(self.dice.word()));
        let seeds = std::sync::Mutex::new(move || seeds.word());
        let hosts: HostMaker = Box::new(move || Box::new(template.successor((seeds.lock().unwrap())())));
        let mut seat = Seat::new(Arc::clone(&self.modules[0]), hosts, config.encode());
        seat.start(self.now).unwrap();
        self.machines.push(Machine { seat, host, key, config, address, wake_at: None });
    }

    fn chance(&mut self, of_a_thousand: u64) -> bool {
        self.dice.word() % 1000 < of_a_thousand
    }

    /// What fate has for a machine before its next call.
    fn disturb(&mut self, index: usize) {
        let (odds, now) = (self.odds, self.now);
        if self.chance(odds.swap) {
            self.swap(index);
        }
        if self.chance(odds.rollback) && self.machines[index].seat.previous().is_some() {
            let seat = &mut self.machines[index].seat;
            if seat.prepared().is_none() {
                seat.rollback(now).unwrap_or_else(|fault| panic!("seed {}: {fault}", self.seed));
                self.counts.rollbacks += 1;
            }
        }
        if self.chance(odds.kill) && self.machines[index].seat.kill(now, "test").is_some() {
            self.counts.kills += 1;
            self.machines[index].wake_at = Some(now);
        }
    }

    /// Prepares a swap, with a shadow now and then, or goes on with one that is under way.
    fn swap(&mut self, index: usize) {
        let (now, seed) = (self.now, self.seed);
        let module = self.dice.word() as usize % self.modules.len();
        let (module, shadowed) = (Arc::clone(&self.modules[module]), self.chance(300));
        let answers = 1 + (self.dice.word() % 20) as u32;
        let seat = &mut self.machines[index].seat;
        if seat.prepared().is_none() {
            seat.prepare(now, module).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
            if shadowed {
                return seat.shadow(now, answers).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
            }
        }
        match seat.shadow_verdict() {
            Some(ShadowVerdict::Agreed { compared, differing_bytes }) => {
                assert_eq!(differing_bytes, 0, "seed {seed}: of {compared}");
                self.counts.shadows_agreed += 1;
            }
            Some(ShadowVerdict::Failed(reason)) => {
                assert!(reason.contains("was lost"), "seed {seed}: {reason}")
            }
            Some(ShadowVerdict::Running { .. }) | None => {}
        }
        if self.machines[index].seat.prepared().is_some() {
            let seat = &mut self.machines[index].seat;
            let mut page = 0;
            while seat.warm(now, page).unwrap_or_else(|fault| panic!("seed {seed}: {fault}")) {
                page += 1;
            }
            seat.commit(now).unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
            self.counts.swaps += 1;
        }
    }

    fn call(&mut self, index: usize, call: impl FnOnce(&mut Seat, Timestamp) -> Result<Batch, Lost>) {
        self.disturb(index);
        let now = self.now;
        let answer = call(&mut self.machines[index].seat, now);
        self.machines[index].host.record().lock().unwrap().clear();
        if let Some(ShadowVerdict::Failed(reason)) = self.machines[index].seat.shadow_verdict() {
            assert!(reason.contains("was lost"), "seed {}: {reason}", self.seed);
        }
        let batch = answer.unwrap_or_else(|lost| panic!("seed {}: {lost:?}", self.seed));
        self.act(index, &batch);
    }

    fn act(&mut self, index: usize, batch: &Batch) {
        self.machines[index].wake_at = batch.wake_at();
        let from = self.machines[index].address;
        let mut echoes = Vec::new();
        for slot in batch.slots() {
            let bytes = batch.bytes_of(&slot);
            match slot.kind {
                SlotKind::Send => self.launch(from, slot.address.into(), bytes),
                SlotKind::Deliver if slot.detail == CircuitEnd::LastHop.0 => {
                    let fresh = self.delivered.insert(number(bytes));
                    assert!(fresh, "seed {}: a cell was accepted twice", self.seed);
                    echoes.push((slot.handle, bytes.to_vec()));
                }
                SlotKind::Deliver => self.returned.push(number(bytes)),
                SlotKind::Event => {
                    if let (id, Event::CircuitReady { handle, .. }) = Event::decode(bytes).unwrap() {
                        self.ready.insert(id.0, handle);
                    }
                }
                SlotKind::Dropped => self.dropped(slot.detail),
                _ => {}
            }
        }
        self.outgoing(index, &echoes);
    }

    fn dropped(&mut self, reason: u8) {
        let replayed = [DropReason::LinkReplay as u8, DropReason::LayerReplay as u8];
        assert_ne!(reason, replayed[1], "seed {}: a layer's counter comes twice", self.seed);
        if reason == replayed[0] {
            self.counts.replays_dropped += 1;
            assert!(self.counts.replays_dropped <= self.counts.played_again, "seed {}", self.seed);
        }
    }

    fn launch(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let header = Header::read(bytes).unwrap();
        if matches!(header.kind, Kind::Cell | Kind::Message) {
            let fresh = self.used.insert((to, header.link.0, header.counter));
            assert!(fresh, "seed {}: a link's counter comes twice", self.seed);
        }
        let again = self.chance(self.odds.twice);
        for copy in 0..=u64::from(again) {
            self.flown += 1;
            // The copy comes later, so that the machine may be another by then.
            let delay = Duration::from_micros(5_000 + self.dice.word() % 5_000 + copy * 30_000);
            self.flights.insert((self.now.after(delay), self.flown), (from, to, bytes.to_vec()));
            self.counts.played_again += copy;
        }
    }

    fn outgoing(&mut self, index: usize, inner: &[(CircuitHandle, Vec<u8>)]) {
        for group in inner.chunks(MAX_SLOTS) {
            let mut batch = Batch::with_slots(group.len());
            let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
            for (slot, (handle, bytes)) in group.iter().enumerate() {
                assert!(batch.fill(slot, SlotKind::Outgoing, nowhere, *handle, bytes));
            }
            self.call(index, |seat, now| seat.data(now, batch));
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now.after(time);
        loop {
            let flight = self.flights.keys().next().map(|(at, _)| *at);
            let wake = self.machines.iter().filter_map(|machine| machine.wake_at).min();
            let Some(next) = [flight, wake].into_iter().flatten().min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            self.land();
            for index in 0..self.machines.len() {
                if self.machines[index].wake_at.is_some_and(|at| at <= self.now) {
                    self.call(index, |seat, now| seat.timeout(now));
                }
            }
        }
        self.now = end;
    }

    fn land(&mut self) {
        let mut arrived: BTreeMap<usize, Vec<(SocketAddr, Vec<u8>)>> = BTreeMap::new();
        while let Some(entry) = self.flights.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (from, to, bytes) = entry.remove();
            let to = self.machines.iter().position(|machine| machine.address == to).unwrap();
            arrived.entry(to).or_default().push((from, bytes));
        }
        for (to, datagrams) in arrived {
            for group in datagrams.chunks(MAX_SLOTS) {
                let mut batch = Batch::with_slots(group.len());
                for (slot, (from, bytes)) in group.iter().enumerate() {
                    assert!(batch.fill(slot, SlotKind::Received, *from, CircuitHandle(0), bytes));
                }
                self.call(to, |seat, now| seat.data(now, batch));
            }
        }
    }

    fn descriptor(&self, index: usize) -> SignedDescriptor {
        let machine = &self.machines[index];
        let descriptor = Descriptor {
            peer_id: machine.config.peer_id,
            published: self.now,
            expires: self.now.after(Duration::from_secs(12 * 3600)),
            onion_epoch: EPOCH,
            onion_key: machine.host.public_onion_key(),
            stream_key: [9; 32],
            addresses: vec![machine.address],
            relay: true,
            exit: true,
            suites: vec![1],
            bytes_per_second: 0,
            circuits: 0,
            operator: None,
        };
        descriptor.sign(&machine.key)
    }

    /// Asks machine 0 for a circuit and waits; none when it did not come to be.
    fn circuit(&mut self, id: u64, hops: &[usize]) -> Option<CircuitHandle> {
        let suites = vec![1; hops.len()];
        let hops = hops.iter().map(|hop| self.descriptor(*hop)).collect();
        let request = Request::Create { hops, suites }.encode(RequestId(id));
        self.call(0, |seat, now| seat.control(now, &request));
        self.run_for(Duration::from_secs(20));
        self.ready.get(&id).copied()
    }

    /// Sends `count` numbered inner datagrams of all sizes on a circuit, in bursts; the first number.
    fn talk(&mut self, circuit: CircuitHandle, first: u64, count: u64) {
        let numbers: Vec<u64> = (first..first + count).collect();
        for burst in numbers.chunks(7) {
            let inner: Vec<_> = burst
                .iter()
                .map(|number| {
                    let mut bytes = vec![0; 8 + (self.dice.word() % 1232) as usize];
                    bytes[..8].copy_from_slice(&number.to_be_bytes());
                    (circuit, bytes)
                })
                .collect();
            self.outgoing(0, &inner);
            self.run_for(Duration::from_millis(20));
        }
        self.run_for(Duration::from_millis(500));
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes[..8].try_into().unwrap())
}

/// Swaps and rollbacks only: three circuits live all the way, and every datagram comes back once.
fn nothing_is_lost(seed: u64, modules: &[Arc<dyn WorkerFactory>], odds: Odds, rounds: u64) -> Counts {
    let mut net = Net::new(seed, modules, 4);
    net.odds = odds;
    let paths: [&[usize]; 3] = [&[1], &[2, 1], &[3, 4, 2]];
    let circuits: Vec<_> =
        (1..).zip(paths).map(|(id, hops)| net.circuit(id, hops).expect("a circuit, swaps or not")).collect();
    for round in 0..rounds {
        net.talk(circuits[round as usize % 3], round * 40, 40);
        if round % 10 == 9 {
            // Long enough for pings, reports and a new key phase in the longest scripts.
            net.run_for(Duration::from_secs(600));
        }
    }
    net.run_for(Duration::from_secs(5));
    let sent: Vec<u64> = (0..rounds * 40).collect();
    let mut returned = std::mem::take(&mut net.returned);
    returned.sort_unstable();
    assert!(returned == sent, "seed {seed}: {} of {} came back once each", returned.len(), sent.len());
    let restarts: u64 = net.machines.iter().map(|machine| machine.seat.restarts()).sum();
    assert_eq!(restarts, 0, "seed {seed}: a swap costs no worker");
    net.counts
}

/// Workers die too: what comes back comes once, and in the end circuits can be made as before.
fn nothing_comes_twice(seed: u64, modules: &[Arc<dyn WorkerFactory>], odds: Odds, rounds: u64) -> Counts {
    let mut net = Net::new(seed, modules, 4);
    let mut returned = 0;
    for round in 0..rounds {
        net.odds = odds;
        let first = 1 + (net.dice.word() % 4) as usize;
        let hops = [first, 1 + first % 4, 1 + (first + 1) % 4];
        let length = 1 + (net.dice.word() % 3) as usize;
        if let Some(circuit) = net.circuit(round + 1, &hops[..length]) {
            net.talk(circuit, round * 100, 100);
        }
        let unique: HashSet<u64> = net.returned.iter().copied().collect();
        assert_eq!(unique.len(), net.returned.len(), "seed {seed}: an answer came twice");
        returned = unique.len();
    }
    assert!(returned > 0, "seed {seed}: nothing came back at all");
    net.odds = QUIET;
    net.run_for(Duration::from_secs(600));
    let last = net.circuit(1_000_000, &[1, 2, 3]).expect("a circuit, when all is quiet");
    net.talk(last, 1_000_000, 50);
    assert!((1_000_000..1_000_050).all(|number| net.returned.contains(&number)), "seed {seed}");
    net.counts
}

fn native() -> Vec<Arc<dyn WorkerFactory>> {
    vec![Arc::new(NativeFactory)]
}

#[test]
fn swaps_and_rollbacks_lose_nothing() {
    let odds = Odds { swap: 300, rollback: 100, kill: 0, twice: 0 };
    let mut swaps = 0;
    for seed in 1..=4 {
        let counts = nothing_is_lost(seed, &native(), odds, 40);
        assert!(counts.shadows_agreed > 20, "{counts:?}");
        swaps += counts.swaps + counts.rollbacks;
    }
    assert!(swaps > 4000, "{swaps} swaps");
}

#[test]
fn a_cell_that_is_played_again_is_accepted_by_no_successor() {
    let odds = Odds { swap: 200, rollback: 50, kill: 0, twice: 300 };
    for seed in [11, 12] {
        let counts = nothing_is_lost(seed, &native(), odds, 20);
        assert!(counts.replays_dropped > 1000, "{counts:?}");
    }
}

#[test]
fn workers_that_die_between_swaps_repeat_no_counter() {
    let odds = Odds { swap: 200, rollback: 50, kill: 5, twice: 100 };
    let (mut kills, mut swaps) = (0, 0);
    for seed in 21..=24 {
        let counts = nothing_comes_twice(seed, &native(), odds, 40);
        kills += counts.kills;
        swaps += counts.swaps + counts.rollbacks;
    }
    assert!(kills > 100 && swaps > 2000, "{kills} kills, {swaps} swaps");
}

#[test]
fn a_seat_passes_between_native_and_wasm() {
    let modules = [Arc::new(NativeFactory) as Arc<dyn WorkerFactory>, factory(settings(), "tunnel")];
    let odds = Odds { swap: 40, rollback: 20, kill: 0, twice: 0 };
    let counts = nothing_is_lost(31, &modules, odds, 20);
    assert!(counts.swaps > 50 && counts.shadows_agreed > 3, "{counts:?}");
    let odds = Odds { swap: 40, rollback: 20, kill: 3, twice: 100 };
    let counts = nothing_comes_twice(32, &modules, odds, 10);
    assert!(counts.kills > 3, "{counts:?}");
}

/// A worker that gives its successor the state of a while ago, which no worker may.
struct Stale {
    worker: Box<dyn Worker>,
    copy: Option<Vec<u8>>,
    calls: u64,
}

struct StaleFactory;

impl WorkerFactory for StaleFactory {
    fn name(&self) -> &str {
        "stale"
    }
    fn spawn(&self, host: Box<dyn WorkerHost>) -> Result<Box<dyn Worker>, WorkerFault> {
        Ok(Box::new(Stale { worker: NativeFactory.spawn(host)?, copy: None, calls: 0 }))
    }
}

impl Worker for Stale {
    fn describe(&mut self) -> Result<Description, WorkerFault> {
        self.worker.describe()
    }
    fn self_test(&mut self) -> Result<(), WorkerFault> {
        self.worker.self_test()
    }
    fn configure(&mut self, now: Timestamp, config: &[u8]) -> Result<(), WorkerFault> {
        self.worker.configure(now, config)
    }
    fn control(&mut self, now: Timestamp, request: &[u8]) -> Result<Batch, WorkerFault> {
        self.worker.control(now, request)
    }
    fn data(&mut self, now: Timestamp, batch: Batch) -> Result<Batch, WorkerFault> {
        self.calls += 1;
        if self.calls.is_multiple_of(4) {
            self.copy = Some(self.worker.snapshot()?);
        }
        self.worker.data(now, batch)
    }
    fn timeout(&mut self, now: Timestamp) -> Result<Batch, WorkerFault> {
        self.worker.timeout(now)
    }
    fn export_state(&mut self) -> Result<Vec<u8>, WorkerFault> {
        let state = self.worker.export_state()?;
        Ok(self.copy.take().unwrap_or(state))
    }
    fn snapshot(&mut self) -> Result<Vec<u8>, WorkerFault> {
        self.worker.snapshot()
    }
    fn import_state(&mut self, now: Timestamp, state: &[u8]) -> Result<(), WorkerFault> {
        self.worker.import_state(now, state)
    }
    fn shutdown(&mut self, now: Timestamp, reason: u8) -> Result<Batch, WorkerFault> {
        self.worker.shutdown(now, reason)
    }
}

/// The tests above see what they look for.
#[test]
#[should_panic(expected = "counter comes twice")]
fn a_state_that_goes_back_is_seen() {
    let odds = Odds { swap: 200, rollback: 0, kill: 0, twice: 0 };
    nothing_is_lost(1, &[Arc::new(StaleFactory) as Arc<dyn WorkerFactory>], odds, 20);
}

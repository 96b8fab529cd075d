//! A network in which every machine is two workers, one native and one Wasm.
//!
//! Both get the same calls at the same virtual time with the same randomness. After each call
//! their batches must be equal byte for byte, and so must what they asked of their hosts. The
//! network then acts on the batch.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use warren_native::NativeFactory;
use warren_schemas::batch::{Batch, MAX_SLOTS, SlotKind};
use warren_schemas::control::{CircuitEnd, CloseReason, Event, Limits, OnionKey, Request, TunnelConfig};
use warren_schemas::descriptor::{Descriptor, SignedDescriptor};
use warren_schemas::{CircuitHandle, PeerId, RequestId, Timestamp};
use warren_workers::{DhRefusal, LogLevel, Worker, WorkerFactory, WorkerFault, WorkerHost};

use crate::host::{Asked, EPOCH, Record, Seeded, SeededHost, factory, settings};

const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
const FOREVER: Timestamp = Timestamp::from_micros(u64::MAX);

struct Machine {
    native: Box<dyn Worker>,
    wasm: Box<dyn Worker>,
    records: [Record; 2],
    /// Of the native and the Wasm worker, for their successors.
    hosts: [SeededHost; 2],
    key: SigningKey,
    config: TunnelConfig,
    address: SocketAddr,
    wake_at: Option<Timestamp>,
    alive: bool,
    events: Vec<(RequestId, Event)>,
    /// Inner datagrams that came back to the originator.
    returned: u64,
}

#[derive(Clone)]
struct Flight {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

struct Net {
    seed: u64,
    now: Timestamp,
    machines: Vec<Machine>,
    flights: BTreeMap<(Timestamp, u64), Flight>,
    random: Seeded,
    /// Datagrams lost of a thousand.
    loss: u64,
    /// Datagrams of a thousand that arrive a second time, changed or not.
    mischief: u64,
    count: u64,
    calls: u64,
}

impl Net {
    /// One client, machine 0, and `relays` relays that are exits too.
    fn new(seed: u64, wasm: &dyn WorkerFactory, relays: usize) -> Self {
        let mut net = Self {
            seed,
            now: START,
            machines: Vec::new(),
            flights: BTreeMap::new(),
            random: Seeded(seed),
            loss: 0,
            mischief: 0,
            count: 0,
            calls: 0,
        };
        for index in 0..=relays {
            net.add(wasm, u8::try_from(index).unwrap(), index > 0);
        }
        net
    }

    fn add(&mut self, wasm: &dyn WorkerFactory, index: u8, relay: bool) {
        let host = SeededHost::new(self.random.word());
        let twin = host.twin();
        let records = [host.record(), twin.record()];
        let key = SigningKey::from_bytes(&self.random.bytes());
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
            cookie_key: self.random.bytes(),
            sync_period: 5_000_000,
            draining: false,
        };
        self.machines.push(Machine {
            hosts: [host.clone(), twin.clone()],
            native: NativeFactory.spawn(Box::new(host)).unwrap(),
            wasm: wasm.spawn(Box::new(twin)).unwrap(),
            records,
            key,
            config,
            address,
            wake_at: None,
            alive: true,
            events: Vec::new(),
            returned: 0,
        });
        self.configure(usize::from(index), |_| ());
    }

    fn configure(&mut self, machine: usize, change: impl FnOnce(&mut TunnelConfig)) {
        let machine = &mut self.machines[machine];
        change(&mut machine.config);
        let config = machine.config.encode();
        machine.native.configure(self.now, &config).unwrap();
        machine.wasm.configure(self.now, &config).unwrap();
    }

    /// One call to both workers of a machine, compared, and acted upon.
    fn call(&mut self, index: usize, call: impl Fn(&mut dyn Worker) -> Result<Batch, WorkerFault>) {
        let machine = &mut self.machines[index];
        if !machine.alive {
            return;
        }
        let native = call(machine.native.as_mut()).unwrap();
        let wasm = call(machine.wasm.as_mut()).unwrap();
        let at = format!(
            "is tunnel.wasm current? seed {}, machine {index}, call {}, time {:?}",
            self.seed, self.calls, self.now
        );
        let [native_asked, wasm_asked] = machine.records.each_ref().map(take);
        assert_eq!(native_asked, wasm_asked, "{at}");
        assert_eq!(native.slots().collect::<Vec<_>>(), wasm.slots().collect::<Vec<_>>(), "{at}");
        assert_eq!(native.wake_at(), wasm.wake_at(), "{at}");
        assert!(native.as_bytes() == wasm.as_bytes(), "payloads differ: {at}");
        self.calls += 1;
        self.act(index, &native);
    }

    /// Both workers of a machine give their state, which is the same, and each goes on as the other kind.
    fn swap(&mut self, index: usize, wasm: &dyn WorkerFactory) {
        let seed = self.random.word();
        let machine = &mut self.machines[index];
        let copies = [machine.native.snapshot().unwrap(), machine.wasm.snapshot().unwrap()];
        let native = machine.native.export_state().unwrap();
        assert!(copies.iter().all(|copy| *copy == native), "a copy differs: seed {}", self.seed);
        assert!(native == machine.wasm.export_state().unwrap(), "states differ: seed {}", self.seed);
        for worker in [&mut machine.native, &mut machine.wasm] {
            assert!(worker.timeout(self.now).unwrap_err().to_string().contains("successor"));
            assert!(worker.export_state().is_err() && worker.snapshot().is_err());
        }
        let [native_host, wasm_host] = machine.hosts.each_ref().map(|host| Box::new(host.successor(seed)));
        machine.native = NativeFactory.spawn(native_host).unwrap();
        machine.wasm = wasm.spawn(wasm_host).unwrap();
        let config = machine.config.encode();
        for worker in [&mut machine.native, &mut machine.wasm] {
            worker.configure(self.now, &config).unwrap();
            let cut = worker.import_state(self.now, &native[..native.len() / 2]).unwrap_err();
            assert!(matches!(cut, WorkerFault::State { call: "import-state", .. }), "{cut}");
            worker.import_state(self.now, &native).unwrap();
        }
    }

    fn act(&mut self, index: usize, batch: &Batch) {
        let machine = &mut self.machines[index];
        machine.wake_at = batch.wake_at();
        let from = machine.address;
        let mut echoes = Vec::new();
        let mut sent = Vec::new();
        for slot in batch.slots() {
            let bytes = batch.bytes_of(&slot).to_vec();
            match slot.kind {
                SlotKind::Send => sent.push(Flight { from, to: slot.address.into(), bytes }),
                SlotKind::Deliver if slot.detail == CircuitEnd::LastHop.0 => {
                    echoes.push((slot.handle, bytes))
                }
                SlotKind::Deliver => machine.returned += 1,
                SlotKind::Event => machine.events.push(Event::decode(&bytes).unwrap()),
                _ => {}
            }
        }
        sent.into_iter().for_each(|flight| self.launch(flight));
        self.outgoing(index, &echoes);
    }

    fn launch(&mut self, flight: Flight) {
        if self.random.word() % 1000 < self.loss {
            return;
        }
        if self.random.word() % 1000 < self.mischief {
            let mut evil = flight.clone();
            let at = usize::try_from(self.random.word()).unwrap() % evil.bytes.len();
            match self.random.word() % 4 {
                0 => evil.bytes[at] ^= 1 << (self.random.word() % 8),
                1 => evil.bytes.truncate(at),
                2 => evil.from.set_port(1 + at as u16),
                _ => {}
            }
            self.schedule(evil);
        }
        self.schedule(flight);
    }

    fn schedule(&mut self, flight: Flight) {
        self.count += 1;
        let delay = Duration::from_micros(5_000 + self.random.word() % 20_000);
        self.flights.insert((self.now.after(delay), self.count), flight);
    }

    /// Sends inner datagrams on circuits, a full batch at a time.
    fn outgoing(&mut self, index: usize, inner: &[(CircuitHandle, Vec<u8>)]) {
        for group in inner.chunks(MAX_SLOTS) {
            let mut batch = Batch::with_slots(group.len());
            for (slot, (handle, bytes)) in group.iter().enumerate() {
                let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
                assert!(batch.fill(slot, SlotKind::Outgoing, nowhere, *handle, bytes));
            }
            let now = self.now;
            self.call(index, |worker| worker.data(now, batch.clone()));
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now.after(time);
        loop {
            let flight = self.flights.keys().next().map(|(at, _)| *at);
            let wake = self.machines.iter().filter(|machine| machine.alive).filter_map(|m| m.wake_at).min();
            let Some(next) = [flight, wake].into_iter().flatten().min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            self.land();
            for index in 0..self.machines.len() {
                if self.machines[index].wake_at.is_some_and(|at| at <= self.now) {
                    let now = self.now;
                    self.call(index, |worker| worker.timeout(now));
                }
            }
        }
        self.now = end;
    }

    /// Gives everything that has arrived to its machines, a batch each.
    fn land(&mut self) {
        let mut arrived: BTreeMap<usize, Vec<Flight>> = BTreeMap::new();
        while let Some(entry) = self.flights.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let flight = entry.remove();
            let to = self.machines.iter().position(|machine| machine.address == flight.to);
            if let Some(to) = to {
                arrived.entry(to).or_default().push(flight);
            }
        }
        for (to, flights) in arrived {
            for group in flights.chunks(MAX_SLOTS) {
                let mut batch = Batch::with_slots(group.len());
                for (slot, Flight { from, bytes, .. }) in group.iter().enumerate() {
                    assert!(batch.fill(slot, SlotKind::Received, *from, CircuitHandle(0), bytes));
                }
                let now = self.now;
                self.call(to, |worker| worker.data(now, batch.clone()));
            }
        }
    }

    fn descriptor(&self, index: usize) -> SignedDescriptor {
        let machine = &self.machines[index];
        let onion_key = machine.config.onion_keys.first().map_or([9; 32], |key| key.public);
        let descriptor = Descriptor {
            peer_id: machine.config.peer_id,
            published: self.now,
            expires: self.now.after(Duration::from_secs(12 * 3600)),
            onion_epoch: EPOCH,
            onion_key,
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

    fn request(&mut self, index: usize, id: u64, request: &Request) {
        let (now, bytes) = (self.now, request.encode(RequestId(id)));
        self.call(index, |worker| worker.control(now, &bytes));
    }

    /// Asks machine 0 for a circuit and waits; none when it did not come to be.
    fn circuit(&mut self, id: u64, hops: &[usize]) -> Option<CircuitHandle> {
        let suites = vec![1; hops.len()];
        let hops = hops.iter().map(|hop| self.descriptor(*hop)).collect();
        self.request(0, id, &Request::Create { hops, suites });
        self.run_for(Duration::from_secs(30));
        let events = &self.machines[0].events;
        events.iter().find_map(|(request, event)| match event {
            Event::CircuitReady { handle, .. } if *request == RequestId(id) => Some(*handle),
            _ => None,
        })
    }

    /// Sends `count` inner datagrams of all sizes on a circuit of machine 0.
    fn talk(&mut self, circuit: CircuitHandle, count: usize) {
        let inner: Vec<_> = (0..count)
            .map(|_| {
                let mut bytes = vec![0; 1 + usize::try_from(self.random.word() % 1240).unwrap()];
                self.random.fill(&mut bytes);
                (circuit, bytes)
            })
            .collect();
        self.outgoing(0, &inner);
        self.run_for(Duration::from_secs(2));
    }
}

fn take(record: &Record) -> Vec<Asked> {
    std::mem::take(&mut record.lock().unwrap())
}

/// Circuits of every length, traffic, loss, mischief, a killed relay, a rate limit, hours of
/// silence and the goodbye.
fn script(seed: u64, wasm: &dyn WorkerFactory) {
    let mut net = Net::new(seed, wasm, 5);
    let one = net.circuit(1, &[1]).expect("one hop without loss");
    let two = net.circuit(2, &[2, 1]).expect("two hops without loss");
    let three = net.circuit(3, &[3, 4, 5]).expect("three hops without loss");
    for circuit in [one, two, three] {
        net.talk(circuit, 150);
    }
    assert_eq!(net.machines[0].returned, 450, "seed {seed}: every datagram came back");

    (net.loss, net.mischief) = (50, 200);
    let lossy = net.circuit(4, &[5, 2, 3]);
    for circuit in [Some(one), Some(three), lossy].into_iter().flatten() {
        net.talk(circuit, 300);
    }
    assert!(net.machines[0].returned > 700, "seed {seed}: {} came back", net.machines[0].returned);

    (net.loss, net.mischief) = (0, 0);
    net.configure(1, |config| config.limits.bytes_per_second = 100_000);
    net.talk(two, 200);
    for (index, machine) in [(10, 0), (11, 3)] {
        net.request(machine, index, &Request::Monitor);
    }
    net.request(0, 12, &Request::Circuit { handle: one, reason: CloseReason::Finished });
    net.machines[4].alive = false;
    net.talk(three, 50);
    net.run_for(Duration::from_secs(2 * 3600));
    let late = net.circuit(20, &[2, 3, 5]).expect("three hops after two hours");
    net.talk(late, 100);
    for index in 0..6 {
        let now = net.now;
        net.call(index, |worker| worker.shutdown(now, CloseReason::Shutdown.0));
    }
    assert!(net.calls > 1000, "seed {seed}: {} calls were compared", net.calls);
}

#[test]
fn native_and_wasm_act_the_same() {
    let wasm = factory(settings(), "tunnel");
    for seed in [1, 2, 3] {
        script(seed, wasm.as_ref());
    }
}

#[test]
fn a_state_goes_over_from_each_kind_to_each() {
    let wasm = factory(settings(), "tunnel");
    for seed in [1, 2] {
        let mut net = Net::new(seed, wasm.as_ref(), 4);
        let circuits: Vec<_> = [&[1][..], &[2, 1], &[3, 4, 2]]
            .into_iter()
            .zip(1..)
            .filter_map(|(hops, id)| net.circuit(id, hops))
            .collect();
        assert_eq!(circuits.len(), 3);
        net.configure(1, |config| config.limits.bytes_per_second = 100_000);
        (net.loss, net.mischief) = (20, 100);
        for round in 0..12 {
            net.swap(round % 5, wasm.as_ref());
            net.talk(circuits[round % 3], 60);
            net.swap((round * 3 + 1) % 5, wasm.as_ref());
        }
        (net.loss, net.mischief) = (0, 0);
        net.configure(1, |config| config.limits.bytes_per_second = 0);
        net.run_for(Duration::from_secs(60));
        let before = net.machines[0].returned;
        for circuit in circuits {
            net.talk(circuit, 50);
        }
        assert_eq!(net.machines[0].returned, before + 150, "seed {seed}: all circuits live and lose nothing");
    }
}

#[test]
fn both_say_the_same_of_themselves_and_compute_what_is_known() {
    let wasm = factory(settings(), "tunnel");
    let mut workers = [&NativeFactory as &dyn WorkerFactory, wasm.as_ref()]
        .map(|factory| factory.spawn(Box::new(SeededHost::new(1))).unwrap());
    let descriptions = workers.each_mut().map(|worker| worker.describe().unwrap());
    assert_eq!(descriptions[0], descriptions[1]);
    assert_eq!(descriptions[0].name, "tunnel");
    assert!(descriptions[0].can_follow(&descriptions[1]));
    for worker in &mut workers {
        worker.self_test().unwrap();
        let none = worker.snapshot().unwrap_err();
        assert!(matches!(none, WorkerFault::State { call: "snapshot", .. }), "{none}");
    }
}

#[test]
fn both_refuse_a_configuration_that_is_none() {
    let wasm = factory(settings(), "tunnel");
    for factory in [&NativeFactory as &dyn WorkerFactory, wasm.as_ref()] {
        let mut worker = factory.spawn(Box::new(SeededHost::new(1))).unwrap();
        let fault = worker.configure(START, b"no configuration").unwrap_err();
        assert!(matches!(fault, WorkerFault::Refused { .. }), "{fault}");
    }
}

#[test]
fn both_live_through_requests_that_are_none() {
    let wasm = factory(settings(), "tunnel");
    let mut net = Net::new(9, wasm.as_ref(), 1);
    let good = Request::Monitor.encode(RequestId(1));
    for length in 0..good.len() {
        let now = net.now;
        net.call(0, |worker| worker.control(now, &good[..length]));
    }
    net.call(0, |worker| worker.control(START, &[0xff; 4096]));
    assert!(net.circuit(5, &[1]).is_some());
}

/// A host that fails: the nearest to a bug in the state machine that can be had from outside.
struct Broken;

impl WorkerHost for Broken {
    fn log(&mut self, _: LogLevel, _: &str) {}
    fn random(&mut self, _: &mut [u8]) {
        panic!("no randomness today")
    }
    fn onion_dh(&mut self, _: u32, _: &[u8]) -> Result<[u8; 32], DhRefusal> {
        Err(DhRefusal::UnknownEpoch)
    }
}

#[test]
fn a_panic_in_the_native_worker_is_a_fault_too() {
    let wasm = factory(settings(), "tunnel");
    let net = Net::new(11, wasm.as_ref(), 1);
    let mut worker = NativeFactory.spawn(Box::new(Broken)).unwrap();
    worker.configure(START, &net.machines[0].config.encode()).unwrap();
    let create = Request::Create { hops: vec![net.descriptor(1)], suites: vec![1] }.encode(RequestId(1));
    let fault = worker.control(START, &create).unwrap_err();
    assert!(matches!(&fault, WorkerFault::Trap { call: "control", .. }), "{fault}");
    assert!(fault.to_string().contains("no randomness today"), "{fault}");
    let again = worker.timeout(START).unwrap_err();
    assert!(again.to_string().contains("not called again"), "{again}");
}

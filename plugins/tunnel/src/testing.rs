//! A network of tunnels in memory, on virtual time, from a seed. For tests.
//!
//! Every node is one [`Tunnel`]. It has an address of its own, unless it is another worker of a node. Datagrams take `latency` and up to `jitter`
//! more, so jitter reorders; `loss` drops. Nothing here reads a clock or opens a socket.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test network may fail loudly"
)]

#[cfg(test)]
pub(crate) mod nonces;
mod swap;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use warren_schemas::batch::{Batch, SlotKind};
use warren_schemas::cell;
use warren_schemas::control::{CloseReason, Event, Limits, OnionKey, Request, TunnelConfig};
use warren_schemas::descriptor::{Descriptor, SignedDescriptor};
use warren_schemas::{CircuitHandle, LinkId, PeerId, RequestId, Timestamp, suites};
use x25519_dalek::{PublicKey, StaticSecret};

use crate::{Env, Level, Tunnel};

pub use swap::Swaps;

/// When every test network starts.
pub const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
/// Epoch of every relay's onion key.
pub const EPOCH: u32 = 7;

/// SplitMix64: small, seeded, good enough to decide losses and to stand in for randomness.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// The sequence that `seed` names.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.word() % end.max(1)
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.word().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// What a node's tunnel may ask of its host.
pub struct TestEnv {
    /// Stands in for the operating system's randomness.
    pub random: Seeded,
    /// The relay's private onion key.
    pub onion: StaticSecret,
    /// Diffie-Hellmans that were asked for.
    pub dh_calls: u64,
    /// Lines that were logged.
    pub lines: Vec<String>,
}

impl Env for TestEnv {
    fn log(&mut self, _: Level, line: &str) {
        self.lines.push(line.to_owned());
    }

    fn random(&mut self, bytes: &mut [u8]) {
        self.random.fill(bytes);
    }

    fn onion_dh(&mut self, epoch: u32, point: &[u8; 32]) -> Option<[u8; 32]> {
        self.dh_calls += 1;
        let shared = self.onion.diffie_hellman(&PublicKey::from(*point));
        (epoch == EPOCH && shared.was_contributory()).then(|| shared.to_bytes())
    }
}

/// One machine.
pub struct Node {
    /// The machine itself.
    pub tunnel: Tunnel,
    /// Its host's side.
    pub env: TestEnv,
    /// Where its datagrams come from and arrive.
    pub address: SocketAddr,
    /// How it is configured; change it with [`Net::reconfigure`].
    pub config: TunnelConfig,
    /// The suites it speaks; change them with [`Net::speak`].
    pub suites: &'static [u8],
    /// Its identity.
    pub key: SigningKey,
    /// Events so far.
    pub events: Vec<(RequestId, Event)>,
    /// Inner datagrams so far: circuit end, its handle, bytes.
    pub delivered: Vec<(u8, CircuitHandle, Vec<u8>)>,
    /// Drop reasons of its slots so far.
    pub drops: Vec<u8>,
    /// Datagrams it was given.
    pub received: u64,
    /// Datagrams it sent.
    pub sent: u64,
    /// Whether it runs.
    pub alive: bool,
    wake_at: Option<Timestamp>,
}

/// A datagram under way.
#[derive(Clone, Debug)]
pub struct Flight {
    /// Source.
    pub from: SocketAddr,
    /// Destination.
    pub to: SocketAddr,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The network.
pub struct Net {
    /// Virtual time.
    pub now: Timestamp,
    /// All machines, dead ones too.
    pub nodes: Vec<Node>,
    /// What every datagram takes.
    pub latency: Duration,
    /// What it takes more, at most.
    pub jitter: Duration,
    /// Datagrams lost of a thousand.
    pub loss: u64,
    /// When true, `record` gets a copy of everything that is sent.
    pub recording: bool,
    /// What was sent while `recording`.
    pub record: Vec<Flight>,
    /// When and how often machines are swapped.
    pub swaps: Option<Swaps>,
    flights: BTreeMap<(Timestamp, u64), Flight>,
    random: Seeded,
    count: u64,
    requests: u64,
}

impl Net {
    /// An empty network.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            now: START,
            nodes: Vec::new(),
            latency: Duration::from_millis(10),
            jitter: Duration::ZERO,
            loss: 0,
            recording: false,
            record: Vec::new(),
            swaps: None,
            flights: BTreeMap::new(),
            random: Seeded::new(seed),
            count: 0,
            requests: 0,
        }
    }

    /// A network of one client and `relays` relays, which are exits too. The client is node 0.
    #[must_use]
    pub fn with_relays(seed: u64, relays: usize) -> Self {
        let mut net = Self::new(seed);
        net.add(false, false);
        for _ in 0..relays {
            net.add(true, true);
        }
        net
    }

    /// Adds a machine and gives its index.
    pub fn add(&mut self, relay: bool, exit: bool) -> usize {
        let index = self.nodes.len();
        let octet = u8::try_from(index).unwrap() + 1;
        let address = SocketAddr::from((Ipv4Addr::new(5, octet, 0, 1), 4000));
        let mut random = Seeded::new(self.random.word());
        let (mut identity, mut onion, mut cookie) = ([0; 32], [0; 32], [0; 32]);
        random.fill(&mut identity);
        random.fill(&mut onion);
        random.fill(&mut cookie);
        let key = SigningKey::from_bytes(&identity);
        let onion = StaticSecret::from(onion);
        let public = PublicKey::from(&onion).to_bytes();
        let config = TunnelConfig {
            worker_index: octet,
            workers: 1,
            peer_id: PeerId(key.verifying_key().to_bytes()),
            onion_keys: if relay {
                vec![OnionKey { epoch: EPOCH, public, accept_until: FOREVER }]
            } else {
                vec![]
            },
            relay,
            exit,
            allow_private: false,
            own_addresses: vec![address],
            limits: Limits::default(),
            cookie_key: cookie,
            sync_period: warren_schemas::control::SYNC_NEVER,
            draining: false,
        };
        let mut tunnel = Tunnel::new();
        tunnel.configure(self.now, config.clone()).unwrap();
        self.nodes.push(Node {
            tunnel,
            env: TestEnv { random, onion, dh_calls: 0, lines: Vec::new() },
            address,
            config,
            suites: crate::suites(),
            key,
            events: Vec::new(),
            delivered: Vec::new(),
            drops: Vec::new(),
            received: 0,
            sent: 0,
            alive: true,
            wake_at: None,
        });
        index
    }

    /// Adds another worker to a node, a machine behind the same address, and gives its index.
    pub fn add_worker(&mut self, of: usize) -> usize {
        let first = &self.nodes[of];
        let (key, onion, address) = (first.key.clone(), first.env.onion.clone(), first.address);
        let (config, suites) = (first.config.clone(), first.suites);
        let index = self.add(config.relay, config.exit);
        let (now, node) = (self.now, &mut self.nodes[index]);
        node.config = TunnelConfig { worker_index: node.config.worker_index, ..config };
        (node.key, node.env.onion, node.address, node.suites) = (key, onion, address, suites);
        node.tunnel = Tunnel::speaking(suites);
        node.tunnel.configure(now, node.config.clone()).unwrap();
        index
    }

    /// Changes a node's configuration while it runs.
    pub fn reconfigure(&mut self, node: usize, change: impl FnOnce(&mut TunnelConfig)) {
        let now = self.now;
        let node = &mut self.nodes[node];
        change(&mut node.config);
        node.tunnel.configure(now, node.config.clone()).unwrap();
    }

    /// What a node says of itself now, before it is signed.
    #[must_use]
    pub fn descriptor(&self, node: usize) -> Descriptor {
        let node = &self.nodes[node];
        Descriptor {
            peer_id: node.config.peer_id,
            published: self.now,
            expires: self.now.after(Duration::from_secs(12 * 3600)),
            onion_epoch: EPOCH,
            onion_key: PublicKey::from(&node.env.onion).to_bytes(),
            stream_key: [9; 32],
            addresses: vec![node.address],
            relay: node.config.relay,
            exit: node.config.exit,
            suites: node.suites.to_vec(),
            bytes_per_second: 0,
            circuits: 0,
            operator: None,
        }
    }

    /// The same, signed.
    #[must_use]
    pub fn signed(&self, node: usize) -> SignedDescriptor {
        self.descriptor(node).sign(&self.nodes[node].key)
    }

    /// A machine of a build that speaks these suites takes the place of one that did nothing yet.
    pub fn speak(&mut self, node: usize, suites: &'static [u8]) {
        let now = self.now;
        let node = &mut self.nodes[node];
        node.suites = suites;
        node.tunnel = Tunnel::speaking(suites);
        node.tunnel.configure(now, node.config.clone()).unwrap();
    }

    /// Asks `node` for a circuit through `hops`, with each in the best suite that both speak.
    pub fn create(&mut self, node: usize, hops: &[usize]) -> RequestId {
        let ours = self.nodes[node].suites;
        let suites = hops.iter().map(|hop| suites::common(ours, self.nodes[*hop].suites).unwrap());
        self.create_in(node, hops, suites.collect())
    }

    /// The same in these suites, one for each hop.
    pub fn create_in(&mut self, node: usize, hops: &[usize], suites: Vec<u8>) -> RequestId {
        let hops = hops.iter().map(|hop| self.signed(*hop)).collect();
        self.request(node, &Request::Create { hops, suites })
    }

    /// Gives `node` a request.
    pub fn request(&mut self, node: usize, request: &Request) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        let bytes = request.encode(id);
        self.call(node, |now, node| node.tunnel.handle_control(&mut node.env, now, &bytes));
        id
    }

    /// Asks for a circuit and runs until it stands.
    ///
    /// # Panics
    /// When it does not within a minute.
    pub fn circuit(&mut self, node: usize, hops: &[usize]) -> CircuitHandle {
        let id = self.create(node, hops);
        self.run_until(Duration::from_secs(60), |net| net.answer(node, id).is_some());
        match self.answer(node, id) {
            Some(Event::CircuitReady { handle, .. }) => *handle,
            other => panic!("no circuit: {other:?}"),
        }
    }

    /// The event that answered a request.
    #[must_use]
    pub fn answer(&self, node: usize, id: RequestId) -> Option<&Event> {
        self.nodes[node].events.iter().find(|(request, _)| *request == id).map(|(_, event)| event)
    }

    /// Why a node's circuit died, if it did.
    #[must_use]
    pub fn death(&self, node: usize, circuit: CircuitHandle) -> Option<CloseReason> {
        self.nodes[node].events.iter().find_map(|(_, event)| match event {
            Event::CircuitDead { handle, reason, .. } if *handle == circuit => Some(*reason),
            _ => None,
        })
    }

    /// Closes a circuit as its host would.
    pub fn close(&mut self, node: usize, handle: CircuitHandle) {
        self.request(node, &Request::Circuit { handle, reason: CloseReason::Finished });
    }

    /// Sends inner datagrams on a circuit, 64 a batch.
    pub fn send(&mut self, node: usize, handle: CircuitHandle, inner: &[Vec<u8>]) {
        for group in inner.chunks(64) {
            let mut batch = Batch::with_slots(group.len());
            for (index, bytes) in group.iter().enumerate() {
                let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
                assert!(batch.fill(index, SlotKind::Outgoing, nowhere, handle, bytes));
            }
            self.call(node, |now, node| node.tunnel.handle_data(&mut node.env, now, batch));
        }
    }

    /// Gives a node a datagram as if it came from `from`, now.
    pub fn inject(&mut self, node: usize, from: SocketAddr, bytes: &[u8]) {
        let mut batch = Batch::with_slots(1);
        assert!(batch.fill(0, SlotKind::Received, from, CircuitHandle(0), bytes));
        self.nodes[node].received += 1;
        self.call(node, |now, node| node.tunnel.handle_data(&mut node.env, now, batch));
    }

    /// A machine stops without a word.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].alive = false;
    }

    /// A machine says goodbye and stops.
    pub fn shutdown(&mut self, node: usize) {
        self.call(node, |now, node| node.tunnel.shutdown(&mut node.env, now, CloseReason::Shutdown.0));
        self.nodes[node].alive = false;
    }

    /// Lets `time` pass.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Lets time pass until `done` or until `limit` is over; answers whether it is done.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now.after(limit);
        while !done(self) {
            let flight = self.flights.keys().next().map(|(at, _)| *at);
            let wake = self.nodes.iter().filter(|node| node.alive).filter_map(|node| node.wake_at).min();
            let next = [flight, wake].into_iter().flatten().min();
            let Some(next) = next.filter(|at| *at <= end) else {
                self.now = end;
                return done(self);
            };
            self.now = self.now.max(next);
            self.land();
            self.wake();
        }
        true
    }

    fn land(&mut self) {
        let mut arrived: BTreeMap<usize, Vec<Flight>> = BTreeMap::new();
        while let Some(entry) = self.flights.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let flight = entry.remove();
            if let Some(to) = self.seat(&flight) {
                arrived.entry(to).or_default().push(flight);
            }
        }
        for (to, flights) in arrived {
            for group in flights.chunks(64) {
                let mut batch = Batch::with_slots(group.len());
                for (index, flight) in group.iter().enumerate() {
                    assert!(batch.fill(
                        index,
                        SlotKind::Received,
                        flight.from,
                        CircuitHandle(0),
                        &flight.bytes
                    ));
                }
                self.nodes[to].received += group.len() as u64;
                self.call(to, |now, node| node.tunnel.handle_data(&mut node.env, now, batch));
            }
        }
    }

    /// Which machine at that address takes a datagram: the one that its link id names; LINKs one
    /// that takes new circuits.
    fn seat(&self, flight: &Flight) -> Option<usize> {
        let named = cell::link_of(&flight.bytes).map(LinkId::worker);
        let there = |node: &Node| node.alive && node.address == flight.to;
        let find =
            |wanted: &dyn Fn(&Node) -> bool| self.nodes.iter().position(|node| there(node) && wanted(node));
        find(&|node| Some(node.config.worker_index) == named)
            .or_else(|| find(&|node| !node.config.draining))
            .or_else(|| find(&|_| true))
    }

    fn wake(&mut self) {
        for index in 0..self.nodes.len() {
            if self.nodes[index].wake_at.is_some_and(|at| at <= self.now) {
                self.call(index, |now, node| node.tunnel.handle_timeout(&mut node.env, now));
            }
        }
    }

    fn call(&mut self, index: usize, call: impl FnOnce(Timestamp, &mut Node) -> Batch) {
        let now = self.now;
        if !self.nodes[index].alive {
            return;
        }
        if self.swaps.as_mut().is_some_and(Swaps::is_due) {
            self.swap(index);
        }
        let node = &mut self.nodes[index];
        let answer = Batch::from_worker(call(now, node).into_bytes()).unwrap();
        node.wake_at = answer.wake_at();
        for slot in answer.slots() {
            let bytes = answer.bytes_of(&slot).to_vec();
            match slot.kind {
                SlotKind::Send => self.launch(
                    Flight { from: self.nodes[index].address, to: slot.address.into(), bytes },
                    index,
                ),
                SlotKind::Deliver => self.nodes[index].delivered.push((slot.detail, slot.handle, bytes)),
                SlotKind::Event => self.nodes[index].events.push(Event::decode(&bytes).unwrap()),
                SlotKind::Dropped => self.nodes[index].drops.push(slot.detail),
                SlotKind::Empty => {}
                other => panic!("a worker answered {other:?}"),
            }
        }
    }

    fn launch(&mut self, flight: Flight, from: usize) {
        assert!(flight.bytes.len() <= cell::MAX_DATAGRAM, "a datagram of {}", flight.bytes.len());
        self.nodes[from].sent += 1;
        if self.recording {
            self.record.push(flight.clone());
        }
        if self.random.below(1000) < self.loss {
            return;
        }
        let jitter = u64::try_from(self.jitter.as_micros()).unwrap();
        let delay = self.latency + Duration::from_micros(self.random.below(jitter + 1));
        self.count += 1;
        self.flights.insert((self.now.after(delay), self.count), flight);
    }
}

const FOREVER: Timestamp = Timestamp::from_micros(u64::MAX);

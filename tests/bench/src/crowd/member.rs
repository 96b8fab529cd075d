//! One originator of the crowd.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use anyhow::Context;
use warren_native::NativeFactory;
use warren_schemas::batch::{Batch, MAX_SLOTS, SlotKind};
use warren_schemas::control::{Event, Limits, Request, SYNC_NEVER, TunnelConfig};
use warren_schemas::descriptor::SignedDescriptor;
use warren_schemas::{CircuitHandle, PeerId, RequestId, Timestamp, suites};
use warren_workers::{Worker, WorkerFactory, WorkerFault};

use super::CREATES_PER_SECOND;
use crate::clock::Clock;
use crate::host::Host;

/// Circuits of one relay that may be under way at once.
const UNDER_WAY: u32 = 32;
/// The longest datagram that is read.
const DATAGRAM: usize = 2048;

/// How many circuits a relay holds for a member.
struct Relay {
    descriptor: SignedDescriptor,
    stand: u32,
    under_way: u32,
    /// Circuits that may be asked for by now: grows with time.
    credit: f64,
}

pub(super) struct Member {
    socket: UdpSocket,
    worker: Box<dyn Worker>,
    relays: Vec<Relay>,
    each: u32,
    requests: HashMap<RequestId, usize>,
    last_request: u64,
    circuits: HashMap<CircuitHandle, usize>,
    wake_at: Option<Timestamp>,
    paced: f64,
    failed: u64,
    died: u64,
}

impl Member {
    pub(super) fn new(clock: Clock, relays: &[SignedDescriptor], each: u32) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("a socket of the crowd")?;
        socket.set_nonblocking(true)?;
        let mut host = Host::open().context("no randomness")?;
        let config = TunnelConfig {
            worker_index: 0,
            workers: 1,
            peer_id: PeerId(host.bytes()?),
            onion_keys: Vec::new(),
            relay: false,
            exit: false,
            allow_private: true,
            own_addresses: vec![socket.local_addr()?],
            limits: Limits::default(),
            cookie_key: host.bytes()?,
            sync_period: SYNC_NEVER,
            draining: false,
        };
        let mut worker = NativeFactory.spawn(Box::new(host))?;
        worker.configure(clock.now(), &config.encode())?;
        let relay = |descriptor: &SignedDescriptor| Relay {
            descriptor: descriptor.clone(),
            stand: 0,
            under_way: 0,
            credit: 1.0,
        };
        Ok(Self {
            socket,
            worker,
            relays: relays.iter().map(relay).collect(),
            each,
            requests: HashMap::new(),
            last_request: 0,
            circuits: HashMap::new(),
            wake_at: Some(clock.now()),
            paced: clock.seconds(),
            failed: 0,
            died: 0,
        })
    }

    pub(super) fn stand(&self) -> u64 {
        self.circuits.len() as u64
    }

    pub(super) const fn failed(&self) -> u64 {
        self.failed
    }

    pub(super) const fn died(&self) -> u64 {
        self.died
    }

    pub(super) fn pollfd(&self) -> libc::pollfd {
        libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 }
    }

    /// Takes what came, keeps time, asks for what is missing.
    pub(super) fn work(&mut self, clock: Clock) -> anyhow::Result<()> {
        while let Some(batch) = self.receive()? {
            let answer = self.worker.data(clock.now(), batch);
            self.carry_out(answer)?;
        }
        if self.wake_at.is_some_and(|at| at <= clock.now()) {
            let answer = self.worker.timeout(clock.now());
            self.carry_out(answer)?;
        }
        self.ask(clock)
    }

    /// A batch of what the socket has; none when it has nothing.
    fn receive(&self) -> anyhow::Result<Option<Batch>> {
        let mut batch = None;
        let mut datagram = [0; DATAGRAM];
        for slot in 0..MAX_SLOTS {
            match self.socket.recv_from(&mut datagram) {
                Ok((length, from)) => {
                    let batch = batch.get_or_insert_with(|| Batch::with_slots(MAX_SLOTS));
                    let bytes = datagram.get(..length).unwrap_or_default();
                    batch.fill(slot, SlotKind::Received, from, CircuitHandle(0), bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // A relay that is gone: its links find that out by themselves.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(batch)
    }

    fn ask(&mut self, clock: Clock) -> anyhow::Result<()> {
        let passed = clock.seconds() - self.paced;
        self.paced += passed;
        for index in 0..self.relays.len() {
            let Some(relay) = self.relays.get_mut(index) else { continue };
            relay.credit = (relay.credit + passed * CREATES_PER_SECOND).min(1.0 + f64::from(UNDER_WAY));
            // The first circuit opens the link; the others wait for it.
            let most = if relay.stand == 0 { 1 } else { UNDER_WAY };
            let mut wanted = Vec::new();
            while relay.credit >= 1.0 && relay.under_way < most && relay.stand + relay.under_way < self.each {
                relay.credit -= 1.0;
                relay.under_way += 1;
                self.last_request += 1;
                wanted.push(RequestId(self.last_request));
            }
            let hops = vec![relay.descriptor.clone()];
            for id in wanted {
                self.requests.insert(id, index);
                let request = Request::Create { hops: hops.clone(), suites: vec![suites::X25519] };
                let answer = self.worker.control(clock.now(), &request.encode(id));
                self.carry_out(answer)?;
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, answer: Result<Batch, WorkerFault>) -> anyhow::Result<()> {
        let answer = answer?;
        self.wake_at = answer.wake_at();
        for slot in answer.slots() {
            let bytes = answer.bytes_of(&slot);
            match slot.kind {
                // What a full socket does not take is lost, as on any network; it is sent again.
                SlotKind::Send => _ = self.socket.send_to(bytes, SocketAddr::from(slot.address)),
                SlotKind::Event => self.hear(bytes)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn hear(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let (request, event) = Event::decode(bytes)?;
        let asked = self.requests.remove(&request);
        let relay = |relays: &mut Vec<Relay>, index: Option<usize>, change: fn(&mut Relay)| {
            index.and_then(|index| relays.get_mut(index)).into_iter().for_each(change);
        };
        match event {
            Event::CircuitReady { handle, .. } => {
                relay(&mut self.relays, asked, |relay| {
                    relay.under_way = relay.under_way.saturating_sub(1);
                    relay.stand += 1;
                });
                self.circuits.extend(asked.map(|index| (handle, index)));
            }
            Event::CircuitFailed { .. } => {
                self.failed += 1;
                relay(&mut self.relays, asked, |relay| relay.under_way = relay.under_way.saturating_sub(1));
            }
            Event::CircuitDead { handle, .. } => {
                self.died += 1;
                let of = self.circuits.remove(&handle);
                relay(&mut self.relays, of, |relay| relay.stand = relay.stand.saturating_sub(1));
            }
            Event::Sync(_) => {}
        }
        Ok(())
    }
}

//! A circuit of two hops in memory: what comes to its first relay, put by to be played again.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use ed25519_dalek::SigningKey;
use warren_native::NativeFactory;
use warren_schemas::batch::{Batch, MAX_SLOTS, SlotKind};
use warren_schemas::control::{Event, Request, TunnelConfig};
use warren_schemas::descriptor::{Descriptor, SignedDescriptor};
use warren_schemas::{CircuitHandle, PeerId, RequestId, Timestamp, suites};
use warren_workers::{Worker, WorkerFactory};

use crate::host::{EPOCH, Host, START, config, onion_key};

/// Bytes of an inner datagram: what QUIC fills.
const INNER: usize = 1200;
/// Full batches that are put by.
const BATCHES: usize = 600;

struct Machine {
    worker: Box<dyn Worker>,
    config: TunnelConfig,
    descriptor: SignedDescriptor,
    address: SocketAddr,
    ready: Option<CircuitHandle>,
}

type Flight = (SocketAddr, SocketAddr, Vec<u8>);

/// A relay's state while a circuit crosses it, and what comes next.
pub(crate) struct Prepared {
    pub(crate) config: Vec<u8>,
    pub(crate) state: Vec<u8>,
    pub(crate) batches: Vec<Batch>,
    pub(crate) now: Timestamp,
}

impl Prepared {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut machines = (1..=3).map(machine).collect::<anyhow::Result<Vec<_>>>()?;
        let mut now = START;
        let handle = connect(&mut machines, &mut now)?;
        let [originator, relay, _] = machines.as_mut_slice() else { bail!("three machines") };
        let state = relay.worker.snapshot()?;
        let mut batches = Vec::new();
        for _ in 0..BATCHES {
            let mut sent = Batch::with_slots(MAX_SLOTS);
            for slot in 0..MAX_SLOTS {
                sent.fill(slot, SlotKind::Outgoing, relay.address, handle, &[7; INNER]);
            }
            let sent = originator.worker.data(now, sent)?;
            let mut batch = Batch::with_slots(MAX_SLOTS);
            let cells = sent.slots().filter(|slot| slot.kind == SlotKind::Send);
            for (slot, cell) in cells.enumerate() {
                let none = CircuitHandle(0);
                batch.fill(slot, SlotKind::Received, originator.address, none, sent.bytes_of(&cell));
            }
            batches.push(batch);
        }
        Ok(Self { config: relay.config.encode(), state, batches, now })
    }

    /// Payload bytes of all batches.
    pub(crate) fn payload(&self) -> u64 {
        (self.batches.len() * MAX_SLOTS * INNER) as u64
    }
}

/// Number 1 is the originator.
fn machine(seed: u8) -> anyhow::Result<Machine> {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let peer_id = PeerId(key.verifying_key().to_bytes());
    let address = SocketAddr::from((Ipv4Addr::new(5, seed, 0, 1), 4000));
    let mut config = config(peer_id, (seed > 1).then_some(seed));
    config.own_addresses = vec![address];
    let mut worker = NativeFactory.spawn(Box::new(Host::new(seed)))?;
    worker.configure(START, &config.encode())?;
    let descriptor = Descriptor {
        peer_id,
        published: START,
        expires: START.after(Duration::from_secs(3600)),
        onion_epoch: EPOCH,
        onion_key: onion_key(seed),
        stream_key: [9; 32],
        addresses: vec![address],
        relay: true,
        exit: true,
        suites: vec![suites::X25519],
        bytes_per_second: 0,
        circuits: 0,
        operator: None,
    };
    Ok(Machine { worker, config, descriptor: descriptor.sign(&key), address, ready: None })
}

/// Makes the circuit and has it stand.
fn connect(machines: &mut [Machine], now: &mut Timestamp) -> anyhow::Result<CircuitHandle> {
    let hops = machines.iter().skip(1).map(|machine| machine.descriptor.clone()).collect();
    let request = Request::Create { hops, suites: vec![suites::X25519; 2] };
    let mut flights = VecDeque::new();
    let originator = machines.first_mut().context("nobody")?;
    let answer = originator.worker.control(*now, &request.encode(RequestId(1)))?;
    heed(originator, &answer, &mut flights)?;
    while let Some((from, to, bytes)) = flights.pop_front() {
        *now = now.after(Duration::from_micros(100));
        let Some(machine) = machines.iter_mut().find(|machine| machine.address == to) else { continue };
        let mut batch = Batch::with_slots(1);
        batch.fill(0, SlotKind::Received, from, CircuitHandle(0), &bytes);
        let answer = machine.worker.data(*now, batch)?;
        heed(machine, &answer, &mut flights)?;
    }
    machines.first().and_then(|machine| machine.ready).context("the circuit does not stand")
}

fn heed(machine: &mut Machine, answer: &Batch, flights: &mut VecDeque<Flight>) -> anyhow::Result<()> {
    for slot in answer.slots() {
        let bytes = answer.bytes_of(&slot);
        match slot.kind {
            SlotKind::Send => flights.push_back((machine.address, slot.address.into(), bytes.to_vec())),
            SlotKind::Event => {
                if let (_, Event::CircuitReady { handle, .. }) = Event::decode(bytes)? {
                    machine.ready = Some(handle);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

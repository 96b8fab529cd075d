//! A small network caught in the middle of things: an originator, two relays, circuits that stand and one
//! that is being made. Machines are made anew from these states for every input.

mod machine;
mod rogue;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use warren_schemas::batch::{Batch, MAX_SLOTS, SlotKind};
use warren_schemas::control::{Request, TunnelConfig};
use warren_schemas::descriptor::SignedDescriptor;
use warren_schemas::{CircuitHandle, Timestamp};
use warren_tunnel::testing::{Flight, Net};
use warren_tunnel::{StateError, Tunnel};

pub(crate) use machine::Machine;
pub(crate) use rogue::{HERE as ROGUE, Rogue, STRANGER};

/// Its machines.
pub(crate) const ORIGINATOR: usize = 0;
/// First hop of the circuits, and the neighbour of the rogue.
pub(crate) const RELAY: usize = 1;
/// Their last hop.
pub(crate) const LAST: usize = 2;
/// A relay that went away while a circuit was being made through it.
const AWAY: usize = 3;

/// The network.
pub(crate) struct World {
    now: Timestamp,
    net: Net,
    /// What each machine would hand over.
    states: Vec<Vec<u8>>,
    /// What was sent while all this came about.
    flights: Vec<Flight>,
    /// Handles of the circuit that stands, at the originator and at its last hop.
    handles: [CircuitHandle; 2],
    pub(crate) rogue: Rogue,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World::new());
}

/// Made once a thread.
pub(crate) fn with_world<T>(run: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(run)
}

impl World {
    fn new() -> Self {
        let mut net = Net::with_relays(1, 3);
        net.recording = true;
        let circuit = net.circuit(ORIGINATOR, &[RELAY, LAST]);
        net.send(ORIGINATOR, circuit, &vec![vec![1; 1240]; 3]);
        net.run_for(Duration::from_secs(1));
        let (_, last, _) = net.nodes[LAST].delivered[0];
        net.send(LAST, last, &vec![vec![2; 300]; 3]);
        net.run_for(Duration::from_secs(1));
        let mut flights = std::mem::take(&mut net.record);
        let rogue = Rogue::open(&mut net, RELAY);
        net.kill(AWAY);
        net.create(ORIGINATOR, &[RELAY, AWAY]);
        net.run_for(Duration::from_millis(120));
        flights.append(&mut net.record);
        let states = net.nodes[..AWAY].iter().map(|node| node.tunnel.snapshot().unwrap()).collect();
        Self { now: net.now, net, states, flights, handles: [circuit, last], rogue }
    }

    pub(crate) fn state(&self, node: usize) -> &[u8] {
        &self.states[node]
    }

    pub(crate) fn config(&self, node: usize) -> &TunnelConfig {
        &self.net.nodes[node].config
    }

    pub(crate) fn descriptors(&self) -> Vec<SignedDescriptor> {
        vec![self.net.signed(RELAY), self.net.signed(LAST)]
    }

    /// A request for another circuit.
    pub(crate) fn wish(&self) -> Vec<u8> {
        let hops = self.descriptors();
        let suites = vec![1; hops.len()];
        Request::Create { hops, suites }.encode(warren_schemas::RequestId(77))
    }

    /// The handle of the circuit at its end `node`; at a relay, somebody else's.
    pub(crate) fn handle(&self, node: usize) -> CircuitHandle {
        self.handles[usize::from(node == LAST)]
    }

    /// Datagram `number` that came to `node`, and from where.
    pub(crate) fn flight(&self, node: usize, number: usize) -> (SocketAddr, Vec<u8>) {
        let to = self.net.nodes[node].address;
        let came: Vec<&Flight> = self.flights.iter().filter(|flight| flight.to == to).collect();
        let flight = came[number % came.len()];
        (flight.from, flight.bytes.clone())
    }

    /// The last `count` of them, as they were received.
    pub(crate) fn batch_of_flights(&self, node: usize, count: usize) -> Batch {
        let mut batch = Batch::with_slots(count.min(MAX_SLOTS));
        for index in 0..count.min(MAX_SLOTS) {
            let (from, bytes) = self.flight(node, index);
            assert!(batch.fill(index, SlotKind::Received, from, CircuitHandle(0), &bytes));
        }
        batch
    }

    /// The machine as it was caught.
    pub(crate) fn machine(&self, node: usize) -> Machine {
        let known = self.net.nodes.iter().map(|node| node.address).chain([ROGUE]).collect();
        self.made(node, self.state(node), Some(known)).unwrap()
    }

    /// The machine that goes on with `state`, which may be a lie.
    pub(crate) fn heir(&self, node: usize, state: &[u8]) -> Result<Machine, StateError> {
        self.made(node, state, None)
    }

    fn made(&self, node: usize, state: &[u8], known: Option<Vec<SocketAddr>>) -> Result<Machine, StateError> {
        let config = self.config(node);
        let mut tunnel = Tunnel::new();
        tunnel.configure(self.now, config.clone()).unwrap();
        tunnel.import_state(self.now, state)?;
        Ok(Machine::new(tunnel, self.now, config.clone(), &self.net.nodes[node].env, known))
    }
}

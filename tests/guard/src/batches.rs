//! Whole batches of 64 cells through the machine, by every role, there and back.

use std::net::SocketAddr;
use std::time::Duration;

use warren_schemas::CircuitHandle;
use warren_schemas::batch::{Batch, MAX_SLOTS, SlotKind};
use warren_schemas::cell::MAX_INNER;
use warren_tunnel::testing::Net;

use crate::warren_guard_counted;

/// Node 0 is the originator, node 3 the last hop.
const LAST: usize = 3;
/// A window has grown, and timers were set.
const WARM: usize = 3;

struct Circuit {
    net: Net,
    /// The circuit's handles at its two ends.
    ends: [CircuitHandle; 2],
}

pub(crate) fn run() {
    let mut circuit = Circuit::new();
    for _ in 0..WARM {
        circuit.travel(false, |_| None);
        circuit.travel(true, |_| None);
    }
    circuit.travel(false, |node| match node {
        0 => Some("originate a batch over 3 hops"),
        1 => Some("relay a batch forward"),
        LAST => Some("deliver a batch at the last hop"),
        _ => None,
    });
    circuit.travel(true, |node| match node {
        LAST => Some("answer a batch from the last hop"),
        1 => Some("relay a batch backward"),
        0 => Some("deliver a batch at the originator"),
        _ => None,
    });
}

impl Circuit {
    fn new() -> Self {
        let mut net = Net::with_relays(1, LAST);
        let originator = net.circuit(0, &[1, 2, LAST]);
        net.send(0, originator, &[vec![0; MAX_INNER]]);
        net.run_for(Duration::from_secs(1));
        let (_, last, _) = net.nodes[LAST].delivered[0];
        Self { net, ends: [originator, last] }
    }

    /// A batch goes from one end to the other; counted where `name` gives a name.
    fn travel(&mut self, backward: bool, name: impl Fn(usize) -> Option<&'static str>) {
        let mut order = [0, 1, 2, LAST];
        if backward {
            order.reverse();
        }
        let mut batch = full(SlotKind::Outgoing, self.ends[usize::from(backward)], |_| vec![0x5a; MAX_INNER]);
        for node in order {
            let counted = name(node);
            let answer = self.call(node, batch, counted.is_some());
            counted.iter().for_each(|name| println!("{name}"));
            let wanted = if Some(&node) == order.last() { SlotKind::Deliver } else { SlotKind::Send };
            assert!(answer.slots().all(|slot| slot.kind == wanted), "node {node} did not do it");
            batch = received(&answer, self.net.nodes[node].address);
        }
    }

    fn call(&mut self, node: usize, batch: Batch, counted: bool) -> Batch {
        let (now, node) = (self.net.now, &mut self.net.nodes[node]);
        let (mut batch, mut answer) = (Some(batch), None);
        let mut run = |_| {
            answer = batch.take().map(|batch| node.tunnel.handle_data(&mut node.env, now, batch));
        };
        if counted {
            warren_guard_counted(&mut run)
        } else {
            run(0)
        }
        answer.unwrap()
    }
}

fn full(kind: SlotKind, handle: CircuitHandle, bytes: impl Fn(usize) -> Vec<u8>) -> Batch {
    let mut batch = Batch::with_slots(MAX_SLOTS);
    for index in 0..MAX_SLOTS {
        assert!(batch.fill(index, kind, nowhere(), handle, &bytes(index)));
    }
    batch
}

fn nowhere() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 0))
}

fn received(answer: &Batch, from: SocketAddr) -> Batch {
    let mut batch = Batch::with_slots(MAX_SLOTS);
    for (index, slot) in answer.slots().enumerate() {
        assert!(batch.fill(index, SlotKind::Received, from, CircuitHandle(0), answer.bytes_of(&slot)));
    }
    batch
}

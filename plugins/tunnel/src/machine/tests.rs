//! Tunnels that talk to each other in memory, on virtual time.

mod bounds;
mod circuits;
mod draining;
#[cfg(feature = "hybrid")]
mod hybrid;
mod links;

use std::time::Duration;

use warren_schemas::CircuitHandle;
use warren_schemas::control::{CircuitEnd, Event, Request, Sync, Told};

use crate::drop_reason::DropReason;
use crate::testing::{Net, Seeded};

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Inner datagrams of many sizes, each different.
pub(super) fn datagrams(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut random = Seeded::new(seed);
    (0..count)
        .map(|index| {
            let length = if index % 3 == 0 { 1240 } else { 8 + random.below(1232) as usize };
            let mut bytes = vec![0; length];
            random.fill(&mut bytes);
            bytes
        })
        .collect()
}

pub(super) fn arrived(net: &Net, node: usize, end: CircuitEnd) -> Vec<Vec<u8>> {
    let all = net.nodes[node].delivered.iter();
    all.filter(|(at, ..)| *at == end.0).map(|(_, _, bytes)| bytes.clone()).collect()
}

/// The handle under which `node` knows the newest circuit whose last hop it is.
pub(super) fn last_hop_handle(net: &Net, node: usize) -> CircuitHandle {
    net.nodes[node].delivered.iter().rev().find(|(at, ..)| *at == CircuitEnd::LastHop.0).unwrap().1
}

fn drops(net: &Net) -> usize {
    net.nodes.iter().map(|node| node.drops.len()).sum()
}

pub(super) fn dropped(net: &Net, node: usize, reason: DropReason) -> usize {
    net.nodes[node].drops.iter().filter(|drop| **drop == reason as u8).count()
}

pub(super) fn sync(net: &mut Net, node: usize) -> Sync {
    let id = net.request(node, &Request::Monitor);
    match net.answer(node, id) {
        Some(Event::Sync(frame)) => {
            assert!(frame.full);
            let mut told = Told::default();
            told.apply(frame).unwrap();
            told.sync()
        }
        other => panic!("no report: {other:?}"),
    }
}

pub(super) fn counted(sync: &Sync, reason: DropReason) -> u64 {
    sync.drops.iter().find(|(drop, _)| *drop == reason as u8).map_or(0, |(_, count)| *count)
}

/// Sends one datagram forward and one back, and answers whether both came.
pub(super) fn works(net: &mut Net, circuit: CircuitHandle, last: usize, mark: u64) -> bool {
    let (there, back) = (datagrams(mark, 1), datagrams(mark + 1_000_000, 1));
    net.send(0, circuit, &there);
    net.run_for(SECOND);
    if !arrived(net, last, CircuitEnd::LastHop).contains(&there[0]) {
        return false;
    }
    let handle = last_hop_handle(net, last);
    net.send(last, handle, &back);
    net.run_for(SECOND);
    arrived(net, 0, CircuitEnd::Originator).contains(&back[0])
}

//! Tunnels that talk to each other in memory, on virtual time.

use std::time::Duration;

use warren_schemas::CircuitHandle;
use warren_schemas::control::{CircuitEnd, CloseReason, Event};

use crate::testing::{Net, Seeded};

/// Inner datagrams of many sizes, each different.
fn datagrams(seed: u64, count: usize) -> Vec<Vec<u8>> {
    let mut random = Seeded::new(seed);
    (0..count)
        .map(|index| {
            let length = if index % 3 == 0 { 1240 } else { 1 + random.below(1240) as usize };
            let mut bytes = vec![0; length];
            random.fill(&mut bytes);
            bytes
        })
        .collect()
}

fn arrived(net: &Net, node: usize, end: CircuitEnd) -> Vec<Vec<u8>> {
    let all = net.nodes[node].delivered.iter();
    all.filter(|(at, ..)| *at == end.0).map(|(_, _, bytes)| bytes.clone()).collect()
}

/// The handle under which `node` knows the circuit whose last hop it is.
fn last_hop_handle(net: &Net, node: usize) -> CircuitHandle {
    net.nodes[node].delivered.iter().find(|(at, ..)| *at == CircuitEnd::LastHop.0).unwrap().1
}

fn drops(net: &Net) -> usize {
    net.nodes.iter().map(|node| node.drops.len()).sum()
}

#[test]
fn circuits_of_one_two_and_three_hops_carry_data_both_ways() {
    for hops in 1..=3 {
        let mut net = Net::with_relays(hops as u64, 4);
        let path: Vec<usize> = (1..=hops).collect();
        let circuit = net.circuit(0, &path);
        let there = datagrams(5, 200);
        net.send(0, circuit, &there);
        net.run_for(Duration::from_secs(1));
        assert_eq!(arrived(&net, hops, CircuitEnd::LastHop), there);
        let back = datagrams(6, 200);
        let handle = last_hop_handle(&net, hops);
        net.send(hops, handle, &back);
        net.run_for(Duration::from_secs(1));
        assert_eq!(arrived(&net, 0, CircuitEnd::Originator), back);
        assert_eq!(drops(&net), 0);
        assert_eq!(net.nodes[4].received, if hops < 4 { 0 } else { 1 });
    }
}

use std::collections::HashSet;
use std::time::Duration;

use warren_schemas::RequestId;
use warren_schemas::control::{CircuitEnd, CloseReason, Event, Request, SyncFrame, Told};

use super::{SECOND, arrived, datagrams, drops, last_hop_handle, sync, works};
use crate::testing::Net;

fn failure(net: &Net, id: RequestId) -> Option<(CloseReason, u8)> {
    match net.answer(0, id) {
        Some(Event::CircuitFailed { reason, hop }) => Some((*reason, *hop)),
        _ => None,
    }
}

#[test]
fn one_two_and_three_hops_carry_data_both_ways() {
    for hops in 1..=3 {
        let mut net = Net::with_relays(hops as u64, 4);
        let path: Vec<usize> = (1..=hops).collect();
        let circuit = net.circuit(0, &path);
        let there = datagrams(5, 200);
        net.send(0, circuit, &there);
        net.run_for(SECOND);
        assert_eq!(arrived(&net, hops, CircuitEnd::LastHop), there);
        let back = datagrams(6, 200);
        let handle = last_hop_handle(&net, hops);
        net.send(hops, handle, &back);
        net.run_for(SECOND);
        assert_eq!(arrived(&net, 0, CircuitEnd::Originator), back);
        assert_eq!(drops(&net), 0);
        assert_eq!(net.nodes[4].received, 0, "only the path's nodes hear of it");
    }
}

#[test]
fn loss_and_reordering_cost_cells_but_no_circuit() {
    for (seed, suite) in (0..10).zip(crate::suites().iter().cycle()) {
        let mut net = Net::with_relays(seed, 3);
        net.jitter = Duration::from_millis(40);
        // Building lives on retries, and the handshakes of suite 2 are longer.
        net.loss = if *suite == 1 { 150 } else { 50 };
        let id = net.create_in(0, &[1, 2, 3], vec![*suite; 3]);
        net.run_until(Duration::from_secs(60), |net| net.answer(0, id).is_some());
        let Some(Event::CircuitReady { handle: circuit, .. }) = net.answer(0, id).cloned() else {
            panic!("seed {seed}: no circuit");
        };
        net.loss = 150;
        let there = datagrams(5, 500);
        net.send(0, circuit, &there);
        net.run_for(SECOND);
        let came = arrived(&net, 3, CircuitEnd::LastHop);
        let unique: HashSet<&Vec<u8>> = came.iter().collect();
        assert_eq!(unique.len(), came.len(), "seed {seed}: a cell came twice");
        assert!(unique.iter().all(|bytes| there.contains(bytes)), "seed {seed}");
        assert!((200..450).contains(&came.len()), "seed {seed}: {} of 500", came.len());
        assert_ne!(came, there.iter().filter(|b| unique.contains(b)).cloned().collect::<Vec<_>>());
    }
}

#[test]
fn a_dead_hop_is_named_in_the_failure() {
    for dead in 1..=3 {
        let mut net = Net::with_relays(dead as u64, 3);
        net.kill(dead);
        let id = net.create(0, &[1, 2, 3]);
        net.run_for(Duration::from_secs(9));
        assert_eq!(net.answer(0, id), None, "it is tried for 10 s");
        net.run_for(Duration::from_secs(6));
        assert_eq!(failure(&net, id), Some((CloseReason::Timeout, dead as u8)));
        net.run_for(Duration::from_secs(300));
        for node in 0..=3 {
            assert!(net.nodes[node].tunnel.circuits.is_empty(), "node {node} keeps a circuit");
            assert!(node == dead || net.nodes[node].tunnel.links.is_empty(), "node {node} keeps a link");
        }
    }
}

#[test]
fn the_host_is_told_which_descriptor_does_not_hold() {
    let mut net = Net::with_relays(1, 3);
    let good = [net.signed(1), net.signed(2), net.signed(3)];
    let client = net.add(false, false);
    let expired = {
        let mut old = net.descriptor(2);
        old.expires = net.now;
        old.sign(&net.nodes[2].key)
    };
    let forged = net.descriptor(2).sign(&net.nodes[3].key);
    let private = {
        let mut lan = net.descriptor(2);
        lan.addresses = vec!["192.168.0.1:4000".parse().unwrap()];
        lan.sign(&net.nodes[2].key)
    };
    let no_relay = net.signed(client);
    let own = net.signed(0);
    let cases = [
        (expired, CloseReason::Descriptor),
        (forged, CloseReason::Descriptor),
        (private, CloseReason::Refused),
        (no_relay, CloseReason::Refused),
        (own, CloseReason::Refused),
        (good[0].clone(), CloseReason::Refused),
    ];
    for (bad, reason) in cases {
        let hops = vec![good[0].clone(), bad, good[2].clone()];
        let id = net.request(0, &Request::Create { hops, suites: vec![1; 3] });
        assert_eq!(failure(&net, id), Some((reason, 2)));
    }
    for (hops, suites, hop) in [
        (Vec::new(), Vec::new(), 1),
        (good.to_vec(), vec![1; 2], 1),
        (good.to_vec(), vec![1; 4], 1),
        (good.to_vec(), vec![1, 1, 9], 0),
    ] {
        let id = net.request(0, &Request::Create { hops, suites });
        assert_eq!(failure(&net, id), Some((CloseReason::Refused, hop)));
    }
    assert_eq!(net.nodes[0].sent, 0, "nothing is sent for a path that does not hold");
}

#[test]
fn a_relay_that_dies_is_noticed_soon_when_the_circuit_is_used() {
    for dead in 1..=3 {
        let mut net = Net::with_relays(dead as u64, 3);
        let circuit = net.circuit(0, &[1, 2, 3]);
        assert!(works(&mut net, circuit, 3, 1));
        net.kill(dead);
        net.send(0, circuit, &datagrams(1, 1));
        assert!(net.run_until(Duration::from_secs(14), |net| net.death(0, circuit).is_some()), "hop {dead}");
        assert_eq!(net.death(0, circuit), Some(CloseReason::Timeout));
        net.run_for(Duration::from_secs(200));
        for node in (0..=3).filter(|node| *node != dead) {
            assert!(net.nodes[node].tunnel.circuits.is_empty(), "node {node} keeps a circuit");
        }
    }
}

#[test]
fn a_silent_circuit_is_kept_alive_and_ends_after_a_day() {
    let mut net = Net::with_relays(3, 3);
    let circuit = net.circuit(0, &[1, 2, 3]);
    net.run_for(Duration::from_secs(23 * 3600));
    assert!(works(&mut net, circuit, 3, 1));
    assert_eq!(net.death(0, circuit), None);
    net.run_for(Duration::from_secs(3600));
    assert_eq!(net.death(0, circuit), Some(CloseReason::Expired));
    net.run_for(SECOND);
    for node in 0..=3 {
        assert!(net.nodes[node].tunnel.circuits.is_empty());
    }
}

#[test]
fn a_circuit_whose_originator_vanished_ends_with_its_link() {
    let mut net = Net::with_relays(4, 3);
    let circuit = net.circuit(0, &[1, 2, 3]);
    net.send(0, circuit, &datagrams(1, 1));
    net.run_for(SECOND);
    let at_exit = last_hop_handle(&net, 3);
    net.kill(0);
    net.run_for(Duration::from_secs(35));
    assert_eq!(net.death(3, at_exit), None);
    net.run_for(Duration::from_secs(7));
    assert_eq!(net.death(3, at_exit), Some(CloseReason::Link));
    net.run_for(Duration::from_secs(150));
    for node in 1..=3 {
        assert!(net.nodes[node].tunnel.circuits.is_empty() && net.nodes[node].tunnel.links.is_empty());
    }
}

#[test]
fn a_circuit_that_is_not_used_idles_out_at_its_hops() {
    let mut net = Net::with_relays(4, 3);
    let kept = net.circuit(0, &[1, 2, 3]);
    let forgotten = net.circuit(0, &[1, 2, 3]);
    // An originator that forgets a circuit, but not its link.
    net.nodes[0].tunnel.circuits.remove(&forgotten);
    net.run_for(Duration::from_secs(119));
    assert_eq!(sync(&mut net, 3).relayed_circuits, 2);
    net.run_for(Duration::from_secs(3));
    for relay in 1..=3 {
        assert_eq!(sync(&mut net, relay).relayed_circuits, 1);
    }
    assert!(works(&mut net, kept, 3, 1));
}

#[test]
fn destroy_from_either_end_reaches_the_other() {
    let mut net = Net::with_relays(5, 3);
    let first = net.circuit(0, &[1, 2, 3]);
    assert!(works(&mut net, first, 3, 1));
    let at_exit = last_hop_handle(&net, 3);
    net.close(0, first);
    assert_eq!(net.death(0, first), Some(CloseReason::Finished), "the host is answered at once");
    net.run_for(SECOND);
    assert_eq!(net.death(3, at_exit), Some(CloseReason::Finished));

    let second = net.circuit(0, &[1, 2, 3]);
    assert!(works(&mut net, second, 3, 2));
    let at_exit = last_hop_handle(&net, 3);
    net.request(3, &Request::Circuit { handle: at_exit, reason: CloseReason::Limit });
    net.run_for(SECOND);
    assert_eq!(net.death(0, second), Some(CloseReason::Limit));
    for node in 0..=3 {
        assert!(net.nodes[node].tunnel.circuits.is_empty(), "node {node}");
        assert_eq!(sync(&mut net, node).relayed_circuits, 0);
    }
    assert_ne!(first, second, "handles are not used again");
}

#[test]
fn a_node_that_stops_says_so() {
    let mut net = Net::with_relays(6, 3);
    let circuit = net.circuit(0, &[1, 2, 3]);
    assert!(works(&mut net, circuit, 3, 1));
    let at_exit = last_hop_handle(&net, 3);
    net.shutdown(2);
    net.run_for(SECOND);
    assert_eq!(net.death(0, circuit), Some(CloseReason::Link));
    assert_eq!(net.death(3, at_exit), Some(CloseReason::Link));
}

#[test]
fn a_node_that_is_no_exit_delivers_nothing() {
    let mut net = Net::with_relays(7, 2);
    let relay = net.add(true, false);
    let circuit = net.circuit(0, &[1, 2, relay]);
    net.send(0, circuit, &datagrams(1, 3));
    net.run_for(SECOND);
    assert!(net.nodes[relay].delivered.is_empty());
    assert_eq!(super::dropped(&net, relay, crate::drop_reason::DropReason::NotExit), 3);
}

#[test]
fn handles_of_others_and_of_nobody_are_refused() {
    let mut net = Net::with_relays(8, 2);
    let circuit = net.circuit(0, &[1, 2]);
    net.send(0, warren_schemas::CircuitHandle(circuit.0 + 1), &datagrams(1, 1));
    // Node 1 relays the circuit; that is not an end.
    let relayed = *net.nodes[1].tunnel.circuits.keys().next().unwrap();
    net.send(1, relayed, &datagrams(1, 1));
    for node in [0, 1] {
        assert_eq!(super::dropped(&net, node, crate::drop_reason::DropReason::UnknownHandle), 1);
    }
    net.send(0, circuit, &[vec![0; 1241]]);
    assert_eq!(super::dropped(&net, 0, crate::drop_reason::DropReason::TooLong), 1);
}

#[test]
fn a_successor_gives_none_of_its_predecessors_handles() {
    let mut net = Net::with_relays(12, 1);
    let mut seen = std::collections::HashSet::new();
    for _ in 0..4 {
        for _ in 0..3 {
            assert!(seen.insert(net.circuit(0, &[1])));
        }
        // As after a fault: a new machine with the old configuration.
        let (now, config) = (net.now, net.nodes[0].config.clone());
        net.nodes[0].tunnel = crate::Tunnel::new();
        net.nodes[0].tunnel.configure(now, config).unwrap();
        net.nodes[0].events.clear();
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let run = || {
        let mut net = Net::with_relays(99, 3);
        net.loss = 100;
        net.jitter = Duration::from_millis(20);
        net.recording = true;
        let circuit = net.circuit(0, &[3, 1, 2]);
        net.send(0, circuit, &datagrams(1, 100));
        net.run_for(Duration::from_secs(60));
        net.record.into_iter().map(|flight| flight.bytes).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn reports_count_cells_bytes_and_circuits() {
    let mut net = Net::with_relays(9, 3);
    net.reconfigure(1, |config| config.sync_period = 5_000_000);
    let circuit = net.circuit(0, &[1, 2, 3]);
    let there = datagrams(1, 50);
    net.send(0, circuit, &there);
    net.run_for(SECOND);
    let bytes: u64 = there.iter().map(|bytes| bytes.len() as u64).sum();
    let origin = sync(&mut net, 0);
    assert_eq!((origin.cells_originated, origin.links, origin.circuits.len()), (50, 1, 1));
    assert_eq!((origin.circuits[0].bytes_out, origin.circuits[0].hops), (bytes, 3));
    let relay = sync(&mut net, 1);
    assert!(relay.cells_relayed >= 50 && relay.bytes_relayed >= bytes + 50 * 42);
    assert_eq!((relay.relayed_circuits, relay.links, relay.circuits.len()), (1, 2, 0));
    let exit = sync(&mut net, 3);
    assert_eq!((exit.cells_delivered, exit.circuits[0].bytes_in), (50, bytes));
    assert_eq!(exit.circuits[0].end, CircuitEnd::LastHop);
}

/// The frames of a node that nobody asked for, from `start` on.
fn frames(net: &Net, node: usize, start: usize) -> Vec<SyncFrame> {
    let unasked = net.nodes[node].events.iter().skip(start).filter(|(request, _)| *request == RequestId(0));
    let frame = |(_, event): &(RequestId, Event)| match event {
        Event::Sync(frame) => Some(frame.clone()),
        _ => None,
    };
    unasked.filter_map(frame).collect()
}

#[test]
fn frames_tell_every_period_what_changed_and_nothing_when_nothing_did() {
    let mut net = Net::with_relays(9, 3);
    net.reconfigure(1, |config| config.sync_period = 5_000_000);
    net.reconfigure(3, |config| config.sync_period = 5_000_000);
    let circuit = net.circuit(0, &[1, 2, 3]);
    net.send(0, circuit, &datagrams(1, 100));
    net.run_for(Duration::from_secs(6));
    let first = frames(&net, 1, 0);
    assert!(first[0].full);
    let mut view = Told::default();
    first.iter().for_each(|frame| view.apply(frame).unwrap());
    assert_eq!((view.counts().relayed_circuits, view.counts().active), (1, 1));
    net.run_for(Duration::from_secs(5));
    frames(&net, 1, 0).iter().for_each(|frame| view.apply(frame).unwrap());
    let before = net.nodes[1].events.len();
    for _ in 0..3 {
        net.send(0, circuit, &datagrams(2, 10));
        net.run_for(Duration::from_secs(5));
    }
    let frames_of_relay = frames(&net, 1, before);
    assert_eq!(frames_of_relay.len(), 3, "one a period");
    for frame in &frames_of_relay {
        assert!(!frame.full && frame.cells_relayed.is_some());
        assert_eq!((frame.links, frame.relayed_circuits), (None, None), "they did not change");
        view.apply(frame).unwrap();
    }
    assert_eq!(view.counts().active, 0, "ten cells in five seconds only keep it alive");
    let known = sync(&mut net, 1);
    assert_eq!(view.counts().cells_relayed, known.cells_relayed);
    let mut exit = Told::default();
    frames(&net, 3, 0).iter().for_each(|frame| exit.apply(frame).unwrap());
    let now = sync(&mut net, 3);
    assert_eq!(exit.sync().circuits, now.circuits);
}

#[test]
fn at_once_means_with_the_answer() {
    let mut net = Net::with_relays(9, 1);
    net.reconfigure(1, |config| config.sync_period = 0);
    let circuit = net.circuit(0, &[1]);
    let before = net.nodes[1].events.len();
    net.send(0, circuit, &datagrams(1, 1));
    net.run_for(Duration::from_millis(200));
    assert!(frames(&net, 1, before).iter().any(|frame| frame.cells_delivered == Some(1)));
    let before = net.nodes[1].events.len();
    net.run_for(Duration::from_millis(200));
    assert_eq!(frames(&net, 1, before), [], "nothing changed");
}

#[test]
fn configuration_may_change_under_a_circuit() {
    let mut net = Net::with_relays(10, 2);
    let circuit = net.circuit(0, &[1, 2]);
    for node in 0..=2 {
        net.reconfigure(node, |config| config.sync_period = 1_000_000);
    }
    assert!(works(&mut net, circuit, 2, 1));
    net.reconfigure(1, |config| (config.relay, config.exit) = (false, false));
    assert!(works(&mut net, circuit, 2, 2));
    let id = net.request(0, &Request::Create { hops: vec![net.signed(2)], suites: vec![1] });
    net.run_for(SECOND);
    assert!(matches!(net.answer(0, id), Some(Event::CircuitReady { .. })));
    let mut config = net.nodes[1].config.clone();
    config.worker_index += 1;
    let refused = net.nodes[1].tunnel.configure(net.now, config);
    assert_eq!(refused, Err(crate::ConfigError::WorkerIndex));
}

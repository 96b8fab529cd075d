use std::time::Duration;

use warren_schemas::cell::Kind;
use warren_schemas::control::{CircuitEnd, CloseReason, Event, Request};

use super::{SECOND, arrived, counted, last_hop_handle, sync};
use crate::drop_reason::DropReason;
use crate::testing::Net;

fn outcomes(net: &Net, node: usize) -> (usize, Vec<(CloseReason, u8)>) {
    let ready =
        net.nodes[node].events.iter().filter(|(_, e)| matches!(e, Event::CircuitReady { .. })).count();
    let failed = net.nodes[node].events.iter().filter_map(|(_, event)| match event {
        Event::CircuitFailed { reason, hop } => Some((*reason, *hop)),
        _ => None,
    });
    (ready, failed.collect())
}

#[test]
fn circuits_of_a_link_are_bounded_at_every_hop() {
    for hop in 1..=2u8 {
        let mut net = Net::with_relays(1, 2);
        net.reconfigure(usize::from(hop), |config| config.limits.circuits_per_link = 3);
        for _ in 0..5 {
            net.create(0, &[1, 2]);
        }
        net.run_for(SECOND);
        let (ready, failed) = outcomes(&net, 0);
        assert_eq!((ready, failed), (3, vec![(CloseReason::Limit, hop); 2]), "hop {hop}");
        let first = net.nodes[0].events.iter().find_map(|(_, event)| match event {
            Event::CircuitReady { handle, .. } => Some(*handle),
            _ => None,
        });
        net.close(0, first.unwrap());
        net.run_for(SECOND);
        net.circuit(0, &[1, 2]);
    }
}

#[test]
fn circuits_of_a_worker_are_bounded() {
    let mut net = Net::with_relays(2, 1);
    net.reconfigure(1, |config| config.limits.circuits = 4);
    for _ in 0..3 {
        let node = net.add(false, false);
        for _ in 0..3 {
            net.create(node, &[1]);
        }
    }
    net.run_for(SECOND);
    assert_eq!(sync(&mut net, 1).relayed_circuits, 4);
    // Each of its parts is refused.
    let parts = if crate::suites() == [1] { 1 } else { 2 };
    assert_eq!(counted(&sync(&mut net, 1), DropReason::Limit), 5 * parts);
}

#[test]
fn creates_of_a_link_are_bounded_in_a_second() {
    let mut net = Net::with_relays(3, 1);
    net.reconfigure(1, |config| config.limits.creates_per_second_per_link = 5);
    for _ in 0..20 {
        net.create(0, &[1]);
    }
    net.run_for(Duration::from_millis(100));
    let (ready, failed) = outcomes(&net, 0);
    assert_eq!((ready, failed.len()), (5, 15));
    net.run_for(SECOND);
    net.circuit(0, &[1]);
}

#[test]
fn half_open_links_are_bounded_and_forgotten() {
    let mut net = Net::with_relays(4, 1);
    net.recording = true;
    net.loss = 1000;
    net.create(0, &[1]);
    let link = net.record.remove(0).bytes;
    net.kill(0);
    let from = "6.6.6.6:6".parse().unwrap();
    for number in 0..400u16 {
        // Each with a key of its own.
        let mut other = link.clone();
        other[60..62].copy_from_slice(&number.to_be_bytes());
        net.run_for(Duration::from_millis(6));
        net.record.clear();
        net.inject(1, from, &other);
        let half_open = net.nodes[1].tunnel.half_open;
        assert_eq!(half_open, usize::from(number + 1).min(128), "half of the table is for those who receive");
        if half_open < 128 || number < 200 {
            continue;
        }
        let cookie = net.record[0].bytes[14..46].to_vec();
        assert_eq!(net.record[0].bytes[0], Kind::Cookie as u8);
        other[79..111].copy_from_slice(&cookie);
        net.inject(1, from, &other);
        assert_eq!(net.nodes[1].tunnel.half_open, 129);
        break;
    }
    net.run_for(Duration::from_secs(11));
    assert_eq!((net.nodes[1].tunnel.half_open, net.nodes[1].tunnel.links.len()), (0, 0));
}

#[test]
fn whoever_receives_fills_the_table_of_half_open_links_and_no_more() {
    let mut net = Net::with_relays(14, 1);
    net.reconfigure(1, |config| config.limits.half_open_links = 4);
    let nodes: Vec<usize> = (0..9).map(|_| net.add(false, false)).collect();
    for node in &nodes {
        net.create(*node, &[1]);
    }
    // They all take their cookie, and none what comes after it.
    net.run_for(Duration::from_millis(35));
    for node in nodes {
        net.kill(node);
    }
    assert_eq!(net.nodes[1].tunnel.half_open, 4);
    assert!(counted(&sync(&mut net, 1), DropReason::Limit) >= 1);
    net.run_for(Duration::from_secs(11));
    assert_eq!(net.nodes[1].tunnel.half_open, 0);
}

#[test]
fn links_under_way_are_bounded() {
    let mut net = Net::with_relays(15, 4);
    net.reconfigure(0, |config| config.limits.half_open_links = 2);
    for relay in 1..=4 {
        net.create(0, &[relay]);
    }
    assert_eq!(outcomes(&net, 0), (0, vec![(CloseReason::Limit, 1); 2]));
    net.run_for(SECOND);
    assert_eq!(outcomes(&net, 0).0, 2);
    net.circuit(0, &[3]);
}

/// Whether a node of that address gets a circuit, and with it a link, of relay 1.
fn gets_a_circuit(net: &mut Net, address: ([u8; 4], u16)) -> bool {
    let node = net.add(false, false);
    net.nodes[node].address = address.into();
    let id = net.create(node, &[1]);
    net.run_for(Duration::from_secs(20));
    matches!(net.answer(node, id), Some(Event::CircuitReady { .. }))
}

#[test]
fn when_half_of_the_links_are_taken_an_address_with_an_eighth_gets_no_more() {
    let mut net = Net::with_relays(16, 1);
    net.reconfigure(1, |config| config.limits.links = 16);
    let mut ports = 1000..;
    let mut count = |network, most: usize| {
        (0..most).filter(|_| gets_a_circuit(&mut net, (network, ports.next().unwrap()))).count()
    };
    assert_eq!(count([7, 0, 0, 1], 9), 8);
    assert_eq!(count([7, 0, 0, 2], 3), 2);
    assert_eq!(count([7, 0, 0, 1], 1), 0);
    assert_eq!(count([192, 168, 0, 1], 3), 3, "a private address is a neighbour's");
    assert_eq!(count([7, 0, 0, 3], 3), 2);
    assert_eq!(count([7, 0, 0, 4], 2), 1, "it is full");
}

#[test]
fn links_begun_in_the_name_of_an_address_are_not_its_own() {
    let mut net = Net::with_relays(17, 1);
    net.recording = true;
    net.create(0, &[1]);
    let link = net.record.remove(0).bytes;
    net.reconfigure(1, |config| config.limits.links = 16);
    for number in 0..10u16 {
        // Each with a key of its own.
        let mut other = link.clone();
        other[60..62].copy_from_slice(&number.to_be_bytes());
        net.inject(1, "7.0.0.1:6".parse().unwrap(), &other);
    }
    assert!(net.nodes[1].tunnel.half_open >= 10);
    assert!(gets_a_circuit(&mut net, ([7, 0, 0, 1], 7)));
}

#[test]
fn links_of_a_worker_are_bounded() {
    let mut net = Net::with_relays(5, 1);
    net.reconfigure(1, |config| config.limits.links = 2);
    let ids: Vec<_> = (0..3)
        .map(|_| {
            let node = net.add(false, false);
            (node, net.create(node, &[1]))
        })
        .collect();
    net.run_for(Duration::from_secs(20));
    let ready =
        ids.iter().filter(|(n, id)| matches!(net.answer(*n, *id), Some(Event::CircuitReady { .. }))).count();
    assert_eq!(ready, 2);
}

#[test]
fn a_rate_holds_and_what_is_too_much_waits_then_falls() {
    let mut net = Net::with_relays(6, 3);
    net.reconfigure(2, |config| config.limits.bytes_per_second = 200_000);
    let circuit = net.circuit(0, &[1, 2, 3]);
    let batch: Vec<Vec<u8>> = vec![vec![7; 1240]; 10];
    // 1.24 MB/s against 0.2 MB/s, for ten seconds.
    for _ in 0..1000 {
        net.send(0, circuit, &batch);
        net.run_for(Duration::from_millis(10));
    }
    let came = arrived(&net, 3, CircuitEnd::LastHop).len() * (1240 + 42);
    assert!((1_800_000..2_200_000).contains(&came), "{came} bytes in 10 s");
    let relay = sync(&mut net, 2);
    assert!(counted(&relay, DropReason::QueueFull) + counted(&relay, DropReason::QueueDelay) > 5000);
    assert!(counted(&relay, DropReason::QueueDelay) > 0);
    net.run_for(Duration::from_secs(5));
    let rest = arrived(&net, 3, CircuitEnd::LastHop).len() * (1240 + 42) - came;
    assert!(rest <= 256 * 1300, "no more waited than a queue holds: {rest}");
}

#[test]
fn two_circuits_share_a_rate_whatever_they_ask() {
    let mut net = Net::with_relays(7, 4);
    net.reconfigure(2, |config| config.limits.bytes_per_second = 400_000);
    let greedy = net.circuit(0, &[1, 2, 3]);
    let modest = net.circuit(0, &[1, 2, 4]);
    for _ in 0..500 {
        net.send(0, greedy, &vec![vec![7; 1240]; 10]);
        net.send(0, modest, &vec![vec![8; 1240]; 2]);
        net.run_for(Duration::from_millis(10));
    }
    let greedy = arrived(&net, 3, CircuitEnd::LastHop).len();
    let modest = arrived(&net, 4, CircuitEnd::LastHop).len();
    assert!(greedy < modest * 13 / 10 && modest < greedy * 13 / 10, "{greedy} and {modest} cells");
}

#[test]
fn the_rate_of_an_exit_holds_backward_too() {
    let mut net = Net::with_relays(8, 1);
    net.reconfigure(1, |config| config.limits.bytes_per_second = 100_000);
    let circuit = net.circuit(0, &[1]);
    net.send(0, circuit, &[vec![1]]);
    net.run_for(SECOND);
    let handle = last_hop_handle(&net, 1);
    for _ in 0..500 {
        net.send(1, handle, &vec![vec![7; 1240]; 5]);
        net.run_for(Duration::from_millis(10));
    }
    let came = arrived(&net, 0, CircuitEnd::Originator).len() * (1240 + 42);
    assert!((450_000..600_000).contains(&came), "{came} bytes in 5 s");
}

#[test]
fn a_destroyed_circuit_takes_its_queue_along() {
    let mut net = Net::with_relays(9, 2);
    net.reconfigure(1, |config| config.limits.bytes_per_second = 20_000);
    let circuit = net.circuit(0, &[1, 2]);
    net.send(0, circuit, &vec![vec![7; 1240]; 200]);
    net.run_for(Duration::from_millis(50));
    net.close(0, circuit);
    net.run_for(Duration::from_millis(50));
    assert_eq!(net.nodes[1].tunnel.shaper.ready_at(net.now), None);
}

#[test]
fn a_goodbye_to_many_circuits_comes_in_pieces_that_fit() {
    let mut net = Net::with_relays(10, 2);
    net.latency = Duration::from_millis(1);
    for relay in [1, 2] {
        net.reconfigure(relay, |config| config.limits.creates_per_second_per_link = 100_000);
    }
    // More than one answer holds: each death is an event of about 100 bytes.
    let count = 4000;
    for _ in 0..count {
        net.create(0, &[1]);
    }
    net.run_for(SECOND);
    assert_eq!(outcomes(&net, 0).0, count);
    net.shutdown(1);
    net.run_for(SECOND);
    let dead = net.nodes[0].events.iter().filter(|(_, e)| matches!(e, Event::CircuitDead { .. })).count();
    assert_eq!(dead, count);
    assert!(net.nodes[0].tunnel.circuits.is_empty());
}

#[test]
fn a_report_of_many_circuits_comes_in_several() {
    let mut net = Net::with_relays(11, 1);
    net.reconfigure(1, |config| config.limits.creates_per_second_per_link = 10_000);
    for _ in 0..600 {
        net.create(0, &[1]);
    }
    net.run_for(SECOND);
    let id = net.request(0, &Request::Monitor);
    let parts: Vec<usize> = net.nodes[0]
        .events
        .iter()
        .filter_map(|(request, event)| match event {
            Event::Sync(sync) if *request == id => Some(sync.circuits.len()),
            _ => None,
        })
        .collect();
    assert_eq!(parts, [256, 256, 88]);
}

#[test]
fn one_address_cannot_take_all_half_open_links() {
    let mut net = Net::with_relays(16, 1);
    net.recording = true;
    net.loss = 1000;
    net.create(0, &[1]);
    let link = net.record.remove(0).bytes;
    net.kill(0);
    net.reconfigure(1, |config| config.limits.link_handshakes_per_second = 1000);
    net.reconfigure(1, |config| config.limits.half_open_links = 80);
    let open = |net: &mut Net, from: &str, number: u16| {
        let mut other = link.clone();
        other[60..62].copy_from_slice(&number.to_be_bytes());
        for _ in 0..2 {
            net.record.clear();
            net.inject(1, from.parse().unwrap(), &other);
            let answer = net.record.first()?.bytes.clone();
            if answer[0] == Kind::Linked as u8 {
                return Some(());
            }
            other[79..111].copy_from_slice(&answer[14..46]);
        }
        None
    };
    let got = (0..200).filter(|number| open(&mut net, "6.6.6.6:6", *number).is_some()).count();
    assert_eq!(got, 40 + 10, "those without a cookie, and an eighth of the table");
    assert!(open(&mut net, "6.6.6.6:7", 300).is_none(), "another port is the same address");
    assert!(open(&mut net, "7.7.7.7:7", 301).is_some(), "others still get in");
    net.loss = 0;
    net.run_for(Duration::from_secs(11));
    assert_eq!(net.nodes[1].tunnel.half_open, 0);
    assert!(net.nodes[1].tunnel.proven.is_empty());
}

#[test]
fn strangers_leave_room_for_the_nodes_own_circuits() {
    let mut net = Net::with_relays(17, 2);
    net.reconfigure(1, |config| {
        config.limits.circuits = 3;
        config.limits.links = 2;
    });
    for _ in 0..2 {
        let node = net.add(false, false);
        for _ in 0..3 {
            net.create(node, &[1]);
        }
    }
    net.run_for(SECOND);
    assert_eq!((sync(&mut net, 1).relayed_circuits, sync(&mut net, 1).links), (3, 2));
    let own = net.create(1, &[2]);
    net.run_for(SECOND);
    assert!(matches!(net.answer(1, own), Some(Event::CircuitReady { .. })), "{:?}", net.answer(1, own));
}

use std::net::SocketAddr;
use std::time::Duration;

use warren_schemas::cell::{KEY_PHASE, Kind};
use warren_schemas::control::{CircuitEnd, CloseReason, Event};

use super::{SECOND, arrived, counted, datagrams, dropped, last_hop_handle, sync, works};
use crate::drop_reason::DropReason;
use crate::testing::{Flight, Net};

fn kinds(record: &[Flight], kind: Kind) -> Vec<&Flight> {
    record.iter().filter(|flight| Kind::from_byte(flight.bytes[0]) == Some(kind)).collect()
}

#[test]
fn all_circuits_to_a_relay_share_one_link() {
    let mut net = Net::with_relays(1, 2);
    net.recording = true;
    let ids: Vec<_> = (0..20).map(|_| net.create(0, &[1, 2])).collect();
    net.run_for(SECOND);
    for id in ids {
        assert!(matches!(net.answer(0, id), Some(Event::CircuitReady { .. })));
    }
    assert_eq!(kinds(&net.record, Kind::Link).len(), 2);
    assert_eq!(sync(&mut net, 1).links, 2);
}

#[test]
fn a_link_id_holds_the_index_of_the_worker_that_receives_under_it() {
    let mut net = Net::with_relays(2, 1);
    net.recording = true;
    let circuit = net.circuit(0, &[1]);
    assert!(works(&mut net, circuit, 1, 1));
    for flight in net.record.iter().filter(|flight| flight.bytes[0] != Kind::Link as u8) {
        let to = net.nodes.iter().find(|node| node.address == flight.to).unwrap();
        assert_eq!(flight.bytes[1], to.config.worker_index);
    }
}

#[test]
fn an_unused_link_is_closed_after_two_minutes() {
    let mut net = Net::with_relays(3, 1);
    let circuit = net.circuit(0, &[1]);
    net.close(0, circuit);
    net.run_for(Duration::from_secs(115));
    assert_eq!(sync(&mut net, 0).links, 1);
    net.run_for(Duration::from_secs(10));
    assert_eq!((sync(&mut net, 0).links, sync(&mut net, 1).links), (0, 0));
    let again = net.circuit(0, &[1]);
    assert!(works(&mut net, again, 1, 1));
}

#[test]
fn a_repeated_link_gets_the_same_answer_and_makes_nothing_new() {
    let mut net = Net::with_relays(4, 1);
    net.recording = true;
    net.circuit(0, &[1]);
    let link = kinds(&net.record, Kind::Link)[0].clone();
    let linked = kinds(&net.record, Kind::Linked)[0].clone();
    let dh_calls = net.nodes[1].env.dh_calls;
    net.record.clear();
    net.inject(1, link.from, &link.bytes);
    assert_eq!(net.record[0].bytes, linked.bytes);
    assert_eq!(net.nodes[1].env.dh_calls, dh_calls);
    net.run_for(Duration::from_secs(31));
    net.record.clear();
    net.inject(1, link.from, &link.bytes);
    assert_ne!(kinds(&net.record, Kind::Linked)[0].bytes, linked.bytes, "after 30 s it is a new handshake");
    net.run_for(Duration::from_secs(11));
    assert_eq!(sync(&mut net, 1).links, 1, "which nobody completes");
}

#[test]
fn whoever_asks_first_with_the_same_share_spoils_nothing() {
    let mut net = Net::with_relays(14, 1);
    net.recording = true;
    // LINK does not arrive before somebody on the path has had its turn.
    net.loss = 1000;
    let id = net.create(0, &[1]);
    net.run_for(Duration::from_millis(100));
    let link = kinds(&net.record, Kind::Link)[0].clone();
    // The first byte of the initiator's link id (docs/protocol.md, section 4.1).
    let mut forged = link.clone();
    forged.bytes[7] ^= 1;
    net.inject(1, link.from, &forged.bytes);
    assert_eq!(kinds(&net.record, Kind::Linked).len(), 1, "it is answered");
    net.loss = 0;
    net.run_for(Duration::from_secs(2));
    assert!(matches!(net.answer(0, id), Some(Event::CircuitReady { .. })), "at the first retry");
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    let mut net = Net::with_relays(5, 2);
    net.loss = 1000;
    let id = net.create(0, &[1, 2]);
    net.run_for(Duration::from_millis(500));
    net.loss = 0;
    net.recording = true;
    net.run_for(Duration::from_secs(2));
    assert!(matches!(net.answer(0, id), Some(Event::CircuitReady { .. })));
    assert_eq!(kinds(&net.record, Kind::Link).len(), 2, "the first hop's again, the second's once");
}

#[test]
fn an_answer_is_never_larger_than_its_cause_and_never_more() {
    let mut net = Net::with_relays(6, 1);
    net.reconfigure(1, |config| config.limits.link_handshakes_per_second = 1);
    net.recording = true;
    let from: Vec<usize> = (0..5).map(|_| net.add(false, false)).collect();
    for node in from {
        net.create(node, &[1]);
    }
    net.run_for(SECOND);
    let relay = net.nodes[1].address;
    for kind in [Kind::Linked, Kind::Cookie] {
        assert!(
            kinds(&net.record, kind).iter().all(|flight| flight.from == relay && flight.bytes.len() <= 1350)
        );
    }
    let caused = kinds(&net.record, Kind::Link).len();
    let answers = kinds(&net.record, Kind::Linked).len() + kinds(&net.record, Kind::Cookie).len();
    assert!(answers <= caused);
}

#[test]
fn a_busy_relay_asks_for_a_cookie_and_takes_it() {
    let mut net = Net::with_relays(7, 1);
    net.reconfigure(1, |config| config.limits.link_handshakes_per_second = 3);
    net.recording = true;
    let nodes: Vec<usize> = (0..6).map(|_| net.add(false, false)).collect();
    let ids: Vec<_> = nodes.iter().map(|node| (*node, net.create(*node, &[1]))).collect();
    net.run_for(Duration::from_millis(500));
    for (node, id) in ids {
        assert!(matches!(net.answer(node, id), Some(Event::CircuitReady { .. })), "node {node}");
    }
    assert_eq!(kinds(&net.record, Kind::Cookie).len(), 3);
    assert_eq!(counted(&sync(&mut net, 1), DropReason::CookieSent), 3);
}

#[test]
fn spoofed_links_beyond_the_rate_cost_no_state_and_no_handshake() {
    let mut net = Net::with_relays(8, 1);
    net.reconfigure(1, |config| config.limits.link_handshakes_per_second = 10);
    net.recording = true;
    net.create(0, &[1]);
    let link = net.record[0].bytes.clone();
    net.recording = false;
    for number in 0..1000u16 {
        let mut forged = link.clone();
        forged[47..49].copy_from_slice(&number.to_be_bytes());
        let from = SocketAddr::from(([6, 6, 6, 6], 1000 + number));
        net.inject(1, from, &forged);
    }
    assert!(net.nodes[1].env.dh_calls <= 10);
    assert!(net.nodes[1].tunnel.links.len() <= 10);
    net.run_for(Duration::from_secs(60));
    assert_eq!(net.nodes[1].tunnel.half_open, 0);
    assert!(
        matches!(net.nodes[0].events[..], [(_, Event::CircuitReady { .. })]),
        "the honest one gets through"
    );
}

#[test]
fn a_node_that_is_no_relay_answers_no_link() {
    let mut net = Net::with_relays(9, 1);
    net.recording = true;
    net.create(0, &[1]);
    let link = net.record[0].bytes.clone();
    let client = net.add(false, false);
    net.recording = false;
    let before = net.nodes[client].sent;
    let from = net.nodes[0].address;
    net.inject(client, from, &link);
    assert_eq!(net.nodes[client].sent, before);
    assert_eq!(dropped(&net, client, DropReason::NotRelay), 1);
    let other = net.add(true, true);
    net.inject(other, from, &link);
    assert_eq!(dropped(&net, other, DropReason::WrongPeer), 1);
    assert_eq!(net.nodes[other].sent, 0);
}

#[test]
fn keys_change_every_hour_and_cells_go_on() {
    let mut net = Net::with_relays(10, 2);
    net.recording = true;
    let circuit = net.circuit(0, &[1, 2]);
    let mut phases = Vec::new();
    for round in 0..24 {
        net.record.clear();
        assert!(works(&mut net, circuit, 2, 1 + round), "round {round}");
        let cells = kinds(&net.record, Kind::Cell);
        let odd = cells.iter().filter(|flight| flight.bytes[0] & KEY_PHASE != 0).count();
        assert!(
            odd == 0 || odd == cells.len(),
            "both directions of both links change at about the same time"
        );
        phases.push(odd != 0);
        net.run_for(Duration::from_secs(900));
    }
    let expected: Vec<bool> = (0..24).map(|quarter| quarter / 4 % 2 == 1).collect();
    assert_eq!(phases, expected);
    assert_eq!(super::drops(&net), 0);
}

#[test]
fn keys_change_under_loss_and_reordering() {
    let mut net = Net::with_relays(11, 2);
    let circuit = net.circuit(0, &[1, 2]);
    net.loss = 30;
    net.jitter = Duration::from_millis(50);
    for round in 0..40 {
        net.send(0, circuit, &datagrams(round, 20));
        net.run_for(Duration::from_secs(400));
    }
    net.loss = 0;
    assert!(works(&mut net, circuit, 2, 7777));
    let phases = net.nodes[1].tunnel.links.values().map(|link| link.opener.phases());
    assert_eq!(phases.collect::<Vec<_>>(), [4, 4]);
    assert_eq!(net.death(0, circuit), None);
}

#[test]
fn a_client_that_moves_is_followed_after_it_has_answered_from_there() {
    let mut net = Net::with_relays(12, 2);
    let circuit = net.circuit(0, &[1, 2]);
    assert!(works(&mut net, circuit, 2, 1));
    let old = net.nodes[0].address;
    let moved: SocketAddr = "9.9.9.9:99".parse().unwrap();
    net.nodes[0].address = moved;
    net.recording = true;
    net.send(0, circuit, &datagrams(3, 1));
    net.run_for(Duration::from_millis(15));
    let to_moved: Vec<_> = net.record.iter().filter(|flight| flight.to == moved).collect();
    assert_eq!(to_moved.len(), 1, "a challenge and nothing else");
    assert!(to_moved[0].bytes.len() < 60);
    let handle = last_hop_handle(&net, 2);
    net.send(2, handle, &datagrams(4, 1));
    net.run_for(Duration::from_millis(200));
    net.record.clear();
    let back = datagrams(5, 10);
    net.send(2, handle, &back);
    net.run_for(SECOND);
    assert!(net.record.iter().all(|flight| flight.to != old));
    let came = arrived(&net, 0, CircuitEnd::Originator);
    assert!(came.ends_with(&back));
}

#[test]
fn a_copied_cell_from_elsewhere_moves_nothing() {
    let mut net = Net::with_relays(13, 2);
    let circuit = net.circuit(0, &[1, 2]);
    net.recording = true;
    net.send(0, circuit, &datagrams(1, 2));
    let copies: Vec<Vec<u8>> = net.record.iter().map(|flight| flight.bytes.clone()).collect();
    net.record.clear();
    let thief: SocketAddr = "6.6.6.6:6".parse().unwrap();
    // The thief is faster than the real cell: it is taken, and challenged.
    net.inject(1, thief, &copies[0]);
    net.run_for(SECOND);
    net.inject(1, thief, &copies[1]);
    net.run_for(Duration::from_secs(5));
    let to_thief: Vec<_> = net.record.iter().filter(|flight| flight.to == thief).collect();
    assert_eq!(to_thief.len(), 1);
    assert_eq!(Kind::from_byte(to_thief[0].bytes[0]), Some(Kind::Message));
    assert!(works(&mut net, circuit, 2, 3), "the circuit's owner keeps it");
}

#[test]
fn a_link_whose_relay_forgot_everything_is_replaced() {
    let mut net = Net::with_relays(14, 1);
    net.circuit(0, &[1]);
    let fresh = net.nodes[1].config.clone();
    net.nodes[1].tunnel = crate::Tunnel::new();
    net.nodes[1].tunnel.configure(net.now, fresh).unwrap();
    net.run_for(SECOND);
    let lost = net.create(0, &[1]);
    net.run_for(Duration::from_secs(12));
    assert!(matches!(
        net.answer(0, lost),
        Some(Event::CircuitFailed { reason: CloseReason::Timeout | CloseReason::Link, hop: 1 })
    ));
    let again = net.circuit(0, &[1]);
    assert!(works(&mut net, again, 1, 1));
}

#[test]
fn a_cookie_does_not_lift_the_rate() {
    let mut net = Net::with_relays(16, 1);
    net.reconfigure(1, |config| config.limits.link_handshakes_per_second = 3);
    let nodes: Vec<usize> = (0..12).map(|_| net.add(false, false)).collect();
    for node in nodes {
        net.create(node, &[1]);
    }
    net.run_for(Duration::from_millis(500));
    let calls = net.nodes[1].env.dh_calls;
    let links = net.nodes[1].tunnel.links.len();
    // Three without and three with a cookie, and one or two that trickled in; each made one circuit.
    assert!((6..=8).contains(&links) && calls == 2 * links as u64, "{links} links, {calls} handshakes");
    assert!(counted(&sync(&mut net, 1), DropReason::Rate) >= 4);
}

#[test]
fn a_newer_descriptor_leads_to_where_the_relay_is_now() {
    let mut net = Net::with_relays(17, 1);
    net.circuit(0, &[1]);
    let old = net.signed(1);
    net.run_for(SECOND);
    let moved: SocketAddr = "9.9.9.9:99".parse().unwrap();
    net.nodes[1].address = moved;
    net.reconfigure(1, |config| config.own_addresses = vec![moved]);
    let id = net.create(0, &[1]);
    net.run_for(SECOND);
    assert!(matches!(net.answer(0, id), Some(Event::CircuitReady { .. })), "{:?}", net.answer(0, id));
    // Who still has the old one does not lead the others astray.
    net.recording = true;
    let id = net.request(0, &warren_schemas::control::Request::Create { hops: vec![old], suites: vec![1] });
    net.run_for(SECOND);
    assert!(matches!(net.answer(0, id), Some(Event::CircuitReady { .. })));
    let again = net.circuit(0, &[1]);
    assert!(works(&mut net, again, 1, 5));
    assert!(kinds(&net.record, Kind::Link).is_empty());
}

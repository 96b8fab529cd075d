use std::time::Duration;

use warren_schemas::CircuitId;
use warren_schemas::cell::{Kind, LAYER_LEN};
use warren_schemas::control::{CloseReason, Event};
use warren_tunnel::drop_reason::DropReason;
use warren_tunnel::fragments::Fragment;
use warren_tunnel::message::{LinkMessage, command};
use warren_tunnel::testing::Net;

use crate::handshakes::low_order;
use crate::rogue::{Initiator, Relay, create_for, layer, sent_to};

const CLIENT: usize = 0;
const NODE: usize = 1;

fn start() -> (Net, Relay) {
    let mut net = Net::with_relays(4, 2);
    let relay = Relay::take_over(&mut net, CLIENT, NODE, 1);
    (net, relay)
}

fn created(relay: &mut Relay, circuit: CircuitId, content: &[u8]) -> Vec<u8> {
    relay.ends.message(circuit, &LinkMessage::Created(Fragment { index: 0, total: 1, bytes: content }))
}

fn outcome(net: &Net) -> Option<&Event> {
    net.nodes[CLIENT].events.first().map(|(_, event)| event)
}

#[test]
fn a_created_that_does_not_prove_the_relay_gives_no_circuit() {
    for change in 0..4 {
        let (mut net, mut relay) = start();
        let (circuit, create) = relay.create(&mut net);
        let (mut answer, _) = relay.created(&mut net, &create);
        match change {
            0 => answer[..32].copy_from_slice(&low_order()[0]),
            1 => answer[40] ^= 1,
            2 => *answer.last_mut().unwrap() ^= 1,
            _ => answer.truncate(70),
        }
        let datagram = created(&mut relay, circuit, &answer);
        assert!(relay.say(&mut net, &datagram).is_some(), "change {change}");
        net.run_for(Duration::from_secs(30));
        assert!(matches!(outcome(&net), Some(Event::CircuitFailed { hop: 1, .. })), "{:?}", outcome(&net));
    }
}

#[test]
fn a_relay_cannot_make_circuits_at_its_initiator() {
    let (mut net, mut relay) = start();
    let create = create_for(&net, 2);
    let part = Fragment { index: 0, total: 1, bytes: &create };
    let datagram = relay.ends.message(CircuitId(77), &LinkMessage::Create(part));
    assert_eq!(relay.say(&mut net, &datagram), Some(DropReason::Unexpected));
}

#[test]
fn answers_to_nothing_are_dropped() {
    let (mut net, mut relay) = start();
    let (circuit, create) = relay.create(&mut net);
    let (answer, _) = relay.created(&mut net, &create);
    let elsewhere = CircuitId(circuit.0 ^ 1);
    let datagram = created(&mut relay, elsewhere, &answer);
    assert_eq!(relay.say(&mut net, &datagram), Some(DropReason::UnknownCircuit));
    let datagram = created(&mut relay, circuit, &answer);
    assert_eq!(relay.say(&mut net, &datagram), None);
    assert!(matches!(outcome(&net), Some(Event::CircuitReady { hops: 1, .. })));
    let datagram = created(&mut relay, circuit, &answer);
    assert_eq!(relay.say(&mut net, &datagram), Some(DropReason::Unexpected));
    let datagram = relay.ends.message(circuit, &LinkMessage::CreateFailed(CloseReason::Limit));
    assert_eq!(relay.say(&mut net, &datagram), Some(DropReason::Unexpected));
    assert_eq!(net.nodes[CLIENT].events.len(), 1);
}

#[test]
fn a_last_hop_that_breaks_the_rules_is_not_believed() {
    let (mut net, mut relay) = start();
    let (circuit, create) = relay.create(&mut net);
    let (answer, keys) = relay.created(&mut net, &create);
    let (mut sealer, _) = keys.relay();
    let datagram = created(&mut relay, circuit, &answer);
    assert_eq!(relay.say(&mut net, &datagram), None);
    let bad: [(u8, Vec<u8>, DropReason); 7] = [
        (command::RELAY, vec![0; 100], DropReason::Unexpected),
        (command::DATA, vec![], DropReason::Malformed),
        (command::DATA, vec![1; 1241], DropReason::TooLong),
        (command::EXTEND, vec![0, 0, 0, 1, 0, 1, 0, 0], DropReason::Unexpected),
        (command::EXTENDED, vec![0, 0, 0, 1, 0, 1, 0, 0], DropReason::Unexpected),
        (command::EXTEND_FAILED, vec![0, 0, 0, 1, 1], DropReason::Unexpected),
        (99, vec![0; 10], DropReason::UnknownCommand),
    ];
    for (number, inner, reason) in bad {
        let sealed = layer(&mut sealer, number, &inner);
        let cell = relay.ends.cell(circuit, &sealed);
        net.record.clear();
        assert_eq!(relay.say(&mut net, &cell), Some(reason), "command {number}");
        assert!(net.record.is_empty());
    }
    let garbage = relay.ends.cell(circuit, &[0xab; LAYER_LEN + 40]);
    assert_eq!(relay.say(&mut net, &garbage), Some(DropReason::Layer));
    let sealed = layer(&mut sealer, command::DATA, b"at last");
    let cell = relay.ends.cell(circuit, &sealed);
    assert_eq!(relay.say(&mut net, &cell), None);
    assert_eq!(net.nodes[CLIENT].delivered.len(), 1);
    assert_eq!(net.nodes[CLIENT].delivered[0].2, b"at last");
}

fn moved(relay: &mut Relay, circuit: CircuitId) -> Vec<u8> {
    relay.ends.message(circuit, &LinkMessage::CreateFailed(CloseReason::Moved))
}

fn links_to(net: &mut Net, node: usize) -> usize {
    let address = net.nodes[node].address;
    sent_to(net, address).iter().filter(|bytes| bytes[0] == Kind::Link as u8).count()
}

#[test]
fn a_relay_sends_on_only_who_asks_it_and_no_link_is_opened_otherwise() {
    let (mut net, mut relay) = start();
    let (circuit, create) = relay.create(&mut net);
    let datagram = moved(&mut relay, CircuitId(circuit.0 ^ 1));
    assert_eq!(relay.say(&mut net, &datagram), Some(DropReason::UnknownCircuit));
    let datagram = moved(&mut relay, CircuitId(0));
    assert_eq!(relay.say(&mut net, &datagram), Some(DropReason::UnknownCircuit));
    let (answer, _) = relay.created(&mut net, &create);
    let datagram = created(&mut relay, circuit, &answer);
    assert_eq!(relay.say(&mut net, &datagram), None);
    let datagram = moved(&mut relay, circuit);
    assert_eq!(relay.say(&mut net, &datagram), Some(DropReason::Unexpected));
    net.run_for(Duration::from_millis(500));
    assert_eq!(links_to(&mut net, NODE), 0);
    // The link is as good as before for the next circuit.
    net.create_in(CLIENT, &[NODE], vec![1]);
    assert_ne!(relay.create(&mut net).0, circuit);
}

#[test]
fn a_relay_that_sends_on_for_ever_gets_two_links_an_attempt() {
    let (mut net, mut relay) = start();
    let (circuit, _) = relay.create(&mut net);
    let datagram = moved(&mut relay, circuit);
    assert_eq!(relay.say(&mut net, &datagram), None);
    assert_eq!(relay.say(&mut net, &datagram), Some(DropReason::UnknownLink), "it carried nothing");
    let mut relay = relay.answer_link(&mut net);
    let (circuit, _) = relay.create(&mut net);
    let datagram = moved(&mut relay, circuit);
    assert_eq!(relay.say(&mut net, &datagram), None);
    assert!(matches!(outcome(&net), Some(Event::CircuitFailed { reason: CloseReason::Limit, hop: 1 })));
    net.run_for(Duration::from_secs(60));
    assert_eq!(links_to(&mut net, NODE), 0);
}

#[test]
fn being_sent_on_takes_no_longer_than_being_refused() {
    let (mut net, mut relay) = start();
    let (circuit, _) = relay.create(&mut net);
    net.run_for(Duration::from_secs(8));
    let datagram = moved(&mut relay, circuit);
    assert_eq!(relay.say(&mut net, &datagram), None);
    assert_eq!(links_to(&mut net, NODE), 1);
    net.run_for(Duration::from_millis(1900));
    assert_eq!(outcome(&net), None);
    net.run_for(Duration::from_millis(200));
    assert!(matches!(outcome(&net), Some(Event::CircuitFailed { reason: CloseReason::Timeout, hop: 1 })));
}

#[test]
fn an_initiator_sends_nobody_on() {
    let mut net = Net::with_relays(4, 2);
    let mut rogue = Initiator::open(&mut net, NODE);
    let hop = rogue.circuit(&mut net, 5);
    for (circuit, reason) in [(hop.id, DropReason::Unexpected), (CircuitId(6), DropReason::UnknownCircuit)] {
        let datagram = rogue.ends.message(circuit, &LinkMessage::CreateFailed(CloseReason::Moved));
        rogue.is_dropped(&mut net, &datagram, reason);
    }
    rogue.is_answered(&mut net);
}

/// A link's responder cannot send its initiator anywhere else.
#[test]
fn an_initiator_does_not_follow_a_relay() {
    let (mut net, mut relay) = start();
    let elsewhere = "6.7.8.9:1000".parse().unwrap();
    net.record.clear();
    let ping = relay.ends.message(CircuitId(0), &LinkMessage::Ping([1; 8]));
    net.inject(CLIENT, elsewhere, &ping);
    net.run_for(Duration::from_secs(20));
    assert!(sent_to(&mut net, elsewhere).is_empty());
}

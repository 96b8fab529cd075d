use std::net::SocketAddr;

use warren_schemas::cell::MAX_DATAGRAM;
use warren_schemas::control::{CloseReason, Event, Request};
use warren_schemas::descriptor::SignedDescriptor;
use warren_schemas::{CircuitId, LinkId, PeerId, Timestamp};
use warren_tunnel::drop_reason::DropReason;
use warren_tunnel::fragments::Fragment;
use warren_tunnel::message::{COOKIE_MESSAGE_LEN, CookieMessage, Link, LinkMessage};
use warren_tunnel::ntor::Suite;
use warren_tunnel::ntor::circuit::Creating;
use warren_tunnel::ntor::link::Opening;
use warren_tunnel::testing::Net;

use crate::rogue::{HERE, Heard, Initiator, create_for, refused, sent_to, target};

const RELAY: usize = 1;

/// Points of order 1, 2, 4 and 8 on the curve and its twist (Wycheproof, X25519).
pub(crate) fn low_order() -> [[u8; 32]; 5] {
    let mut points = [[0; 32]; 5];
    points[1][0] = 1;
    points[2] = [0xff; 32];
    points[2][0] = 0xec;
    points[2][31] = 0x7f;
    points[3] = [0xff; 32];
    points[3][0] = 0xed;
    points[3][31] = 0x7f;
    points[4] = [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda,
        0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ];
    points
}

fn link(net: &Net, id: u32, random: u8) -> Vec<u8> {
    Opening::new(Suite::X25519, target(net, RELAY), LinkId(id), [random; 32]).datagrams().remove(0)
}

fn changed(datagram: &[u8], change: impl FnOnce(&mut Link<'_>)) -> Vec<u8> {
    let mut link = Link::decode(datagram).unwrap();
    change(&mut link);
    let mut bytes = vec![0; MAX_DATAGRAM];
    link.encode(&mut bytes).unwrap();
    bytes
}

fn is_dropped(net: &mut Net, node: usize, bytes: &[u8], reason: DropReason) {
    net.record.clear();
    assert_eq!(refused(net, node, HERE, bytes), Some(reason));
    assert!(net.record.is_empty(), "{reason} was answered");
}

#[test]
fn links_that_cannot_be_have_no_answer() {
    let mut net = Net::with_relays(2, 1);
    net.recording = true;
    let good = link(&net, 0x66, 1);
    for point in low_order() {
        let bad = changed(&good, |link| link.x = point);
        is_dropped(&mut net, RELAY, &bad, DropReason::LowOrder);
    }
    let bad = changed(&good, |link| link.peer_id = PeerId([3; 32]));
    is_dropped(&mut net, RELAY, &bad, DropReason::WrongPeer);
    let bad = changed(&good, |link| link.epoch += 1);
    is_dropped(&mut net, RELAY, &bad, DropReason::OnionKey);
    let bad = changed(&good, |link| link.suite = 9);
    is_dropped(&mut net, RELAY, &bad, DropReason::Suite);
    let bad = changed(&good, |link| link.part = Fragment { index: 0, total: 1, bytes: &[5; 100] });
    is_dropped(&mut net, RELAY, &bad, DropReason::Malformed);
    let bad = changed(&good, |link| link.part = Fragment { index: 0, total: 2, bytes: &[5; 1024] });
    is_dropped(&mut net, RELAY, &bad, DropReason::Fragment);
    let mut bad = good.clone();
    bad[5] = 9;
    is_dropped(&mut net, RELAY, &bad, DropReason::Version);
    for length in [0, 1, 5, 115, MAX_DATAGRAM - 1] {
        is_dropped(&mut net, RELAY, &good[..length], DropReason::Malformed);
    }
    let long = [&good[..], &[0]].concat();
    is_dropped(&mut net, RELAY, &long, DropReason::Malformed);
    is_dropped(&mut net, 0, &good, DropReason::NotRelay);
    assert_eq!(refused(&mut net, RELAY, HERE, &good), None);
}

#[test]
fn an_answer_is_never_larger_than_its_cause() {
    let mut net = Net::with_relays(2, 1);
    net.reconfigure(RELAY, |config| config.limits.link_handshakes_per_second = 3);
    net.recording = true;
    for number in 1..=20 {
        let link = link(&net, u32::from(number), number);
        refused(&mut net, RELAY, HERE, &link);
        let answers = sent_to(&mut net, HERE);
        assert_eq!(answers.len(), 1);
        assert!(answers[0].len() <= link.len());
        assert_eq!(answers[0].len() == COOKIE_MESSAGE_LEN, number > 3, "{number}");
    }
}

#[test]
fn only_the_right_cookie_opens() {
    let mut net = Net::with_relays(2, 1);
    net.reconfigure(RELAY, |config| config.limits.link_handshakes_per_second = 1);
    net.recording = true;
    let first = link(&net, 1, 1);
    assert_eq!(refused(&mut net, RELAY, HERE, &first), None);
    let wanted = link(&net, 2, 2);
    refused(&mut net, RELAY, HERE, &wanted);
    let calls = net.nodes[RELAY].env.dh_calls;
    let answer = sent_to(&mut net, HERE).pop().unwrap();
    let cookie = CookieMessage::decode(&answer).unwrap().cookie;
    let elsewhere: SocketAddr = "6.6.6.7:6666".parse().unwrap();
    let with_cookie = changed(&wanted, |link| link.cookie = cookie);
    let mut wrong = vec![(with_cookie.clone(), elsewhere)];
    wrong.push((changed(&with_cookie, |link| link.cookie[0] ^= 1), HERE));
    wrong.push((changed(&with_cookie, |link| link.initiator = LinkId(9)), HERE));
    wrong.push((changed(&with_cookie, |link| link.x[0] ^= 1), HERE));
    for (datagram, from) in wrong {
        net.inject(RELAY, from, &datagram);
        let answers = sent_to(&mut net, from);
        assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [COOKIE_MESSAGE_LEN]);
    }
    assert_eq!(net.nodes[RELAY].env.dh_calls, calls, "a cookie costs no Diffie-Hellman");
    net.inject(RELAY, HERE, &with_cookie);
    assert_eq!(sent_to(&mut net, HERE)[0].len(), MAX_DATAGRAM);
}

/// A LINK from `from` with the cookie that the relay wants.
fn with_cookie(net: &mut Net, from: SocketAddr, number: u32) -> Vec<u8> {
    let link = link(net, number, number as u8);
    net.record.clear();
    net.inject(RELAY, from, &link);
    let answer = sent_to(net, from).remove(0);
    let cookie = CookieMessage::decode(&answer).unwrap().cookie;
    changed(&link, |link| link.cookie = cookie)
}

#[test]
fn half_open_links_are_bounded_and_forgotten() {
    let mut net = Net::with_relays(2, 1);
    net.reconfigure(RELAY, |config| config.limits.half_open_links = 5);
    net.recording = true;
    for number in 1..=2 {
        let link = link(&net, number, number as u8);
        assert_eq!(refused(&mut net, RELAY, HERE, &link), None);
    }
    // Half of the table is for those who have shown that they receive.
    for number in 3..=5 {
        let from = SocketAddr::from(([6, 6, 7, number as u8], 1));
        let link = with_cookie(&mut net, from, number);
        assert_eq!(refused(&mut net, RELAY, from, &link), None);
    }
    let one_more = with_cookie(&mut net, HERE, 6);
    is_dropped(&mut net, RELAY, &one_more, DropReason::Limit);
    // A repeated LINK is no new one.
    let again = link(&net, 2, 2);
    assert_eq!(refused(&mut net, RELAY, HERE, &again), None);
    assert_eq!(sent_to(&mut net, HERE)[0].len(), MAX_DATAGRAM);
    net.run_for(std::time::Duration::from_secs(11));
    assert_eq!(refused(&mut net, RELAY, HERE, &one_more), None);
}

#[test]
fn creates_that_cannot_be_have_no_answer() {
    let mut net = Net::with_relays(2, 1);
    let mut rogue = Initiator::open(&mut net, RELAY);
    let good = create_for(&net, RELAY);
    let send = |net: &mut Net, rogue: &mut Initiator, id: u32, create: &[u8], reason| {
        let part = Fragment { index: 0, total: 1, bytes: create };
        let datagram = rogue.ends.message(CircuitId(id), &LinkMessage::Create(part));
        rogue.is_dropped(net, &datagram, reason);
    };
    for point in low_order() {
        let bad = [&good[..6], &point].concat();
        send(&mut net, &mut rogue, 7, &bad, DropReason::LowOrder);
    }
    for (at, byte, reason) in [(0, 2, DropReason::Version), (5, 99, DropReason::OnionKey)] {
        let mut bad = good.clone();
        bad[at] = byte;
        send(&mut net, &mut rogue, 7, &bad, reason);
    }
    send(&mut net, &mut rogue, 7, &good[..20], DropReason::Malformed);
    send(&mut net, &mut rogue, 0, &good, DropReason::Malformed);
    let part = Fragment { index: 0, total: 4, bytes: &[1; 1024] };
    let datagram = rogue.ends.message(CircuitId(7), &LinkMessage::Create(part));
    rogue.is_dropped(&mut net, &datagram, DropReason::Fragment);
    rogue.circuit(&mut net, 7);
}

#[test]
fn whoever_wants_another_suite_is_told() {
    let mut net = Net::with_relays(2, 1);
    let mut rogue = Initiator::open(&mut net, RELAY);
    let mut create = create_for(&net, RELAY);
    create[1] = 9;
    create.resize(1024, 0);
    for total in [1, 2, 4] {
        let part = Fragment { index: 0, total, bytes: &create };
        let datagram = rogue.ends.message(CircuitId(7), &LinkMessage::Create(part));
        assert_eq!(rogue.say(&mut net, &datagram), Some(DropReason::Suite));
        let [Heard::Message(CircuitId(7), content)] = &rogue.hear(&mut net)[..] else { panic!("no word") };
        assert_eq!(LinkMessage::decode(content), Ok(LinkMessage::CreateFailed(CloseReason::Refused)));
    }
}

/// The same ephemeral key gets the identical answer and never a second state.
#[test]
fn a_repeated_create_makes_no_second_circuit() {
    let mut net = Net::with_relays(2, 1);
    let mut rogue = Initiator::open(&mut net, RELAY);
    let create = create_for(&net, RELAY);
    let part = Fragment { index: 0, total: 1, bytes: &create };
    let mut answers = Vec::new();
    for _ in 0..3 {
        let datagram = rogue.ends.message(CircuitId(7), &LinkMessage::Create(part));
        assert_eq!(rogue.say(&mut net, &datagram), None);
        match &rogue.hear(&mut net)[..] {
            [Heard::Message(CircuitId(7), content)] => answers.push(content.clone()),
            other => panic!("{other:?}"),
        }
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(net.nodes[RELAY].env.dh_calls, 2, "one for the link, one for the circuit");
    let elsewhere = rogue.ends.message(CircuitId(8), &LinkMessage::Create(part));
    rogue.is_dropped(&mut net, &elsewhere, DropReason::Unexpected);
    let other = Creating::new(Suite::X25519, target(&net, RELAY), [0x78; 32]).create();
    let part = Fragment { index: 0, total: 1, bytes: &other };
    let same_id = rogue.ends.message(CircuitId(7), &LinkMessage::Create(part));
    rogue.is_dropped(&mut net, &same_id, DropReason::Unexpected);
}

#[test]
fn link_messages_that_do_not_belong_are_dropped() {
    let mut net = Net::with_relays(2, 1);
    let mut rogue = Initiator::open(&mut net, RELAY);
    let hop = rogue.circuit(&mut net, 7);
    let part = Fragment { index: 0, total: 1, bytes: b"created" };
    let bad = [
        (hop.id, LinkMessage::Created(part), DropReason::Unexpected),
        (CircuitId(8), LinkMessage::Created(part), DropReason::UnknownCircuit),
        (hop.id, LinkMessage::CreateFailed(CloseReason::Limit), DropReason::Unexpected),
        (CircuitId(8), LinkMessage::Destroy(CloseReason::Finished), DropReason::UnknownCircuit),
        (CircuitId(0), LinkMessage::PathResponse([1; 8]), DropReason::PathResponse),
    ];
    for (circuit, message, reason) in bad {
        let datagram = rogue.ends.message(circuit, &message);
        rogue.is_dropped(&mut net, &datagram, reason);
    }
    for (content, reason) in [
        (&[10, 0, 0][..], DropReason::UnknownCommand),
        (&[7, 1], DropReason::Malformed),
        (&[1, 0], DropReason::Malformed),
    ] {
        let datagram = rogue.ends.raw_message(hop.id, content);
        rogue.is_dropped(&mut net, &datagram, reason);
    }
    rogue.is_answered(&mut net);
}

fn failed(net: &mut Net, hops: Vec<SignedDescriptor>) -> (CloseReason, u8) {
    net.recording = true;
    net.record.clear();
    let suites = vec![1; hops.len()];
    let id = net.request(0, &Request::Create { hops, suites });
    assert!(net.record.is_empty(), "nothing goes out");
    match net.answer(0, id) {
        Some(Event::CircuitFailed { reason, hop }) => (*reason, *hop),
        other => panic!("{other:?}"),
    }
}

/// The originator checks what its host gives it before a byte goes out.
#[test]
fn paths_that_break_a_rule_are_refused_at_the_originator() {
    let mut net = Net::with_relays(2, 3);
    let hop = |net: &Net, node| net.signed(node);
    let repeated = vec![hop(&net, 1), hop(&net, 2), hop(&net, 1)];
    assert_eq!(failed(&mut net, repeated), (CloseReason::Refused, 3));
    let own = vec![hop(&net, 1), hop(&net, 0)];
    assert_eq!(failed(&mut net, own), (CloseReason::Refused, 2));
    let long = [1, 2, 3, 1].map(|node| net.signed(node)).to_vec();
    assert_eq!(failed(&mut net, long).0, CloseReason::Refused);
    let mut private = net.descriptor(2);
    private.addresses = vec!["192.168.0.1:4000".parse().unwrap()];
    let private = vec![hop(&net, 1), private.sign(&net.nodes[2].key)];
    assert_eq!(failed(&mut net, private), (CloseReason::Refused, 2));
    let forged = vec![hop(&net, 1), net.descriptor(2).sign(&net.nodes[3].key)];
    assert_eq!(failed(&mut net, forged), (CloseReason::Descriptor, 2));
    let mut old = net.descriptor(2);
    (old.published, old.expires) = (Timestamp::from_micros(1), net.now);
    let expired = vec![hop(&net, 1), old.sign(&net.nodes[2].key)];
    assert_eq!(failed(&mut net, expired), (CloseReason::Descriptor, 2));
    let oversized = vec![hop(&net, 1), SignedDescriptor::from_bytes(vec![0; 641])];
    assert_eq!(failed(&mut net, oversized), (CloseReason::Descriptor, 2));
    let garbage = vec![SignedDescriptor::from_bytes(vec![0xff; 100])];
    assert_eq!(failed(&mut net, garbage), (CloseReason::Descriptor, 1));
}

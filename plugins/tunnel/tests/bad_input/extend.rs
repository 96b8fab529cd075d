use std::time::Duration;

use warren_schemas::control::CloseReason;
use warren_schemas::descriptor::Descriptor;
use warren_tunnel::drop_reason::DropReason;
use warren_tunnel::fragments::{Fragment, MAX_HANDSHAKE};
use warren_tunnel::message::{HopMessage, command};
use warren_tunnel::ntor::Suite;
use warren_tunnel::ntor::circuit::Creating;
use warren_tunnel::testing::Net;

use crate::handshakes::low_order;
use crate::rogue::{Hop, Initiator, create_for, layer, target};

const RELAY: usize = 1;
const NEXT: usize = 2;

fn start() -> (Net, Initiator, Hop) {
    let mut net = Net::with_relays(3, 3);
    let mut rogue = Initiator::open(&mut net, RELAY);
    let hop = rogue.circuit(&mut net, 5);
    (net, rogue, hop)
}

/// Extends to a changed descriptor of NEXT, signed by it; nothing must leave the relay but the answer.
fn refusal(change: impl FnOnce(&mut Descriptor)) -> Option<CloseReason> {
    let (mut net, mut rogue, mut hop) = start();
    let mut descriptor = net.descriptor(NEXT);
    change(&mut descriptor);
    let signed = descriptor.sign(&net.nodes[NEXT].key);
    let create = create_for(&net, NEXT);
    net.record.clear();
    let reason = rogue.extend(&mut net, &mut hop, 1, signed.as_bytes(), &create);
    let received = net.nodes[2..].iter().map(|node| node.received).sum::<u64>();
    assert_eq!(received == 0, reason.is_some(), "a refused target hears nothing");
    if reason.is_some() {
        assert!(net.record.is_empty(), "the relay sent elsewhere: {:?}", net.record);
    }
    reason
}

#[test]
fn a_good_target_is_extended_to() {
    assert_eq!(refusal(|_| ()), None);
}

#[test]
fn private_and_special_addresses_are_refused() {
    for address in [
        "127.0.0.1:4000",
        "10.0.0.1:4000",
        "192.168.1.1:4000",
        "172.16.5.5:4000",
        "169.254.169.254:80",
        "100.64.0.1:4000",
        "224.0.0.1:4000",
        "255.255.255.255:4000",
        "198.18.0.1:4000",
        "[::1]:4000",
        "[fe80::1]:4000",
        "[fc00::1]:4000",
        "[ff02::1]:4000",
        "[::ffff:10.0.0.1]:4000",
        "[64:ff9b::a00:1]:4000",
        "[2002:a00:1::]:4000",
    ] {
        let addresses = vec![address.parse().unwrap()];
        assert_eq!(
            refusal(|descriptor| descriptor.addresses = addresses),
            Some(CloseReason::Refused),
            "{address}"
        );
    }
}

/// One public address among private ones: only that one hears from the relay.
#[test]
fn private_addresses_are_left_out() {
    let (mut net, mut rogue, mut hop) = start();
    let mut descriptor = net.descriptor(NEXT);
    descriptor.addresses.insert(0, "10.0.0.1:4000".parse().unwrap());
    let signed = descriptor.sign(&net.nodes[NEXT].key);
    let create = create_for(&net, NEXT);
    net.record.clear();
    assert_eq!(rogue.extend(&mut net, &mut hop, 1, signed.as_bytes(), &create), None);
    let known: Vec<_> = net.nodes.iter().map(|node| node.address).collect();
    assert!(net.record.iter().all(|flight| known.contains(&flight.to)), "{:?}", net.record);
}

#[test]
fn the_relay_itself_is_refused() {
    let (mut net, mut rogue, mut hop) = start();
    let (own, create) = (net.signed(RELAY), create_for(&net, RELAY));
    net.record.clear();
    let reason = rogue.extend(&mut net, &mut hop, 1, own.as_bytes(), &create);
    assert_eq!(reason, Some(CloseReason::Refused));
    assert!(net.record.is_empty());
    // Under another name, at its own address.
    let own_address = net.nodes[RELAY].address;
    assert_eq!(refusal(|descriptor| descriptor.addresses = vec![own_address]), Some(CloseReason::Refused));
}

#[test]
fn a_second_next_hop_is_refused() {
    let (mut net, mut rogue, mut hop) = start();
    let (signed, create) = (net.signed(NEXT), create_for(&net, NEXT));
    assert_eq!(rogue.extend(&mut net, &mut hop, 1, signed.as_bytes(), &create), None);
    let (other, create) = (net.signed(3), create_for(&net, 3));
    let reason = rogue.extend(&mut net, &mut hop, 2, other.as_bytes(), &create);
    assert_eq!(reason, Some(CloseReason::Refused));
    assert_eq!(net.nodes[3].received, 0);
}

#[test]
fn no_relay_and_unknown_suites_are_refused() {
    assert_eq!(refusal(|descriptor| descriptor.relay = false), Some(CloseReason::Refused));
    assert_eq!(refusal(|descriptor| descriptor.suites = vec![2, 3]), Some(CloseReason::Refused));
}

#[test]
fn forged_expired_and_broken_descriptors_are_refused() {
    let (mut net, mut rogue, mut hop) = start();
    let create = create_for(&net, NEXT);
    let good = net.signed(NEXT);
    let forged = net.descriptor(NEXT).sign(&net.nodes[3].key);
    let mut expired = net.descriptor(NEXT);
    expired.expires = net.now;
    let expired = expired.sign(&net.nodes[NEXT].key);
    let mut early = net.descriptor(NEXT);
    early.published = net.now.after(Duration::from_secs(3600));
    early.expires = net.now.after(Duration::from_secs(7200));
    let early = early.sign(&net.nodes[NEXT].key);
    let mut flipped = good.as_bytes().to_vec();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let bad = [
        forged.as_bytes(),
        expired.as_bytes(),
        early.as_bytes(),
        &flipped,
        &good.as_bytes()[..100],
        &[0xff; 300],
        &[],
    ];
    net.record.clear();
    for (exchange, descriptor) in (1..).zip(bad) {
        let reason = rogue.extend(&mut net, &mut hop, exchange, descriptor, &create);
        assert_eq!(reason, Some(CloseReason::Descriptor), "{exchange}");
    }
    assert!(net.record.is_empty());
    assert_eq!(net.nodes[NEXT].received, 0);
    assert_eq!(
        rogue.extend(&mut net, &mut hop, 8, good.as_bytes(), &create),
        None,
        "the circuit is unharmed"
    );
}

#[test]
fn an_oversized_descriptor_is_refused() {
    let (mut net, mut rogue, mut hop) = start();
    let create = create_for(&net, NEXT);
    let reason = rogue.extend(&mut net, &mut hop, 1, &[0; 641], &create);
    assert!(matches!(reason, Some(CloseReason::Descriptor | CloseReason::Protocol)), "{reason:?}");
    let reason = rogue.extend(&mut net, &mut hop, 2, &[0; 2000], &create);
    assert!(matches!(reason, Some(CloseReason::Descriptor | CloseReason::Protocol)), "{reason:?}");
}

#[test]
fn at_most_eight_distinct_extends() {
    let (mut net, mut rogue, mut hop) = start();
    let create = create_for(&net, NEXT);
    for exchange in 1..=8 {
        let reason = rogue.extend(&mut net, &mut hop, exchange, &[], &create);
        assert_eq!(reason, Some(CloseReason::Descriptor));
    }
    let good = net.signed(NEXT);
    let reason = rogue.extend(&mut net, &mut hop, 9, good.as_bytes(), &create);
    assert_eq!(reason, Some(CloseReason::Limit));
    assert_eq!(net.nodes[NEXT].received, 0);
}

/// A low-order point inside the create: the next hop does not answer, the relay says so in time.
#[test]
fn low_order_points_reach_no_second_circuit() {
    let (mut net, mut rogue, mut hop) = start();
    let (good, create) = (net.signed(NEXT), create_for(&net, NEXT));
    let [point, ..] = low_order();
    let bad = [&create[..6], &point].concat();
    let reason = rogue.extend(&mut net, &mut hop, 1, good.as_bytes(), &bad);
    assert_eq!(reason, Some(CloseReason::Timeout));
    assert!(net.nodes[NEXT].drops.contains(&(DropReason::LowOrder as u8)));
    assert_eq!(rogue.extend(&mut net, &mut hop, 2, good.as_bytes(), &create), None);
}

/// A repeated EXTEND is a retry: one circuit at the next hop, and the same answer.
#[test]
fn a_repeated_extend_makes_no_second_circuit() {
    let (mut net, mut rogue, mut hop) = start();
    let (signed, create) = (net.signed(NEXT), create_for(&net, NEXT));
    assert_eq!(rogue.extend(&mut net, &mut hop, 1, signed.as_bytes(), &create), None);
    let calls = net.nodes[NEXT].env.dh_calls;
    assert_eq!(rogue.extend(&mut net, &mut hop, 1, signed.as_bytes(), &create), None);
    assert_eq!(net.nodes[NEXT].env.dh_calls, calls);
}

#[test]
fn contradicting_and_endless_parts_are_dropped() {
    let (mut net, mut rogue, mut hop) = start();
    let parts = [
        (Fragment { index: 0, total: 4, bytes: &[1; 1024] }, None),
        (Fragment { index: 0, total: 4, bytes: &[2; 1024] }, Some(DropReason::Fragment)),
        (Fragment { index: 1, total: 3, bytes: &[1; 1024] }, Some(DropReason::Fragment)),
        (Fragment { index: 1, total: 4, bytes: &[1; 1024] }, None),
        (Fragment { index: 2, total: 4, bytes: &[1; 1024] }, None),
    ];
    for (part, reason) in parts {
        let cell = rogue.command(&mut hop, &HopMessage::Extend { exchange: 1, part });
        assert_eq!(rogue.say(&mut net, &cell), reason);
    }
    let long = [&[0, 0, 0, 1, 4, 5, 4, 0][..], &[0; 1024]].concat();
    let cell = layer(&mut hop.sealer, command::EXTEND, &long);
    let cell = rogue.ends.cell(hop.id, &cell);
    rogue.is_dropped(&mut net, &cell, DropReason::Fragment);
    let reason = rogue.extend(&mut net, &mut hop, 2, &[], &[0; MAX_HANDSHAKE - 2]);
    assert_eq!(reason, Some(CloseReason::Descriptor));
}

/// Whoever does not hold the next hop's keys cannot answer for it: the tag binds peer id and onion key.
#[test]
fn a_create_for_another_onion_key_gives_keys_to_nobody() {
    let (mut net, mut rogue, mut hop) = start();
    let signed = net.signed(NEXT);
    let creating = Creating::new(Suite::X25519, target(&net, 3), [0x41; 32]);
    net.record.clear();
    let content = crate::rogue::raw_extend(signed.as_bytes(), &creating.create());
    let part = Fragment { index: 0, total: 1, bytes: &content };
    let cell = rogue.command(&mut hop, &HopMessage::Extend { exchange: 1, part });
    assert_eq!(rogue.say(&mut net, &cell), None);
    net.run_for(Duration::from_secs(2));
    let answers = rogue.answers(&mut net, &mut hop);
    let [(number, inner)] = &answers[..] else { panic!("{answers:?}") };
    let Ok(HopMessage::Extended { part, .. }) = HopMessage::decode(*number, inner) else {
        panic!("{inner:?}")
    };
    assert_eq!(creating.finish(part.bytes).map(|_| ()), Err(DropReason::Handshake));
}

/// Anybody can sign a descriptor with a new key that names somebody else's address.
#[test]
fn a_relay_cannot_be_made_to_flood_an_address() {
    let (mut net, mut rogue, _) = start();
    let victim: std::net::SocketAddr = "8.8.4.4:53".parse().unwrap();
    let create = create_for(&net, NEXT);
    for number in 0..40u8 {
        let mut hop = rogue.circuit(&mut net, 100 + u32::from(number));
        let key = ed25519_dalek::SigningKey::from_bytes(&[number; 32]);
        let mut descriptor = net.descriptor(NEXT);
        descriptor.peer_id = warren_schemas::PeerId(key.verifying_key().to_bytes());
        descriptor.addresses = vec![(victim.ip(), 1000 + u16::from(number)).into()];
        let content = crate::rogue::raw_extend(descriptor.sign(&key).as_bytes(), &create);
        let part = Fragment { index: 0, total: 1, bytes: &content };
        let cell = rogue.command(&mut hop, &HopMessage::Extend { exchange: 1, part });
        rogue.say(&mut net, &cell);
    }
    net.run_for(Duration::from_secs(9));
    let hit = net.record.iter().filter(|flight| flight.to.ip() == victim.ip()).count();
    assert!(hit > 0 && hit <= 8 * 4, "{hit} datagrams");
}

/// A circuit that cannot get longer keeps no parts of an EXTEND, and says so at the first.
#[test]
fn parts_of_a_hopeless_extend_are_not_kept() {
    let (mut net, mut rogue, mut hop) = start();
    let (signed, create) = (net.signed(NEXT), create_for(&net, NEXT));
    assert_eq!(rogue.extend(&mut net, &mut hop, 1, signed.as_bytes(), &create), None);
    let part = Fragment { index: 0, total: 4, bytes: &[1; 1024] };
    let cell = rogue.command(&mut hop, &HopMessage::Extend { exchange: 2, part });
    assert_eq!(rogue.say(&mut net, &cell), Some(DropReason::Unexpected));
    let answers = rogue.answers(&mut net, &mut hop);
    let [(number, inner)] = &answers[..] else { panic!("{answers:?}") };
    let failed = HopMessage::ExtendFailed { exchange: 2, reason: CloseReason::Refused };
    assert_eq!(HopMessage::decode(*number, inner), Ok(failed));
}

/// What is passed on is a layer, or it is nothing.
#[test]
fn what_is_too_short_for_a_layer_is_not_passed_on() {
    let (mut net, mut rogue, mut hop) = start();
    let (signed, create) = (net.signed(NEXT), create_for(&net, NEXT));
    assert_eq!(rogue.extend(&mut net, &mut hop, 1, signed.as_bytes(), &create), None);
    // With a rate, cells wait: nothing without a length may.
    net.reconfigure(RELAY, |config| config.limits.bytes_per_second = 1);
    for length in [0, 1, 20] {
        let cell = layer(&mut hop.sealer, command::RELAY, &vec![0; length]);
        let cell = rogue.ends.cell(hop.id, &cell);
        rogue.is_dropped(&mut net, &cell, DropReason::Malformed);
    }
}

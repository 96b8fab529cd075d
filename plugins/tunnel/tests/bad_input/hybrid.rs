//! The same in suite 2, whose CREATE comes in two parts.

use std::time::Duration;

use warren_schemas::cell::MAX_DATAGRAM;
use warren_schemas::control::{CloseReason, Event};
use warren_schemas::{CircuitId, LinkId};
use warren_tunnel::drop_reason::DropReason;
use warren_tunnel::fragments::{FRAGMENT_LEN, Fragment, split};
use warren_tunnel::message::{Link, LinkMessage};
use warren_tunnel::ntor::Suite;
use warren_tunnel::ntor::circuit::Creating;
use warren_tunnel::ntor::link::Opening;
use warren_tunnel::testing::Net;

use crate::handshakes::low_order;
use crate::rogue::{HERE, Heard, Initiator, Relay, refused, sent_to, target};

const RELAY: usize = 1;
/// Bytes of a create before its share.
const FRONT: usize = 6;

fn creating(net: &Net, random: u8) -> Creating {
    Creating::new(Suite::Hybrid, target(net, RELAY), [random; 32])
}

fn start() -> (Net, Initiator, Vec<u8>) {
    let mut net = Net::with_relays(2, 1);
    let rogue = Initiator::open(&mut net, RELAY);
    let create = creating(&net, 0x77).create();
    (net, rogue, create)
}

fn parts(rogue: &mut Initiator, circuit: u32, create: &[u8]) -> Vec<Vec<u8>> {
    let parts: Vec<Fragment<'_>> = split(create).unwrap().collect();
    parts.iter().map(|part| rogue.ends.message(CircuitId(circuit), &LinkMessage::Create(*part))).collect()
}

/// All parts but the last are taken without a word; gives what came of the last.
fn say(net: &mut Net, rogue: &mut Initiator, circuit: u32, create: &[u8]) -> Option<DropReason> {
    let mut datagrams = parts(rogue, circuit, create);
    let last = datagrams.pop().unwrap();
    for datagram in datagrams {
        assert_eq!(rogue.say(net, &datagram), None);
    }
    assert!(rogue.hear(net).is_empty(), "half a create has no answer");
    rogue.say(net, &last)
}

fn created(net: &mut Net, rogue: &mut Initiator, circuit: u32) -> Vec<Vec<u8>> {
    let heard = rogue.hear(net);
    let contents = heard.into_iter().map(|heard| match heard {
        Heard::Message(CircuitId(id), content) if id == circuit => content,
        other => panic!("{other:?}"),
    });
    contents.collect()
}

#[test]
fn creates_that_cannot_be_have_no_answer() {
    let (mut net, mut rogue, good) = start();
    let with = |place: std::ops::Range<usize>, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[place].copy_from_slice(bytes);
        bad
    };
    let mut bad: Vec<(Vec<u8>, DropReason)> = vec![
        (good[..good.len() - 1].to_vec(), DropReason::Malformed),
        (good[..FRAGMENT_LEN + 1].to_vec(), DropReason::Malformed),
        ([&good[..], &[0]].concat(), DropReason::Malformed),
        // Coefficients that are not reduced, in the first part and in the last.
        (with(FRONT + 32..FRONT + 35, &[0xff; 3]), DropReason::Malformed),
        (with(FRONT + 32 + 1149..FRONT + 32 + 1152, &[0xff; 3]), DropReason::Malformed),
        (with(2..6, &[0, 0, 0, 99]), DropReason::OnionKey),
        (with(0..1, &[2]), DropReason::Version),
    ];
    bad.extend(low_order().map(|point| (with(FRONT..FRONT + 32, &point), DropReason::LowOrder)));
    for (number, (create, reason)) in (10..).zip(bad) {
        assert_eq!(say(&mut net, &mut rogue, number, &create), Some(reason), "{number}");
        assert!(rogue.hear(&mut net).is_empty(), "{reason} was answered");
    }
    // One part alone, and more parts than any create has.
    for total in [1, 3, 4] {
        let part = Fragment { index: 0, total, bytes: &good[..FRAGMENT_LEN] };
        let datagram = rogue.ends.message(CircuitId(7), &LinkMessage::Create(part));
        let reason = if total == 1 { DropReason::Malformed } else { DropReason::Fragment };
        rogue.is_dropped(&mut net, &datagram, reason);
    }
    assert_eq!(say(&mut net, &mut rogue, 8, &good), None);
    assert_eq!(created(&mut net, &mut rogue, 8).len(), 2);
}

#[test]
fn parts_that_contradict_each_other_are_dropped() {
    let (mut net, mut rogue, good) = start();
    let datagrams = parts(&mut rogue, 7, &good);
    assert_eq!(rogue.say(&mut net, &datagrams[0]), None);
    let mut other = good.clone();
    other[FRONT] ^= 1;
    let datagram = parts(&mut rogue, 7, &other).remove(0);
    rogue.is_dropped(&mut net, &datagram, DropReason::Fragment);
    assert_eq!(rogue.say(&mut net, &datagrams[1]), None);
    assert_eq!(created(&mut net, &mut rogue, 7).len(), 2, "what came first counts");
}

/// The answer of a relay that was lied to about the key proves nothing to the originator.
#[test]
fn a_flipped_bit_of_the_key_is_found_out_by_the_originator() {
    let (mut net, mut rogue, good) = start();
    for (circuit, at) in (10..).zip([FRONT + 40, FRONT + 600, good.len() - 1]) {
        let creating = creating(&net, circuit as u8);
        let mut create = creating.create();
        create[at] ^= 1;
        assert_eq!(say(&mut net, &mut rogue, circuit, &create), None, "byte {at}");
        let answer: Vec<u8> = created(&mut net, &mut rogue, circuit)
            .iter()
            .flat_map(|content| match LinkMessage::decode(content) {
                Ok(LinkMessage::Created(part)) => part.bytes.to_vec(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(creating.finish(&answer).map(|_| ()), Err(DropReason::Handshake), "byte {at}");
    }
}

/// The same ephemeral key gets the identical answer and never a second state.
#[test]
fn a_repeated_create_makes_no_second_circuit() {
    let (mut net, mut rogue, create) = start();
    let mut answers = Vec::new();
    for _ in 0..3 {
        assert_eq!(say(&mut net, &mut rogue, 7, &create), None);
        answers.push(created(&mut net, &mut rogue, 7));
    }
    assert_eq!(answers[0].len(), 2);
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(net.nodes[RELAY].env.dh_calls, 2, "one for the link, one for the circuit");
    assert_eq!(say(&mut net, &mut rogue, 8, &create), Some(DropReason::Unexpected));
    let other = creating(&net, 0x78).create();
    assert_eq!(say(&mut net, &mut rogue, 7, &other), Some(DropReason::Unexpected));
    assert!(rogue.hear(&mut net).is_empty());
    // In another suite it is another create.
    let first = Creating::new(Suite::X25519, target(&net, RELAY), [0x77; 32]).create();
    assert_eq!(say(&mut net, &mut rogue, 9, &first), None);
    // Too late even for a part to be kept.
    net.run_for(Duration::from_secs(31));
    let part = parts(&mut rogue, 7, &create).remove(0);
    rogue.is_dropped(&mut net, &part, DropReason::Unexpected);
}

#[test]
fn refusals_come_with_the_first_part_and_once() {
    let (mut net, mut rogue, create) = start();
    net.reconfigure(RELAY, |config| config.limits.circuits = 1);
    assert_eq!(say(&mut net, &mut rogue, 7, &create), None);
    rogue.hear(&mut net);
    for order in [[0, 1], [1, 0]] {
        let datagrams = parts(&mut rogue, 8, &creating(&net, 0x78).create());
        for index in order {
            assert_eq!(rogue.say(&mut net, &datagrams[index]), Some(DropReason::Limit));
        }
        let [Heard::Message(CircuitId(8), content)] = &rogue.hear(&mut net)[..] else { panic!("not once") };
        assert_eq!(LinkMessage::decode(content), Ok(LinkMessage::CreateFailed(CloseReason::Limit)));
    }
}

/// Halves of creates are bounded; whoever leaves them shuts nobody out.
#[test]
fn halves_of_creates_give_way() {
    let mut net = Net::with_relays(2, 1);
    net.reconfigure(RELAY, |config| config.limits.creates_per_second_per_link = 10_000);
    let mut rogue = Initiator::open(&mut net, RELAY);
    let create = creating(&net, 0x77).create();
    let first = parts(&mut rogue, 7, &create).remove(0);
    assert_eq!(rogue.say(&mut net, &first), None);
    for circuit in 1000..1600 {
        let half = parts(&mut rogue, circuit, &create).remove(0);
        assert_eq!(rogue.say(&mut net, &half), None);
    }
    let second = parts(&mut rogue, 7, &create).remove(1);
    assert_eq!(rogue.say(&mut net, &second), None);
    assert!(rogue.hear(&mut net).is_empty(), "the oldest half is forgotten");
    assert_eq!(say(&mut net, &mut rogue, 8, &create), None);
    assert_eq!(created(&mut net, &mut rogue, 8).len(), 2);
}

fn link(net: &Net, random: u8) -> Vec<u8> {
    let opening = Opening::new(Suite::Hybrid, target(net, RELAY), LinkId(0x66), [random; 32]);
    let mut datagrams = opening.datagrams();
    assert_eq!(datagrams.len(), 1);
    datagrams.remove(0)
}

fn changed<'a>(datagram: &'a [u8], change: impl FnOnce(&mut Link<'a>)) -> Vec<u8> {
    let mut link = Link::decode(datagram).unwrap();
    change(&mut link);
    let mut bytes = vec![0; MAX_DATAGRAM];
    link.encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn links_that_cannot_be_have_no_answer() {
    let mut net = Net::with_relays(2, 1);
    net.recording = true;
    let good = link(&net, 1);
    let key = Link::decode(&good).unwrap().part.bytes.to_vec();
    let whole = |bytes| Fragment { index: 0, total: 1, bytes };
    let unreduced = [&[0xff; 3], &key[3..]].concat();
    let long = [&key[..], &[0]].concat();
    let mut bad = vec![
        (changed(&good, |link| link.part = whole(&key[..1183])), DropReason::Malformed),
        (changed(&good, |link| link.part = whole(&long)), DropReason::Malformed),
        (changed(&good, |link| link.part = whole(&unreduced)), DropReason::Malformed),
        (changed(&good, |link| link.part = Fragment::EMPTY), DropReason::Malformed),
        (changed(&good, |link| link.suite = 1), DropReason::Malformed),
        (
            changed(&good, |link| link.part = Fragment { index: 0, total: 2, bytes: &key[..1024] }),
            DropReason::Fragment,
        ),
    ];
    bad.extend(low_order().map(|x| (changed(&good, |link| link.x = x), DropReason::LowOrder)));
    for (datagram, reason) in bad {
        assert_eq!(refused(&mut net, RELAY, HERE, &datagram), Some(reason));
        assert!(sent_to(&mut net, HERE).is_empty(), "{reason} was answered");
    }
    let mut answers = Vec::new();
    for _ in 0..2 {
        assert_eq!(refused(&mut net, RELAY, HERE, &good), None);
        answers.append(&mut sent_to(&mut net, HERE));
    }
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0].len(), MAX_DATAGRAM, "no larger than its cause");
    assert_eq!(answers[0], answers[1], "identical");
}

/// ML-KEM rejects implicitly: a wrong ciphertext gives a secret, and AUTH does not fit.
#[test]
fn a_created_that_does_not_prove_the_relay_gives_no_circuit() {
    for change in 0..6 {
        let mut net = Net::with_relays(4, 2);
        let mut relay = Relay::take_over(&mut net, 0, RELAY, 2);
        let (circuit, create) = relay.create(&mut net);
        let (mut answer, _) = relay.created(&mut net, &create);
        match change {
            0 => answer[..32].copy_from_slice(&low_order()[0]),
            1 => answer[40] ^= 1,
            2 => answer[32 + 1087] ^= 0x80,
            3 => answer[32..1120].fill(0),
            4 => *answer.last_mut().unwrap() ^= 1,
            _ => answer.truncate(1100),
        }
        let mut last = None;
        for part in split(&answer).unwrap() {
            let datagram = relay.ends.message(circuit, &LinkMessage::Created(part));
            last = relay.say(&mut net, &datagram);
        }
        let expected = match change {
            0 => DropReason::LowOrder,
            5 => DropReason::Malformed,
            _ => DropReason::Handshake,
        };
        assert_eq!(last, Some(expected), "change {change}");
        net.run_for(Duration::from_secs(30));
        let outcome = net.nodes[0].events.first().map(|(_, event)| event);
        let reason = CloseReason::Handshake;
        assert_eq!(outcome, Some(&Event::CircuitFailed { reason, hop: 1 }), "change {change}");
    }
}

use super::circuit::{Create, Creating, MAX_CONTENTS};
use super::link::{Opening, answer};
use super::*;
use crate::cookie::COOKIE_LEN;
use crate::fragments::Fragment;
use crate::message::{CookieMessage, Link, Linked};
use crate::vectors::{
    INITIATOR_ID, INITIATOR_RANDOM, ONION_SECRET, RESPONDER_ID, RESPONDER_RANDOM, onion_dh, target,
};
use warren_schemas::LinkId;

#[cfg(feature = "hybrid")]
mod hybrid;

/// A seed for tests of what is derived from one.
pub(crate) fn seed(number: u8) -> Seed {
    Seed { secret: Zeroizing::new([number; 32]), suite: Suite::X25519 }
}

const BOTH: (Suite, Purpose) = (Suite::X25519, Purpose::Circuit);

fn initiator(target: Target) -> Initiator {
    Initiator::new(Suite::X25519, Purpose::Circuit, target, INITIATOR_RANDOM)
}

#[test]
fn both_sides_get_the_same_seed() {
    let initiator = initiator(target());
    let answer =
        respond(BOTH, &target(), RESPONDER_RANDOM, initiator.share(), b"extra", &mut onion_dh).unwrap();
    let seed = initiator.finish(&answer.share, &answer.auth, b"extra").unwrap();
    assert_eq!(*seed.secret, *answer.seed.secret);
    assert_ne!(*seed.key("circuit forward"), *seed.key("circuit backward"));
}

/// The tag covers the whole exchange: any part that differs on one side fails it.
#[test]
fn auth_covers_everything() {
    let honest = initiator(target());
    let answer = |both, target: &Target, share: &[u8], extra: &[u8]| {
        respond(both, target, RESPONDER_RANDOM, share, extra, &mut onion_dh).unwrap()
    };
    let refuses = |answer: Answer, what: &str| {
        let result = honest.finish(&answer.share, &answer.auth, b"extra").map(|_| ());
        assert_eq!(result, Err(DropReason::Handshake), "{what}");
    };
    let share = honest.share();
    let other_peer = Target { peer_id: PeerId([0x45; 32]), ..target() };
    refuses(answer(BOTH, &other_peer, share, b"extra"), "peer id");
    refuses(answer(BOTH, &Target { epoch: 8, ..target() }, share, b"extra"), "epoch");
    refuses(answer(BOTH, &Target { onion_key: [9; 32], ..target() }, share, b"extra"), "onion key");
    refuses(answer((Suite::X25519, Purpose::Link), &target(), share, b"extra"), "purpose");
    refuses(answer(BOTH, &target(), share, b"extrb"), "extra");
    refuses(answer(BOTH, &target(), &[9; 32], b"extra"), "X");
    let mut wrong_dh = |_: u32, _: &[u8; 32]| Some([7; 32]);
    refuses(
        respond(BOTH, &target(), RESPONDER_RANDOM, share, b"extra", &mut wrong_dh).unwrap(),
        "onion secret",
    );
    let good = answer(BOTH, &target(), share, b"extra");
    let other_y = public_key(&Zeroizing::new([0x34; 32])).to_vec();
    refuses(Answer { share: other_y, ..good }, "Y");
    let good = answer(BOTH, &target(), share, b"extra");
    for at in 0..32 {
        let mut auth = good.auth;
        auth[at] ^= 1;
        assert!(honest.finish(&good.share, &auth, b"extra").is_err());
    }
}

#[test]
fn low_order_points_end_it_on_both_sides() {
    for point in [[0; 32], {
        let mut one = [0; 32];
        one[0] = 1;
        one
    }] {
        let result = respond(BOTH, &target(), RESPONDER_RANDOM, &point, &[], &mut onion_dh).map(|_| ());
        assert_eq!(result, Err(DropReason::LowOrder));
        let result = initiator(target()).finish(&point, &[0; 32], &[]).map(|_| ());
        assert_eq!(result, Err(DropReason::LowOrder));
        let result =
            initiator(Target { onion_key: point, ..target() }).finish(&[9; 32], &[0; 32], &[]).map(|_| ());
        assert_eq!(result, Err(DropReason::LowOrder));
    }
    let share = initiator(target()).share().to_vec();
    let zero = respond(BOTH, &target(), RESPONDER_RANDOM, &share, &[], &mut |_, _| Some([0; 32])).map(|_| ());
    assert_eq!(zero, Err(DropReason::LowOrder));
    let refused = respond(BOTH, &target(), RESPONDER_RANDOM, &share, &[], &mut |_, _| None).map(|_| ());
    assert_eq!(refused, Err(DropReason::OnionKey));
}

#[test]
fn shares_of_another_length_are_refused() {
    for length in [0, 31, 33, 64] {
        let share = vec![9; length];
        let result = respond(BOTH, &target(), RESPONDER_RANDOM, &share, &[], &mut onion_dh).map(|_| ());
        assert_eq!(result, Err(DropReason::Malformed));
        let result = initiator(target()).finish(&share, &[0; 32], &[]).map(|_| ());
        assert_eq!(result, Err(DropReason::Malformed));
    }
}

fn created(contents: &[u8]) -> (Creating, Vec<u8>) {
    let creating = Creating::new(Suite::X25519, target(), INITIATOR_RANDOM);
    let create = creating.create();
    let request = Create::decode(&create).unwrap();
    let (created, _) = request.answer(&target(), RESPONDER_RANDOM, contents, &mut onion_dh).unwrap();
    (creating, created)
}

#[test]
fn created_carries_contents_and_no_bit_of_it_may_flip() {
    let (creating, created) = created(&[7, 1, 9]);
    assert_eq!(creating.finish(&created).unwrap().1, [7, 1, 9]);
    for at in 0..created.len() {
        let mut flipped = created.clone();
        flipped[at] ^= 0x10;
        assert!(creating.finish(&flipped).is_err(), "byte {at}");
        assert!(creating.finish(&created[..at]).is_err(), "cut at {at}");
    }
    assert!(creating.finish(&[&created[..], &[0]].concat()).is_err());
}

#[test]
fn contents_that_are_no_list_are_refused() {
    for contents in [&[1][..], &[1, 2, 3]] {
        let (creating, created) = created(contents);
        assert_eq!(creating.finish(&created).map(|_| ()), Err(DropReason::Malformed));
    }
    let (creating, created) = created(&[0; 2 * MAX_CONTENTS]);
    assert_eq!(creating.finish(&created).unwrap().1, [0; MAX_CONTENTS]);
}

#[test]
fn creates_that_cannot_be_are_refused() {
    let create = Creating::new(Suite::X25519, target(), INITIATOR_RANDOM).create();
    let with = |at: usize, byte: u8| {
        let mut create = create.clone();
        create[at] = byte;
        Create::decode(&create).map(|_| ())
    };
    assert_eq!(with(0, 2), Err(DropReason::Version));
    assert_eq!(with(1, 9), Err(DropReason::Suite));
    assert_eq!(Create::decode(&create[..37]).map(|_| ()), Err(DropReason::Malformed));
    assert_eq!(Create::decode(&[&create[..], &[0]].concat()).map(|_| ()), Err(DropReason::Malformed));
    let request = Create::decode(&create).unwrap();
    let other = Target { epoch: 8, ..target() };
    let result = request.answer(&other, RESPONDER_RANDOM, &[], &mut onion_dh).map(|_| ());
    assert_eq!(result, Err(DropReason::Handshake));
}

fn opening() -> Opening {
    Opening::new(Suite::X25519, target(), INITIATOR_ID, INITIATOR_RANDOM)
}

#[test]
fn a_forged_linked_does_not_end_the_opening() {
    let mut opening = opening();
    let link = opening.datagrams().pop().unwrap();
    let request = Link::decode(&link).unwrap();
    let answered = answer(&request, &[], &target(), RESPONDER_ID, RESPONDER_RANDOM, &mut onion_dh).unwrap();
    let linked = Linked::decode(&answered.datagrams[0]).unwrap();
    let mut take = |linked: Linked<'_>| opening.take_linked(&linked).map(|ends| ends.is_some());
    assert_eq!(take(Linked { auth: [0; 32], ..linked }), Err(DropReason::Handshake));
    assert_eq!(take(Linked { y: [0; 32], ..linked }), Err(DropReason::LowOrder));
    assert_eq!(take(Linked { responder: LinkId(5), ..linked }), Err(DropReason::Handshake));
    assert_eq!(take(Linked { initiator: LinkId(5), ..linked }), Err(DropReason::Unexpected));
    assert_eq!(take(Linked { suite: 9, ..linked }), Err(DropReason::Unexpected));
    let part = Fragment { index: 0, total: 1, bytes: b"more" };
    assert_eq!(take(Linked { part, ..linked }), Err(DropReason::Malformed));
    assert_eq!(take(linked), Ok(true));
}

#[test]
fn links_for_others_are_not_answered() {
    let link = opening().datagrams().pop().unwrap();
    let request = Link::decode(&link).unwrap();
    let with = |request: &Link<'_>, rest: &[u8]| {
        answer(request, rest, &target(), RESPONDER_ID, RESPONDER_RANDOM, &mut onion_dh).map(|_| ())
    };
    assert_eq!(with(&request, &[]), Ok(()));
    assert_eq!(with(&request, b"more"), Err(DropReason::Malformed));
    assert_eq!(with(&Link { peer_id: PeerId([1; 32]), ..request }, &[]), Err(DropReason::WrongPeer));
    assert_eq!(with(&Link { epoch: 9, ..request }, &[]), Err(DropReason::OnionKey));
    assert_eq!(with(&Link { suite: 9, ..request }, &[]), Err(DropReason::Suite));
    assert_eq!(with(&Link { x: [0; 32], ..request }, &[]), Err(DropReason::LowOrder));
}

#[test]
fn a_cookie_is_taken_only_for_this_handshake() {
    let mut opening = opening();
    let x = Link::decode(&opening.datagrams()[0]).unwrap().x;
    let message =
        CookieMessage { initiator: INITIATOR_ID, echo: x[..8].try_into().unwrap(), cookie: [6; COOKIE_LEN] };
    assert_eq!(opening.take_cookie(&CookieMessage { echo: [0; 8], ..message }), Err(DropReason::Cookie));
    assert_eq!(
        opening.take_cookie(&CookieMessage { initiator: LinkId(1), ..message }),
        Err(DropReason::Cookie)
    );
    assert_eq!(Link::decode(&opening.datagrams()[0]).unwrap().cookie, [0; COOKIE_LEN]);
    opening.take_cookie(&message).unwrap();
    let again = opening.datagrams();
    let link = Link::decode(&again[0]).unwrap();
    assert_eq!((link.cookie, link.x), ([6; COOKIE_LEN], x));
}

#[test]
fn the_published_key_is_the_secrets() {
    assert_eq!(target().onion_key, public_key(&Zeroizing::new(ONION_SECRET)));
}

//! Suite 2: both halves must be right, and every byte of both is bound.

use super::*;
use crate::crypto::mlkem::{CIPHERTEXT_LEN, KEY_LEN};
use crate::fragments::{FRAGMENT_LEN, split};
use warren_schemas::cell::MAX_DATAGRAM;

const HYBRID: (Suite, Purpose) = (Suite::Hybrid, Purpose::Circuit);

fn initiator() -> Initiator {
    Initiator::new(Suite::Hybrid, Purpose::Circuit, target(), INITIATOR_RANDOM)
}

fn answered(share: &[u8]) -> Result<Answer, DropReason> {
    respond(HYBRID, &target(), RESPONDER_RANDOM, share, b"extra", &mut onion_dh)
}

#[test]
fn both_sides_get_the_same_seed_and_another_one_than_in_suite_1() {
    let initiator = initiator();
    let answer = answered(initiator.share()).unwrap();
    let seed = initiator.finish(&answer.share, &answer.auth, b"extra").unwrap();
    assert_eq!(*seed.secret, *answer.seed.secret);
    let first = super::initiator(target());
    let other = respond(BOTH, &target(), RESPONDER_RANDOM, first.share(), b"extra", &mut onion_dh).unwrap();
    assert_ne!(*seed.secret, *other.seed.secret);
    let label = "circuit forward";
    let same = Seed { secret: seed.secret.clone(), suite: Suite::X25519 };
    assert_ne!(*seed.key(label), *same.key(label), "suites have their own labels");
}

/// Whoever breaks X25519 gets neither half of the other secrets out of what it finds.
#[test]
fn the_secrets_of_a_side_are_independent() {
    let random = Zeroizing::new(INITIATOR_RANDOM);
    let scalar = kem::scalar(Suite::Hybrid, &random);
    assert_ne!(*scalar, *random);
    let share = initiator().share().to_vec();
    assert_eq!(share[..32], public_key(&scalar));
    let again = Initiator::new(Suite::Hybrid, Purpose::Circuit, target(), *scalar);
    assert_ne!(again.share()[32..], share[32..]);
}

#[test]
fn a_handshake_goes_on_from_its_random_bytes() {
    let first = initiator();
    let (suite, share) = (first.suite(), first.share().to_vec());
    let secret = first.secret().clone();
    let second = Initiator::resume((suite, Purpose::Circuit), target(), secret.clone(), &share).unwrap();
    let answer = answered(&share).unwrap();
    let seed = second.finish(&answer.share, &answer.auth, b"extra").unwrap();
    assert_eq!(*seed.secret, *answer.seed.secret);
    for length in [0, 32, share.len() - 1] {
        let cut = Initiator::resume(HYBRID, target(), secret.clone(), &share[..length]);
        assert!(cut.is_none(), "{length}");
    }
}

#[test]
fn no_bit_of_the_answer_may_flip() {
    let initiator = initiator();
    let answer = answered(initiator.share()).unwrap();
    assert_eq!(answer.share.len(), 32 + CIPHERTEXT_LEN);
    for at in 0..answer.share.len() {
        let mut share = answer.share.clone();
        share[at] ^= 1 << (at % 8);
        let result = initiator.finish(&share, &answer.auth, b"extra").map(|_| ());
        // A wrong ciphertext is rejected implicitly: it is AUTH that fails.
        assert_eq!(result, Err(DropReason::Handshake), "byte {at}");
    }
    for length in [0, 31, 32, 33, answer.share.len() - 1] {
        let result = initiator.finish(&answer.share[..length], &answer.auth, b"extra").map(|_| ());
        assert_eq!(result, Err(DropReason::Malformed));
    }
}

#[test]
fn no_bit_of_the_offer_may_flip() {
    let initiator = initiator();
    let good = initiator.share();
    assert_eq!(good.len(), 32 + KEY_LEN);
    let mut out_of_range = 0;
    for at in 0..good.len() {
        let mut share = good.to_vec();
        share[at] ^= 1 << (at % 8);
        match answered(&share) {
            Ok(answer) => {
                let result = initiator.finish(&answer.share, &answer.auth, b"extra").map(|_| ());
                assert_eq!(result, Err(DropReason::Handshake), "byte {at}");
            }
            Err(DropReason::Malformed) => out_of_range += 1,
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    assert!((1..200).contains(&out_of_range), "{out_of_range} keys with a coefficient out of range");
    for length in [0, 32, 33, good.len() - 1] {
        assert_eq!(answered(&good[..length]).map(|_| ()), Err(DropReason::Malformed));
    }
    let mut overflow = good.to_vec();
    overflow[32..35].fill(0xff);
    assert_eq!(answered(&overflow).map(|_| ()), Err(DropReason::Malformed));
}

/// The ciphertext of somebody else's exchange with the same relay.
#[test]
fn halves_of_two_exchanges_do_not_fit_together() {
    let initiator = initiator();
    let other = Initiator::new(Suite::Hybrid, Purpose::Circuit, target(), [0x23; 32]);
    let (mine, theirs) = (answered(initiator.share()).unwrap(), answered(other.share()).unwrap());
    let mixed = [&mine.share[..32], &theirs.share[32..]].concat();
    for auth in [mine.auth, theirs.auth] {
        let result = initiator.finish(&mixed, &auth, b"extra").map(|_| ());
        assert_eq!(result, Err(DropReason::Handshake));
    }
    let mixed = [&initiator.share()[..32], &other.share()[32..]].concat();
    let answer = answered(&mixed).unwrap();
    for side in [initiator, other] {
        let result = side.finish(&answer.share, &answer.auth, b"extra").map(|_| ());
        assert_eq!(result, Err(DropReason::Handshake));
    }
}

#[test]
fn a_low_order_half_is_refused_whatever_the_other_is() {
    let initiator = initiator();
    let share = [&[0; 32], &initiator.share()[32..]].concat();
    assert_eq!(answered(&share).map(|_| ()), Err(DropReason::LowOrder));
    let answer = answered(initiator.share()).unwrap();
    let share = [&[0; 32], &answer.share[32..]].concat();
    let result = initiator.finish(&share, &answer.auth, b"extra").map(|_| ());
    assert_eq!(result, Err(DropReason::LowOrder));
}

#[test]
fn an_answer_is_no_longer_than_its_cause() {
    let creating = Creating::new(Suite::Hybrid, target(), INITIATOR_RANDOM);
    let create = creating.create();
    let request = Create::decode(&create).unwrap();
    let (created, _) = request.answer(&target(), RESPONDER_RANDOM, &[], &mut onion_dh).unwrap();
    let parts = |bytes: &[u8]| split(bytes).unwrap().map(|part| part.bytes.len()).collect::<Vec<_>>();
    assert_eq!(parts(&create), [FRAGMENT_LEN, 198]);
    assert_eq!(parts(&created), [FRAGMENT_LEN, 144]);
    let opening = Opening::new(Suite::Hybrid, target(), INITIATOR_ID, INITIATOR_RANDOM);
    let [link] = &opening.datagrams()[..] else { panic!("one LINK") };
    let request = Link::decode(link).unwrap();
    let answered =
        answer(&request, request.part.bytes, &target(), RESPONDER_ID, RESPONDER_RANDOM, &mut onion_dh)
            .unwrap();
    assert_eq!(answered.datagrams.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_DATAGRAM]);
}

#[test]
fn contents_are_sealed_and_no_bit_of_created_may_flip() {
    let creating = Creating::new(Suite::Hybrid, target(), INITIATOR_RANDOM);
    let create = creating.create();
    let request = Create::decode(&create).unwrap();
    assert_eq!(request.name(), &request.share[..32]);
    let (created, _) = request.answer(&target(), RESPONDER_RANDOM, &[7, 1, 9], &mut onion_dh).unwrap();
    assert_eq!(creating.finish(&created).unwrap().1, [7, 1, 9]);
    for at in (0..created.len()).step_by(7) {
        let mut flipped = created.clone();
        flipped[at] ^= 0x10;
        assert!(creating.finish(&flipped).is_err(), "byte {at}");
        assert!(creating.finish(&created[..at]).is_err(), "cut at {at}");
    }
    // The same bytes under the other suite's number are no create.
    let mut other = create.clone();
    other[1] = Suite::X25519 as u8;
    assert_eq!(Create::decode(&other).map(|_| ()), Err(DropReason::Malformed));
}

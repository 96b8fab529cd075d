use proptest::prelude::*;

use super::*;
use crate::ntor::tests::seed;

const INITIATOR: LinkId = LinkId(0x0100_0007);
const RESPONDER: LinkId = LinkId(0x0200_0009);
const CIRCUIT: CircuitId = CircuitId(0xfeed_f00d);

type End = (LinkSealer, LinkOpener);

fn ends() -> (End, End) {
    let keys = || LinkKeys::derive(&seed(3), Suite::X25519);
    (keys().initiator(INITIATOR, RESPONDER), keys().responder(RESPONDER, INITIATOR))
}

fn message(sealer: &mut LinkSealer, content: &[u8]) -> Vec<u8> {
    let mut buf = vec![0; HEADER_LEN + content.len() + TAG_LEN];
    buf[HEADER_LEN..HEADER_LEN + content.len()].copy_from_slice(content);
    assert_eq!(sealer.seal_message(&mut buf, HEADER_LEN, content.len(), CIRCUIT), Ok(0..buf.len()));
    buf
}

fn cell(sealer: &mut LinkSealer, byte: u8) -> Vec<u8> {
    let mut buf = vec![byte; HEADER_LEN + LAYER_LEN + 10];
    assert_eq!(sealer.seal_cell(&mut buf, HEADER_LEN, LAYER_LEN + 10, CIRCUIT), Ok(0..buf.len()));
    buf
}

fn read(opener: &mut LinkOpener, mut datagram: Vec<u8>) -> Result<Vec<u8>, DropReason> {
    let accepted = opener.accept(&datagram)?;
    assert_eq!((accepted.kind, accepted.circuit), (Kind::Message, CIRCUIT));
    let place = opener.open_message(&accepted, &mut datagram)?;
    Ok(datagram[place].to_vec())
}

#[test]
fn messages_and_cells_share_one_counter_both_ways() {
    let (mut one, mut other) = ends();
    for (sealer, opener) in [(&mut one.0, &mut other.1), (&mut other.0, &mut one.1)] {
        for at in 0..10u8 {
            assert_eq!(read(opener, message(sealer, &[at; 9])), Ok(vec![at; 9]));
            let datagram = cell(sealer, at);
            let accepted = opener.accept(&datagram).unwrap();
            assert_eq!(
                (accepted.counter, accepted.kind, accepted.newest),
                (u64::from(at) * 2 + 1, Kind::Cell, true)
            );
            assert_eq!(accepted.circuit, CIRCUIT);
            assert_eq!(datagram[HEADER_LEN..], [at; LAYER_LEN + 10]);
            assert_ne!(datagram[17..21], CIRCUIT.0.to_be_bytes(), "masked");
            assert_eq!(opener.accept(&datagram), Err(DropReason::LinkReplay));
        }
    }
}

#[test]
fn a_late_datagram_is_taken_but_not_newest() {
    let (mut one, mut other) = ends();
    let (first, second) = (cell(&mut one.0, 1), cell(&mut one.0, 2));
    assert!(other.1.accept(&second).unwrap().newest);
    assert!(!other.1.accept(&first).unwrap().newest);
    let short = message(&mut one.0, &[0; 8]);
    assert!(!other.1.accept(&short).unwrap().newest, "shorter than a challenge");
    let long = message(&mut one.0, &[0; 9]);
    assert!(other.1.accept(&long).unwrap().newest);
}

#[test]
fn every_flipped_bit_of_a_message_is_refused_and_forgotten() {
    let (mut one, mut other) = ends();
    let datagram = message(&mut one.0, b"\x07pingping");
    for at in 0..datagram.len() {
        for bit in 0..8 {
            let mut flipped = datagram.clone();
            flipped[at] ^= 1 << bit;
            // A flip between the header and the last 16 bytes is found by the AEAD, and uses its counter up.
            let mut opener = ends().1.1;
            assert!(read(&mut opener, flipped.clone()).is_err(), "byte {at} bit {bit}");
            if !(HEADER_LEN..datagram.len() - TAG_LEN).contains(&at) {
                assert!(other.1.accept(&flipped).is_err(), "byte {at} bit {bit}");
            }
        }
    }
    for length in 0..datagram.len() {
        assert!(other.1.accept(&datagram[..length]).is_err());
    }
    assert!(read(&mut other.1, datagram).is_ok());
}

#[test]
fn a_link_takes_only_its_own_datagrams() {
    let (mut one, mut other) = ends();
    let datagram = cell(&mut one.0, 1);
    let strangers = LinkKeys::derive(&seed(4), Suite::X25519).responder(RESPONDER, INITIATOR);
    let mut stranger = strangers.1;
    assert_eq!(stranger.accept(&datagram), Err(DropReason::LinkTag));
    let renamed = LinkKeys::derive(&seed(3), Suite::X25519).responder(LinkId(9), INITIATOR);
    let mut renamed = renamed.1;
    assert_eq!(renamed.accept(&datagram), Err(DropReason::UnknownLink));
    assert_eq!(one.1.accept(&datagram), Err(DropReason::UnknownLink), "its own, sent back");
    let mut mirrored = datagram.clone();
    mirrored[1..5].copy_from_slice(&INITIATOR.0.to_be_bytes());
    assert_eq!(one.1.accept(&mirrored), Err(DropReason::LinkTag));
    assert!(other.1.accept(&datagram).is_ok());
}

#[test]
fn lengths_are_bounded() {
    let (mut one, mut other) = ends();
    let mut buf = vec![0; 2000];
    assert_eq!(one.0.seal_cell(&mut buf, HEADER_LEN, LAYER_LEN - 1, CIRCUIT), Err(SealError::NoRoom));
    assert_eq!(one.0.seal_cell(&mut buf, HEADER_LEN - 1, 40, CIRCUIT), Err(SealError::NoRoom));
    assert_eq!(one.0.seal_cell(&mut buf, 1990, 40, CIRCUIT), Err(SealError::NoRoom));
    assert_eq!(
        one.0.seal_cell(&mut buf, 100, MAX_DATAGRAM - HEADER_LEN + 1, CIRCUIT),
        Err(SealError::NoRoom)
    );
    assert_eq!(one.0.seal_cell(&mut buf, usize::MAX, 40, CIRCUIT), Err(SealError::NoRoom));
    assert_eq!(one.0.seal_message(&mut buf, HEADER_LEN, 0, CIRCUIT), Err(SealError::NoRoom));
    assert_eq!(
        one.0.seal_message(&mut buf, HEADER_LEN, MAX_DATAGRAM - HEADER_LEN - TAG_LEN + 1, CIRCUIT),
        Err(SealError::NoRoom)
    );
    assert_eq!(one.0.next_counter(), 0, "no counter is lost");
    let place = one.0.seal_cell(&mut buf, 100, MAX_DATAGRAM - HEADER_LEN, CIRCUIT).unwrap();
    assert_eq!(place.len(), MAX_DATAGRAM);
    assert_eq!(other.1.accept(&buf[place.start..place.end + 1]), Err(DropReason::TooLong));
    assert!(other.1.accept(&buf[place]).is_ok());
}

#[test]
fn phases_follow_each_other_and_late_datagrams_open() {
    let (mut one, mut other) = ends();
    let late: Vec<Vec<u8>> = (0..3).map(|_| message(&mut one.0, b"late")).collect();
    assert!(one.0.rekey());
    assert!(!one.0.rekey(), "not before it is confirmed");
    let (early, next) = (message(&mut one.0, b"early"), message(&mut one.0, b"next"));
    assert_eq!(read(&mut other.1, next), Ok(b"next".to_vec()));
    assert_eq!(other.1.phases(), 1);
    assert_eq!(read(&mut other.1, late[0].clone()), Ok(b"late".to_vec()));
    assert_eq!(read(&mut other.1, early), Ok(b"early".to_vec()));
    assert_eq!(other.1.phases(), 1);
    one.0.confirm_phase();
    assert!(one.0.rekey());
    let third = message(&mut one.0, b"third");
    assert_eq!(read(&mut other.1, third), Ok(b"third".to_vec()));
    assert_eq!(other.1.phases(), 2);
    assert_eq!(read(&mut other.1, late[1].clone()), Err(DropReason::LinkTag), "two phases old");
}

#[test]
fn a_forged_phase_bit_moves_nothing() {
    let (mut one, mut other) = ends();
    let mut datagram = cell(&mut one.0, 1);
    datagram[0] ^= warren_schemas::cell::KEY_PHASE;
    assert_eq!(other.1.accept(&datagram), Err(DropReason::LinkTag));
    assert_eq!(other.1.phases(), 0);
    datagram[0] ^= warren_schemas::cell::KEY_PHASE;
    assert!(other.1.accept(&datagram).is_ok());
}

#[test]
fn old_keys_are_forgotten_a_window_later() {
    let (mut one, mut other) = ends();
    assert!(other.1.accept(&cell(&mut one.0, 0)).is_ok());
    one.0.rekey();
    for _ in 0..WINDOW {
        assert!(other.1.accept(&cell(&mut one.0, 0)).is_ok());
    }
    assert!(other.1.previous.is_some());
    assert!(other.1.accept(&cell(&mut one.0, 0)).is_ok());
    assert!(other.1.previous.is_none());
}

#[test]
fn an_exhausted_counter_seals_nothing_more() {
    let (mut one, _) = ends();
    one.0.counter = Counter::resume(u64::MAX);
    let mut buf = [0; 100];
    assert_eq!(one.0.seal_cell(&mut buf, 30, 40, CIRCUIT), Err(SealError::Exhausted));
    assert_eq!(one.0.seal_message(&mut buf, 30, 9, CIRCUIT), Err(SealError::Exhausted));
}

/// The tag binds all 64 bits: what was sent 2^32 datagrams ago is no datagram of now.
#[test]
fn a_datagram_of_another_lap_is_refused() {
    let (mut one, mut other) = ends();
    let old = cell(&mut one.0, 1);
    for counter in (1 << 32) - WINDOW..1 << 32 {
        other.1.window.mark(counter);
    }
    assert_eq!(other.1.accept(&old), Err(DropReason::LinkTag));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Loss, reordering and rekeys by a sender that waits for its confirmation: every datagram
    /// is taken exactly once unless it is two phases late.
    #[test]
    fn survives_loss_reordering_and_rekeys(steps in prop::collection::vec((0u8..10, 0usize..6, any::<bool>()), 1..300)) {
        let (mut one, mut other) = ends();
        let (mut waiting, mut phase) = (Vec::new(), 0u64);
        for (action, pick, lost) in steps {
            if action == 0 && one.0.is_confirmed() {
                prop_assert!(one.0.rekey());
                phase += 1;
            }
            let datagram = cell(&mut one.0, action);
            if !lost {
                waiting.push((phase, datagram));
            }
            if waiting.len() > pick {
                let (of, datagram) = waiting.remove(pick);
                let reached = other.1.phases();
                let expected = if of + 1 >= reached { Ok(CIRCUIT) } else { Err(DropReason::LinkTag) };
                prop_assert_eq!(other.1.accept(&datagram).map(|accepted| accepted.circuit), expected);
                prop_assert!(other.1.accept(&datagram).is_err());
                prop_assert_eq!(other.1.phases(), reached.max(of));
                if of == phase {
                    one.0.confirm_phase();
                }
            }
        }
    }

    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..1400), named: bool) {
        let mut bytes = bytes;
        if named && bytes.len() > 5 {
            bytes[0] = 5;
            bytes[1..5].copy_from_slice(&RESPONDER.0.to_be_bytes());
        }
        prop_assert!(ends().1.1.accept(&bytes).is_err());
    }
}

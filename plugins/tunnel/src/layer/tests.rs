use proptest::prelude::*;

use super::*;
use crate::ntor::tests::seed;
use crate::replay::WINDOW;

const KEY: [u8; 32] = [5; 32];

fn pair() -> (Sealer, Opener) {
    (
        Sealer::new(&KEY, Suite::X25519, Direction::Forward),
        Opener::new(&KEY, Suite::X25519, Direction::Forward),
    )
}

fn sealed(sealer: &mut Sealer, command: u8, inner: &[u8]) -> Vec<u8> {
    let mut buf = vec![0; LAYER_FRONT + inner.len() + TAG_LEN];
    buf[LAYER_FRONT..LAYER_FRONT + inner.len()].copy_from_slice(inner);
    assert_eq!(sealer.seal(&mut buf, LAYER_FRONT, inner.len(), command), Ok(0..inner.len() + LAYER_LEN));
    buf
}

fn opened(opener: &mut Opener, mut layer: Vec<u8>) -> Result<(u8, Vec<u8>), DropReason> {
    opener.open(&mut layer).map(|(command, inner)| (command, layer[inner].to_vec()))
}

#[test]
fn opens_what_was_sealed_in_any_order_once() {
    let (mut sealer, mut opener) = pair();
    let layers: Vec<Vec<u8>> = (0..50u8).map(|at| sealed(&mut sealer, at, &[at; 30])).collect();
    for at in (0..50u8).rev() {
        assert_eq!(opened(&mut opener, layers[usize::from(at)].clone()), Ok((at, vec![at; 30])));
        assert_eq!(opened(&mut opener, layers[usize::from(at)].clone()), Err(DropReason::LayerReplay));
    }
}

#[test]
fn an_empty_inner_part_is_a_layer() {
    let (mut sealer, mut opener) = pair();
    let layer = sealed(&mut sealer, 255, &[]);
    assert_eq!(layer.len(), LAYER_LEN);
    assert_eq!(opened(&mut opener, layer), Ok((255, vec![])));
}

#[test]
fn three_hops_and_back() {
    let hops: Vec<_> = (1..=3)
        .map(|hop| (HopKeys::derive(&seed(hop), Suite::X25519), HopKeys::derive(&seed(hop), Suite::X25519)))
        .collect();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for (one, other) in hops {
        ours.push(one.originator());
        theirs.push(other.relay());
    }
    let mut buf = vec![0; 200];
    buf[80..85].copy_from_slice(b"inner");
    let mut place = 80..85;
    for (hop, (sealer, _)) in ours.iter_mut().enumerate().rev() {
        place = sealer.seal(&mut buf, place.start, place.len(), u8::from(hop == 2)).unwrap();
    }
    assert_eq!(place, 80 - 15..85 + 48);
    for (hop, (_, opener)) in theirs.iter_mut().enumerate() {
        let (command, inner) = opener.open(&mut buf[place.clone()]).unwrap();
        assert_eq!(command, u8::from(hop == 2));
        place = place.start + inner.start..place.start + inner.end;
    }
    assert_eq!(&buf[place.clone()], b"inner");
    for (hop, (sealer, _)) in theirs.iter_mut().enumerate().rev() {
        place = sealer.seal(&mut buf, place.start, place.len(), u8::from(hop == 2)).unwrap();
    }
    for (hop, (_, opener)) in ours.iter_mut().enumerate() {
        let (command, inner) = opener.open(&mut buf[place.clone()]).unwrap();
        assert_eq!(command, u8::from(hop == 2));
        place = place.start + inner.start..place.start + inner.end;
    }
    assert_eq!(&buf[place], b"inner");
}

#[test]
fn every_flipped_bit_and_truncation_is_refused_and_forgotten() {
    let (mut sealer, mut opener) = pair();
    let layer = sealed(&mut sealer, 1, b"some inner bytes");
    for at in 0..layer.len() {
        for bit in 0..8 {
            let mut flipped = layer.clone();
            flipped[at] ^= 1 << bit;
            assert_eq!(opened(&mut opener, flipped), Err(DropReason::Layer), "byte {at} bit {bit}");
        }
        let reason = if at < LAYER_LEN { DropReason::Malformed } else { DropReason::Layer };
        assert_eq!(opened(&mut opener, layer[..at].to_vec()), Err(reason));
    }
    assert_eq!(opened(&mut opener, [&layer[..], &[0]].concat()), Err(DropReason::Layer));
    assert!(opened(&mut opener, layer).is_ok());
}

#[test]
fn directions_and_hops_do_not_open_each_other() {
    let (mut forward, _) = HopKeys::derive(&seed(1), Suite::X25519).originator();
    let layer = sealed(&mut forward, 1, b"x");
    let (_, mut own) = HopKeys::derive(&seed(1), Suite::X25519).originator();
    let (_, mut other) = HopKeys::derive(&seed(2), Suite::X25519).relay();
    assert_eq!(opened(&mut own, layer.clone()), Err(DropReason::Layer));
    assert_eq!(opened(&mut other, layer.clone()), Err(DropReason::Layer));
    let mut same_key = Opener::new(&KEY, Suite::X25519, Direction::Backward);
    assert_eq!(opened(&mut same_key, sealed(&mut pair().0, 1, b"x")), Err(DropReason::Layer));
}

#[test]
fn a_layer_below_the_window_is_refused() {
    let (mut sealer, mut opener) = pair();
    let (old, edge) = (sealed(&mut sealer, 1, b"old"), sealed(&mut sealer, 1, b"edge"));
    let mut newest = Vec::new();
    for _ in 0..WINDOW - 1 {
        newest = sealed(&mut sealer, 1, b"x");
    }
    assert!(opened(&mut opener, newest).is_ok());
    assert_eq!(opened(&mut opener, old), Err(DropReason::LayerReplay));
    assert!(opened(&mut opener, edge).is_ok());
}

#[test]
fn counters_pass_32_bits_and_a_forgery_does_not_move_them() {
    let start = (1 << 32) - 3;
    let mut sealer = Sealer::resume(&KEY, Suite::X25519, Direction::Forward, start);
    let (_, mut opener) = pair();
    opener.skip_to(start);
    for at in 0..6u8 {
        let mut forged = vec![0xee; LAYER_LEN + 4];
        forged[..4].copy_from_slice(&0x7000_0000u32.to_be_bytes());
        assert_eq!(opened(&mut opener, forged), Err(DropReason::Layer));
        let layer = sealed(&mut sealer, 1, &[at]);
        assert_eq!(opened(&mut opener, layer.clone()), Ok((1, vec![at])));
        assert_eq!(opened(&mut opener, layer), Err(DropReason::LayerReplay));
    }
}

#[test]
fn an_exhausted_counter_seals_nothing_more() {
    let mut sealer = Sealer::resume(&KEY, Suite::X25519, Direction::Forward, u64::MAX - 1);
    let mut buf = [7; 64];
    assert!(sealer.seal(&mut buf, 20, 4, 1).is_ok());
    let before = buf;
    assert_eq!(sealer.seal(&mut buf, 20, 4, 1), Err(SealError::Exhausted));
    assert_eq!(buf, before);
}

proptest! {
    #[test]
    fn without_room_nothing_happens_and_no_counter_is_lost(size in 0usize..80, start: usize, len: usize) {
        for (start, len) in [(start % 90, len % 90), (start, len)] {
            let (mut sealer, _) = pair();
            let mut buf = vec![3; size];
            let fits = start >= LAYER_FRONT && start.checked_add(len).and_then(|end| end.checked_add(TAG_LEN)).is_some_and(|end| end <= size);
            prop_assert_eq!(sealer.seal(&mut buf, start, len, 1).is_ok(), fits);
            prop_assert_eq!(sealer.next_counter(), u64::from(fits));
            prop_assert_eq!(buf == vec![3; size], !fits);
        }
    }

    /// The same content under every counter gives other bytes: no nonce comes twice.
    #[test]
    fn no_nonce_is_used_twice(starts in prop::collection::vec(0u64..1 << 34, 1..4)) {
        let mut streams = std::collections::HashMap::new();
        for start in starts {
            let mut sealer = Sealer::resume(&KEY, Suite::X25519, Direction::Forward, start);
            for counter in start..start + 40 {
                let layer = sealed(&mut sealer, 0, &[0; 32]);
                let known = streams.insert(layer[4..].to_vec(), counter);
                prop_assert!(known.is_none_or(|known| known == counter));
            }
        }
    }

    #[test]
    fn garbage_is_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (_, mut opener) = pair();
        prop_assert!(opener.open(&mut bytes).is_err());
    }
}

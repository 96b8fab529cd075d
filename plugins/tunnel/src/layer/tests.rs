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

/// Both sides of so many hops: the originator's and the hops' own.
fn hops(count: u8) -> [Vec<(Sealer, Opener)>; 2] {
    let keys = |hop| HopKeys::derive(&seed(hop), Suite::X25519);
    [
        (1..=count).map(|hop| keys(hop).originator()).collect(),
        (1..=count).map(|hop| keys(hop).relay()).collect(),
    ]
}

/// What the last of them sends back, as it comes to the originator.
fn sent_back(theirs: &mut [(Sealer, Opener)], inner: &[u8]) -> Vec<u8> {
    let ((last, _), passing) = theirs.split_last_mut().unwrap();
    let mut buf = [&[0; 40], inner, &[0; TAG_LEN]].concat();
    let mut place = last.seal(&mut buf, 40, inner.len(), 1).unwrap();
    for (sealer, _) in passing.iter_mut().rev() {
        place = sealer.cover(&mut buf, place.start, place.len()).unwrap();
    }
    buf[place].to_vec()
}

/// What the originator makes of it.
fn came_back(ours: &mut [(Sealer, Opener)], mut cell: Vec<u8>) -> Result<Vec<u8>, DropReason> {
    let ((_, last), passing) = ours.split_last_mut().unwrap();
    let (mut place, mut counters) = (0..cell.len(), Vec::new());
    for (_, opener) in passing.iter() {
        let (counter, inner) = opener.uncover(&mut cell[place.clone()])?.ok_or(DropReason::Layer)?;
        counters.push(counter);
        place = place.start + inner.start..place.start + inner.end;
    }
    let (command, inner) = last.open(&mut cell[place.clone()])?;
    assert_eq!(command, 1);
    passing.iter_mut().zip(counters).for_each(|((_, opener), counter)| opener.confirm(counter));
    Ok(cell[place][inner].to_vec())
}

#[test]
fn three_hops_and_back() {
    let [mut ours, mut theirs] = hops(3);
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
    assert_eq!(&buf[place], b"inner");
    let cell = sent_back(&mut theirs, b"inner");
    assert_eq!(cell.len(), 5 + LAYER_LEN + 2 * LAYER_FRONT);
    assert_eq!(came_back(&mut ours, cell), Ok(b"inner".to_vec()));
}

#[test]
fn covered_cells_come_in_any_order_once() {
    let [mut ours, mut theirs] = hops(3);
    let cells: Vec<Vec<u8>> = (0..50u8).map(|at| sent_back(&mut theirs, &[at; 30])).collect();
    for at in (0..50u8).rev() {
        let cell = &cells[usize::from(at)];
        assert_eq!(came_back(&mut ours, cell.clone()), Ok(vec![at; 30]));
        assert_eq!(came_back(&mut ours, cell.clone()), Err(DropReason::LayerReplay));
    }
}

/// Also of the counters that have no tag of their own, and of the commands.
#[test]
fn every_flipped_bit_and_truncation_of_a_covered_cell_is_refused_and_forgotten() {
    let [mut ours, mut theirs] = hops(3);
    let cell = sent_back(&mut theirs, b"some inner bytes");
    for at in 0..cell.len() {
        for bit in 0..8 {
            let mut flipped = cell.clone();
            flipped[at] ^= 1 << bit;
            assert_eq!(came_back(&mut ours, flipped), Err(DropReason::Layer), "byte {at} bit {bit}");
        }
        assert!(came_back(&mut ours, cell[..at].to_vec()).is_err());
    }
    assert_eq!(came_back(&mut ours, [&cell[..], &[0]].concat()), Err(DropReason::Layer));
    assert_eq!(came_back(&mut ours, cell), Ok(b"some inner bytes".to_vec()));
}

/// Nobody behind a relay can have a cover taken for something that the relay says.
#[test]
fn a_cover_does_not_become_a_message() {
    let [mut ours, mut theirs] = hops(2);
    let mut cell = sent_back(&mut theirs, b"from the last hop");
    for command in 1..=255 {
        // The command is behind the counter: whoever knows that it is 0 chooses another.
        cell[4] ^= command;
        let before = cell.clone();
        assert_eq!(ours[0].1.uncover(&mut cell), Ok(None));
        assert_eq!(cell, before);
        assert_eq!(ours[0].1.open(&mut cell), Err(DropReason::Layer));
        cell[4] ^= command;
    }
    assert_eq!(came_back(&mut ours, cell), Ok(b"from the last hop".to_vec()));
}

#[test]
fn what_a_relay_says_itself_is_no_cover() {
    let [mut ours, mut theirs] = hops(2);
    let mut buf = [7; 80];
    let place = theirs[0].0.seal(&mut buf, 20, 30, 6).unwrap();
    let mut layer = buf[place].to_vec();
    assert_eq!(ours[0].1.uncover(&mut layer), Ok(None));
    assert_eq!(opened(&mut ours[0].1, layer.clone()), Ok((6, vec![7; 30])));
    assert_eq!(ours[0].1.uncover(&mut layer), Err(DropReason::LayerReplay));
    assert_eq!(ours[0].1.uncover(&mut [0; LAYER_FRONT - 1]), Err(DropReason::Malformed));
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
fn covers_pass_32_bits() {
    let start = (1 << 32) - 3;
    let mut sealer = Sealer::resume(&KEY, Suite::X25519, Direction::Backward, start);
    let mut opener = Opener::new(&KEY, Suite::X25519, Direction::Backward);
    opener.skip_to(start);
    for at in 0..6u8 {
        let mut buf = [at; COVER_LEN + 30];
        sealer.cover(&mut buf, COVER_LEN, 30).unwrap();
        assert_eq!(buf[..4], (start as u32).wrapping_add(u32::from(at)).to_be_bytes());
        let again = buf;
        let (counter, inner) = opener.uncover(&mut buf).unwrap().unwrap();
        assert_eq!((counter, &buf[inner]), (start + u64::from(at), &[at; 30][..]));
        assert!(opener.uncover(&mut again.clone()).is_ok(), "nothing is believed before it is confirmed");
        opener.confirm(counter);
        assert_eq!(opener.uncover(&mut again.clone()), Err(DropReason::LayerReplay));
    }
}

#[test]
fn an_exhausted_counter_seals_nothing_more() {
    let mut sealer = Sealer::resume(&KEY, Suite::X25519, Direction::Forward, u64::MAX - 1);
    let mut buf = [7; 64];
    assert!(sealer.seal(&mut buf, 20, 4, 1).is_ok());
    let before = buf;
    assert_eq!(sealer.seal(&mut buf, 20, 4, 1), Err(SealError::Exhausted));
    assert_eq!(sealer.cover(&mut buf, 20, 4), Err(SealError::Exhausted));
    assert_eq!(buf, before);
    let mut sealer = Sealer::resume(&KEY, Suite::X25519, Direction::Backward, u64::MAX - 1);
    assert!(sealer.cover(&mut buf, 20, 4).is_ok());
    let before = buf;
    assert_eq!(sealer.cover(&mut buf, 20, 4), Err(SealError::Exhausted));
    assert_eq!((buf, sealer.next_counter()), (before, u64::MAX));
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
            let (mut sealer, mut buf) = (pair().0, vec![3; size]);
            let fits = start >= LAYER_FRONT && start.checked_add(len).is_some_and(|end| end <= size);
            prop_assert_eq!(sealer.cover(&mut buf, start, len).is_ok(), fits);
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
                let mut buf = [0; LAYER_FRONT + 32];
                let layer = if counter % 2 == 0 {
                    sealed(&mut sealer, 0, &[0; 32])[..buf.len()].to_vec()
                } else {
                    sealer.cover(&mut buf, LAYER_FRONT, 32).unwrap();
                    buf.to_vec()
                };
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

//! The filter, with conversations made by hand.

use std::sync::atomic::AtomicU64;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const HASH: InfoHash = InfoHash([7; 20]);
const OURS: [u8; 20] = *b"-WR0100-aaaaaaaaaaaa";

fn handshake(hash: InfoHash, id: [u8; 20]) -> Vec<u8> {
    [&PROTOCOL[..], &[0, 0, 0, 0, 0, 0x10, 0, 0], &hash.0, &id].concat()
}

fn message(id: u8, body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len() + 1).unwrap().to_be_bytes()[..], &[id], body].concat()
}

fn extended(id: u8, body: &[u8]) -> Vec<u8> {
    message(EXTENDED, &[&[id], body].concat())
}

/// Everything that comes out when the input arrives in parts of `part` bytes.
fn run(direction: &mut Direction, input: &[u8], part: usize) -> Result<Vec<u8>, DropReason> {
    let (mut held, mut out) = (Vec::new(), Vec::new());
    for part in input.chunks(part) {
        held.extend_from_slice(part);
        loop {
            match direction.step(&held)? {
                Step::More => break,
                Step::Pass(n) => out.extend(held.drain(..n)),
                Step::Swap { taken, bytes } => {
                    held.drain(..taken);
                    out.extend(bytes);
                }
            }
        }
    }
    Ok(out)
}

#[test]
fn outward_the_peer_id_is_ours_and_addresses_are_gone() {
    let theirs = b"d1:ei1e4:ipv44:\x7f\x40\0\x011:md11:ut_metadatai3e6:ut_pexi1ee13:metadata_sizei9e\
        1:pi6881e4:reqqi250e1:v6:Warren6:yourip4:\x7f\x40\0\x01e";
    let kept = b"d1:md11:ut_metadatai3ee13:metadata_sizei9e4:reqqi250e1:v6:Warrene";
    let block = message(7, &[5; 16 * 1024 + 8]);
    let input =
        [handshake(HASH, [9; 20]), extended(0, theirs), message(5, &[0xff; 9]), block.clone()].concat();
    let expected = [handshake(HASH, OURS), extended(0, kept), message(5, &[0xff; 9]), block].concat();
    for part in [1, 3, 67, 68, 69, 100, 1000, 65_536] {
        assert_eq!(run(&mut directions(HASH, OURS).0, &input, part).unwrap(), expected, "parts of {part}");
    }
}

#[test]
fn inward_pex_is_gone_however_it_comes() {
    let (mut outward, mut inward) = directions(HASH, OURS);
    let engine = [handshake(HASH, [9; 20]), extended(0, b"d1:md11:ut_metadatai3e6:ut_pexi1eee")].concat();
    run(&mut outward, &engine, 1000).unwrap();

    let mut input = handshake(HASH, [8; 20]);
    let mut expected = input.clone();
    let early = [input.clone(), extended(1, b"d5:added6:\x7f\0\0\x01\0\x50e")].concat();
    assert_eq!(run(&mut directions(HASH, OURS).1, &early, 9).unwrap(), expected, "before it was offered");
    input.extend(extended(0, b"d1:md11:lt_donthavei7e6:ut_pexi1e11:ut_metadatai2ee6:yourip4:abcde"));
    expected.extend(extended(0, b"d1:md11:ut_metadatai2eee"));
    for _ in 0..3 {
        input.extend([0; 4]);
        expected.extend([0; 4]);
        input.extend(extended(1, b"d5:added6:\x7f\0\0\x01\0\x50e"));
        input.extend(extended(3, b"d8:msg_typei0e5:piecei0ee"));
        expected.extend(extended(3, b"d8:msg_typei0e5:piecei0ee"));
        input.extend(message(4, &[0, 0, 0, 1]));
        expected.extend(message(4, &[0, 0, 0, 1]));
        // A second handshake that brings ut_pex back.
        input.extend(extended(0, b"d1:md6:ut_pexi9eee"));
        expected.extend(extended(0, b"d1:mdee"));
    }
    for part in [1, 2, 7, 64, 4096] {
        let (mut outward, mut inward) = directions(HASH, OURS);
        run(&mut outward, &engine, 1000).unwrap();
        assert_eq!(run(&mut inward, &input, part).unwrap(), expected, "parts of {part}");
    }
    assert_eq!(run(&mut inward, &input, 13).unwrap(), expected);
}

#[test]
fn garbage_is_ended_at_once() {
    let inward = || directions(HASH, OURS).1;
    assert_eq!(inward().step(b"H"), Err(DropReason::NotBitTorrent));
    assert_eq!(inward().step(b"\x13BitTorrent protocoL"), Err(DropReason::NotBitTorrent));
    assert_eq!(inward().step(b"\x13Bit"), Ok(Step::More));
    assert_eq!(inward().step(&handshake(InfoHash([6; 20]), [8; 20])), Err(DropReason::WrongInfohash));
    let after = |bytes: &[u8]| run(&mut inward(), &[&handshake(HASH, [8; 20])[..], bytes].concat(), 4096);
    assert_eq!(after(&[0xff; 9]), Err(DropReason::TooLong));
    assert_eq!(after(&[0xff, 0xff, 0xff, 0xff, 20, 3, 0]), Err(DropReason::TooLong));
    assert_eq!(after(&[0, 1, 0, 0, 20, 0, b'd']), Err(DropReason::TooLong));
    for bad in [&b"le"[..], b"", b"d1:m", b"i1e", b"d1:vi1"] {
        assert_eq!(after(&extended(0, bad)), Err(DropReason::Malformed));
    }
    // Extensions that are no numbers, and an `m` that is no dictionary.
    assert!(after(&extended(0, b"d1:md11:ut_metadata1:3eee")).unwrap().ends_with(b"d1:mdee"));
    assert!(after(&extended(0, b"d1:mi3ee")).unwrap().ends_with(b"d1:mdee"));
    // The shortest messages there are.
    let short = [&[0, 0, 0, 1, 20][..], &[0, 0, 0, 1, 2], &[0, 0, 0, 0]].concat();
    assert!(after(&short).unwrap().ends_with(&short));
}

#[tokio::test]
async fn carried_both_ways_and_closed_together() {
    let (engine, mut engine_far) = tokio::io::duplex(1024);
    let (peer, mut peer_far) = tokio::io::duplex(1024);
    let moved = std::sync::Arc::new(AtomicU64::new(0));
    let carried = tokio::spawn({
        let moved = moved.clone();
        async move { carry(engine, peer, HASH, OURS, &moved).await }
    });
    engine_far.write_all(&handshake(HASH, [9; 20])).await.unwrap();
    let mut got = [0; 68];
    peer_far.read_exact(&mut got).await.unwrap();
    assert_eq!(got[..], handshake(HASH, OURS)[..]);
    peer_far.write_all(&handshake(HASH, [8; 20])).await.unwrap();
    engine_far.read_exact(&mut got).await.unwrap();
    assert_eq!(got[..], handshake(HASH, [8; 20])[..]);

    let block = message(7, &vec![1; 300_000]);
    let (sent, received) = tokio::join!(peer_far.write_all(&block), async {
        let mut received = vec![0; block.len()];
        engine_far.read_exact(&mut received).await.unwrap();
        received
    });
    sent.unwrap();
    assert_eq!(received, block);
    drop(peer_far);
    carried.await.unwrap().unwrap();
    assert_eq!(engine_far.read(&mut got).await.unwrap(), 0);
    assert_eq!(moved.load(Ordering::Relaxed), 68 * 2 + u64::try_from(block.len()).unwrap());
}

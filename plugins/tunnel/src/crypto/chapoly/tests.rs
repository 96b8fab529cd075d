//! The plain rows, and this processor's, against the crate.

use proptest::prelude::*;

use super::*;
use crate::crypto::reference::Reference;
use crate::drop_reason::DropReason;
use crate::message::Reader;
use crate::probe::{probe, published};

/// More than opening keeps, and than any cell has.
const LONGEST: usize = 2048;

fn agree(key: &[u8; 32], nonce: &[u8; 12], associated: &[u8], content: &[u8]) {
    agree_in::<Plain>(key, nonce, associated, content);
    #[cfg(target_arch = "x86_64")]
    agree_in::<Sse>(key, nonce, associated, content);
}

fn agree_in<R: Row>(key: &[u8; 32], nonce: &[u8; 12], associated: &[u8], content: &[u8]) {
    let mut sealed = content.to_vec();
    let tag = Reference::new(key).seal(nonce, associated, &mut sealed).unwrap();
    let ours = ChaPoly::<R>::new(key);
    let mut bytes = content.to_vec();
    assert_eq!(ours.seal(nonce, associated, &mut bytes), Some(tag), "tag at {} bytes", content.len());
    assert!(bytes == sealed, "sealed at {} bytes", content.len());
    let mut wrong = tag;
    wrong[content.len() % 16] ^= 1 << (content.len() % 8);
    assert!(!ours.open(nonce, associated, &mut bytes, &wrong));
    assert!(bytes == sealed, "a wrong tag changed {} bytes", content.len());
    assert!(ours.open(nonce, associated, &mut bytes, &tag), "open at {} bytes", content.len());
    assert!(bytes == content, "opened at {} bytes", content.len());
    assert!(ours.apply_keystream(nonce, &mut bytes));
    assert!(bytes == sealed, "encrypted at {} bytes", content.len());
}

#[test]
fn every_length_seals_and_opens_like_the_crate() {
    let content: Vec<u8> = (0..LONGEST).map(|at| (at * 7 + at / 256) as u8).collect();
    for length in 0..=LONGEST {
        let key = core::array::from_fn(|at| (at * 5 + length) as u8);
        let nonce = core::array::from_fn(|at| (at + length * 3) as u8);
        agree(&key, &nonce, b"asso", &content[..length]);
        agree(&key, &nonce, &content[..length % 40], &content[..length]);
    }
}

/// The probe with the twin in place of the cipher in use.
fn twin(request: &[u8]) -> Vec<u8> {
    match request.first() {
        Some(1) => [vec![0], seal(Reader::new(&request[1..])).unwrap()].concat(),
        Some(2) => {
            open(Reader::new(&request[1..])).unwrap().map_or(vec![1], |opened| [vec![0], opened].concat())
        }
        _ => probe(request),
    }
}

struct Fields<'a> {
    key: ChaPoly<Plain>,
    nonce: [u8; 12],
    associated: &'a [u8],
    content: Vec<u8>,
}

impl<'a> Fields<'a> {
    fn of(request: &mut Reader<'a>) -> Result<Self, DropReason> {
        let (key, nonce) = (ChaPoly::new(&request.array()?), request.array()?);
        let length = usize::from(request.u16()?);
        let associated = request.take(length)?;
        let length = usize::from(request.u16()?);
        Ok(Self { key, nonce, associated, content: request.take(length)?.to_vec() })
    }
}

fn seal(mut request: Reader<'_>) -> Result<Vec<u8>, DropReason> {
    let Fields { key, nonce, associated, mut content } = Fields::of(&mut request)?;
    let tag = key.seal(&nonce, associated, &mut content).unwrap();
    Ok([&content[..], &tag].concat())
}

fn open(mut request: Reader<'_>) -> Result<Option<Vec<u8>>, DropReason> {
    let Fields { key, nonce, associated, mut content } = Fields::of(&mut request)?;
    let tag = request.array()?;
    Ok(key.open(&nonce, associated, &mut content, &tag).then_some(content))
}

#[test]
fn published_vectors_hold_for_the_twin() {
    assert_eq!(published::check(&mut twin), published::EXPECTED);
}

/// The second block of RFC 8439, A.3, 8.
const SECOND: [u8; 16] = {
    let mut block = [0xfe; 16];
    block[0] = 0xfb;
    block
};

#[test]
fn contents_longer_than_what_is_kept_open() {
    for length in [LONGEST + 1, 5_000, 70_001] {
        agree(&[9; 32], &[8; 12], b"long", &vec![0x5a; length]);
    }
}

/// The sums that wrap around 2^130 - 5, which random keys do not reach (RFC 8439, A.3, 5 to 11).
#[test]
fn the_authenticator_reduces_at_its_edges() {
    let max = u128::MAX;
    let mac = |r: u128, pad: u128, blocks: &[u128]| {
        let mut mac = Poly1305::new(r, pad);
        blocks.iter().for_each(|block| mac.absorb(*block));
        u128::from_le_bytes(mac.finish())
    };
    assert_eq!(mac(2, 0, &[max]), 3);
    assert_eq!(mac(2, max, &[2]), 3);
    assert_eq!(mac(1, 0, &[max, max - 0xf, 0x11]), 5);
    let (second, third) = (u128::from_le_bytes(SECOND), u128::from_le_bytes([1; 16]));
    assert_eq!(mac(1, 0, &[max, second, third]), 0);
    assert_eq!(mac(2, 0, &[max - 2]), max - 5);
    let blocks = [0xb943_5e50_d794_35e3, 1 << 64 | 0xcd79_435e_50d7_9433, 0, 1];
    assert_eq!(mac(4 << 64 | 1, 0, &blocks), 0x55 << 64 | 0x14);
    assert_eq!(mac(4 << 64 | 1, 0, &blocks[..3]), 0x13);
    // The largest r that is left when its bits are cleared; computed with integers of any size.
    assert_eq!(mac(max, 0, &[max; 64]), 0x381a_a3e0_61ec_28a2_0d48_bb53_6a92_d426);
}

#[test]
fn blocks_that_are_made_together_are_those_of_their_numbers() {
    let (key, nonce) = ([[3; 16], [4; 16]], [5; 12]);
    let stream = Stream::<Plain>::new(&key, &nonce);
    let numbers =
        |blocks: &[Block<Plain>]| -> Vec<u128> { blocks.iter().flatten().map(|row| row.number()).collect() };
    for number in [0, 1, 4, u32::MAX - 3, u32::MAX - 1, u32::MAX] {
        let pairs = [stream.pair(number, || ()), stream.pair(number.wrapping_add(2), || ())];
        assert_eq!(numbers(&stream.flight(number, || ())), numbers(pairs.as_flattened()), "{number}");
    }
}

proptest! {
    #[test]
    fn random_keys_and_contents_seal_like_the_crate(
        key: [u8; 32],
        nonce: [u8; 12],
        associated in proptest::collection::vec(any::<u8>(), 0..70),
        content in proptest::collection::vec(any::<u8>(), 0..=LONGEST),
    ) {
        agree(&key, &nonce, &associated, &content);
    }
}

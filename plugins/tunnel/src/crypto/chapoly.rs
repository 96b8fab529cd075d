//! ChaCha20-Poly1305 (RFC 8439, 2.8) for cells, nearly three times as fast in Wasm as the crate, which
//! has no vectors there: four blocks of the cipher in flight, and the authenticator between their rounds.
//!
//! Written once over [`Row`]: in Wasm with `simd128` and on x86-64 a row is one vector; in tests it is also
//! plain Rust. No branch and no index depends on a secret; lengths are public.

use core::marker::PhantomData;

use zeroize::Zeroizing;

mod chacha;
mod poly1305;
mod row;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd;
#[cfg(target_arch = "x86_64")]
mod sse;

use chacha::{BLOCK, FLIGHT, Flight, Stream, cover, cover_head, cover_some};
use poly1305::Poly1305;
#[cfg(any(test, feature = "probe"))]
pub(crate) use row::Plain;
use row::Row;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) use simd::Simd;
#[cfg(target_arch = "x86_64")]
pub(crate) use sse::Sse;

use super::{TAG_LEN, equal};

/// Bytes that the first flight covers: its first block is the authenticator's key.
const HEAD: usize = FLIGHT - BLOCK;
/// Bytes that the last pair of blocks covers.
const PAIR: usize = 2 * BLOCK;
/// Flights that opening keeps until the tag was found right: a cell's, and some.
const KEPT: usize = 6;

/// A key, wiped when dropped.
pub(crate) struct ChaPoly<R> {
    key: Zeroizing<[[u8; 16]; 2]>,
    rows: PhantomData<R>,
}

impl<R: Row> ChaPoly<R> {
    /// Takes the key's bytes.
    #[inline]
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let mut halves = Zeroizing::new([[0; 16]; 2]);
        halves.as_flattened_mut().copy_from_slice(key);
        Self { key: halves, rows: PhantomData }
    }

    /// The key's bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        // Two times 16, always.
        self.key.as_flattened().first_chunk().unwrap_or(&[0; 32])
    }

    /// Encrypts in place and gives the tag; none for more bytes than the block counter allows.
    pub(crate) fn seal(
        &self,
        nonce: &[u8; 12],
        associated: &[u8],
        content: &mut [u8],
    ) -> Option<[u8; TAG_LEN]> {
        let lengths = lengths(associated, content)?;
        let stream = Stream::<R>::new(&self.key, nonce);
        let first = stream.flight(0, || ());
        let (mut mac, after) = authenticator(&first, associated);
        let (head, rest) = content.split_at_mut(content.len().min(HEAD));
        cover_head(head, after);
        let mut sealed: &[u8] = head;
        let mut number = 4;
        for piece in rest.chunks_mut(FLIGHT) {
            // What a flight covered is authenticated beside the rounds of the next.
            let mut ready = sealed.as_chunks::<16>().0;
            if piece.len() <= PAIR {
                let pair = stream.pair(number, || mac.absorb_two(&mut ready));
                mac.absorb_all(ready);
                cover_some(piece, &pair);
            } else {
                let flight = stream.flight(number, || mac.absorb_two(&mut ready));
                mac.absorb_all(ready);
                cover(piece, &flight);
            }
            number = number.wrapping_add(4);
            sealed = piece;
        }
        mac.absorb_padded(sealed);
        mac.absorb(lengths);
        Some(mac.finish())
    }

    /// Checks the tag, then decrypts in place; a wrong one leaves the content alone.
    pub(crate) fn open(
        &self,
        nonce: &[u8; 12],
        associated: &[u8],
        content: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> bool {
        let Some(lengths) = lengths(associated, content) else { return false };
        let stream = Stream::<R>::new(&self.key, nonce);
        let first = stream.flight(0, || ());
        let (mut mac, after) = authenticator(&first, associated);
        let mut kept = [[[R::new([0; 4]); 4]; 4]; KEPT];
        let (mut ready, last) = content.as_chunks::<16>();
        let mut number = 4;
        let mut left = content.len().saturating_sub(HEAD);
        for kept in &mut kept {
            match left {
                0 => break,
                1..=PAIR => {
                    let [one, two, ..] = kept;
                    [*one, *two] = stream.pair(number, || mac.absorb_two(&mut ready));
                }
                _ => *kept = stream.flight(number, || mac.absorb_two(&mut ready)),
            }
            left = left.saturating_sub(FLIGHT);
            number = number.wrapping_add(4);
        }
        mac.absorb_all(ready);
        mac.absorb_padded(last);
        mac.absorb(lengths);
        if !equal(&mac.finish(), tag) {
            return false;
        }
        let (head, rest) = content.split_at_mut(content.len().min(HEAD));
        cover_head(head, after);
        let mut pieces = rest.chunks_mut(FLIGHT);
        for (kept, piece) in kept.iter().zip(&mut pieces) {
            cover(piece, kept);
        }
        for piece in pieces {
            cover(piece, &stream.flight(number, || ()));
            number = number.wrapping_add(4);
        }
        true
    }
}

/// The last block of what is authenticated; none when the content has more blocks than can be counted.
#[inline(always)]
fn lengths(associated: &[u8], content: &[u8]) -> Option<u128> {
    let counted = content.len() / BLOCK < u32::MAX as usize;
    counted.then_some(associated.len() as u128 | (content.len() as u128) << 64)
}

/// The authenticator under the first block of the stream, with the associated data taken, and the
/// blocks after that one.
#[inline(always)]
fn authenticator<'a, R: Row>(first: &'a Flight<R>, associated: &[u8]) -> (Poly1305, &'a [[R; 4]; 3]) {
    let [[r, pad, _, _], after @ ..] = first;
    let mut mac = Poly1305::new(r.number(), pad.number());
    mac.absorb_padded(associated);
    (mac, after)
}

#[cfg(test)]
mod tests;

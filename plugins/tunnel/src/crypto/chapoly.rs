//! ChaCha20-Poly1305 (RFC 8439, 2.8) for cells, more than three times as fast in Wasm as the crate, which
//! has no vectors there: eight blocks of the cipher at once, and the authenticator between their rounds.
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

use chacha::{BLOCK, Block, FLIGHT, OCTET, PAIR, Stream, cover};
use poly1305::Poly1305;
#[cfg(any(test, feature = "probe"))]
pub(crate) use row::Plain;
use row::Row;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) use simd::Simd;
#[cfg(target_arch = "x86_64")]
pub(crate) use sse::Sse;

use super::{TAG_LEN, equal};

/// Blocks of a cell, beyond those that are made first, that opening keeps until the tag was found right.
const KEPT: usize = OCTET + FLIGHT + PAIR;

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
        let (mut mac, Begun { blocks, count }) = begin(&stream, associated, content.len());
        cover(content, blocks.get(1..count).unwrap_or_default());
        // What was covered is authenticated beside the rounds of what comes next.
        let (mut covered, mut authenticated, mut number) = ((count - 1) * BLOCK, 0, count as u32);
        while let Some((before, rest)) =
            content.split_at_mut_checked(covered).filter(|(_, rest)| !rest.is_empty())
        {
            let mut ready = before.get(authenticated..).unwrap_or_default().as_chunks::<16>().0;
            let waiting = ready.len();
            let count = blocks_for(rest.len());
            // Written out here and in `open`: by one function that both give what takes the blocks, 0.58 of ring for 0.64 in Wasm.
            match count {
                PAIR => cover(rest, &stream.pair(number, || mac.absorb_some::<2>(&mut ready))),
                FLIGHT => cover(rest, &stream.flight(number, || mac.absorb_some::<3>(&mut ready))),
                _ => cover(rest, &stream.octet(number, || mac.absorb_some::<2>(&mut ready))),
            }
            covered += count * BLOCK;
            authenticated += 16 * (waiting - ready.len());
            number = number.wrapping_add(count as u32);
        }
        mac.absorb_padded(content.get(authenticated..).unwrap_or_default());
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
        let (mut mac, Begun { blocks, count }) = begin(&stream, associated, content.len());
        let mut ready = content.as_chunks::<16>().0;
        let mut kept = [[R::new([0; 4]); 4]; KEPT];
        let (mut used, mut number) = (0, count as u32);
        let begun = (count - 1) * BLOCK;
        let mut left = content.len().saturating_sub(begun);
        while left > 0 {
            let count = blocks_for(left);
            let Some(to) = kept.get_mut(used..used + count) else { break };
            match count {
                PAIR => to.copy_from_slice(&stream.pair(number, || mac.absorb_some::<2>(&mut ready))),
                FLIGHT => to.copy_from_slice(&stream.flight(number, || mac.absorb_some::<3>(&mut ready))),
                _ => to.copy_from_slice(&stream.octet(number, || mac.absorb_some::<2>(&mut ready))),
            }
            used += count;
            left = left.saturating_sub(count * BLOCK);
            number = number.wrapping_add(count as u32);
        }
        let authenticated = (content.len() / 16 - ready.len()) * 16;
        mac.absorb_padded(content.get(authenticated..).unwrap_or_default());
        mac.absorb(lengths);
        if !equal(&mac.finish(), tag) {
            return false;
        }
        cover(content, blocks.get(1..count).unwrap_or_default());
        let (_, rest) = content.split_at_mut(content.len().min(begun));
        let kept = kept.get(..used).unwrap_or_default();
        cover(rest, kept);
        let (_, rest) = rest.split_at_mut(rest.len().min(kept.len() * BLOCK));
        for piece in rest.chunks_mut(FLIGHT * BLOCK) {
            cover(piece, &stream.flight(number, || ()));
            number = number.wrapping_add(FLIGHT as u32);
        }
        true
    }

    /// Encrypts or decrypts in place without a tag: with the blocks that [`seal`](Self::seal) encrypts with. False, and
    /// nothing is changed, for more bytes than the block counter allows.
    pub(crate) fn apply_keystream(&self, nonce: &[u8; 12], content: &mut [u8]) -> bool {
        if lengths(&[], content).is_none() {
            return false;
        }
        let stream = Stream::<R>::new(&self.key, nonce);
        let (mut rest, mut number) = (content, 1_u32);
        while !rest.is_empty() {
            let count = blocks_for(rest.len());
            match count {
                PAIR => cover(rest, &stream.pair(number, || ())),
                FLIGHT => cover(rest, &stream.flight(number, || ())),
                _ => cover(rest, &stream.octet(number, || ())),
            }
            number = number.wrapping_add(count as u32);
            rest = rest.get_mut(count * BLOCK..).unwrap_or_default();
        }
        true
    }
}

/// How many blocks are made next for so many bytes. Together they are quicker, but a cell ends with few.
#[inline(always)]
fn blocks_for(bytes: usize) -> usize {
    match bytes.div_ceil(BLOCK) {
        0..=PAIR => PAIR,
        3..=6 => FLIGHT,
        _ => OCTET,
    }
}

/// The blocks that are made first. The very first is the authenticator's key.
struct Begun<R> {
    blocks: [Block<R>; OCTET],
    /// How many of them are the message's.
    count: usize,
}

/// Makes the first blocks for so many bytes, and the authenticator, with the associated data taken.
#[inline(never)]
fn begin<R: Row>(stream: &Stream<'_, R>, associated: &[u8], bytes: usize) -> (Poly1305, Begun<R>) {
    let begun = if bytes < FLIGHT * BLOCK {
        let [a, b, c, d] = stream.flight(0, || ());
        Begun { blocks: [a, b, c, d, a, a, a, a], count: FLIGHT }
    } else {
        Begun { blocks: stream.octet(0, || ()), count: OCTET }
    };
    let [[r, pad, _, _], ..] = begun.blocks;
    let mut mac = Poly1305::new(r.number(), pad.number());
    mac.absorb_padded(associated);
    (mac, begun)
}

/// The last block of what is authenticated; none when the content has more blocks than can be counted.
#[inline(always)]
fn lengths(associated: &[u8], content: &[u8]) -> Option<u128> {
    let counted = content.len() / BLOCK < u32::MAX as usize;
    counted.then_some(associated.len() as u128 | (content.len() as u128) << 64)
}

#[cfg(test)]
mod tests;

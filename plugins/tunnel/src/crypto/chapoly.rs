//! ChaCha20-Poly1305 (RFC 8439, 2.8) for cells, more than three times as fast in Wasm as the crate, which
//! has no vectors there: four blocks of the cipher at once, and the authenticator between their rounds.
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

use chacha::{BLOCK, Block, FLIGHT, PAIR, Stream, cover};
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
const KEPT: usize = 5 * FLIGHT;
/// Bytes that the first flight covers; its first block is the authenticator's key.
const BEGUN: usize = (FLIGHT - 1) * BLOCK;

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
        let (mut mac, blocks) = begin(&stream, associated);
        cover(content, blocks.get(1..).unwrap_or_default());
        // What was covered is authenticated beside the rounds of what comes next.
        let (mut covered, mut authenticated, mut number) = (BEGUN, 0, FLIGHT as u32);
        while let Some((before, rest)) =
            content.split_at_mut_checked(covered).filter(|(_, rest)| !rest.is_empty())
        {
            let mut ready = before.get(authenticated..).unwrap_or_default().as_chunks::<16>().0;
            let waiting = ready.len();
            let count = blocks_for(rest.len());
            // Written out here and in `open`: as a function that both call, 0.53 of ring for 0.60 in Wasm.
            match count {
                PAIR => cover(rest, &stream.pair(number, || mac.absorb_some::<2>(&mut ready))),
                _ => cover(rest, &stream.flight(number, || mac.absorb_some::<1>(&mut ready))),
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
        let (mut mac, blocks) = begin(&stream, associated);
        let mut ready = content.as_chunks::<16>().0;
        let mut kept = [[R::new([0; 4]); 4]; KEPT];
        let (mut used, mut number) = (0, FLIGHT as u32);
        let mut left = content.len().saturating_sub(BEGUN);
        while left > 0 {
            let count = blocks_for(left);
            let Some(to) = kept.get_mut(used..used + count) else { break };
            match count {
                PAIR => to.copy_from_slice(&stream.pair(number, || mac.absorb_some::<2>(&mut ready))),
                _ => to.copy_from_slice(&stream.flight(number, || mac.absorb_some::<1>(&mut ready))),
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
        cover(content, blocks.get(1..).unwrap_or_default());
        let rest = content.get_mut(BEGUN..).unwrap_or_default();
        cover(rest, kept.get(..used).unwrap_or_default());
        cover_from(&stream, number, rest.get_mut(used * BLOCK..).unwrap_or_default());
        true
    }

    /// Encrypts or decrypts in place without a tag: with the blocks that [`seal`](Self::seal) encrypts with. False, and
    /// nothing is changed, for more bytes than the block counter allows.
    pub(crate) fn apply_keystream(&self, nonce: &[u8; 12], content: &mut [u8]) -> bool {
        if lengths(&[], content).is_none() {
            return false;
        }
        cover_from(&Stream::<R>::new(&self.key, nonce), 1, content);
        true
    }
}

/// Puts the blocks from number `number` on over all bytes.
#[inline(never)]
fn cover_from<R: Row>(stream: &Stream<'_, R>, mut number: u32, mut bytes: &mut [u8]) {
    while !bytes.is_empty() {
        let count = blocks_for(bytes.len());
        match count {
            PAIR => cover(bytes, &stream.pair(number, || ())),
            _ => cover(bytes, &stream.flight(number, || ())),
        }
        number = number.wrapping_add(count as u32);
        bytes = bytes.get_mut(count * BLOCK..).unwrap_or_default();
    }
}

/// How many blocks are made next for so many bytes. Together they are quicker, but a cell ends with few.
#[inline(always)]
fn blocks_for(bytes: usize) -> usize {
    match bytes.div_ceil(BLOCK) {
        0..=PAIR => PAIR,
        _ => FLIGHT,
    }
}

/// Makes the first blocks, of which the very first is the authenticator's key, and the authenticator, with the associated
/// data taken.
#[inline(never)]
fn begin<R: Row>(stream: &Stream<'_, R>, associated: &[u8]) -> (Poly1305, [Block<R>; FLIGHT]) {
    let blocks = stream.flight(0, || ());
    let [[r, pad, _, _], ..] = blocks;
    let mut mac = Poly1305::new(r.number(), pad.number());
    mac.absorb_padded(associated);
    (mac, blocks)
}

/// The last block of what is authenticated; none when the content has more blocks than can be counted.
#[inline(always)]
fn lengths(associated: &[u8], content: &[u8]) -> Option<u128> {
    let counted = content.len() / BLOCK < u32::MAX as usize;
    counted.then_some(associated.len() as u128 | (content.len() as u128) << 64)
}

#[cfg(test)]
mod tests;

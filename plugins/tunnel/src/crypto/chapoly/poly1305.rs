//! Poly1305 (RFC 8439, 2.5) over whole blocks, in 64-bit limbs.

/// The authenticator of one message.
///
/// The accumulator is `l0 + 2^64 * l1 + 2^128 * l2` of its limbs. What is at or above 2^130 is folded when the next block
/// comes, with its addition: `l2` is below 2^63 until then.
pub(crate) struct Poly1305 {
    r: [u64; 2],
    /// 5/4 of `r`'s upper limb: what it is worth after 2^128 times it wrapped around 2^130 - 5. Exact,
    /// as the limb is a multiple of four.
    wrapped: u64,
    pad: u128,
    limbs: [u64; 3],
}

impl Poly1305 {
    /// Starts under a key, of which no other message may be authenticated.
    #[inline(always)]
    pub(crate) fn new(r: u128, pad: u128) -> Self {
        let r = r & 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff;
        let (r0, r1) = (r as u64, (r >> 64) as u64);
        Self { r: [r0, r1], wrapped: r1 + (r1 >> 2), pad, limbs: [0; 3] }
    }

    /// Takes `N` blocks off `ready`, if there are so many.
    #[inline(always)]
    pub(crate) fn absorb_some<const N: usize>(&mut self, ready: &mut &[[u8; 16]]) {
        if let Some((blocks, rest)) = ready.split_first_chunk::<N>() {
            blocks.iter().for_each(|block| self.absorb(u128::from_le_bytes(*block)));
            *ready = rest;
        }
    }

    /// Takes `bytes` and zeros up to a multiple of 16.
    #[inline(always)]
    pub(crate) fn absorb_padded(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<16>();
        for block in blocks {
            self.absorb(u128::from_le_bytes(*block));
        }
        if rest.is_empty() {
            return;
        }
        if let Some(last) = bytes.last_chunk::<16>() {
            self.absorb(u128::from_le_bytes(*last) >> (8 * (16 - rest.len())));
        } else {
            let mut last = [0; 16];
            for (to, from) in last.iter_mut().zip(rest) {
                *to = *from;
            }
            self.absorb(u128::from_le_bytes(last));
        }
    }

    /// Takes the next block: adds it and 2^128, and multiplies by r. Sums of 64-bit limbs that carry into the next, and not of
    /// 128 bits whose carry is compared out: 53 instructions a block in Wasm instead of 66.
    #[inline(always)]
    pub(crate) fn absorb(&mut self, block: u128) {
        let [l0, l1, l2] = self.limbs;
        let t0 = u128::from(l0) + u128::from(folded(l2)) + u128::from(block as u64);
        let t1 = u128::from(l1) + (t0 >> 64) + (block >> 64);
        let (h0, h1, top) = (t0 as u64, t1 as u64, (l2 & 3) + 1 + (t1 >> 64) as u64);
        let [r0, r1] = self.r;
        let d0 = wide(h0, r0) + wide(h1, self.wrapped);
        // top is at most 6 and r's limbs are below 2^60: no sum here has more bits than it may, and l2 is below 2^63.
        let d1 = wide(h0, r1) + wide(h1, r0) + u128::from(top * self.wrapped + (d0 >> 64) as u64);
        self.limbs = [d0 as u64, d1 as u64, top * r0 + (d1 >> 64) as u64];
    }

    /// The tag.
    #[inline(always)]
    pub(crate) fn finish(self) -> [u8; 16] {
        let [l0, l1, l2] = self.limbs;
        let (low, carry) = (u128::from(l0) | u128::from(l1) << 64).overflowing_add(u128::from(folded(l2)));
        let top = (l2 & 3) + u64::from(carry);
        // At or above 2^130 - 5 there is one modulus to take away; modulo 2^128 that is adding 5.
        let (_, carry) = low.overflowing_add(5);
        let beyond = (top + u64::from(carry)) >> 2;
        low.wrapping_add(u128::from(beyond * 5)).wrapping_add(self.pad).to_le_bytes()
    }
}

/// What the bits of `top`, which counts 2^128s, from the third on are worth: five for each 2^130.
#[inline(always)]
fn folded(top: u64) -> u64 {
    (top >> 2) + (top & !3)
}

#[inline(always)]
fn wide(one: u64, other: u64) -> u128 {
    u128::from(one) * u128::from(other)
}

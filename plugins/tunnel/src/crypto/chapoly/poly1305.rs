//! Poly1305 (RFC 8439, 2.5) over whole blocks, in 64-bit limbs.

/// The authenticator of one message.
///
/// The accumulator is `low + 2^128 * top`, `top` at most 4 between blocks.
pub(crate) struct Poly1305 {
    r: [u64; 2],
    /// 5/4 of `r`'s upper limb: what it is worth after 2^128 times it wrapped around 2^130 - 5. Exact,
    /// as the limb is a multiple of four.
    wrapped: u64,
    pad: u128,
    low: u128,
    top: u64,
}

impl Poly1305 {
    /// Starts under a key, of which no other message may be authenticated.
    #[inline(always)]
    pub(crate) fn new(r: u128, pad: u128) -> Self {
        let r = r & 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff;
        let (r0, r1) = (r as u64, (r >> 64) as u64);
        Self { r: [r0, r1], wrapped: r1 + (r1 >> 2), pad, low: 0, top: 0 }
    }

    /// Takes two blocks off `ready`, if there are two.
    #[inline(always)]
    pub(crate) fn absorb_two(&mut self, ready: &mut &[[u8; 16]]) {
        if let [one, two, rest @ ..] = *ready {
            self.absorb(u128::from_le_bytes(*one));
            self.absorb(u128::from_le_bytes(*two));
            *ready = rest;
        }
    }

    /// Takes blocks.
    #[inline(always)]
    pub(crate) fn absorb_all(&mut self, blocks: &[[u8; 16]]) {
        for block in blocks {
            self.absorb(u128::from_le_bytes(*block));
        }
    }

    /// Takes `bytes` and zeros up to a multiple of 16.
    #[inline(always)]
    pub(crate) fn absorb_padded(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<16>();
        self.absorb_all(blocks);
        if !rest.is_empty() {
            let mut last = [0; 16];
            for (to, from) in last.iter_mut().zip(rest) {
                *to = *from;
            }
            self.absorb(u128::from_le_bytes(last));
        }
    }

    /// Takes the next block: adds it and 2^128, multiplies by r, takes away what is at or above 2^130.
    #[inline(always)]
    pub(crate) fn absorb(&mut self, block: u128) {
        let (low, carry) = self.low.overflowing_add(block);
        let top = self.top + 1 + u64::from(carry);
        let (h0, h1) = (low as u64, (low >> 64) as u64);
        let [r0, r1] = self.r;
        let d0 = wide(h0, r0) + wide(h1, self.wrapped);
        // top is at most 6 and r's limbs are below 2^60.
        let d1 = wide(h0, r1) + wide(h1, r0) + u128::from(top * self.wrapped) + (d0 >> 64);
        let d2 = top * r0 + (d1 >> 64) as u64;
        let low = u128::from(d0 as u64) | d1 << 64;
        let (low, carry) = low.overflowing_add(u128::from((d2 >> 2) + (d2 & !3)));
        self.low = low;
        self.top = (d2 & 3) + u64::from(carry);
    }

    /// The tag.
    #[inline(always)]
    pub(crate) fn finish(self) -> [u8; 16] {
        // At or above 2^130 - 5 there is one modulus to take away; modulo 2^128 that is adding 5.
        let (_, carry) = self.low.overflowing_add(5);
        let beyond = (self.top + u64::from(carry)) >> 2;
        self.low.wrapping_add(u128::from(beyond * 5)).wrapping_add(self.pad).to_le_bytes()
    }
}

#[inline(always)]
fn wide(one: u64, other: u64) -> u128 {
    u128::from(one) * u128::from(other)
}

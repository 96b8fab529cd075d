//! SipHash-2-4 (Aumasson, Bernstein 2012), written out where it is called: of the two lengths that a header has it
//! takes fewer instructions than the crate `siphasher`, with which tests compare it.

/// The hash of `bytes`.
#[inline(always)]
pub(super) fn hash(key: &[u8; 16], bytes: &[u8]) -> u64 {
    let key = u128::from_le_bytes(*key);
    let (k0, k1) = (key as u64, (key >> 64) as u64);
    let mut state = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = absorb(state, u64::from_le_bytes(*word));
    }
    let rest = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    let [a, b, c, d] = absorb(state, rest | (bytes.len() as u64) << 56);
    let [a, b, c, d] = (0..4).fold([a, b, c ^ 0xff, d], |state, _| round(state));
    a ^ b ^ c ^ d
}

#[inline(always)]
fn absorb([a, b, c, d]: [u64; 4], word: u64) -> [u64; 4] {
    let [a, b, c, d] = round(round([a, b, c, d ^ word]));
    [a ^ word, b, c, d]
}

#[inline(always)]
fn round([a, b, c, d]: [u64; 4]) -> [u64; 4] {
    let (a, c) = (a.wrapping_add(b), c.wrapping_add(d));
    let (b, d) = (b.rotate_left(13) ^ a, d.rotate_left(16) ^ c);
    let (a, c) = (a.rotate_left(32).wrapping_add(d), c.wrapping_add(b));
    let (b, d) = (b.rotate_left(17) ^ c, d.rotate_left(21) ^ a);
    [a, b, c.rotate_left(32), d]
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use siphasher::sip::SipHasher24;

    use super::*;

    fn check<const N: usize>(key: &[u8; 16]) {
        let bytes: [u8; N] = std::array::from_fn(|index| (index as u8).wrapping_mul(0x9d) ^ key[3]);
        let mut crates = SipHasher24::new_with_key(key);
        crates.write(&bytes);
        assert_eq!(hash(key, &bytes), crates.finish(), "{N} bytes");
    }

    #[test]
    fn the_paper_s_example() {
        // Appendix A: key 00 01 .. 0f, message 00 01 .. 0e.
        let key = std::array::from_fn(|index| index as u8);
        let message: [u8; 15] = std::array::from_fn(|index| index as u8);
        assert_eq!(hash(&key, &message), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn it_is_what_the_crate_gives() {
        for seed in 0..50u8 {
            let key = std::array::from_fn(|index| (index as u8).wrapping_mul(seed) ^ seed.rotate_left(3));
            check::<0>(&key);
            check::<1>(&key);
            check::<7>(&key);
            check::<8>(&key);
            check::<9>(&key);
            check::<16>(&key);
            check::<33>(&key);
            check::<64>(&key);
            check::<257>(&key);
        }
    }
}

//! The row as a 128-bit vector of x86-64, with what every such processor has; where the build says
//! that there is SSSE3, rotations by whole bytes are one shuffle.

use core::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_cvtsi128_si64, _mm_loadu_si128, _mm_or_si128, _mm_set_epi32,
    _mm_shuffle_epi32, _mm_slli_epi32, _mm_srli_epi32, _mm_storeu_si128, _mm_unpackhi_epi32,
    _mm_unpackhi_epi64, _mm_unpacklo_epi32, _mm_unpacklo_epi64, _mm_xor_si128,
};
#[cfg(target_feature = "ssse3")]
use core::arch::x86_64::{_mm_set_epi8, _mm_shuffle_epi8};

use super::row::Row;

/// Every x86-64 has SSE2; SSSE3 is named only where the build says that it is there.
macro_rules! vector {
    ($operation:expr) => {
        // SAFETY: the instructions are there, and these ones touch no memory.
        unsafe { $operation }
    };
}

/// A row in one register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sse(__m128i);

impl Sse {
    #[inline(always)]
    fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Self {
        Self(vector!(_mm_or_si128(_mm_slli_epi32::<LEFT>(self.0), _mm_srli_epi32::<RIGHT>(self.0))))
    }
}

impl Row for Sse {
    #[inline(always)]
    fn new(words: [u32; 4]) -> Self {
        let [a, b, c, d] = words.map(u32::cast_signed);
        Self(vector!(_mm_set_epi32(d, c, b, a)))
    }

    #[inline(always)]
    fn load(bytes: &[u8; 16]) -> Self {
        // SAFETY: the reference covers the 16 bytes that are read; they need no alignment.
        Self(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store(self, bytes: &mut [u8; 16]) {
        // SAFETY: the reference covers the 16 bytes that are written; they need no alignment.
        unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn number(self) -> u128 {
        let low = vector!(_mm_cvtsi128_si64(self.0)).cast_unsigned();
        let high = vector!(_mm_cvtsi128_si64(_mm_unpackhi_epi64(self.0, self.0))).cast_unsigned();
        u128::from(low) | u128::from(high) << 64
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(vector!(_mm_add_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(vector!(_mm_xor_si128(self.0, other.0)))
    }

    #[cfg(target_feature = "ssse3")]
    #[inline(always)]
    fn rotate_16(self) -> Self {
        let places = vector!(_mm_set_epi8(13, 12, 15, 14, 9, 8, 11, 10, 5, 4, 7, 6, 1, 0, 3, 2));
        Self(vector!(_mm_shuffle_epi8(self.0, places)))
    }

    #[cfg(not(target_feature = "ssse3"))]
    #[inline(always)]
    fn rotate_16(self) -> Self {
        self.rotate::<16, 16>()
    }

    #[inline(always)]
    fn rotate_12(self) -> Self {
        self.rotate::<12, 20>()
    }

    #[cfg(target_feature = "ssse3")]
    #[inline(always)]
    fn rotate_8(self) -> Self {
        let places = vector!(_mm_set_epi8(14, 13, 12, 15, 10, 9, 8, 11, 6, 5, 4, 7, 2, 1, 0, 3));
        Self(vector!(_mm_shuffle_epi8(self.0, places)))
    }

    #[cfg(not(target_feature = "ssse3"))]
    #[inline(always)]
    fn rotate_8(self) -> Self {
        self.rotate::<8, 24>()
    }

    #[inline(always)]
    fn rotate_7(self) -> Self {
        self.rotate::<7, 25>()
    }

    #[inline(always)]
    fn turn_1(self) -> Self {
        Self(vector!(_mm_shuffle_epi32::<0b00_11_10_01>(self.0)))
    }

    #[inline(always)]
    fn turn_2(self) -> Self {
        Self(vector!(_mm_shuffle_epi32::<0b01_00_11_10>(self.0)))
    }

    #[inline(always)]
    fn turn_3(self) -> Self {
        Self(vector!(_mm_shuffle_epi32::<0b10_01_00_11>(self.0)))
    }

    #[inline(always)]
    fn transpose([a, b, c, d]: [Self; 4]) -> [Self; 4] {
        let (low, high) = (vector!(_mm_unpacklo_epi32(a.0, b.0)), vector!(_mm_unpackhi_epi32(a.0, b.0)));
        let (low_2, high_2) = (vector!(_mm_unpacklo_epi32(c.0, d.0)), vector!(_mm_unpackhi_epi32(c.0, d.0)));
        [
            Self(vector!(_mm_unpacklo_epi64(low, low_2))),
            Self(vector!(_mm_unpackhi_epi64(low, low_2))),
            Self(vector!(_mm_unpacklo_epi64(high, high_2))),
            Self(vector!(_mm_unpackhi_epi64(high, high_2))),
        ]
    }
}

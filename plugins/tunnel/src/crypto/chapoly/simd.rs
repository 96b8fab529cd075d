//! The row as a 128-bit vector of WebAssembly.

use core::arch::wasm32::{
    i8x16_shuffle, i32x4_add, i32x4_shuffle, i64x2_shuffle, u32x4, u32x4_shl, u32x4_shr, u64x2_extract_lane,
    v128, v128_bitselect, v128_load, v128_or, v128_store, v128_xor,
};

use super::row::Row;

/// A row in one register.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Simd(v128);

/// `vector`, as the second operand of a shuffle of `vector` with itself, named in half of the lanes.
///
/// The compiler drops a second operand that it sees to be the first, and puts any register there; for
/// two operands wasmtime takes a slower instruction. It folds this selection itself, sees one operand,
/// and takes its byte shuffle. (Sealing 1350 bytes, best of 15: 700 MB/s without this, 870 with shifts in
/// place of shuffles, 1020 with it.)
#[inline(always)]
fn same(vector: v128) -> v128 {
    v128_bitselect(vector, vector, vector)
}

impl Row for Simd {
    #[inline(always)]
    fn new([a, b, c, d]: [u32; 4]) -> Self {
        Self(u32x4(a, b, c, d))
    }

    #[inline(always)]
    fn load(bytes: &[u8; 16]) -> Self {
        // SAFETY: the reference covers the 16 bytes that are read; they need no alignment.
        Self(unsafe { v128_load(bytes.as_ptr().cast()) })
    }

    #[inline(always)]
    fn store(self, bytes: &mut [u8; 16]) {
        // SAFETY: the reference covers the 16 bytes that are written; they need no alignment.
        unsafe { v128_store(bytes.as_mut_ptr().cast(), self.0) }
    }

    #[inline(always)]
    fn number(self) -> u128 {
        u128::from(u64x2_extract_lane::<0>(self.0)) | u128::from(u64x2_extract_lane::<1>(self.0)) << 64
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(i32x4_add(self.0, other.0))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(v128_xor(self.0, other.0))
    }

    #[inline(always)]
    fn rotate_16(self) -> Self {
        Self(i8x16_shuffle::<2, 3, 0, 1, 6, 7, 4, 5, 26, 27, 24, 25, 30, 31, 28, 29>(self.0, same(self.0)))
    }

    #[inline(always)]
    fn rotate_12(self) -> Self {
        Self(v128_or(u32x4_shl(self.0, 12), u32x4_shr(self.0, 20)))
    }

    #[inline(always)]
    fn rotate_8(self) -> Self {
        Self(i8x16_shuffle::<3, 0, 1, 2, 7, 4, 5, 6, 27, 24, 25, 26, 31, 28, 29, 30>(self.0, same(self.0)))
    }

    #[inline(always)]
    fn rotate_7(self) -> Self {
        Self(v128_or(u32x4_shl(self.0, 7), u32x4_shr(self.0, 25)))
    }

    #[inline(always)]
    fn turn_1(self) -> Self {
        Self(i32x4_shuffle::<1, 2, 3, 0>(self.0, self.0))
    }

    #[inline(always)]
    fn turn_2(self) -> Self {
        Self(i32x4_shuffle::<2, 3, 0, 1>(self.0, self.0))
    }

    #[inline(always)]
    fn turn_3(self) -> Self {
        Self(i32x4_shuffle::<3, 0, 1, 2>(self.0, self.0))
    }

    #[inline(always)]
    fn transpose([a, b, c, d]: [Self; 4]) -> [Self; 4] {
        let (low, high) = (i32x4_shuffle::<0, 4, 1, 5>(a.0, b.0), i32x4_shuffle::<2, 6, 3, 7>(a.0, b.0));
        let (low_2, high_2) = (i32x4_shuffle::<0, 4, 1, 5>(c.0, d.0), i32x4_shuffle::<2, 6, 3, 7>(c.0, d.0));
        [
            Self(i64x2_shuffle::<0, 2>(low, low_2)),
            Self(i64x2_shuffle::<1, 3>(low, low_2)),
            Self(i64x2_shuffle::<0, 2>(high, high_2)),
            Self(i64x2_shuffle::<1, 3>(high, high_2)),
        ]
    }
}

//! Four 32-bit words that are worked on at once, and their form in plain Rust.

/// A row of ChaCha20's state, or one word of four states. Every operation takes the same time whatever the words are.
pub(crate) trait Row: Copy {
    /// Takes the words in order.
    fn new(words: [u32; 4]) -> Self;
    /// Reads four words, least significant byte first.
    fn load(bytes: &[u8; 16]) -> Self;
    /// Writes them likewise.
    fn store(self, bytes: &mut [u8; 16]);
    /// The words as one number, the first the least significant.
    fn number(self) -> u128;
    /// Adds word by word, modulo 2^32.
    fn add(self, other: Self) -> Self;
    /// Exclusive or.
    fn xor(self, other: Self) -> Self;
    /// Rotates each word left by 16 bits.
    fn rotate_16(self) -> Self;
    /// Rotates each word left by 12 bits.
    fn rotate_12(self) -> Self;
    /// Rotates each word left by 8 bits.
    fn rotate_8(self) -> Self;
    /// Rotates each word left by 7 bits.
    fn rotate_7(self) -> Self;
    /// Moves each word one place down, the first to the end.
    fn turn_1(self) -> Self;
    /// Two places.
    fn turn_2(self) -> Self;
    /// Three places.
    fn turn_3(self) -> Self;
    /// Rows to columns: word `i` of row `j` becomes word `j` of row `i`.
    fn transpose(rows: [Self; 4]) -> [Self; 4];
}

/// The row in plain Rust.
#[cfg(any(test, feature = "probe"))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plain([u32; 4]);

#[cfg(any(test, feature = "probe"))]
impl Plain {
    #[inline(always)]
    fn each(self, operation: impl Fn(u32) -> u32) -> Self {
        Self(self.0.map(operation))
    }

    #[inline(always)]
    fn both(self, other: Self, operation: impl Fn(u32, u32) -> u32) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        Self([operation(a, e), operation(b, f), operation(c, g), operation(d, h)])
    }
}

#[cfg(any(test, feature = "probe"))]
impl Row for Plain {
    #[inline(always)]
    fn new(words: [u32; 4]) -> Self {
        Self(words)
    }

    #[inline(always)]
    fn load(bytes: &[u8; 16]) -> Self {
        let number = u128::from_le_bytes(*bytes);
        Self([number as u32, (number >> 32) as u32, (number >> 64) as u32, (number >> 96) as u32])
    }

    #[inline(always)]
    fn store(self, bytes: &mut [u8; 16]) {
        *bytes = self.number().to_le_bytes();
    }

    #[inline(always)]
    fn number(self) -> u128 {
        let [a, b, c, d] = self.0.map(u128::from);
        a | b << 32 | c << 64 | d << 96
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.both(other, u32::wrapping_add)
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        self.both(other, |one, other| one ^ other)
    }

    #[inline(always)]
    fn rotate_16(self) -> Self {
        self.each(|word| word.rotate_left(16))
    }

    #[inline(always)]
    fn rotate_12(self) -> Self {
        self.each(|word| word.rotate_left(12))
    }

    #[inline(always)]
    fn rotate_8(self) -> Self {
        self.each(|word| word.rotate_left(8))
    }

    #[inline(always)]
    fn rotate_7(self) -> Self {
        self.each(|word| word.rotate_left(7))
    }

    #[inline(always)]
    fn turn_1(self) -> Self {
        let [a, b, c, d] = self.0;
        Self([b, c, d, a])
    }

    #[inline(always)]
    fn turn_2(self) -> Self {
        let [a, b, c, d] = self.0;
        Self([c, d, a, b])
    }

    #[inline(always)]
    fn turn_3(self) -> Self {
        let [a, b, c, d] = self.0;
        Self([d, a, b, c])
    }

    #[inline(always)]
    fn transpose([a, b, c, d]: [Self; 4]) -> [Self; 4] {
        let at = |lane: usize| Self([a, b, c, d].map(|row| row.0.get(lane).copied().unwrap_or_default()));
        [at(0), at(1), at(2), at(3)]
    }
}

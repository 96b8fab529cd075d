//! ChaCha20 (RFC 8439, 2.3 and 2.4), four blocks in flight: their rounds do not wait for each other.
//! Measured in Wasm on one machine, 1350 bytes: 2, 3, 4, 5, 6, 8 in flight seal 590, 820, 990, 1000, 970, 920
//! MB/s; four waste least on short contents.

use super::row::Row;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 64;
/// Bytes of a flight.
pub(crate) const FLIGHT: usize = 4 * BLOCK;

/// A block of the key stream, as its four rows.
pub(crate) type Block<R> = [R; 4];
/// The blocks that are made together. They are named one by one: the compiler for Wasm does not unroll
/// a loop over them, which seals 910 MB/s where this seals 1000.
pub(crate) type Flight<R> = [Block<R>; 4];

/// A key and a nonce: where the blocks of one message come from.
pub(crate) struct Stream<R> {
    constants: R,
    key: [R; 2],
    nonce: [u32; 3],
}

impl<R: Row> Stream<R> {
    /// Takes the key's and the nonce's bytes.
    #[inline(always)]
    pub(crate) fn new(key: &[[u8; 16]; 2], nonce: &[u8; 12]) -> Self {
        let [first, second] = key;
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *nonce;
        Self {
            constants: R::load(b"expand 32-byte k"),
            key: [R::load(first), R::load(second)],
            nonce: [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_le_bytes),
        }
    }

    /// The blocks from number `start` on. `beside` runs before each of the ten double rounds: the
    /// processor does both at once, as one works on vectors and the other does not (1010 MB/s sealed; 810
    /// when the other work comes after).
    #[inline(always)]
    pub(crate) fn flight(&self, start: u32, mut beside: impl FnMut()) -> Flight<R> {
        let first = [self.block(start), self.block(start.wrapping_add(1))];
        let second = [self.block(start.wrapping_add(2)), self.block(start.wrapping_add(3))];
        let ([mut a, mut b], [mut c, mut d]) = (first, second);
        for _ in 0..10 {
            beside();
            a = double_round(a);
            b = double_round(b);
            c = double_round(c);
            d = double_round(d);
        }
        let ([e, f], [g, h]) = (first, second);
        [sum(a, e), sum(b, f), sum(c, g), sum(d, h)]
    }

    /// A block's state before its rounds.
    #[inline(always)]
    fn block(&self, number: u32) -> Block<R> {
        let ([k0, k1], [n0, n1, n2]) = (self.key, self.nonce);
        [self.constants, k0, k1, R::new([number, n0, n1, n2])]
    }
}

#[inline(always)]
fn double_round<R: Row>(block: Block<R>) -> Block<R> {
    let [a, b, c, d] = round(block);
    let [a, b, c, d] = round([a, b.turn_1(), c.turn_2(), d.turn_3()]);
    [a, b.turn_3(), c.turn_2(), d.turn_1()]
}

/// Four quarter rounds, one in each column.
#[inline(always)]
fn round<R: Row>([a, b, c, d]: Block<R>) -> Block<R> {
    let a = a.add(b);
    let d = d.xor(a).rotate_16();
    let c = c.add(d);
    let b = b.xor(c).rotate_12();
    let a = a.add(b);
    let d = d.xor(a).rotate_8();
    let c = c.add(d);
    let b = b.xor(c).rotate_7();
    [a, b, c, d]
}

#[inline(always)]
fn sum<R: Row>([a, b, c, d]: Block<R>, [e, f, g, h]: Block<R>) -> Block<R> {
    [a.add(e), b.add(f), c.add(g), d.add(h)]
}

/// Puts a flight over as many bytes as there are, at most its own.
#[inline(always)]
pub(crate) fn cover<R: Row>(bytes: &mut [u8], flight: &Flight<R>) {
    if let ([a, b, c, d], []) = bytes.as_chunks_mut::<BLOCK>() {
        let [e, f, g, h] = flight;
        cover_block(a, e);
        cover_block(b, f);
        cover_block(c, g);
        cover_block(d, h);
    } else {
        cover_some(bytes, flight);
    }
}

#[inline(always)]
fn cover_block<R: Row>(bytes: &mut [u8; BLOCK], [a, b, c, d]: &Block<R>) {
    if let ([e, f, g, h], []) = bytes.as_chunks_mut::<16>() {
        R::load(e).xor(*a).store(e);
        R::load(f).xor(*b).store(f);
        R::load(g).xor(*c).store(g);
        R::load(h).xor(*d).store(h);
    }
}

/// Puts blocks over as many bytes as there are, at most theirs.
#[inline(never)]
pub(crate) fn cover_some<R: Row>(bytes: &mut [u8], blocks: &[Block<R>]) {
    let mut rows = blocks.iter().flatten();
    let (whole, rest) = bytes.as_chunks_mut::<16>();
    for (bytes, row) in whole.iter_mut().zip(&mut rows) {
        R::load(bytes).xor(*row).store(bytes);
    }
    if let Some(row) = rows.next() {
        let mut last = [0; 16];
        row.store(&mut last);
        for (byte, cover) in rest.iter_mut().zip(last) {
            *byte ^= cover;
        }
    }
}

//! ChaCha20 (RFC 8439, 2.3 and 2.4), four blocks in flight: a vector holds one word of each, so that no
//! row of the state is ever turned, and the blocks become rows at the end.

use super::row::Row;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 64;
/// Bytes of a flight.
pub(crate) const FLIGHT: usize = 4 * BLOCK;

const CONSTANT: &[u8; 16] = b"expand 32-byte k";

/// A block of the key stream, as its four rows.
pub(crate) type Block<R> = [R; 4];
/// The blocks that are made together.
pub(crate) type Flight<R> = [Block<R>; 4];
/// Two of them, for the end of a message.
pub(crate) type Pair<R> = [Block<R>; 2];

/// A key and a nonce: where the blocks of one message come from.
pub(crate) struct Stream<'a, R> {
    key: &'a [[u8; 16]; 2],
    nonce: [u32; 3],
    /// The state before its rounds, each word in every lane; the block's number is not in it.
    words: [R; 16],
}

impl<'a, R: Row> Stream<'a, R> {
    /// Takes the key's and the nonce's bytes.
    #[inline(always)]
    pub(crate) fn new(key: &'a [[u8; 16]; 2], nonce: &[u8; 12]) -> Self {
        let [first, second] = key;
        let ([k0, k1, k2, k3], [k4, k5, k6, k7]) = (words(first), words(second));
        let [c0, c1, c2, c3] = words(CONSTANT);
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *nonce;
        let [n0, n1, n2] = [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_le_bytes);
        let all = [c0, c1, c2, c3, k0, k1, k2, k3, k4, k5, k6, k7, 0, n0, n1, n2];
        Self { key, nonce: [n0, n1, n2], words: all.map(|word| R::new([word; 4])) }
    }

    /// The blocks from number `start` on. `beside` runs before each of the ten double rounds: the
    /// processor does both at once, as one works on vectors and the other does not (a quarter faster than
    /// one after the other, measured in Wasm).
    #[inline(always)]
    pub(crate) fn flight(&self, start: u32, mut beside: impl FnMut()) -> Flight<R> {
        let numbers = R::new([start, start.wrapping_add(1), start.wrapping_add(2), start.wrapping_add(3)]);
        let [a, b, c, d, e, f, g, h, i, j, k, l, _, n, o, p] = self.words;
        let mut state = [a, b, c, d, e, f, g, h, i, j, k, l, numbers, n, o, p];
        for _ in 0..10 {
            beside();
            state = double_round(state);
        }
        let [q, r, s, t, u, v, w, x, y, z, aa, bb, cc, dd, ee, ff] = state;
        let [a, b, c, d] = R::transpose([q.add(a), r.add(b), s.add(c), t.add(d)]);
        let [e, f, g, h] = R::transpose([u.add(e), v.add(f), w.add(g), x.add(h)]);
        let [i, j, k, l] = R::transpose([y.add(i), z.add(j), aa.add(k), bb.add(l)]);
        let [m, n, o, p] = R::transpose([cc.add(numbers), dd.add(n), ee.add(o), ff.add(p)]);
        [[a, e, i, m], [b, f, j, n], [c, g, k, o], [d, h, l, p]]
    }

    /// Two blocks from number `start` on, `beside` as in [`flight`](Self::flight). A vector is a row of one block here, which has to
    /// be turned, but a flight of which half is thrown away takes longer.
    #[inline(always)]
    pub(crate) fn pair(&self, start: u32, mut beside: impl FnMut()) -> Pair<R> {
        let ([key_0, key_1], [n0, n1, n2]) = (self.key, self.nonce);
        let before =
            |number| [R::load(CONSTANT), R::load(key_0), R::load(key_1), R::new([number, n0, n1, n2])];
        let befores = [before(start), before(start.wrapping_add(1))];
        let [mut one, mut two] = befores;
        for _ in 0..10 {
            beside();
            [one, two] = [quarter(one), quarter(two)];
            [one, two] = [diagonal(one), diagonal(two)];
            [one, two] = [quarter(one), quarter(two)];
            [one, two] = [straight(one), straight(two)];
        }
        let [first, second] = befores;
        [sum(one, first), sum(two, second)]
    }
}

/// Turns the rows of a block so that its diagonals become columns.
#[inline(always)]
fn diagonal<R: Row>([a, b, c, d]: Block<R>) -> Block<R> {
    [a, b.turn_1(), c.turn_2(), d.turn_3()]
}

/// Turns them back.
#[inline(always)]
fn straight<R: Row>([a, b, c, d]: Block<R>) -> Block<R> {
    [a, b.turn_3(), c.turn_2(), d.turn_1()]
}

#[inline(always)]
fn sum<R: Row>([a, b, c, d]: Block<R>, [e, f, g, h]: Block<R>) -> Block<R> {
    [a.add(e), b.add(f), c.add(g), d.add(h)]
}

fn words(bytes: &[u8; 16]) -> [u32; 4] {
    let number = u128::from_le_bytes(*bytes);
    [number as u32, (number >> 32) as u32, (number >> 64) as u32, (number >> 96) as u32]
}

#[inline(always)]
fn double_round<R: Row>(state: [R; 16]) -> [R; 16] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = state;
    let [a, e, i, m] = quarter([a, e, i, m]);
    let [b, f, j, n] = quarter([b, f, j, n]);
    let [c, g, k, o] = quarter([c, g, k, o]);
    let [d, h, l, p] = quarter([d, h, l, p]);
    let [a, f, k, p] = quarter([a, f, k, p]);
    let [b, g, l, m] = quarter([b, g, l, m]);
    let [c, h, i, n] = quarter([c, h, i, n]);
    let [d, e, j, o] = quarter([d, e, j, o]);
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// A quarter round of each of the four blocks, or of the four columns of one.
#[inline(always)]
fn quarter<R: Row>([a, b, c, d]: [R; 4]) -> [R; 4] {
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

/// Puts the blocks behind the first one of a message over as many bytes as there are, at most theirs.
#[inline(always)]
pub(crate) fn cover_head<R: Row>(bytes: &mut [u8], blocks: &[Block<R>; 3]) {
    if let ([a, b, c], []) = bytes.as_chunks_mut::<BLOCK>() {
        let [d, e, f] = blocks;
        cover_block(a, d);
        cover_block(b, e);
        cover_block(c, f);
    } else {
        cover_some(bytes, blocks);
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

//! ChaCha20 (RFC 8439, 2.3 and 2.4), four blocks at once: a vector holds one word of each, so that no row of the state is
//! ever turned, and the blocks become rows at the end.

use core::cell::Cell;
use core::hint::black_box;

use super::row::Row;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 64;
/// Blocks that are made together.
pub(crate) const PAIR: usize = 2;
pub(crate) const FLIGHT: usize = 4;

const CONSTANT: &[u8; 16] = b"expand 32-byte k";

/// A block of the key stream, as its four rows.
pub(crate) type Block<R> = [R; 4];
/// A state of four blocks, each word of theirs in a lane.
type State<R> = [R; 16];

/// A key and a nonce: where the blocks of one message come from.
pub(crate) struct Stream<'a, R> {
    key: &'a [[u8; 16]; 2],
    nonce: [u32; 3],
    /// The state before its rounds, each word in every lane; the block's number is not in it.
    words: State<R>,
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

    /// The state before its rounds of the blocks from number `start` on.
    #[inline(always)]
    fn before(&self, start: u32) -> State<R> {
        let [a, b, c, d, e, f, g, h, i, j, k, l, _, n, o, p] = self.words;
        let numbers = [start, start.wrapping_add(1), start.wrapping_add(2), start.wrapping_add(3)];
        [a, b, c, d, e, f, g, h, i, j, k, l, R::new(numbers), n, o, p]
    }

    /// Four blocks from number `start` on. `beside` runs before each of the twenty rounds: the processor does both at
    /// once, as one works on vectors and the other does not.
    ///
    /// It does so only when the two are finely mixed. wasmtime places what has no effect as late as it can, which would be
    /// all rounds behind all else; so words of each round are stored where nobody looks, and the round has to be done by
    /// then. (The compiler may drop such a store; it does where nothing runs beside the rounds.) In a loop the state would go
    /// through memory each time round, because wasmtime's check of the epoch may call the host there; so there is none.
    #[inline(always)]
    pub(crate) fn flight(&self, start: u32, mut beside: impl FnMut()) -> [Block<R>; FLIGHT] {
        let before = self.before(start);
        let [pin, ..] = before;
        let pins = [pin; 4].map(Cell::new);
        let pins = black_box(&pins);
        let state = double_round(before, pins, &mut beside);
        let state = double_round(state, pins, &mut beside);
        let state = double_round(state, pins, &mut beside);
        let state = double_round(state, pins, &mut beside);
        let state = double_round(state, pins, &mut beside);
        let state = double_round(state, pins, &mut beside);
        let state = double_round(state, pins, &mut beside);
        let state = double_round(state, pins, &mut beside);
        let state = double_round(state, pins, &mut beside);
        let state = double_round(state, pins, &mut beside);
        blocks(state, before)
    }

    /// Two blocks from number `start` on, `beside` before each of the ten double rounds. A vector is a row of one block
    /// here, which has to be turned, but a flight of which half is thrown away takes longer.
    #[inline(always)]
    pub(crate) fn pair(&self, start: u32, mut beside: impl FnMut()) -> [Block<R>; PAIR] {
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

/// The blocks whose states those are, after and before their rounds.
#[inline(always)]
fn blocks<R: Row>(after: State<R>, before: State<R>) -> [Block<R>; FLIGHT] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = before;
    let [q, r, s, t, u, v, w, x, y, z, aa, bb, cc, dd, ee, ff] = after;
    let [a, b, c, d] = R::transpose([q.add(a), r.add(b), s.add(c), t.add(d)]);
    let [e, f, g, h] = R::transpose([u.add(e), v.add(f), w.add(g), x.add(h)]);
    let [i, j, k, l] = R::transpose([y.add(i), z.add(j), aa.add(k), bb.add(l)]);
    let [m, n, o, p] = R::transpose([cc.add(m), dd.add(n), ee.add(o), ff.add(p)]);
    [[a, e, i, m], [b, f, j, n], [c, g, k, o], [d, h, l, p]]
}

/// A column round and a diagonal round, `beside` before each.
#[inline(always)]
fn double_round<R: Row>(state: State<R>, pins: &[Cell<R>; 4], beside: &mut impl FnMut()) -> State<R> {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = state;
    beside();
    let [a, e, i, m] = quarter([a, e, i, m]);
    let [b, f, j, n] = quarter([b, f, j, n]);
    let [c, g, k, o] = quarter([c, g, k, o]);
    let [d, h, l, p] = quarter([d, h, l, p]);
    store([e, f, g, h], pins);
    beside();
    let [a, f, k, p] = quarter([a, f, k, p]);
    let [b, g, l, m] = quarter([b, g, l, m]);
    let [c, h, i, n] = quarter([c, h, i, n]);
    let [d, e, j, o] = quarter([d, e, j, o]);
    store([e, f, g, h], pins);
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// Stores the words that a round makes last, so that it is not put off.
#[inline(always)]
fn store<R: Row>([a, b, c, d]: [R; 4], [e, f, g, h]: &[Cell<R>; 4]) {
    e.set(a);
    f.set(b);
    g.set(c);
    h.set(d);
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

/// Puts blocks over as many bytes as there are, at most theirs.
#[inline(always)]
pub(crate) fn cover<R: Row>(bytes: &mut [u8], blocks: &[Block<R>]) {
    let (whole, _) = bytes.as_chunks_mut::<BLOCK>();
    let count = whole.len();
    for (bytes, block) in whole.iter_mut().zip(blocks) {
        if let ([e, f, g, h], [a, b, c, d]) = (bytes.as_chunks_mut::<16>().0, block) {
            R::load(e).xor(*a).store(e);
            R::load(f).xor(*b).store(f);
            R::load(g).xor(*c).store(g);
            R::load(h).xor(*d).store(h);
        }
    }
    if let Some(block) = blocks.get(count) {
        cover_last(bytes, block);
    }
}

/// Puts a block over the last bytes, which are fewer than it has: those behind the whole blocks.
fn cover_last<R: Row>(bytes: &mut [u8], block: &Block<R>) {
    let (_, end) = bytes.as_chunks_mut::<BLOCK>();
    let (whole, rest) = end.as_chunks_mut::<16>();
    let (count, left) = (whole.len(), rest.len());
    for (bytes, row) in whole.iter_mut().zip(block) {
        R::load(bytes).xor(*row).store(bytes);
    }
    let Some(row) = block.get(count).filter(|_| left > 0) else { return };
    // The row behind zeros, so that what comes before the last bytes, and is covered, can be covered with them.
    let mut cover = [[0; 16]; 2];
    let [_, behind] = &mut cover;
    row.store(behind);
    match (bytes.last_chunk_mut::<16>(), cover.as_flattened().get(left..left + 16)) {
        (Some(last), Some(cover)) => {
            if let Some(cover) = cover.first_chunk() {
                R::load(last).xor(R::load(cover)).store(last);
            }
        }
        _ => {
            let [_, cover] = cover;
            for (byte, cover) in bytes.iter_mut().zip(cover) {
                *byte ^= cover;
            }
        }
    }
}

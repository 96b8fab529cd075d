//! The two ends of a link's cryptography: the header's tag and mask, the sealed messages, the
//! counters, the hourly key ratchet (docs/protocol.md, "A link's keys").

mod state;

use std::ops::Range;

use warren_schemas::cell::{HEADER_LEN, Header, Kind, LAYER_LEN, MAX_DATAGRAM};
use warren_schemas::{CircuitId, LinkId};

use zeroize::Zeroizing;

use crate::counter::Counter;
use crate::crypto::{
    AeadKey, Direction, LayerKind, SealError, Secret, SipKey, TAG_LEN, associated_data, equal, expand,
};
use crate::drop_reason::DropReason;
use crate::message::TOKEN_LEN;
use crate::ntor::{Seed, Suite};
use crate::replay::{ReplayWindow, WINDOW};

/// Bytes of a PATH_CHALLENGE.
const CHALLENGE_LEN: usize = HEADER_LEN + 1 + TOKEN_LEN + TAG_LEN;

/// Bytes of the keys of a phase: AEAD, tag, mask.
const RAW_KEYS: usize = 64;

/// The first secrets of a link, as its handshake gives them.
pub struct LinkKeys {
    suite: Suite,
    forward: Secret,
    backward: Secret,
}

impl LinkKeys {
    /// Derives both directions.
    #[must_use]
    pub fn derive(seed: &Seed, suite: Suite) -> Self {
        Self { suite, forward: seed.key("link forward"), backward: seed.key("link backward") }
    }

    /// The initiator's ends: `own` is its link id, `peer` the responder's.
    #[must_use]
    pub fn initiator(self, own: LinkId, peer: LinkId) -> (LinkSealer, LinkOpener) {
        (
            LinkSealer::new(self.forward, self.suite, Direction::Forward, peer),
            LinkOpener::new(&self.backward, self.suite, Direction::Backward, own),
        )
    }

    /// The responder's ends: `own` is its link id, `peer` the initiator's.
    #[must_use]
    pub fn responder(self, own: LinkId, peer: LinkId) -> (LinkSealer, LinkOpener) {
        (
            LinkSealer::new(self.backward, self.suite, Direction::Backward, peer),
            LinkOpener::new(&self.forward, self.suite, Direction::Forward, own),
        )
    }
}

/// The keys of one direction in one phase.
struct PhaseKeys {
    /// The three of them as bytes, for a successor.
    raw: Zeroizing<[u8; RAW_KEYS]>,
    aead: AeadKey,
    tag: SipKey,
    mask: SipKey,
}

impl PhaseKeys {
    fn derive(secret: &Secret) -> Self {
        Self::new(
            &expand(secret, &[b"warren link aead"]),
            &expand(secret, &[b"warren link tag"]),
            &expand(secret, &[b"warren link mask"]),
        )
    }

    fn new(aead: &[u8; 32], tag: &[u8; 16], mask: &[u8; 16]) -> Self {
        let mut raw = Zeroizing::new([0; RAW_KEYS]);
        let parts = aead.iter().chain(tag).chain(mask);
        raw.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        let sip = |key: &[u8; 16]| SipKey::new(Zeroizing::new(*key));
        Self { raw, aead: AeadKey::new(aead), tag: sip(tag), mask: sip(mask) }
    }

    #[inline]
    fn mask(&self, counter: u64, circuit: CircuitId) -> CircuitId {
        let [a, b, c, d, ..] = self.mask.hash(&counter.to_be_bytes());
        CircuitId(circuit.0 ^ u32::from_be_bytes([a, b, c, d]))
    }

    /// `header` as on the wire, its tag and low counter bits apart.
    #[inline]
    fn tag(&self, header: &Header, counter: u64, last: &[u8; TAG_LEN]) -> [u8; 8] {
        let [kind, l0, l1, l2, l3, .., i0, i1, i2, i3] = header.to_bytes();
        let mut input = [0; 33];
        let (head, tail) = input.split_at_mut(17);
        let [c0, c1, c2, c3, c4, c5, c6, c7] = counter.to_be_bytes();
        head.copy_from_slice(&[kind, l0, l1, l2, l3, c0, c1, c2, c3, c4, c5, c6, c7, i0, i1, i2, i3]);
        tail.copy_from_slice(last);
        self.tag.hash(&input)
    }
}

fn next_secret(secret: &Secret) -> Secret {
    expand(secret, &[b"warren link next"])
}

/// The sending end of a link's direction. Owns the only counter of its keys.
pub struct LinkSealer {
    peer: LinkId,
    keys: PhaseKeys,
    next: Secret,
    phase: bool,
    confirmed: bool,
    counter: Counter,
    associated: [u8; 4],
}

impl LinkSealer {
    fn new(secret: Secret, suite: Suite, direction: Direction, peer: LinkId) -> Self {
        Self {
            peer,
            keys: PhaseKeys::derive(&secret),
            next: next_secret(&secret),
            phase: false,
            confirmed: true,
            counter: Counter::new(),
            associated: associated_data(suite as u8, direction, LayerKind::LinkMessage),
        }
    }

    /// The receiver's id of the link.
    #[must_use]
    pub const fn peer(&self) -> LinkId {
        self.peer
    }

    /// The counter of the next datagram.
    #[must_use]
    pub const fn next_counter(&self) -> u64 {
        self.counter.next()
    }

    /// Puts the header before the layer of `len` bytes at `start` of `buf`; gives the place of the datagram.
    ///
    /// # Errors
    /// `NoRoom` when there are fewer than `HEADER_LEN` bytes before it, or it is no layer or too long for a
    /// datagram; `Exhausted` at the counter's end.
    #[inline]
    pub fn seal_cell(
        &mut self,
        buf: &mut [u8],
        start: usize,
        len: usize,
        circuit: CircuitId,
    ) -> Result<Range<usize>, SealError> {
        if len < LAYER_LEN {
            return Err(SealError::NoRoom);
        }
        let place = datagram(buf.len(), start, len)?;
        let counter = self.counter.take().ok_or(SealError::Exhausted)?;
        self.put_header(buf, place, Kind::Cell, counter, circuit)
    }

    /// Seals the message (`type ‖ content`) of `len` bytes at `start` of `buf`, with the header before and
    /// an AEAD's tag behind; gives the place of the datagram.
    ///
    /// # Errors
    /// `NoRoom` without that room or when it is empty or too long for a datagram, `Exhausted` at the counter's end.
    pub fn seal_message(
        &mut self,
        buf: &mut [u8],
        start: usize,
        len: usize,
        circuit: CircuitId,
    ) -> Result<Range<usize>, SealError> {
        let sealed_len = len.checked_add(TAG_LEN).filter(|_| len > 0).ok_or(SealError::NoRoom)?;
        let place = datagram(buf.len(), start, sealed_len)?;
        let body = buf.get_mut(start..place.end).ok_or(SealError::NoRoom)?;
        let (content, tag) = body.split_last_chunk_mut::<TAG_LEN>().ok_or(SealError::NoRoom)?;
        let counter = self.counter.take().ok_or(SealError::Exhausted)?;
        *tag = self.keys.aead.seal(counter, &self.associated, content)?;
        self.put_header(buf, place, Kind::Message, counter, circuit)
    }

    #[inline]
    fn put_header(
        &self,
        buf: &mut [u8],
        place: Range<usize>,
        kind: Kind,
        counter: u64,
        circuit: CircuitId,
    ) -> Result<Range<usize>, SealError> {
        #[cfg(test)]
        crate::testing::nonces::note(&*self.keys.raw, counter);
        let bytes = buf.get_mut(place.clone()).ok_or(SealError::NoRoom)?;
        let last = bytes.last_chunk::<TAG_LEN>().copied().ok_or(SealError::NoRoom)?;
        let mut header = Header {
            kind,
            key_phase: self.phase,
            link: self.peer,
            counter: counter as u32,
            tag: [0; 8],
            circuit: self.keys.mask(counter, circuit),
        };
        header.tag = self.keys.tag(&header, counter, &last);
        *bytes.first_chunk_mut::<HEADER_LEN>().ok_or(SealError::NoRoom)? = header.to_bytes();
        Ok(place)
    }

    /// Moves to the next phase and forgets the old keys. Does nothing and says so (`false`) while the receiver
    /// has not confirmed this phase: it could take the phase after the next for this one.
    pub fn rekey(&mut self) -> bool {
        if !self.confirmed {
            return false;
        }
        self.keys = PhaseKeys::derive(&self.next);
        self.next = next_secret(&self.next);
        self.phase = !self.phase;
        self.confirmed = false;
        true
    }

    /// A PONG has answered a PING of this phase.
    pub const fn confirm_phase(&mut self) {
        self.confirmed = true;
    }

    /// Whether the receiver is known to have reached this phase.
    #[must_use]
    pub const fn is_confirmed(&self) -> bool {
        self.confirmed
    }
}

fn datagram(buf: usize, start: usize, len: usize) -> Result<Range<usize>, SealError> {
    let front = start.checked_sub(HEADER_LEN).ok_or(SealError::NoRoom)?;
    let end = start.checked_add(len).filter(|end| *end <= buf).ok_or(SealError::NoRoom)?;
    if end - front > MAX_DATAGRAM {
        return Err(SealError::NoRoom);
    }
    Ok(front..end)
}

/// A datagram whose tag was right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// `Message` or `Cell`.
    pub kind: Kind,
    /// The circuit id, unmasked.
    pub circuit: CircuitId,
    /// The link's counter, whole.
    pub counter: u64,
    /// Whether it is the highest counter so far and no shorter than a PATH_CHALLENGE: only then may its
    /// source be asked whether it is the link's new address.
    pub newest: bool,
    generation: u64,
}

/// The receiving end of a link's direction. About 1 KB.
pub struct LinkOpener {
    own: LinkId,
    current: PhaseKeys,
    previous: Option<PhaseKeys>,
    next: PhaseKeys,
    next_secret: Secret,
    /// Phases so far; its lowest bit is the key-phase bit.
    generation: u64,
    /// The lowest counter authenticated in the current phase.
    lowest: Option<u64>,
    window: ReplayWindow,
    associated: [u8; 4],
}

impl LinkOpener {
    fn new(secret: &Secret, suite: Suite, direction: Direction, own: LinkId) -> Self {
        let next_secret = next_secret(secret);
        Self {
            own,
            current: PhaseKeys::derive(secret),
            previous: None,
            next: PhaseKeys::derive(&next_secret),
            next_secret,
            generation: 0,
            lowest: None,
            window: ReplayWindow::new(),
            associated: associated_data(suite as u8, direction, LayerKind::LinkMessage),
        }
    }

    /// This side's id of the link.
    #[must_use]
    pub const fn own_id(&self) -> LinkId {
        self.own
    }

    /// How many phases the sender has moved on.
    #[must_use]
    pub const fn phases(&self) -> u64 {
        self.generation
    }

    /// Checks a MESSAGE or CELL datagram for replay and tag, with one SipHash, and remembers its counter.
    ///
    /// # Errors
    /// `Malformed`, `TooLong`, `UnknownLink`, `LinkReplay` or `LinkTag`; nothing is remembered then.
    #[inline]
    pub fn accept(&mut self, datagram: &[u8]) -> Result<Accepted, DropReason> {
        let header = Header::read(datagram).ok_or(DropReason::Malformed)?;
        let least = match header.kind {
            Kind::Message => HEADER_LEN + 1 + TAG_LEN,
            Kind::Cell => HEADER_LEN + LAYER_LEN,
            _ => return Err(DropReason::Malformed),
        };
        let last = datagram.last_chunk().filter(|_| datagram.len() >= least).ok_or(DropReason::Malformed)?;
        if datagram.len() > MAX_DATAGRAM {
            return Err(DropReason::TooLong);
        }
        if header.link != self.own {
            return Err(DropReason::UnknownLink);
        }
        let counter = self.window.fresh(header.counter).ok_or(DropReason::LinkReplay)?;
        let (keys, generation) = self.keys_for(header.key_phase, counter).ok_or(DropReason::LinkTag)?;
        if !equal(&keys.tag(&header, counter, last), &header.tag) {
            return Err(DropReason::LinkTag);
        }
        let circuit = keys.mask(counter, header.circuit);
        let newest = counter >= self.window.next() && datagram.len() >= CHALLENGE_LEN;
        self.remember(counter, generation);
        Ok(Accepted { kind: header.kind, circuit, counter, newest, generation })
    }

    #[inline]
    fn keys_for(&self, phase: bool, counter: u64) -> Option<(&PhaseKeys, u64)> {
        if phase == (self.generation % 2 == 1) {
            return Some((&self.current, self.generation));
        }
        if self.lowest.is_some_and(|lowest| counter < lowest) {
            return Some((self.previous.as_ref()?, self.generation.checked_sub(1)?));
        }
        Some((&self.next, self.generation + 1))
    }

    #[inline]
    fn remember(&mut self, counter: u64, generation: u64) {
        self.window.mark(counter);
        if generation > self.generation {
            self.advance();
        }
        if generation == self.generation {
            let lowest = self.lowest.map_or(counter, |lowest| lowest.min(counter));
            self.lowest = Some(lowest);
            if self.previous.is_some() && self.window.next() > lowest.saturating_add(WINDOW) {
                self.previous = None;
            }
        }
    }

    fn advance(&mut self) {
        self.next_secret = next_secret(&self.next_secret);
        let after_next = PhaseKeys::derive(&self.next_secret);
        let next = std::mem::replace(&mut self.next, after_next);
        self.previous = Some(std::mem::replace(&mut self.current, next));
        self.generation += 1;
        self.lowest = None;
    }

    /// Opens the message of a datagram that was just accepted; gives the place of `type ‖ content` in it.
    ///
    /// # Errors
    /// `LinkMessage` when it does not open; the bytes are then unchanged.
    pub fn open_message(&self, accepted: &Accepted, datagram: &mut [u8]) -> Result<Range<usize>, DropReason> {
        let keys = if accepted.generation == self.generation {
            &self.current
        } else {
            self.previous
                .as_ref()
                .filter(|_| accepted.generation + 1 == self.generation)
                .ok_or(DropReason::LinkMessage)?
        };
        let end = datagram.len().checked_sub(TAG_LEN).ok_or(DropReason::Malformed)?;
        let body = datagram.get_mut(HEADER_LEN..).ok_or(DropReason::Malformed)?;
        let (content, tag) = body.split_last_chunk_mut::<TAG_LEN>().ok_or(DropReason::Malformed)?;
        if !keys.aead.open(accepted.counter, &self.associated, content, tag) {
            return Err(DropReason::LinkMessage);
        }
        Ok(HEADER_LEN..end)
    }
}

#[cfg(test)]
mod tests;

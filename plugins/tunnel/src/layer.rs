//! One hop's layer of a cell, put on and taken off in place.
//!
//! ```text
//! | counter u32 | AEAD( command u8 | inner ) | tag 16 |        sealed
//! | counter u32 | command RELAY | inner |                      covered: from the command on under the key stream
//! ```
//!
//! A relay that passes a cell on towards the originator covers it. Nobody but the originator could look at a tag, and what the
//! cell's sender sealed is inside and tells the originator the same: see docs/protocol.md, section 7.

pub(crate) mod state;

use std::ops::Range;

use warren_schemas::cell::{COVER_LEN, LAYER_LEN};

use crate::counter::Counter;
use crate::crypto::{AeadKey, Direction, LayerKind, SealError, Secret, TAG_LEN, associated_data};
use crate::drop_reason::DropReason;
use crate::message::command;
use crate::ntor::{Seed, Suite};
use crate::replay::ReplayWindow;

/// Bytes of a layer before the inner part.
pub const LAYER_FRONT: usize = LAYER_LEN - TAG_LEN;

/// The two keys of a hop, as a circuit handshake gives them.
pub struct HopKeys {
    suite: Suite,
    forward: Secret,
    backward: Secret,
}

impl HopKeys {
    /// Derives both keys.
    #[must_use]
    pub fn derive(seed: &Seed, suite: Suite) -> Self {
        Self { suite, forward: seed.key("circuit forward"), backward: seed.key("circuit backward") }
    }

    /// The originator's side of the hop: seals forward, opens backward.
    #[must_use]
    pub fn originator(self) -> (Sealer, Opener) {
        (
            Sealer::new(&self.forward, self.suite, Direction::Forward),
            Opener::new(&self.backward, self.suite, Direction::Backward),
        )
    }

    /// The hop's own side: seals backward, opens forward.
    #[must_use]
    pub fn relay(self) -> (Sealer, Opener) {
        (
            Sealer::new(&self.backward, self.suite, Direction::Backward),
            Opener::new(&self.forward, self.suite, Direction::Forward),
        )
    }
}

/// Puts layers on. Owns the only counter of its key, so no value is used twice.
pub struct Sealer {
    key: AeadKey,
    counter: Counter,
    associated: [u8; 4],
}

impl Sealer {
    /// Cells sealed so far.
    #[must_use]
    pub(crate) fn sealed(&self) -> u64 {
        self.counter.next()
    }

    /// A sealer whose key was never used.
    #[must_use]
    pub fn new(key: &[u8; 32], suite: Suite, direction: Direction) -> Self {
        Self::resume(key, suite, direction, 0)
    }

    /// A sealer that goes on at counter `next`, for the state of a predecessor that will never act again.
    #[must_use]
    pub fn resume(key: &[u8; 32], suite: Suite, direction: Direction, next: u64) -> Self {
        let associated = associated_data(suite as u8, direction, LayerKind::Hop);
        Self { key: AeadKey::new(key), counter: Counter::resume(next), associated }
    }

    /// Puts a layer around the `len` bytes at `start` of `buf`: [`LAYER_FRONT`] bytes before them,
    /// a tag behind. Gives the place of the layer; it is `LAYER_LEN` longer.
    ///
    /// # Errors
    /// `NoRoom` without those bytes of room, `Exhausted` at the counter's end. The buffer is then unchanged.
    #[inline]
    pub fn seal(
        &mut self,
        buf: &mut [u8],
        start: usize,
        len: usize,
        command: u8,
    ) -> Result<Range<usize>, SealError> {
        let front = start.checked_sub(LAYER_FRONT).ok_or(SealError::NoRoom)?;
        let end = start.checked_add(len).and_then(|end| end.checked_add(TAG_LEN)).ok_or(SealError::NoRoom)?;
        let layer = buf.get_mut(front..end).ok_or(SealError::NoRoom)?;
        let (low, rest) = layer.split_first_chunk_mut::<4>().ok_or(SealError::NoRoom)?;
        let (sealed, tag) = rest.split_last_chunk_mut::<TAG_LEN>().ok_or(SealError::NoRoom)?;
        let counter = self.take_counter()?;
        *low = (counter as u32).to_be_bytes();
        if let Some(first) = sealed.first_mut() {
            *first = command;
        }
        *tag = self.key.seal(counter, &self.associated, sealed)?;
        Ok(front..end)
    }

    /// Puts a cover around the `len` bytes at `start` of `buf`: [`COVER_LEN`] bytes before them. Gives the place of the
    /// cover.
    ///
    /// # Errors
    /// As [`seal`](Self::seal); the buffer is then unchanged.
    #[inline]
    pub fn cover(&mut self, buf: &mut [u8], start: usize, len: usize) -> Result<Range<usize>, SealError> {
        let front = start.checked_sub(COVER_LEN).ok_or(SealError::NoRoom)?;
        let end = start.checked_add(len).ok_or(SealError::NoRoom)?;
        let layer = buf.get_mut(front..end).ok_or(SealError::NoRoom)?;
        let (low, covered) = layer.split_first_chunk_mut::<4>().ok_or(SealError::NoRoom)?;
        let counter = self.take_counter()?;
        *low = (counter as u32).to_be_bytes();
        if let Some(first) = covered.first_mut() {
            *first = command::RELAY;
        }
        self.key.apply_keystream(counter, covered)?;
        Ok(front..end)
    }

    fn take_counter(&mut self) -> Result<u64, SealError> {
        let counter = self.counter.take().ok_or(SealError::Exhausted)?;
        #[cfg(test)]
        crate::testing::nonces::note(self.key.bytes(), counter);
        Ok(counter)
    }

    /// The counter that the next layer will have.
    #[must_use]
    pub const fn next_counter(&self) -> u64 {
        self.counter.next()
    }
}

/// Takes layers off, each once.
pub struct Opener {
    key: AeadKey,
    window: ReplayWindow,
    associated: [u8; 4],
}

impl Opener {
    /// Cells that came so far, as far as the highest counter tells.
    #[must_use]
    pub(crate) fn opened(&self) -> u64 {
        self.window.next()
    }

    /// An opener that has seen nothing.
    #[must_use]
    pub fn new(key: &[u8; 32], suite: Suite, direction: Direction) -> Self {
        let associated = associated_data(suite as u8, direction, LayerKind::Hop);
        Self { key: AeadKey::new(key), window: ReplayWindow::new(), associated }
    }

    /// Makes as if every counter below `next` was seen.
    #[cfg(test)]
    pub(crate) fn skip_to(&mut self, next: u64) {
        for counter in next.saturating_sub(crate::replay::WINDOW)..next {
            self.window.mark(counter);
        }
    }

    /// Takes the layer off that fills `layer`; gives the command and the place of the inner part.
    ///
    /// # Errors
    /// `Malformed` when shorter than a layer, `LayerReplay` when its counter was seen or is too old,
    /// `Layer` when it does not authenticate. The bytes are then unchanged.
    #[inline]
    pub fn open(&mut self, layer: &mut [u8]) -> Result<(u8, Range<usize>), DropReason> {
        let end = layer.len().checked_sub(TAG_LEN).ok_or(DropReason::Malformed)?;
        let (low, rest) = layer.split_first_chunk_mut::<4>().ok_or(DropReason::Malformed)?;
        let (sealed, tag) = rest.split_last_chunk_mut::<TAG_LEN>().ok_or(DropReason::Malformed)?;
        if sealed.is_empty() {
            return Err(DropReason::Malformed);
        }
        let counter = self.window.fresh(u32::from_be_bytes(*low)).ok_or(DropReason::LayerReplay)?;
        if !self.key.open(counter, &self.associated, sealed, tag) {
            return Err(DropReason::Layer);
        }
        self.window.mark(counter);
        let command = sealed.first().copied().ok_or(DropReason::Malformed)?;
        Ok((command, LAYER_FRONT..end))
    }

    /// Takes the cover off that fills `layer`, of a cell that a relay passed on; gives its counter and the place of the inner
    /// part. None, and the bytes are as before, when it is no cover but may be sealed.
    ///
    /// **Nothing is known to be right yet**, the counter included: it is to be [confirmed](Self::confirm) when what the cell's
    /// sender sealed, which is inside, was opened.
    ///
    /// # Errors
    /// `Malformed` when shorter than a cover, `LayerReplay` when its counter was seen or is too old.
    #[inline]
    pub fn uncover(&self, layer: &mut [u8]) -> Result<Option<(u64, Range<usize>)>, DropReason> {
        let end = layer.len();
        let (low, covered) = layer.split_first_chunk_mut::<4>().ok_or(DropReason::Malformed)?;
        if covered.is_empty() {
            return Err(DropReason::Malformed);
        }
        let counter = self.window.fresh(u32::from_be_bytes(*low)).ok_or(DropReason::LayerReplay)?;
        self.key.apply_keystream(counter, covered)?;
        if covered.first() == Some(&command::RELAY) {
            return Ok(Some((counter, COVER_LEN..end)));
        }
        self.key.apply_keystream(counter, covered)?;
        Ok(None)
    }

    /// What was inside the cover with this counter turned out to be right: no other with it is taken any more.
    #[inline]
    pub fn confirm(&mut self, counter: u64) {
        self.window.mark(counter);
    }
}

#[cfg(test)]
mod tests;

//! What a call answers besides its own slots: messages, retransmissions, dequeued cells, events.
//!
//! They are collected in one arena. Those that fit go into the free slots at the end of the
//! caller's batch, else into a new one of at most [`MAX_ANSWER`] bytes; the rest is kept for the
//! next call, which `wake_at` then asks for at once.

use std::net::SocketAddr;

use warren_schemas::RequestId;
use warren_schemas::batch::{Batch, HEADROOM, MAX_ANSWER, STRIDE, Slot, SlotKind};
use warren_schemas::control::Event;

/// Bytes of an answer that are neither slots nor payload, with room to spare.
const FRAME: usize = 128;
/// Bytes of a slot.
const SLOT: usize = 32;

/// The collected answers; offsets of its slots lie in its own arena.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    slots: Vec<Slot>,
    bytes: Vec<u8>,
    given: usize,
}

impl Extras {
    /// Adds a datagram for `to`.
    pub(crate) fn send(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.push(Slot { kind: SlotKind::Send, address: to.into(), ..Slot::EMPTY }, datagram);
    }

    /// Adds an event; `request` is 0 when nothing asked.
    pub(crate) fn event(&mut self, request: RequestId, event: &Event) {
        self.push(Slot { kind: SlotKind::Event, ..Slot::EMPTY }, &event.encode(request));
    }

    /// What waits, in its order.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (Slot, &[u8])> {
        (self.given..self.slots.len()).filter_map(|index| self.at(index))
    }

    /// Adds what waited at a predecessor: `Send` and `Event` only.
    pub(crate) fn resume(&mut self, kind: SlotKind, address: SocketAddr, bytes: &[u8]) -> Option<()> {
        let known = matches!(kind, SlotKind::Send | SlotKind::Event);
        known.then(|| self.push(Slot { kind, address: address.into(), ..Slot::EMPTY }, bytes))
    }

    fn push(&mut self, slot: Slot, bytes: &[u8]) {
        let (Ok(offset), Ok(length)) = (u32::try_from(self.bytes.len()), u16::try_from(bytes.len())) else {
            return;
        };
        self.bytes.extend_from_slice(bytes);
        self.slots.push(Slot { offset, length, ..slot });
    }

    /// Whether anything waits.
    pub(crate) const fn is_empty(&self) -> bool {
        self.given == self.slots.len()
    }

    /// How many wait.
    pub(crate) const fn count(&self) -> usize {
        self.slots.len() - self.given
    }

    /// Bytes that wait, roughly.
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len() + self.slots.len() * SLOT
    }

    /// Puts what waits behind the results in `batch`.
    pub(crate) fn answer(&mut self, mut batch: Batch) -> Batch {
        if self.is_empty() {
            return batch;
        }
        let used = batch.slots().enumerate().filter(|(_, slot)| slot.kind != SlotKind::Empty);
        let used = used.last().map_or(0, |(index, _)| index + 1);
        let batch = if self.fits_behind(&batch, used) {
            for (index, at) in (used..).zip(self.given..self.slots.len()) {
                if let Some((slot, bytes)) = self.at(at) {
                    place(&mut batch, index, index * STRIDE + HEADROOM, slot, bytes);
                }
            }
            self.given = self.slots.len();
            batch
        } else {
            self.enlarge(&batch, used)
        };
        self.forget_given();
        batch
    }

    fn fits_behind(&self, batch: &Batch, used: usize) -> bool {
        // A host of another build may lay its slots out in another way.
        let template = batch.payload().len() == batch.slot_count() * STRIDE;
        let waiting = self.slots.get(self.given..).unwrap_or_default();
        template
            && batch.slot_count() - used >= waiting.len()
            && waiting.iter().all(|slot| usize::from(slot.length) <= STRIDE - HEADROOM)
    }

    fn enlarge(&mut self, batch: &Batch, used: usize) -> Batch {
        let kept: Vec<Slot> = batch.slots().take(used).filter(|slot| slot.kind != SlotKind::Empty).collect();
        let kept_bytes: usize = kept.iter().map(|slot| usize::from(slot.length)).sum();
        let mut room = MAX_ANSWER.saturating_sub(FRAME + kept_bytes + kept.len() * SLOT);
        let waiting = self.slots.get(self.given..).unwrap_or_default();
        let taken = waiting
            .iter()
            .take_while(|slot| {
                let size = usize::from(slot.length) + SLOT;
                let fits = room >= size;
                room = room.saturating_sub(size);
                fits
            })
            .count();
        let bytes: usize = waiting.iter().take(taken).map(|slot| usize::from(slot.length)).sum();
        let mut larger = Batch::build(kept.len() + taken, kept_bytes + bytes);
        let mut offset = 0;
        for (index, slot) in kept.iter().enumerate() {
            place(&mut larger, index, offset, *slot, batch.bytes_of(slot));
            offset += usize::from(slot.length);
        }
        for (index, at) in (kept.len()..).zip(self.given..self.given + taken) {
            if let Some((slot, bytes)) = self.at(at) {
                place(&mut larger, index, offset, slot, bytes);
                offset += bytes.len();
            }
        }
        self.given += taken;
        larger
    }

    fn at(&self, index: usize) -> Option<(Slot, &[u8])> {
        let slot = *self.slots.get(index)?;
        let start = slot.offset as usize;
        Some((slot, self.bytes.get(start..start + usize::from(slot.length))?))
    }

    /// Frees the arena; what was carried over moves to its front.
    fn forget_given(&mut self) {
        let first = self.slots.get(self.given).map_or(self.bytes.len(), |slot| slot.offset as usize);
        self.bytes.drain(..first);
        self.slots.drain(..self.given);
        for slot in &mut self.slots {
            slot.offset -= u32::try_from(first).unwrap_or_default();
        }
        self.given = 0;
    }
}

fn place(batch: &mut Batch, index: usize, offset: usize, slot: Slot, bytes: &[u8]) {
    if let (Ok(at), Some(to)) =
        (u32::try_from(offset), batch.payload_mut().get_mut(offset..offset + bytes.len()))
    {
        to.copy_from_slice(bytes);
        batch.set_slot(index, Slot { offset: at, ..slot });
    }
}

#[cfg(test)]
mod tests {
    use warren_schemas::CircuitHandle;

    use super::*;

    fn to() -> SocketAddr {
        "192.0.2.1:7".parse().unwrap()
    }

    fn contents(batch: &Batch) -> Vec<(SlotKind, Vec<u8>)> {
        let used = batch.slots().filter(|slot| slot.kind != SlotKind::Empty);
        used.map(|slot| (slot.kind, batch.bytes_of(&slot).to_vec())).collect()
    }

    #[test]
    fn extras_follow_the_results_in_the_same_batch_when_they_fit() {
        let mut batch = Batch::with_slots(8);
        for index in 0..3 {
            batch.fill(index, SlotKind::Send, to(), CircuitHandle(0), &[index as u8; 100]);
        }
        let before = batch.as_bytes().len();
        let mut extras = Extras::default();
        extras.send(to(), b"an answer");
        extras.push(Slot { kind: SlotKind::Deliver, handle: CircuitHandle(4), ..Slot::EMPTY }, b"inner");
        let answer = extras.answer(batch);
        assert_eq!(answer.as_bytes().len(), before);
        let found = contents(&answer);
        assert_eq!(found[2], (SlotKind::Send, vec![2; 100]));
        assert_eq!(found[3], (SlotKind::Send, b"an answer".to_vec()));
        assert_eq!(found[4], (SlotKind::Deliver, b"inner".to_vec()));
        assert!(extras.is_empty());
    }

    #[test]
    fn extras_overwrite_nothing_in_a_batch_of_another_layout() {
        const OTHER: usize = STRIDE + 120;
        let mut batch = Batch::build(3, 3 * OTHER);
        batch.payload_mut().fill(9);
        for index in 0..2 {
            let offset = (index * OTHER + 128) as u32;
            batch.set_slot(index, Slot { kind: SlotKind::Send, offset, length: 1350, ..Slot::EMPTY });
        }
        let mut extras = Extras::default();
        extras.send(to(), &[1; 40]);
        let cell = (SlotKind::Send, vec![9; 1350]);
        let expected = [cell.clone(), cell, (SlotKind::Send, vec![1; 40])];
        assert_eq!(contents(&extras.answer(batch)), expected);
    }

    #[test]
    fn a_full_batch_grows_and_what_does_not_fit_comes_next_time() {
        let mut batch = Batch::with_slots(64);
        for index in 0..64 {
            batch.fill(index, SlotKind::Send, to(), CircuitHandle(0), &[1; 1350]);
        }
        let mut extras = Extras::default();
        for number in 0..500u32 {
            let mut datagram = vec![0; 1000];
            datagram[..4].copy_from_slice(&number.to_be_bytes());
            extras.send(to(), &datagram);
        }
        let first = extras.answer(batch);
        assert!(!extras.is_empty());
        let mut seen = contents(&Batch::from_worker(first.into_bytes()).unwrap());
        assert_eq!(seen.drain(..64).filter(|(_, bytes)| bytes == &vec![1; 1350]).count(), 64);
        while !extras.is_empty() {
            let next = extras.answer(Batch::with_slots(1));
            seen.extend(contents(&Batch::from_worker(next.into_bytes()).unwrap()));
        }
        let numbers: Vec<u32> =
            seen.iter().map(|(_, b)| u32::from_be_bytes(b[..4].try_into().unwrap())).collect();
        assert_eq!(numbers, (0..500).collect::<Vec<_>>());
        assert!(extras.bytes.is_empty());
    }

    #[test]
    fn an_event_longer_than_a_slot_still_goes_out() {
        let mut extras = Extras::default();
        extras.push(Slot { kind: SlotKind::Event, ..Slot::EMPTY }, &[7; 20_000]);
        let answer = extras.answer(Batch::with_slots(1));
        assert_eq!(contents(&answer), [(SlotKind::Event, vec![7; 20_000])]);
    }
}

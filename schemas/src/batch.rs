//! A batch: the unit in which cells cross the boundary between host and worker.
//!
//! One FlatBuffers table with a vector of fixed structs and one payload region. The table is built
//! once by the FlatBuffers builder; both vectors are written behind it at offsets of our own, because
//! the crate has no mutation API and a batch is as large as what is in it.
//!
//! Each slot that the host fills owns [`STRIDE`] bytes of the payload and its datagram starts
//! [`HEADROOM`] bytes into them, so that layers can be put in front of it in place.

use std::sync::OnceLock;

use flatbuffers::{FlatBufferBuilder, InvalidFlatbuffer, VerifierOptions};

use crate::cell::{COVER_LEN, HEADER_LEN, MAX_DATAGRAM, MAX_HOPS};
use crate::generated::batch as fb;
pub use crate::generated::batch::SlotKind;
use crate::{Address, CircuitHandle, Timestamp};

/// Payload bytes that each slot of the host owns: headroom and the largest datagram, no more, as all of it is copied.
pub const STRIDE: usize = (HEADROOM + MAX_DATAGRAM).next_multiple_of(8);
/// Free bytes in front of a slot's datagram.
pub const HEADROOM: usize = 64;
/// The most slots a batch of the host has.
pub const MAX_SLOTS: usize = 64;
/// The most bytes an answer of a worker may have: a full batch and three times as much for messages. Both sides go by it, so it is a
/// number of its own.
pub const MAX_ANSWER: usize = 384 << 10;
const _: () = assert!(4 * MAX_SLOTS * STRIDE <= MAX_ANSWER);

// What layers put behind a datagram, its size leaves room for.
const _: () = assert!(HEADER_LEN + COVER_LEN * MAX_HOPS <= HEADROOM);

const SLOT_LEN: usize = 32;

/// One slot, as plain values: numbers only, which a loop over a batch keeps in registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// What it holds or asks for.
    pub kind: SlotKind,
    /// `CircuitEnd` of a delivery, `DropReason` of a drop, else 0.
    pub detail: u8,
    /// Source or destination; [`Address::NONE`] where it has no meaning.
    pub address: Address,
    /// The circuit end; 0 where it has no meaning.
    pub handle: CircuitHandle,
    /// Where its bytes start in the payload.
    pub offset: u32,
    /// How many bytes it has.
    pub length: u16,
}

impl Slot {
    /// A slot that is skipped.
    pub const EMPTY: Self = Self {
        kind: SlotKind::Empty,
        detail: 0,
        address: Address::NONE,
        handle: CircuitHandle(0),
        offset: 0,
        length: 0,
    };

    fn to_bytes(self) -> [u8; SLOT_LEN] {
        let Self { kind, detail, address: Address { high, low, port }, handle, offset, length } = self;
        fb::Slot::new(high, low, handle.0, offset, length, port, kind, detail, 0).0
    }
}

impl From<&fb::Slot> for Slot {
    #[inline]
    fn from(slot: &fb::Slot) -> Self {
        Self {
            kind: slot.kind(),
            detail: slot.detail(),
            address: Address { high: slot.address_high(), low: slot.address_low(), port: slot.port() },
            handle: CircuitHandle(slot.handle()),
            offset: slot.offset(),
            length: slot.length(),
        }
    }
}

/// Why bytes are not a batch.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// FlatBuffers' own verification failed.
    #[error("not a FlatBuffers batch: {0}")]
    Malformed(#[from] InvalidFlatbuffer),
    /// A slot's bytes lie outside the payload.
    #[error("slot {slot} names bytes {offset}+{length} of a payload of {payload}")]
    Bounds {
        /// Which slot.
        slot: usize,
        /// Its offset.
        offset: usize,
        /// Its length.
        length: usize,
        /// The payload's length.
        payload: usize,
    },
    /// It has more bytes than [`MAX_ANSWER`].
    #[error("{0} bytes, {MAX_ANSWER} allowed")]
    TooLong(usize),
}

/// An owned batch whose layout is known, readable and writable in place.
#[derive(Clone, Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    layout: Layout,
}

#[derive(Clone, Copy, Debug)]
struct Layout {
    wake_at: usize,
    slots: usize,
    slot_count: usize,
    payload: usize,
    payload_len: usize,
}

impl Batch {
    /// An empty batch of `slots` slots, [`STRIDE`] payload bytes each.
    #[must_use]
    pub fn with_slots(slots: usize) -> Self {
        Self::build(slots, slots * STRIDE)
    }

    /// An empty batch of exactly `slots` slots over `payload` bytes.
    #[must_use]
    pub fn build(slots: usize, payload: usize) -> Self {
        let frame = Frame::get();
        let mut bytes = Vec::with_capacity(frame.size(slots, payload));
        frame.begin(&mut bytes);
        bytes.resize(bytes.len() + payload, 0);
        let empty = Slot::EMPTY.to_bytes();
        frame.end(bytes, std::iter::repeat_n(&empty, slots))
    }

    /// Takes bytes that came from this side of the boundary's trusted half (the host, seen from
    /// a worker): structure is checked, slots are not.
    ///
    /// # Errors
    /// When FlatBuffers cannot verify them.
    pub fn from_host(bytes: Vec<u8>) -> Result<Self, BatchError> {
        let layout = Layout::of(&bytes)?;
        Ok(Self { bytes, layout })
    }

    /// Takes bytes that a worker returned: structure, size and every slot's bounds are checked.
    ///
    /// # Errors
    /// Says which of the three does not hold.
    pub fn from_worker(bytes: Vec<u8>) -> Result<Self, BatchError> {
        if bytes.len() > MAX_ANSWER {
            return Err(BatchError::TooLong(bytes.len()));
        }
        let batch = Self::from_host(bytes)?;
        for (index, slot) in batch.slots().enumerate() {
            let (offset, length) = (slot.offset as usize, usize::from(slot.length));
            if offset + length > batch.layout.payload_len {
                let payload = batch.layout.payload_len;
                return Err(BatchError::Bounds { slot: index, offset, length, payload });
            }
        }
        Ok(batch)
    }

    /// The bytes that cross the boundary.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes that cross the boundary, given away.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How many slots there are, empty ones included.
    #[must_use]
    pub fn slot_count(&self) -> usize {
        self.layout.slot_count
    }

    /// All slots in order, empty ones included.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..self.layout.slot_count).filter_map(|index| self.slot(index))
    }

    /// Slot `index`; none past the end.
    #[inline]
    #[must_use]
    pub fn slot(&self, index: usize) -> Option<Slot> {
        if index >= self.layout.slot_count {
            return None;
        }
        let at = self.layout.slots + index * SLOT_LEN;
        let bytes: &[u8; SLOT_LEN] = self.bytes.get(at..)?.first_chunk()?;
        Some(Slot::from(&fb::Slot(*bytes)))
    }

    /// Writes slot `index`; past the end it does nothing.
    pub fn set_slot(&mut self, index: usize, slot: Slot) {
        if index >= self.layout.slot_count {
            return;
        }
        let at = self.layout.slots + index * SLOT_LEN;
        if let Some(bytes) = self.bytes.get_mut(at..at + SLOT_LEN) {
            bytes.copy_from_slice(&slot.to_bytes());
        }
    }

    /// The whole payload region.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        let Layout { payload, payload_len, .. } = self.layout;
        self.bytes.get(payload..payload + payload_len).unwrap_or_default()
    }

    /// The whole payload region, to work on.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let Layout { payload, payload_len, .. } = self.layout;
        self.bytes.get_mut(payload..payload + payload_len).unwrap_or_default()
    }

    /// The bytes of a slot; empty when they lie outside the payload.
    #[must_use]
    pub fn bytes_of(&self, slot: &Slot) -> &[u8] {
        let start = slot.offset as usize;
        self.payload().get(start..start + usize::from(slot.length)).unwrap_or_default()
    }

    /// Puts `datagram` into slot `index` of a batch [`with_slots`](Self::with_slots), behind its headroom, and describes it.
    /// Answers whether it fitted.
    pub fn fill(
        &mut self,
        index: usize,
        kind: SlotKind,
        address: impl Into<Address>,
        handle: CircuitHandle,
        datagram: &[u8],
    ) -> bool {
        let offset = index * STRIDE + HEADROOM;
        let room = STRIDE - HEADROOM;
        let (Ok(at), Ok(length)) = (u32::try_from(offset), u16::try_from(datagram.len())) else {
            return false;
        };
        if datagram.len() > room || index >= self.layout.slot_count {
            return false;
        }
        let Some(to) = self.payload_mut().get_mut(offset..offset + datagram.len()) else {
            return false;
        };
        to.copy_from_slice(datagram);
        let address = address.into();
        self.set_slot(index, Slot { kind, detail: 0, address, handle, offset: at, length });
        true
    }

    /// When `timeout` is wanted; none for never.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        let bytes = self.bytes.get(self.layout.wake_at..)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes)).filter(|at| *at != 0).map(Timestamp::from_micros)
    }

    /// Asks for `timeout` at that time.
    pub fn set_wake_at(&mut self, at: Option<Timestamp>) {
        let value = at.map_or(0, Timestamp::as_micros).to_le_bytes();
        if let Some(bytes) = self.bytes.get_mut(self.layout.wake_at..self.layout.wake_at + 8) {
            bytes.copy_from_slice(&value);
        }
    }
}

impl Layout {
    fn of(bytes: &[u8]) -> Result<Self, BatchError> {
        let options = VerifierOptions {
            max_depth: 2,
            max_tables: 1,
            max_apparent_size: MAX_ANSWER * 2,
            ..Default::default()
        };
        let batch = fb::root_as_batch_with_opts(&options, bytes)?;
        let start = bytes.as_ptr() as usize;
        let payload = batch.payload().bytes();
        let slots = batch.slots().bytes();
        let table = batch._tab.loc();
        let wake_at = batch._tab.vtable().get(fb::Batch::VT_WAKE_AT);
        Ok(Self {
            wake_at: if wake_at == 0 { bytes.len() } else { table + usize::from(wake_at) },
            slots: slots.as_ptr() as usize - start,
            slot_count: slots.len() / SLOT_LEN,
            payload: payload.as_ptr() as usize - start,
            payload_len: payload.len(),
        })
    }
}

/// What every batch begins with, as the FlatBuffers builder makes it. The payload follows, then the slots:
/// so a batch is written front to back, whatever comes to be in it.
struct Frame {
    header: Vec<u8>,
    wake_at: usize,
    /// Where the table holds the way to each of the two vectors.
    slots: usize,
    payload: usize,
}

/// Bytes of a vector's length, and what its elements are aligned to.
const LENGTH: usize = 4;
const ALIGNMENT: usize = 8;

impl Frame {
    fn get() -> &'static Self {
        static FRAME: OnceLock<Frame> = OnceLock::new();
        FRAME.get_or_init(Self::new)
    }

    fn new() -> Self {
        let mut builder = FlatBufferBuilder::new();
        builder.force_defaults(true);
        let payload = builder.create_vector::<u8>(&[]);
        let slots = builder.create_vector::<fb::Slot>(&[]);
        let args = fb::BatchArgs { wake_at: 0, slots: Some(slots), payload: Some(payload) };
        let root = fb::Batch::create(&mut builder, &args);
        fb::finish_batch_buffer(&mut builder, root);
        let bytes = builder.finished_data();
        #[expect(clippy::expect_used, reason = "the builder has just made it")]
        let batch = fb::root_as_batch(bytes).expect("a batch");
        let (table, vtable) = (batch._tab.loc(), batch._tab.vtable());
        let field = |field| table + usize::from(vtable.get(field));
        // The builder puts the table before what it points to.
        let mut header = bytes.get(..table + vtable.object_inline_num_bytes()).unwrap_or_default().to_vec();
        header.resize((header.len() + LENGTH).next_multiple_of(ALIGNMENT) - LENGTH, 0);
        Self {
            header,
            wake_at: field(fb::Batch::VT_WAKE_AT),
            slots: field(fb::Batch::VT_SLOTS),
            payload: field(fb::Batch::VT_PAYLOAD),
        }
    }

    /// Bytes of a whole batch, at most.
    const fn size(&self, slots: usize, payload: usize) -> usize {
        self.header.len() + LENGTH + payload + ALIGNMENT + LENGTH + slots * SLOT_LEN
    }

    /// Header and length of a payload, which goes behind them.
    fn begin(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        bytes.extend_from_slice(&self.header);
        bytes.extend_from_slice(&[0; LENGTH]);
    }

    /// The payload is there.
    fn end<'a>(&self, mut bytes: Vec<u8>, slots: impl Iterator<Item = &'a [u8; SLOT_LEN]>) -> Batch {
        let payload = self.header.len() + LENGTH;
        let payload_len = bytes.len() - payload;
        bytes.resize((bytes.len() + LENGTH).next_multiple_of(ALIGNMENT), 0);
        let start = bytes.len();
        bytes.extend(slots.flatten());
        let slot_count = (bytes.len() - start) / SLOT_LEN;
        put(&mut bytes, payload - LENGTH, payload_len);
        put(&mut bytes, start - LENGTH, slot_count);
        put(&mut bytes, self.payload, payload - LENGTH - self.payload);
        put(&mut bytes, self.slots, start - LENGTH - self.slots);
        let layout = Layout { wake_at: self.wake_at, slots: start, slot_count, payload, payload_len };
        Batch { bytes, layout }
    }
}

/// Writes a length or an offset.
fn put(bytes: &mut [u8], at: usize, value: usize) {
    let value = u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    if let Some(to) = bytes.get_mut(at..at + LENGTH) {
        to.copy_from_slice(&value);
    }
}

/// Writes a batch datagram by datagram, as large as what is in it.
#[derive(Debug, Default)]
pub struct BatchWriter {
    bytes: Vec<u8>,
    slots: Vec<[u8; SLOT_LEN]>,
    /// Bytes of the largest batch so far.
    largest: usize,
}

impl BatchWriter {
    /// How many datagrams are in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether none is.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Adds a slot of `kind` with `datagram` behind its headroom. Answers whether it is short enough,
    /// `STRIDE - HEADROOM` bytes at most, and the batch has less than [`MAX_SLOTS`].
    pub fn push(
        &mut self,
        kind: SlotKind,
        address: impl Into<Address>,
        handle: CircuitHandle,
        datagram: &[u8],
    ) -> bool {
        let Some(rest) = (STRIDE - HEADROOM).checked_sub(datagram.len()) else { return false };
        let offset = u32::try_from(self.slots.len() * STRIDE + HEADROOM);
        let (Ok(offset), Ok(length)) = (offset, u16::try_from(datagram.len())) else { return false };
        if self.slots.len() >= MAX_SLOTS {
            return false;
        }
        if self.slots.is_empty() {
            if self.bytes.capacity() < self.largest {
                // Growing it would copy what was pushed.
                self.bytes = Vec::with_capacity(self.largest);
            }
            Frame::get().begin(&mut self.bytes);
        }
        let zeros = [0; STRIDE];
        self.bytes.extend_from_slice(zeros.get(..HEADROOM).unwrap_or_default());
        self.bytes.extend_from_slice(datagram);
        self.bytes.extend_from_slice(zeros.get(..rest).unwrap_or_default());
        let address = address.into();
        self.slots.push(Slot { kind, detail: 0, address, handle, offset, length }.to_bytes());
        true
    }

    /// What was pushed since the last time.
    pub fn take(&mut self) -> Batch {
        if self.slots.is_empty() {
            return Batch::with_slots(0);
        }
        let batch = Frame::get().end(std::mem::take(&mut self.bytes), self.slots.iter());
        self.slots.clear();
        self.largest = self.largest.max(batch.bytes.len());
        batch
    }

    /// Takes a batch that is not needed any more, for its memory.
    pub fn reuse(&mut self, batch: Batch) {
        if self.slots.is_empty() && self.bytes.capacity() < batch.bytes.capacity() {
            self.bytes = batch.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn address() -> Address {
        Address::from("192.0.2.7:4500".parse::<SocketAddr>().unwrap())
    }

    #[test]
    fn slots_and_payload_are_written_in_place() {
        for count in [1, 3, 8, 9, 64, 100] {
            let mut batch = Batch::with_slots(count);
            assert_eq!(batch.slot_count(), count);
            assert!(batch.fill(count - 1, SlotKind::Received, address(), CircuitHandle(5), b"a cell"));
            batch.set_wake_at(Some(Timestamp::from_micros(99)));
            let back = Batch::from_worker(batch.into_bytes()).unwrap();
            let slot = back.slot(count - 1).unwrap();
            assert_eq!(slot.address, address());
            assert_eq!(slot.handle, CircuitHandle(5));
            assert_eq!(back.bytes_of(&slot), b"a cell");
            assert_eq!(back.wake_at(), Some(Timestamp::from_micros(99)));
        }
    }

    #[test]
    fn what_is_written_one_by_one_is_the_batch_that_is_filled() {
        let mut writer = BatchWriter::default();
        assert_eq!(writer.take().as_bytes(), Batch::with_slots(0).as_bytes());
        for count in [1, 3, 64, 2] {
            let mut filled = Batch::with_slots(count);
            for index in 0..count {
                let datagram = vec![index as u8; 1350 - index];
                let handle = CircuitHandle(index as u32);
                assert!(filled.fill(index, SlotKind::Received, address(), handle, &datagram));
                assert!(writer.push(SlotKind::Received, address(), handle, &datagram));
            }
            let written = writer.take();
            assert_eq!(written.as_bytes(), filled.as_bytes());
            Batch::from_worker(filled.into_bytes()).unwrap();
            writer.reuse(written);
        }
        assert!(!writer.push(SlotKind::Received, address(), CircuitHandle(0), &[0; STRIDE]));
        (0..MAX_SLOTS).for_each(|_| assert!(writer.push(SlotKind::Send, address(), CircuitHandle(0), b"x")));
        assert!(!writer.push(SlotKind::Send, address(), CircuitHandle(0), b"x"), "it is full");
    }

    #[test]
    fn a_datagram_too_large_for_its_slot_is_refused() {
        let mut batch = Batch::with_slots(1);
        assert!(!batch.fill(0, SlotKind::Received, address(), CircuitHandle(0), &[0; STRIDE]));
        assert!(!batch.fill(1, SlotKind::Received, address(), CircuitHandle(0), b"x"));
    }

    #[test]
    fn a_slot_outside_the_payload_is_refused_from_a_worker() {
        let mut batch = Batch::with_slots(1);
        batch.set_slot(0, Slot { kind: SlotKind::Send, offset: STRIDE as u32, length: 1, ..Slot::EMPTY });
        let error = Batch::from_worker(batch.into_bytes()).unwrap_err();
        assert!(matches!(error, BatchError::Bounds { slot: 0, .. }), "{error}");
    }

    #[test]
    fn every_truncation_and_garbage_is_refused_without_panic() {
        let bytes = Batch::with_slots(1).into_bytes();
        for length in 0..bytes.len() {
            drop(Batch::from_worker(bytes[..length].to_vec()));
        }
        assert!(Batch::from_worker(vec![0xff; 256]).is_err());
        assert!(Batch::from_worker(Vec::new()).is_err());
    }
}

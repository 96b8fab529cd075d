//! Handshakes in parts: cut, carried, and put together within bounds (docs/protocol.md, "Parts").

use crate::drop_reason::DropReason;
use crate::message::{Reader, Writer};

/// Bytes of a handshake in one part.
pub const FRAGMENT_LEN: usize = 1024;
/// The most parts of a handshake.
pub const MAX_FRAGMENTS: usize = 4;
/// The most bytes of a handshake.
pub const MAX_HANDSHAKE: usize = FRAGMENT_LEN * MAX_FRAGMENTS;
/// Bytes of a part's own header.
pub const FRAGMENT_HEADER: usize = 4;

/// One part of a handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment<'a> {
    /// Its place, from 0.
    pub index: u8,
    /// How many there are: 1 to [`MAX_FRAGMENTS`].
    pub total: u8,
    /// Its bytes: [`FRAGMENT_LEN`], fewer in the last part.
    pub bytes: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// The only part of a handshake that has nothing to send in parts.
    pub const EMPTY: Self = Self { index: 0, total: 1, bytes: &[] };

    /// Reads a part; what is behind it is padding.
    ///
    /// # Errors
    /// `Malformed` when cut off, `Fragment` when its numbers cannot be.
    pub fn decode(reader: &mut Reader<'a>) -> Result<Self, DropReason> {
        let (index, total, length) = (reader.u8()?, reader.u8()?, usize::from(reader.u16()?));
        let bytes = reader.take(length)?;
        Self::of(index, total, bytes)
    }

    /// The same where a handshake that fits into `room` bytes is not cut: in LINK and LINKED.
    ///
    /// # Errors
    /// As `decode`.
    pub fn decode_in(reader: &mut Reader<'a>, room: usize) -> Result<Self, DropReason> {
        let (index, total, length) = (reader.u8()?, reader.u8()?, usize::from(reader.u16()?));
        let bytes = reader.take(length)?;
        let uncut = (index, total) == (0, 1) && length <= room;
        if uncut { Ok(Self { index, total, bytes }) } else { Self::of(index, total, bytes) }
    }

    /// A part with these numbers.
    ///
    /// # Errors
    /// `Fragment` when they cannot be.
    pub(crate) const fn of(index: u8, total: u8, bytes: &'a [u8]) -> Result<Self, DropReason> {
        let last = index.wrapping_add(1) == total;
        let fits = if last { bytes.len() <= FRAGMENT_LEN } else { bytes.len() == FRAGMENT_LEN };
        if index >= total || total as usize > MAX_FRAGMENTS || !fits {
            return Err(DropReason::Fragment);
        }
        Ok(Self { index, total, bytes })
    }

    /// Writes it: [`FRAGMENT_HEADER`] bytes and its own.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.put(&[self.index, self.total]);
        writer.put(&u16::try_from(self.bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
        writer.put(self.bytes);
    }
}

/// Cuts `content` into its parts; none when it has more than [`MAX_HANDSHAKE`] bytes.
#[must_use]
pub fn split(content: &[u8]) -> Option<impl Iterator<Item = Fragment<'_>>> {
    let total = content.len().div_ceil(FRAGMENT_LEN).max(1);
    let count = u8::try_from(total).ok().filter(|_| total <= MAX_FRAGMENTS)?;
    Some((0..count).map(move |index| {
        let start = usize::from(index) * FRAGMENT_LEN;
        let end = content.len().min(start + FRAGMENT_LEN);
        Fragment { index, total: count, bytes: content.get(start..end).unwrap_or_default() }
    }))
}

/// The same where a handshake that fits into `room` bytes is not cut.
pub(crate) fn split_in(content: &[u8], room: usize) -> Option<Vec<Fragment<'_>>> {
    if content.len() <= room {
        return Some(vec![Fragment { index: 0, total: 1, bytes: content }]);
    }
    split(content).map(Iterator::collect)
}

/// Puts one handshake together. Holds at most [`MAX_HANDSHAKE`] bytes.
#[derive(Debug, Default)]
pub struct Assembler {
    parts: [Option<Vec<u8>>; MAX_FRAGMENTS],
    total: u8,
}

impl Assembler {
    /// One that holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many parts there are to be, 0 when none has come, and those that came.
    pub(crate) fn state(&self) -> (u8, impl Iterator<Item = Fragment<'_>>) {
        let came = (0u8..).zip(&self.parts).filter_map(|(index, part)| {
            let bytes = part.as_deref()?;
            Some(Fragment { index, total: self.total, bytes })
        });
        (self.total, came)
    }

    /// Takes a part; gives the whole when it was the missing one, or when all were there before.
    ///
    /// # Errors
    /// `Fragment` when it contradicts an earlier one; what was taken before stays.
    pub fn push(&mut self, part: &Fragment<'_>) -> Result<Option<Vec<u8>>, DropReason> {
        if self.total != 0 && self.total != part.total {
            return Err(DropReason::Fragment);
        }
        let place = self.parts.get_mut(usize::from(part.index)).ok_or(DropReason::Fragment)?;
        match place {
            Some(bytes) if bytes != part.bytes => return Err(DropReason::Fragment),
            Some(_) => {}
            None => *place = Some(part.bytes.to_vec()),
        }
        self.total = part.total;
        let parts: Option<Vec<&[u8]>> =
            self.parts.iter().take(usize::from(self.total)).map(|part| part.as_deref()).collect();
        Ok(parts.map(|parts| parts.concat()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn carry(part: &Fragment<'_>) -> Vec<u8> {
        let mut bytes = vec![0; FRAGMENT_HEADER + part.bytes.len() + 3];
        let mut writer = Writer::new(&mut bytes);
        part.encode(&mut writer);
        assert_eq!(writer.finish(), Some(FRAGMENT_HEADER + part.bytes.len()));
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_order_with_repeats_gives_the_whole(
            content in prop::collection::vec(any::<u8>(), 0..=MAX_HANDSHAKE),
            order in prop::collection::vec(0usize..4, 0..12),
        ) {
            let carried: Vec<Vec<u8>> = split(&content).unwrap().map(|part| carry(&part)).collect();
            let mut assembler = Assembler::new();
            let mut seen = std::collections::HashSet::new();
            let places = order.iter().map(|place| place % carried.len()).chain(0..carried.len());
            for place in places {
                let part = Fragment::decode(&mut Reader::new(&carried[place])).unwrap();
                let whole = assembler.push(&part).unwrap();
                seen.insert(place);
                prop_assert_eq!(whole, (seen.len() == carried.len()).then(|| content.clone()));
            }
        }

        #[test]
        fn garbage_never_panics_or_grows(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1100), 0..8)) {
            let mut assembler = Assembler::new();
            for bytes in &parts {
                let taken = Fragment::decode(&mut Reader::new(bytes)).and_then(|part| assembler.push(&part));
                prop_assert!(taken.ok().flatten().is_none_or(|whole| whole.len() <= MAX_HANDSHAKE));
            }
        }
    }

    #[test]
    fn more_than_four_parts_are_not_cut() {
        assert!(split(&[0; MAX_HANDSHAKE + 1]).is_none());
        assert_eq!(split(&[]).unwrap().count(), 1);
        assert_eq!(split(&[0; FRAGMENT_LEN]).unwrap().count(), 1);
        assert_eq!(split(&[0; FRAGMENT_LEN + 1]).unwrap().count(), 2);
    }

    #[test]
    fn impossible_numbers_are_refused() {
        let decode = |bytes: &[u8]| Fragment::decode(&mut Reader::new(bytes)).map(|part| part.index);
        assert_eq!(decode(&[0, 1, 0, 0]), Ok(0));
        assert_eq!(decode(&[0, 0, 0, 0]), Err(DropReason::Fragment));
        assert_eq!(decode(&[1, 1, 0, 0]), Err(DropReason::Fragment));
        assert_eq!(decode(&[0, 2, 0, 0]), Err(DropReason::Fragment), "a short part that is not the last");
        assert_eq!(decode(&[4, 5, 0, 0]), Err(DropReason::Fragment));
        assert_eq!(decode(&[255, 0, 0, 0]), Err(DropReason::Fragment));
        assert_eq!(decode(&[0, 1, 0, 2, 9]), Err(DropReason::Malformed));
        let long = [&[0, 1, 4, 1][..], &[0; 1025]].concat();
        assert_eq!(decode(&long), Err(DropReason::Fragment));
    }

    #[test]
    fn contradictions_are_refused_and_forgotten() {
        let full = [7; FRAGMENT_LEN];
        let mut assembler = Assembler::new();
        assert_eq!(assembler.push(&Fragment { index: 0, total: 2, bytes: &full }), Ok(None));
        let other = [8; FRAGMENT_LEN];
        assert_eq!(
            assembler.push(&Fragment { index: 0, total: 2, bytes: &other }),
            Err(DropReason::Fragment)
        );
        assert_eq!(assembler.push(&Fragment { index: 1, total: 3, bytes: &full }), Err(DropReason::Fragment));
        let whole = assembler.push(&Fragment { index: 1, total: 2, bytes: b"end" }).unwrap().unwrap();
        assert_eq!(whole, [&full[..], b"end"].concat());
    }
}

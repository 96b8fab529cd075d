//! The header that every datagram between two nodes starts with (docs/protocol.md, "Datagrams").
//!
//! ```text
//! 0      1          5          9           17          21
//! | kind | link id  | counter  | tag       | circuit id |  body …
//! ```
//!
//! All integers are big-endian. `link id` is the receiver's. `counter` is the low half of the
//! link's 64-bit counter. `circuit id` is masked on the wire. LINK messages end their header
//! after the link id.

use crate::{CircuitId, LinkId};

/// Bytes of the header of a cell.
pub const HEADER_LEN: usize = 21;
/// Bytes that each hop's layer adds: a truncated counter, a command and the AEAD's tag.
pub const LAYER_LEN: usize = 4 + 1 + 16;
/// Bytes that a relay adds to what it passes on towards the originator: a truncated counter and a command.
pub const COVER_LEN: usize = 4 + 1;
/// The largest datagram, as UDP payload.
pub const MAX_DATAGRAM: usize = 1350;
/// The largest inner datagram, the same at every hop count.
pub const MAX_INNER: usize = 1240;
/// The most hops a circuit has.
pub const MAX_HOPS: usize = 3;

const _: () = assert!(HEADER_LEN + LAYER_LEN * MAX_HOPS + MAX_INNER <= MAX_DATAGRAM);

/// What a datagram is: its first byte, without the key-phase bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Opens a link: a handshake message from the initiator.
    Link = 1,
    /// The answer to it.
    Linked = 2,
    /// Instead of an answer: come back with this cookie.
    Cookie = 3,
    /// A message for the neighbour itself, sealed with the link's keys.
    Message = 4,
    /// A cell of a circuit.
    Cell = 5,
}

/// Set in the kind byte while the link's second, fourth … key is in use.
pub const KEY_PHASE: u8 = 0x80;

impl Kind {
    /// The kind that a first byte names; none when it names none.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte & !KEY_PHASE {
            1 => Some(Self::Link),
            2 => Some(Self::Linked),
            3 => Some(Self::Cookie),
            4 => Some(Self::Message),
            5 => Some(Self::Cell),
            _ => None,
        }
    }
}

/// The header of a `Message` or a `Cell`, as on the wire: the circuit id is still masked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What follows.
    pub kind: Kind,
    /// Whether the kind byte has the key-phase bit.
    pub key_phase: bool,
    /// The receiver's id of the link.
    pub link: LinkId,
    /// Low 32 bits of the link's counter.
    pub counter: u32,
    /// Keyed tag over the header and the last 16 bytes of the datagram.
    pub tag: [u8; 8],
    /// The circuit id, masked.
    pub circuit: CircuitId,
}

impl Header {
    /// Reads the header at the start of `datagram`; none when it is shorter or its kind is unknown.
    #[must_use]
    pub fn read(datagram: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEADER_LEN] = datagram.first_chunk()?;
        let [kind, l0, l1, l2, l3, c0, c1, c2, c3, t0, t1, t2, t3, t4, t5, t6, t7, i0, i1, i2, i3] = *bytes;
        Some(Self {
            kind: Kind::from_byte(kind)?,
            key_phase: kind & KEY_PHASE != 0,
            link: LinkId(u32::from_be_bytes([l0, l1, l2, l3])),
            counter: u32::from_be_bytes([c0, c1, c2, c3]),
            tag: [t0, t1, t2, t3, t4, t5, t6, t7],
            circuit: CircuitId(u32::from_be_bytes([i0, i1, i2, i3])),
        })
    }

    /// The header's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let kind = self.kind as u8 | if self.key_phase { KEY_PHASE } else { 0 };
        let [l0, l1, l2, l3] = self.link.0.to_be_bytes();
        let [c0, c1, c2, c3] = self.counter.to_be_bytes();
        let [t0, t1, t2, t3, t4, t5, t6, t7] = self.tag;
        let [i0, i1, i2, i3] = self.circuit.0.to_be_bytes();
        [kind, l0, l1, l2, l3, c0, c1, c2, c3, t0, t1, t2, t3, t4, t5, t6, t7, i0, i1, i2, i3]
    }
}

/// The receiver's link id of any datagram; none when it is too short to hold one.
#[must_use]
pub fn link_of(datagram: &[u8]) -> Option<LinkId> {
    let [_, l0, l1, l2, l3] = *datagram.first_chunk()?;
    Some(LinkId(u32::from_be_bytes([l0, l1, l2, l3])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_reads_what_it_writes() {
        let header = Header {
            kind: Kind::Cell,
            key_phase: true,
            link: LinkId::new(2, 77),
            counter: 0x0102_0304,
            tag: [9; 8],
            circuit: CircuitId(0xdead_beef),
        };
        let bytes = header.to_bytes();
        assert_eq!(Header::read(&bytes), Some(header));
        assert_eq!(link_of(&bytes), Some(header.link));
        assert_eq!(Header::read(&bytes[..HEADER_LEN - 1]), None);
    }

    #[test]
    fn unknown_kinds_have_no_header() {
        assert_eq!(Header::read(&[0; HEADER_LEN]), None);
        assert_eq!(Header::read(&[6; HEADER_LEN]), None);
    }
}

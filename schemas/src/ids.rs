//! Ids. Each is a newtype, so that none can stand where another is meant.

use std::fmt;

/// A link as its receiver numbers it: the worker's index in the top byte, 24 random bits below.
/// Zero is nobody's: the first LINK message carries it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LinkId(pub u32);

impl LinkId {
    /// The id that a first LINK message carries.
    pub const NONE: Self = Self(0);

    /// An id of worker `worker`, from 24 random bits. The low bits are never all zero.
    #[must_use]
    pub const fn new(worker: u8, random: u32) -> Self {
        let low = random & 0x00ff_ffff;
        Self(((worker as u32) << 24) | if low == 0 { 1 } else { low })
    }

    /// The index of the worker that chose it.
    #[must_use]
    pub const fn worker(self) -> u8 {
        (self.0 >> 24) as u8
    }
}

/// A circuit as the two ends of one link name it; chosen by the side that sent CREATE.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CircuitId(pub u32);

/// A circuit end (originator or last hop) as one worker numbers it. Never used again while
/// that worker lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CircuitHandle(pub u32);

/// A request on the control way; chosen by the host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RequestId(pub u64);

/// A node: the Ed25519 public key of its libp2p identity. Printed as libp2p prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 32]);

/// Identity multihash of a protobuf with key type Ed25519 and 32 bytes of key
/// (libp2p specs, "Peer Ids and Keys").
const MULTIHASH_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl PeerId {
    /// The id whose libp2p spelling is `text`; none when it is not an Ed25519 peer id.
    #[must_use]
    pub fn from_base58(text: &str) -> Option<Self> {
        let bytes = bs58::decode(text).into_vec().ok()?;
        let key = bytes.strip_prefix(&MULTIHASH_PREFIX)?;
        Some(Self(key.try_into().ok()?))
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = MULTIHASH_PREFIX.to_vec();
        bytes.extend_from_slice(&self.0);
        f.write_str(&bs58::encode(bytes).into_string())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_id_carries_its_worker() {
        assert_eq!(LinkId::new(3, 0xabcd_ef12).worker(), 3);
        assert_ne!(LinkId::new(0, 0xff00_0000), LinkId::NONE);
    }

    #[test]
    fn peer_id_reads_what_it_prints() {
        let id = PeerId([7; 32]);
        assert!(id.to_string().starts_with("12D3KooW"));
        assert_eq!(PeerId::from_base58(&id.to_string()), Some(id));
        assert_eq!(PeerId::from_base58("12D3KooW"), None);
    }
}

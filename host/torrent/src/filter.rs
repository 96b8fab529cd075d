//! What of a peer's conversation passes: BitTorrent for one swarm, without the parts that tell who or
//! where we are, or that bring in addresses we did not choose.
//!
//! [`Direction`] is pure. It follows the message borders for as long as the connection lives, which costs
//! one look per message: a second extended handshake may come at any time (BEP 10).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::InfoHash;
use crate::bencode::{self, Item, Value};

mod carry;
#[cfg(test)]
mod tests;

pub(crate) use carry::carry;

/// Length of the first handshake (BEP 3).
const HANDSHAKE: usize = 68;
const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";
/// The longest message taken: a bitfield of 16 million pieces. Blocks are 16 KiB.
const MAX_MESSAGE: usize = 2 << 20;
/// The longest extended handshake taken; real ones have about 300 bytes.
pub(crate) const MAX_EXTENDED: usize = 32 * 1024;
/// The message id of extensions (BEP 10).
const EXTENDED: u8 = 20;
/// What remains of an extended handshake, in order. Gone are `yourip`, `ipv4`, `ipv6` and `p`, which
/// are addresses, and whatever is invented later.
const KEPT: [&str; 6] = ["complete_ago", "m", "metadata_size", "reqq", "upload_only", "v"];
/// What remains of the extensions in `m`. Gone is `ut_pex` (BEP 11), which names addresses.
const KEPT_EXTENSIONS: [&str; 1] = ["ut_metadata"];

/// Why a conversation was ended. Counted, never answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DropReason {
    /// It does not begin with BitTorrent's handshake.
    NotBitTorrent,
    /// It is about another swarm.
    WrongInfohash,
    /// A message is longer than any needs to be.
    TooLong,
    /// An extended handshake that is not a dictionary.
    Malformed,
}

/// What to do with the front of the input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// So many bytes pass as they are.
    Pass(usize),
    /// Instead of `taken` bytes, `bytes` go on.
    Swap {
        /// Bytes used up.
        taken: usize,
        /// Bytes to write.
        bytes: Vec<u8>,
    },
    /// More input is needed first.
    More,
}

/// Whose bytes these are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Engine,
    Peer,
}

/// One direction of a conversation.
pub(crate) struct Direction {
    side: Side,
    infohash: InfoHash,
    peer_id: [u8; 20],
    greeted: bool,
    /// Bytes of the current message that are still to come, and whether they pass.
    body: usize,
    passes: bool,
    /// The id under which the engine takes `ut_metadata`, 0 as long as it has not said so. The only
    /// extension that comes in: a peer may send `ut_pex` before it was offered, or though it was not.
    metadata: Arc<AtomicU8>,
}

/// Both directions of a conversation: from the engine, and from the peer. `peer_id` is what the peer
/// sees of the engine.
pub(crate) fn directions(infohash: InfoHash, peer_id: [u8; 20]) -> (Direction, Direction) {
    let metadata = Arc::new(AtomicU8::new(0));
    let direction = |side| Direction {
        side,
        infohash,
        peer_id,
        greeted: false,
        body: 0,
        passes: true,
        metadata: metadata.clone(),
    };
    (direction(Side::Engine), direction(Side::Peer))
}

impl Direction {
    /// Looks at input that was not used up yet. At least [`MAX_EXTENDED`] + 4 bytes of it must fit in
    /// the caller's buffer.
    ///
    /// # Errors
    /// When the conversation must end.
    pub(crate) fn step(&mut self, input: &[u8]) -> Result<Step, DropReason> {
        if !self.greeted {
            return self.greet(input);
        }
        let mut at = 0;
        loop {
            if self.body > 0 {
                let n = self.body.min(input.len() - at);
                if !self.passes {
                    return Ok(self.swallow(at, n));
                }
                self.body -= n;
                at += n;
            }
            let rest = input.get(at..).unwrap_or_default();
            match (header(rest), at) {
                (Header::Incomplete, 0) => return Ok(Step::More),
                (Header::Incomplete, _) => return Ok(Step::Pass(at)),
                (Header::Message { length }, _) => {
                    if length > MAX_MESSAGE {
                        return Err(DropReason::TooLong);
                    }
                    self.body = length + 4;
                }
                (Header::ExtendedHandshake { .. }, 1..) => return Ok(Step::Pass(at)),
                (Header::ExtendedHandshake { length }, 0) => return self.rewrite(rest, length),
                (Header::Extension { length, id }, _) => {
                    if length > MAX_MESSAGE {
                        return Err(DropReason::TooLong);
                    }
                    self.body = length + 4;
                    self.passes = self.side == Side::Engine || id == self.metadata.load(Ordering::Relaxed);
                }
            }
        }
    }

    /// First what passes before a message that does not, then that message.
    fn swallow(&mut self, at: usize, n: usize) -> Step {
        if at > 0 {
            return Step::Pass(at);
        }
        if n == 0 {
            return Step::More;
        }
        self.body -= n;
        self.passes = self.body == 0;
        Step::Swap { taken: n, bytes: Vec::new() }
    }

    fn greet(&mut self, input: &[u8]) -> Result<Step, DropReason> {
        let begun = input.len().min(PROTOCOL.len());
        if input.get(..begun) != PROTOCOL.get(..begun) {
            return Err(DropReason::NotBitTorrent);
        }
        let Some(handshake) = input.get(..HANDSHAKE) else { return Ok(Step::More) };
        if handshake.get(28..48) != Some(&self.infohash.0[..]) {
            return Err(DropReason::WrongInfohash);
        }
        self.greeted = true;
        let mut bytes = handshake.to_vec();
        if self.side == Side::Engine {
            bytes.truncate(48);
            bytes.extend_from_slice(&self.peer_id);
        }
        Ok(Step::Swap { taken: HANDSHAKE, bytes })
    }

    fn rewrite(&mut self, rest: &[u8], length: usize) -> Result<Step, DropReason> {
        if length > MAX_EXTENDED {
            return Err(DropReason::TooLong);
        }
        let Some(payload) = rest.get(6..length + 4) else { return Ok(Step::More) };
        let (item, _) = bencode::parse_prefix(payload).map_err(|_| DropReason::Malformed)?;
        let kept = self.keep(&item)?;
        let size = u32::try_from(kept.len() + 2).map_err(|_| DropReason::TooLong)?;
        let mut bytes = size.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[EXTENDED, 0]);
        bytes.extend_from_slice(&kept);
        Ok(Step::Swap { taken: length + 4, bytes })
    }

    fn keep(&self, handshake: &Item<'_>) -> Result<Vec<u8>, DropReason> {
        if !handshake.is_dict() {
            return Err(DropReason::Malformed);
        }
        let mut out = vec![b'd'];
        for key in KEPT {
            let Some(item) = handshake.get(key) else { continue };
            bencode::put_bytes(&mut out, key.as_bytes());
            if key == "m" {
                self.keep_extensions(item, &mut out);
            } else {
                out.extend_from_slice(item.raw);
            }
        }
        out.push(b'e');
        Ok(out)
    }

    fn keep_extensions(&self, m: &Item<'_>, out: &mut Vec<u8>) {
        if self.side == Side::Engine {
            let id = m.get("ut_metadata").and_then(Item::int).and_then(|id| u8::try_from(id).ok());
            self.metadata.store(id.unwrap_or(0), Ordering::Relaxed);
        }
        out.push(b'd');
        for name in KEPT_EXTENSIONS {
            if let Some(item) = m.get(name).filter(|item| matches!(item.value, Value::Int(_))) {
                bencode::put_bytes(out, name.as_bytes());
                out.extend_from_slice(item.raw);
            }
        }
        out.push(b'e');
    }
}

enum Header {
    Incomplete,
    /// A message that passes; its length is without the four bytes of the length.
    Message {
        length: usize,
    },
    ExtendedHandshake {
        length: usize,
    },
    Extension {
        length: usize,
        id: u8,
    },
}

fn header(bytes: &[u8]) -> Header {
    let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Header::Incomplete };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    match (length, rest) {
        (0, _) => Header::Message { length: 0 },
        (_, []) => Header::Incomplete,
        (1, _) => Header::Message { length },
        (_, [EXTENDED]) => Header::Incomplete,
        (_, [EXTENDED, 0, ..]) => Header::ExtendedHandshake { length },
        (_, [EXTENDED, id, ..]) => Header::Extension { length, id: *id },
        _ => Header::Message { length },
    }
}

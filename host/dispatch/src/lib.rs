//! Dispatch: which worker a datagram belongs to, by arithmetic on its first bytes.
//!
//! Pure functions over bytes: no I/O, no state, no authentication. A datagram that is sent to
//! the wrong worker, or to a worker that does not know its link, is that worker's to drop.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use warren_schemas::LinkId;
use warren_schemas::cell::{Kind, link_of};

/// Where the initiator's link id stands in LINK (docs/protocol.md, section 4.1).
const SENDER_LINK_AT: usize = 7;

/// The worker that `datagram` belongs to; none when it belongs to nobody here.
///
/// A datagram of a link carries the receiver's link id, whose top byte is the worker that chose
/// it, below `workers`. A first LINK carries no such id: it goes to one of those that take new circuits
/// (`open`), by a hash of `source` and of the initiator's own link id, so that all parts of one handshake,
/// and its repetition with a cookie, meet the same worker. When `open` changes between them, the
/// handshake is begun anew. None: too short, unknown kind, no id where one is needed, no such worker.
#[must_use]
pub fn worker_of(datagram: &[u8], source: SocketAddr, workers: u8, open: &Range<u8>) -> Option<u8> {
    let kind = Kind::from_byte(*datagram.first()?)?;
    let link = link_of(datagram)?;
    match (kind, link) {
        (Kind::Link, LinkId::NONE) => {
            worker_of_handshake(datagram, source, open).filter(|worker| *worker < workers)
        }
        (Kind::Link, _) | (_, LinkId::NONE) => None,
        (_, link) => Some(link.worker()).filter(|worker| *worker < workers),
    }
}

fn worker_of_handshake(datagram: &[u8], source: SocketAddr, open: &Range<u8>) -> Option<u8> {
    let sender: &[u8; 4] = datagram.get(SENDER_LINK_AT..)?.first_chunk()?;
    let ip = match source.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    };
    let id = (u64::from(source.port()) << 32) | u64::from(u32::from_be_bytes(*sender));
    let hash = [(ip >> 64) as u64, ip as u64, id].into_iter().fold(0, |state, word| mix(state ^ word));
    let count = u64::from(open.end.checked_sub(open.start).filter(|count| *count > 0)?);
    open.start.checked_add(u8::try_from((hash >> 32) % count).ok()?)
}

/// One step of SplitMix64 (Steele, Lea, Flood 2014). No key: whoever aims at one worker gains
/// nothing over choosing link ids that name it.
const fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests;

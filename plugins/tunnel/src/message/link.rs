//! LINK, LINKED and COOKIE (docs/protocol.md, "Opening a link").

use warren_schemas::cell::{Kind, MAX_DATAGRAM};
use warren_schemas::{LinkId, PeerId};

use super::{Reader, VERSION, Writer};
use crate::cookie::COOKIE_LEN;
use crate::crypto::hmac;
use crate::drop_reason::DropReason;
use crate::fragments::{FRAGMENT_HEADER, Fragment};

/// Bytes of a COOKIE.
pub const COOKIE_MESSAGE_LEN: usize = 46;

/// Bytes of a handshake that a LINK takes uncut, behind 111 fixed ones and the part's own header.
pub const LINK_ROOM: usize = MAX_DATAGRAM - 111 - FRAGMENT_HEADER;
/// The same of a LINKED, behind 75 fixed ones.
pub const LINKED_ROOM: usize = MAX_DATAGRAM - 75 - FRAGMENT_HEADER;

/// LINK: open a link to me. Always [`MAX_DATAGRAM`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link<'a> {
    /// Handshake suite.
    pub suite: u8,
    /// The id under which the initiator will receive.
    pub initiator: LinkId,
    /// The relay that is meant.
    pub peer_id: PeerId,
    /// The epoch of its onion key.
    pub epoch: u32,
    /// First 32 bytes of the share.
    pub x: [u8; 32],
    /// Zeros when there is none.
    pub cookie: [u8; COOKIE_LEN],
    /// The other bytes of the share.
    pub part: Fragment<'a>,
}

/// LINKED: here it is. Always [`MAX_DATAGRAM`] bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Linked<'a> {
    /// The initiator's link id.
    pub initiator: LinkId,
    /// Handshake suite.
    pub suite: u8,
    /// The id under which the responder will receive.
    pub responder: LinkId,
    /// First 32 bytes of the share.
    pub y: [u8; 32],
    /// Proof of the onion key over the whole exchange.
    pub auth: [u8; 32],
    /// The other bytes of the share.
    pub part: Fragment<'a>,
}

/// COOKIE: come back with this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CookieMessage {
    /// The initiator's link id.
    pub initiator: LinkId,
    /// First 8 bytes of X.
    pub echo: [u8; 8],
    /// The cookie.
    pub cookie: [u8; COOKIE_LEN],
}

fn start<'a>(datagram: &'a [u8], kind: Kind, length: usize) -> Result<(LinkId, Reader<'a>), DropReason> {
    let mut reader = Reader::new(datagram);
    if datagram.len() != length || reader.u8()? != kind as u8 {
        return Err(DropReason::Malformed);
    }
    let link = LinkId(reader.u32()?);
    if reader.u8()? != VERSION {
        return Err(DropReason::Version);
    }
    Ok((link, reader))
}

fn begin<'a>(out: &'a mut [u8], kind: Kind, link: LinkId) -> Writer<'a> {
    let mut writer = Writer::new(out);
    writer.put(&[kind as u8]);
    writer.put(&link.0.to_be_bytes());
    writer.put(&[VERSION]);
    writer
}

impl<'a> Link<'a> {
    /// Reads a whole datagram.
    ///
    /// # Errors
    /// `Malformed`, `Version` or `Fragment`.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, DropReason> {
        let (receiver, mut reader) = start(datagram, Kind::Link, MAX_DATAGRAM)?;
        let link = Self {
            suite: reader.u8()?,
            initiator: LinkId(reader.u32()?),
            peer_id: PeerId(reader.array()?),
            epoch: reader.u32()?,
            x: reader.array()?,
            cookie: reader.array()?,
            part: Fragment::decode_in(&mut reader, LINK_ROOM)?,
        };
        if receiver != LinkId::NONE || link.initiator == LinkId::NONE {
            return Err(DropReason::Malformed);
        }
        Ok(link)
    }

    /// What makes it the same LINK when it is sent again: everything that the handshake depends on. A
    /// cookie may come to it later.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let Self { suite, initiator, peer_id, epoch, x, cookie: _, part } = self;
        let numbers = [*suite, part.index, part.total];
        let (initiator, epoch) = (initiator.0.to_be_bytes(), epoch.to_be_bytes());
        // Only the last one's length varies.
        *hmac(b"warren same link 1", &[&numbers, &initiator, &peer_id.0, &epoch, x, part.bytes])
    }

    /// Writes a whole datagram to the start of `out`; gives its length, none without that room.
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = begin(out, Kind::Link, LinkId::NONE);
        writer.put(&[self.suite]);
        writer.put(&self.initiator.0.to_be_bytes());
        writer.put(&self.peer_id.0);
        writer.put(&self.epoch.to_be_bytes());
        writer.put(&self.x);
        writer.put(&self.cookie);
        self.part.encode(&mut writer);
        writer.pad_to(MAX_DATAGRAM);
        writer.finish()
    }
}

impl<'a> Linked<'a> {
    /// Reads a whole datagram.
    ///
    /// # Errors
    /// `Malformed`, `Version` or `Fragment`.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, DropReason> {
        let (initiator, mut reader) = start(datagram, Kind::Linked, MAX_DATAGRAM)?;
        let linked = Self {
            initiator,
            suite: reader.u8()?,
            responder: LinkId(reader.u32()?),
            y: reader.array()?,
            auth: reader.array()?,
            part: Fragment::decode_in(&mut reader, LINKED_ROOM)?,
        };
        if linked.initiator == LinkId::NONE || linked.responder == LinkId::NONE {
            return Err(DropReason::Malformed);
        }
        Ok(linked)
    }

    /// Writes a whole datagram to the start of `out`; gives its length, none without that room.
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = begin(out, Kind::Linked, self.initiator);
        writer.put(&[self.suite]);
        writer.put(&self.responder.0.to_be_bytes());
        writer.put(&self.y);
        writer.put(&self.auth);
        self.part.encode(&mut writer);
        writer.pad_to(MAX_DATAGRAM);
        writer.finish()
    }
}

impl CookieMessage {
    /// Reads a whole datagram.
    ///
    /// # Errors
    /// `Malformed` or `Version`.
    pub fn decode(datagram: &[u8]) -> Result<Self, DropReason> {
        let (initiator, mut reader) = start(datagram, Kind::Cookie, COOKIE_MESSAGE_LEN)?;
        Ok(Self { initiator, echo: reader.array()?, cookie: reader.array()? })
    }

    /// Writes a whole datagram to the start of `out`; gives its length, none without that room.
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = begin(out, Kind::Cookie, self.initiator);
        writer.put(&self.echo);
        writer.put(&self.cookie);
        writer.finish()
    }
}

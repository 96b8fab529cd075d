//! What is said: the messages between neighbours, the commands of a hop, and (in `message/link`)
//! the three datagrams that open a link. Bytes only; who may say what when is the machine's.

mod bytes;
mod hop;
mod link;

pub use bytes::{Reader, Writer};
pub use hop::{Extend, HopMessage, command};
pub use link::{COOKIE_MESSAGE_LEN, CookieMessage, LINK_ROOM, LINKED_ROOM, Link, Linked};

use warren_schemas::control::CloseReason;

use crate::drop_reason::DropReason;
use crate::fragments::Fragment;

/// The version of the protocol that this code speaks.
pub const VERSION: u8 = 1;
/// Bytes of the tokens of PING, PONG and the path challenge.
pub const TOKEN_LEN: usize = 8;
/// The fewest bytes of content of a link message: shorter ones are padded.
pub const MIN_CONTENT: usize = TOKEN_LEN;

/// A message between neighbours, without its circuit id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkMessage<'a> {
    /// Nothing.
    Padding,
    /// A part of a create.
    Create(Fragment<'a>),
    /// A part of a created.
    Created(Fragment<'a>),
    /// The circuit is not made.
    CreateFailed(CloseReason),
    /// The circuit is gone.
    Destroy(CloseReason),
    /// Send these bytes back from the address that they reached.
    PathChallenge([u8; TOKEN_LEN]),
    /// They came.
    PathResponse([u8; TOKEN_LEN]),
    /// Are you there?
    Ping([u8; TOKEN_LEN]),
    /// I am.
    Pong([u8; TOKEN_LEN]),
    /// The link is gone.
    Close(CloseReason),
}

impl<'a> LinkMessage<'a> {
    /// Reads `type ‖ content`.
    ///
    /// # Errors
    /// `Malformed` or `Fragment` when the content cannot be, `UnknownCommand` for other types.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::new(bytes);
        Ok(match reader.u8()? {
            0 => Self::Padding,
            1 => Self::Create(Fragment::decode(&mut reader)?),
            2 => Self::Created(Fragment::decode(&mut reader)?),
            3 => Self::CreateFailed(reader.reason()?),
            4 => Self::Destroy(reader.reason()?),
            5 => Self::PathChallenge(reader.array()?),
            6 => Self::PathResponse(reader.array()?),
            7 => Self::Ping(reader.array()?),
            8 => Self::Pong(reader.array()?),
            9 => Self::Close(reader.reason()?),
            _ => return Err(DropReason::UnknownCommand),
        })
    }

    /// Writes `type ‖ content`, padded to [`MIN_CONTENT`], to the start of `out`; gives its length,
    /// none when it does not fit.
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        match self {
            Self::Padding => writer.put(&[0]),
            Self::Create(part) => writer.tagged(1, part),
            Self::Created(part) => writer.tagged(2, part),
            Self::CreateFailed(reason) => writer.put(&[3, reason.0]),
            Self::Destroy(reason) => writer.put(&[4, reason.0]),
            Self::PathChallenge(token) => writer.token(5, token),
            Self::PathResponse(token) => writer.token(6, token),
            Self::Ping(token) => writer.token(7, token),
            Self::Pong(token) => writer.token(8, token),
            Self::Close(reason) => writer.put(&[9, reason.0]),
        }
        writer.pad_to(1 + MIN_CONTENT);
        writer.finish()
    }
}

#[cfg(test)]
mod tests;

//! Commands of a hop's layer.

use warren_schemas::cell::MAX_INNER;
use warren_schemas::control::CloseReason;
use warren_schemas::descriptor;

use super::{Reader, TOKEN_LEN, Writer};
use crate::drop_reason::DropReason;
use crate::fragments::Fragment;

/// Numbers of the commands (docs/protocol.md, "Layers").
#[expect(missing_docs, reason = "named as in docs/protocol.md")]
pub mod command {
    pub const RELAY: u8 = 0;
    pub const DATA: u8 = 1;
    pub const EXTEND: u8 = 2;
    pub const EXTENDED: u8 = 3;
    pub const EXTEND_FAILED: u8 = 4;
    pub const PING: u8 = 5;
    pub const PONG: u8 = 6;
    pub const PADDING: u8 = 255;
}

/// A message for or from a hop. Command 0 is none: it passes its inner part on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HopMessage<'a> {
    /// An inner datagram: 1 to `MAX_INNER` bytes.
    Data(&'a [u8]),
    /// A part of an extend, of the originator's attempt `exchange`.
    Extend {
        /// The attempt.
        exchange: u32,
        /// The part.
        part: Fragment<'a>,
    },
    /// A part of the created that the next hop answered.
    Extended {
        /// The attempt.
        exchange: u32,
        /// The part.
        part: Fragment<'a>,
    },
    /// The circuit does not get longer.
    ExtendFailed {
        /// The attempt.
        exchange: u32,
        /// Why.
        reason: CloseReason,
    },
    /// Are you there?
    Ping([u8; TOKEN_LEN]),
    /// I am.
    Pong([u8; TOKEN_LEN]),
    /// Nothing.
    Padding,
}

impl<'a> HopMessage<'a> {
    /// Reads the inner part of a layer with `command`.
    ///
    /// # Errors
    /// `TooLong` above `MAX_INNER`, `Malformed` or `Fragment` when the content cannot be,
    /// `UnknownCommand` for other commands, 0 included.
    #[inline]
    pub fn decode(command: u8, inner: &'a [u8]) -> Result<Self, DropReason> {
        if inner.len() > MAX_INNER {
            return Err(DropReason::TooLong);
        }
        let mut reader = Reader::new(inner);
        Ok(match command {
            command::DATA if inner.is_empty() => return Err(DropReason::Malformed),
            command::DATA => Self::Data(inner),
            command::EXTEND => Self::Extend { exchange: reader.u32()?, part: Fragment::decode(&mut reader)? },
            command::EXTENDED => {
                Self::Extended { exchange: reader.u32()?, part: Fragment::decode(&mut reader)? }
            }
            command::EXTEND_FAILED => {
                Self::ExtendFailed { exchange: reader.u32()?, reason: reader.reason()? }
            }
            command::PING => Self::Ping(reader.array()?),
            command::PONG => Self::Pong(reader.array()?),
            command::PADDING => Self::Padding,
            _ => return Err(DropReason::UnknownCommand),
        })
    }

    /// Its command.
    #[must_use]
    pub const fn command(&self) -> u8 {
        match self {
            Self::Data(_) => command::DATA,
            Self::Extend { .. } => command::EXTEND,
            Self::Extended { .. } => command::EXTENDED,
            Self::ExtendFailed { .. } => command::EXTEND_FAILED,
            Self::Ping(_) => command::PING,
            Self::Pong(_) => command::PONG,
            Self::Padding => command::PADDING,
        }
    }

    /// Writes its inner part to the start of `out`; gives its length, none when it does not fit
    /// there or into a cell.
    #[must_use]
    pub fn encode(&self, out: &mut [u8]) -> Option<usize> {
        let mut writer = Writer::new(out);
        match self {
            Self::Data(bytes) => writer.put(bytes),
            Self::Extend { exchange, part } | Self::Extended { exchange, part } => {
                writer.put(&exchange.to_be_bytes());
                part.encode(&mut writer);
            }
            Self::ExtendFailed { exchange, reason } => {
                writer.put(&exchange.to_be_bytes());
                writer.put(&[reason.0]);
            }
            Self::Ping(token) | Self::Pong(token) => writer.put(token),
            Self::Padding => {}
        }
        writer.finish().filter(|length| *length <= MAX_INNER)
    }
}

/// What an EXTEND says when all its parts are there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extend<'a> {
    /// The next hop's signed descriptor, yet to be verified.
    pub descriptor: &'a [u8],
    /// The create for it, sent on as it came.
    pub create: &'a [u8],
}

impl<'a> Extend<'a> {
    /// Reads an assembled extend.
    ///
    /// # Errors
    /// `Malformed` when cut off, `Descriptor` when the descriptor is too long.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::new(bytes);
        let length = usize::from(reader.u16()?);
        if length > descriptor::MAX_LEN {
            return Err(DropReason::Descriptor);
        }
        Ok(Self { descriptor: reader.take(length)?, create: reader.rest() })
    }

    /// The bytes to cut into parts; none when the descriptor is too long.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let length = u16::try_from(self.descriptor.len())
            .ok()
            .filter(|_| self.descriptor.len() <= descriptor::MAX_LEN)?;
        Some([&length.to_be_bytes()[..], self.descriptor, self.create].concat())
    }
}

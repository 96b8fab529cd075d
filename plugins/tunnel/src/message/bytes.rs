//! Reading and writing without a panic.

use warren_schemas::control::CloseReason;

use super::TOKEN_LEN;
use crate::drop_reason::DropReason;
use crate::fragments::Fragment;

/// Reads from the front of bytes that came from outside. Every read fails with `Malformed`
/// when too few are left.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(&'a [u8]);

#[expect(clippy::missing_errors_doc, reason = "said once, at the type")]
impl<'a> Reader<'a> {
    /// Reads `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DropReason> {
        let (head, rest) = self.0.split_first_chunk().ok_or(DropReason::Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DropReason> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(DropReason::Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, DropReason> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The next two bytes.
    pub fn u16(&mut self) -> Result<u16, DropReason> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next four bytes.
    pub fn u32(&mut self) -> Result<u32, DropReason> {
        self.array().map(u32::from_be_bytes)
    }

    /// A reason; one that is not known reads as `Unspecified`.
    pub fn reason(&mut self) -> Result<CloseReason, DropReason> {
        let reason = CloseReason(self.u8()?);
        Ok(if reason.variant_name().is_some() { reason } else { CloseReason::Unspecified })
    }

    /// All that is left.
    #[must_use]
    pub const fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Writes to the front of a buffer. Too little room is found out at the end.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
    fits: bool,
}

impl<'a> Writer<'a> {
    /// Writes to `out`.
    #[must_use]
    pub const fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0, fits: true }
    }

    /// Appends `bytes`.
    pub fn put(&mut self, bytes: &[u8]) {
        match self.out.get_mut(self.at..).and_then(|rest| rest.get_mut(..bytes.len())) {
            Some(room) if self.fits => {
                room.copy_from_slice(bytes);
                self.at += bytes.len();
            }
            _ => self.fits = false,
        }
    }

    /// Appends zeros until `length` bytes are written.
    pub fn pad_to(&mut self, length: usize) {
        match self.out.get_mut(self.at.min(length)..length) {
            Some(room) if self.fits => {
                room.fill(0);
                self.at = self.at.max(length);
            }
            _ => self.fits = false,
        }
    }

    pub(super) fn tagged(&mut self, tag: u8, part: &Fragment<'_>) {
        self.put(&[tag]);
        part.encode(self);
    }

    pub(super) fn token(&mut self, tag: u8, token: &[u8; TOKEN_LEN]) {
        self.put(&[tag]);
        self.put(token);
    }

    /// How many bytes were written; none when they did not all fit.
    #[must_use]
    pub const fn finish(self) -> Option<usize> {
        if self.fits { Some(self.at) } else { None }
    }
}

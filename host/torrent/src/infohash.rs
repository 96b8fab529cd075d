//! The name of a swarm.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// SHA-1 of a torrent's info dictionary (BEP 3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InfoHash(pub [u8; 20]);

impl InfoHash {
    /// Of the raw bytes of an info dictionary.
    pub(crate) fn of(info: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, info);
        let mut hash = [0; 20];
        for (to, from) in hash.iter_mut().zip(digest.as_ref()) {
            *to = *from;
        }
        Self(hash)
    }
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InfoHash({self})")
    }
}

impl FromStr for InfoHash {
    type Err = Error;

    /// 40 hexadecimal or 32 base32 digits, in either case.
    fn from_str(text: &str) -> Result<Self, Error> {
        let (digits, bits) = match text.len() {
            40 => (text.chars().map(|c| c.to_digit(16)).collect::<Option<Vec<_>>>(), 4),
            32 => (text.chars().map(base32_digit).collect(), 5),
            _ => (None, 0),
        };
        let mut hash = [0_u8; 20];
        let mut slots = hash.iter_mut();
        let (mut pending, mut held) = (0_u32, 0);
        for digit in digits.ok_or(Error::MagnetInfohash)? {
            pending = (pending << bits) | digit;
            held += bits;
            if held >= 8 {
                held -= 8;
                if let (Some(slot), Ok(byte)) = (slots.next(), u8::try_from((pending >> held) & 0xff)) {
                    *slot = byte;
                }
            }
        }
        Ok(Self(hash))
    }
}

fn base32_digit(c: char) -> Option<u32> {
    match c.to_ascii_uppercase() {
        c @ 'A'..='Z' => Some(u32::from(c) - u32::from('A')),
        c @ '2'..='7' => Some(u32::from(c) - u32::from('2') + 26),
        _ => None,
    }
}

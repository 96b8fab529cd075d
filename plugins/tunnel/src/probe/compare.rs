//! The ciphers of this build against each other, on one message.

use super::field;
use crate::crypto::chapoly::{ChaPoly, Plain};
use crate::crypto::reference::Reference;
use crate::crypto::{AeadKey, CIPHER, TAG_LEN};
use crate::drop_reason::DropReason;
use crate::message::Reader;

/// Bytes around the content that must stay as they are.
const AROUND: usize = 16;

/// Seals and opens with the cipher in use, its plain twin and the crate; refused when they differ in
/// anything. `damage` says what is damaged before it is opened, and where.
pub(super) fn run(mut request: Reader<'_>) -> Result<Option<Vec<u8>>, DropReason> {
    let (key, nonce, damage) = (request.array()?, request.array()?, request.u16()?);
    let (associated, content) = (field(&mut request)?, field(&mut request)?);
    let (used, twin, reference) = (AeadKey::new(&key), ChaPoly::<Plain>::new(&key), Reference::new(&key));
    let mut expected = content.to_vec();
    let Some(tag) = reference.seal(&nonce, associated, &mut expected) else { return Ok(None) };
    let mut opened = expected.clone();
    if !reference.open(&nonce, associated, &mut opened, &tag) || opened != content {
        return Ok(None);
    }
    let case = Case { nonce: &nonce, associated, content, sealed: &expected, tag: &tag, damage };
    let used_agrees = case.holds(
        |nonce, associated, content| used.seal_with(nonce, associated, content).ok(),
        |nonce, associated, content, tag| used.open_with(nonce, associated, content, tag),
        |nonce, content| used.apply_keystream_with(nonce, content).is_ok(),
    );
    let twin_agrees = case.holds(
        |nonce, associated, content| twin.seal(nonce, associated, content),
        |nonce, associated, content, tag| twin.open(nonce, associated, content, tag),
        |nonce, content| twin.apply_keystream(nonce, content),
    );
    Ok((used_agrees && twin_agrees).then(|| [&tag[..], CIPHER.as_bytes()].concat()))
}

/// A message, and what the crate made of it.
struct Case<'a> {
    nonce: &'a [u8; 12],
    associated: &'a [u8],
    content: &'a [u8],
    sealed: &'a [u8],
    tag: &'a [u8; TAG_LEN],
    damage: u16,
}

impl Case<'_> {
    /// Whether a cipher seals to the same, also without a tag, opens it again, finds the damage and leaves its bytes alone then.
    fn holds(
        &self,
        seal: impl Fn(&[u8; 12], &[u8], &mut [u8]) -> Option<[u8; TAG_LEN]>,
        open: impl Fn(&[u8; 12], &[u8], &mut [u8], &[u8; TAG_LEN]) -> bool,
        apply_keystream: impl Fn(&[u8; 12], &mut [u8]) -> bool,
    ) -> bool {
        let sealed = self.apart(self.content, |bytes| seal(self.nonce, self.associated, bytes));
        let opened = self.apart(self.sealed, |bytes| open(self.nonce, self.associated, bytes, self.tag));
        let encrypted = self.apart(self.content, |bytes| apply_keystream(self.nonce, bytes));
        let [nonce, associated, content, tag] = self.damaged();
        let nonce = nonce.first_chunk().unwrap_or(self.nonce);
        let tag = tag.first_chunk().unwrap_or(self.tag);
        let refused = self.apart(&content, |bytes| open(nonce, &associated, bytes, tag));
        sealed == Some((self.sealed.to_vec(), Some(*self.tag)))
            && encrypted == Some((self.sealed.to_vec(), true))
            && opened == Some((self.content.to_vec(), true))
            && refused == Some((content, false))
    }

    /// Works on bytes with others around them, at any alignment; none when the others were changed.
    fn apart<T>(&self, bytes: &[u8], work: impl FnOnce(&mut [u8]) -> T) -> Option<(Vec<u8>, T)> {
        let start = AROUND + usize::from(self.damage % 16);
        let mut buffer = vec![0xa5; start + bytes.len() + AROUND];
        let (front, rest) = buffer.split_at_mut(start);
        let (inside, behind) = rest.split_at_mut(bytes.len());
        inside.copy_from_slice(bytes);
        let done = work(inside);
        let kept = front.iter().chain(behind.iter()).all(|byte| *byte == 0xa5);
        kept.then(|| (inside.to_vec(), done))
    }

    /// Nonce, associated data, content and tag, with one bit of them flipped: of the tag where the part
    /// that the damage names is empty.
    fn damaged(&self) -> [Vec<u8>; 4] {
        let mut parts = [&self.nonce[..], self.associated, self.sealed, &self.tag[..]].map(<[u8]>::to_vec);
        let (wanted, bit) = (usize::from(self.damage >> 14), usize::from(self.damage & 0x3fff));
        let which = if parts.get(wanted).is_some_and(|part| !part.is_empty()) { wanted } else { 3 };
        if let Some(part) = parts.get_mut(which)
            && let Some(at) = (bit / 8).checked_rem(part.len())
            && let Some(byte) = part.get_mut(at)
        {
            *byte ^= 1 << (bit % 8);
        }
        parts
    }
}

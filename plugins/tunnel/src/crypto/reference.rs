//! ChaCha20-Poly1305 by the `chacha20poly1305` crate: the reference of `chapoly`, and what seals where
//! that is not compiled in.

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Tag};

use super::TAG_LEN;

/// A key, wiped when dropped.
pub(crate) struct Reference {
    /// The cipher does not give its key back. Where this is the cipher in use.
    #[cfg(not(any(all(target_arch = "wasm32", target_feature = "simd128"), target_arch = "x86_64")))]
    raw: super::Secret,
    cipher: ChaCha20Poly1305,
}

impl Reference {
    /// Keys the cipher.
    #[inline]
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self {
            #[cfg(not(any(
                all(target_arch = "wasm32", target_feature = "simd128"),
                target_arch = "x86_64"
            )))]
            raw: super::Secret::new(*key),
            cipher: ChaCha20Poly1305::new(key.into()),
        }
    }

    /// The key's bytes.
    #[cfg(not(any(all(target_arch = "wasm32", target_feature = "simd128"), target_arch = "x86_64")))]
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.raw
    }

    /// Encrypts in place and gives the tag; none for more bytes than the block counter allows.
    #[inline]
    pub(crate) fn seal(
        &self,
        nonce: &[u8; 12],
        associated: &[u8],
        content: &mut [u8],
    ) -> Option<[u8; TAG_LEN]> {
        let sealed = self.cipher.encrypt_inout_detached(nonce.into(), associated, InOutBuf::from(content));
        sealed.ok().map(Into::into)
    }

    /// Checks the tag, then decrypts in place; a wrong one leaves the content alone.
    #[inline]
    pub(crate) fn open(
        &self,
        nonce: &[u8; 12],
        associated: &[u8],
        content: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> bool {
        let tag = Tag::from(*tag);
        self.cipher.decrypt_inout_detached(nonce.into(), associated, InOutBuf::from(content), &tag).is_ok()
    }

    /// Encrypts or decrypts in place without a tag: as [`seal`](Self::seal) does it, whose tag is thrown away. False for more
    /// bytes than the block counter allows. Where this is the cipher in use.
    #[cfg(not(any(all(target_arch = "wasm32", target_feature = "simd128"), target_arch = "x86_64")))]
    #[inline]
    pub(crate) fn apply_keystream(&self, nonce: &[u8; 12], content: &mut [u8]) -> bool {
        self.seal(nonce, &[], content).is_some()
    }
}

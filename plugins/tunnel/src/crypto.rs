//! The primitives, each behind one function: ChaCha20-Poly1305 (RFC 8439), X25519 (RFC 7748),
//! HMAC and HKDF with SHA-256 (RFC 2104, RFC 5869), SipHash-2-4 (Aumasson, Bernstein 2012), and with
//! the feature `hybrid` ML-KEM-768 (FIPS 203).
//!
//! Whoever calls these decides about nonces; that is `layer`, `link_keys` and `ntor` only.
//!
//! **Constant time**, read in the source: no branch and no index depends on a key, a content, a secret
//! scalar or a tag that is expected. `chapoly` is additions, exclusive ors, rotations and products of 64
//! bits, its carries are numbers and its loops run over public lengths; tags go through `subtle`, whole, and
//! what follows their comparison is public. X25519 is a ladder that swaps by masks (`x25519-dalek`); whether its
//! result is zero is branched on, which only a low-order point can make. SipHash, SHA-256 and ML-KEM have no tables. What
//! compilers make of that is measured: `cargo xtask bench ct`. Not covered: processors on which
//! some products take longer than others.
//!
//! **What stays behind**: keys are wiped when they are dropped, but what `chapoly` computed from the last one, key words among it,
//! lies on the stack until the next call writes over it.

use hkdf::{Hkdf, HkdfExtract};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::drop_reason::DropReason;

#[cfg(any(
    all(target_arch = "wasm32", target_feature = "simd128"),
    target_arch = "x86_64",
    test,
    feature = "probe"
))]
pub(crate) mod chapoly;
#[cfg(feature = "hybrid")]
pub mod mlkem;
#[cfg(any(
    not(any(all(target_arch = "wasm32", target_feature = "simd128"), target_arch = "x86_64")),
    test,
    feature = "probe"
))]
pub(crate) mod reference;
mod sip;

/// What seals: our own cipher where it was measured to be faster than the crate, else the crate.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
type Cipher = chapoly::ChaPoly<chapoly::Simd>;
#[cfg(target_arch = "x86_64")]
type Cipher = chapoly::ChaPoly<chapoly::Sse>;
#[cfg(not(any(all(target_arch = "wasm32", target_feature = "simd128"), target_arch = "x86_64")))]
type Cipher = reference::Reference;

/// Its name, for tests that must know which one they test.
#[cfg(any(test, feature = "probe"))]
pub(crate) const CIPHER: &str = if cfg!(all(target_arch = "wasm32", target_feature = "simd128")) {
    "vectors"
} else if cfg!(target_arch = "x86_64") {
    "sse"
} else {
    "crate"
};

/// Bytes of an AEAD's tag.
pub const TAG_LEN: usize = 16;
/// A 32-byte secret, wiped when dropped.
pub type Secret = Zeroizing<[u8; 32]>;

/// Why something of ours could not be sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SealError {
    /// The counter has no value left: the key's life is over.
    #[error("sealing: the counter is exhausted")]
    Exhausted,
    /// The buffer has not enough bytes before or behind the content, or the content is too short.
    #[error("sealing: no room around the content")]
    NoRoom,
}

impl From<SealError> for DropReason {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Exhausted => Self::Exhausted,
            SealError::NoRoom => Self::NoRoom,
        }
    }
}

/// Which way something travels: away from the originator (the link's initiator) or towards it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Direction {
    /// Away from the originator of a circuit, the initiator of a link.
    Forward = 0,
    /// Towards it.
    Backward = 1,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::Forward => Self::Backward,
            Self::Backward => Self::Forward,
        }
    }
}

/// What is sealed (docs/protocol.md, "Associated data").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum LayerKind {
    /// A message between neighbours.
    LinkMessage = 1,
    /// A hop's layer of a cell.
    Hop = 2,
    /// The contents of CREATED.
    Contents = 3,
}

/// The four bytes every AEAD of version 1 authenticates besides its content.
#[must_use]
pub const fn associated_data(suite: u8, direction: Direction, kind: LayerKind) -> [u8; 4] {
    [crate::message::VERSION, suite, direction as u8, kind as u8]
}

/// A ChaCha20-Poly1305 key, wiped when dropped. Copies on the stack are not.
pub struct AeadKey(Cipher);

impl AeadKey {
    /// Keys the cipher.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Cipher::new(key))
    }

    /// The key itself, for a successor's state.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        self.0.bytes()
    }

    /// Encrypts `content` in place under `counter` and gives the tag.
    ///
    /// # Errors
    /// `NoRoom` when the content is longer than the cipher can take (256 GB).
    #[inline]
    pub fn seal(
        &self,
        counter: u64,
        associated: &[u8],
        content: &mut [u8],
    ) -> Result<[u8; TAG_LEN], SealError> {
        self.seal_with(&nonce(counter), associated, content)
    }

    /// [`seal`](Self::seal) with all 12 bytes of the nonce given.
    ///
    /// # Errors
    /// As `seal`.
    #[inline]
    pub fn seal_with(
        &self,
        nonce: &[u8; 12],
        associated: &[u8],
        content: &mut [u8],
    ) -> Result<[u8; TAG_LEN], SealError> {
        self.0.seal(nonce, associated, content).ok_or(SealError::NoRoom)
    }

    /// Checks `tag`, then decrypts `content` in place. When the tag is wrong nothing is changed.
    #[inline]
    #[must_use]
    pub fn open(&self, counter: u64, associated: &[u8], content: &mut [u8], tag: &[u8; TAG_LEN]) -> bool {
        self.open_with(&nonce(counter), associated, content, tag)
    }

    /// [`open`](Self::open) with all 12 bytes of the nonce given.
    #[inline]
    #[must_use]
    pub fn open_with(
        &self,
        nonce: &[u8; 12],
        associated: &[u8],
        content: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> bool {
        self.0.open(nonce, associated, content, tag)
    }

    /// Encrypts or decrypts `content` in place as [`seal`](Self::seal) under `counter` does it, without a tag: who does not
    /// have the key can change what comes out, bit by bit.
    ///
    /// # Errors
    /// As `seal`; nothing is changed then.
    #[inline]
    pub fn apply_keystream(&self, counter: u64, content: &mut [u8]) -> Result<(), SealError> {
        self.apply_keystream_with(&nonce(counter), content)
    }

    /// [`apply_keystream`](Self::apply_keystream) with all 12 bytes of the nonce given.
    ///
    /// # Errors
    /// As `apply_keystream`.
    #[inline]
    pub fn apply_keystream_with(&self, nonce: &[u8; 12], content: &mut [u8]) -> Result<(), SealError> {
        if self.0.apply_keystream(nonce, content) { Ok(()) } else { Err(SealError::NoRoom) }
    }
}

fn nonce(counter: u64) -> [u8; 12] {
    let [a, b, c, d, e, f, g, h] = counter.to_be_bytes();
    [0, 0, 0, 0, a, b, c, d, e, f, g, h]
}

/// The X25519 public key of `secret`.
#[must_use]
pub fn public_key(secret: &Secret) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(**secret)).to_bytes()
}

/// X25519 of `secret` and `point`; none when the result is zero, as it is for low-order points.
#[must_use]
pub fn x25519(secret: &Secret, point: &[u8; 32]) -> Option<Secret> {
    let shared = StaticSecret::from(**secret).diffie_hellman(&PublicKey::from(*point));
    shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
}

/// HMAC-SHA256 of `parts` put together. (HKDF-Extract is HMAC with the salt as key: RFC 5869, 2.2.)
#[must_use]
pub fn hmac(key: &[u8], parts: &[&[u8]]) -> Secret {
    let mut mac = HkdfExtract::<Sha256>::new(Some(key));
    for part in parts {
        mac.input_ikm(part);
    }
    Zeroizing::new(mac.finalize().0.into())
}

/// `N` bytes of HKDF-Expand with SHA-256 under `key`, for the joined `info`. `N` is at most 64.
#[must_use]
pub fn expand<const N: usize>(key: &[u8; 32], info: &[&[u8]]) -> Zeroizing<[u8; N]> {
    const { assert!(N <= 64) };
    let mut out = Zeroizing::new([0; N]);
    #[expect(clippy::expect_used, reason = "a 32-byte key and at most 64 bytes are always accepted")]
    Hkdf::<Sha256>::from_prk(key)
        .expect("32 bytes")
        .expand_multi_info(info, &mut *out)
        .expect("at most 64 bytes");
    out
}

/// A SipHash-2-4 key, wiped when dropped.
pub struct SipKey(Zeroizing<[u8; 16]>);

impl SipKey {
    /// Takes the key's bytes.
    #[must_use]
    pub const fn new(key: Zeroizing<[u8; 16]>) -> Self {
        Self(key)
    }

    /// The hash of `bytes`, least significant byte first.
    #[inline]
    #[must_use]
    pub fn hash(&self, bytes: &[u8]) -> [u8; 8] {
        sip::hash(&self.0, bytes).to_le_bytes()
    }
}

/// Whether both are equal, in constant time for equal lengths.
#[inline]
#[must_use]
pub fn equal(one: &[u8], other: &[u8]) -> bool {
    let ((words, rest), (other_words, other_rest)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let words = words.iter().zip(other_words).map(|(a, b)| word(a).ct_eq(&word(b)));
    let rest = rest.iter().zip(other_rest).map(|(a, b)| a.ct_eq(b));
    let same = words.chain(rest).reduce(|all, one| all & one);
    one.len() == other.len() && same.is_none_or(bool::from)
}

#[cfg(test)]
mod tests;

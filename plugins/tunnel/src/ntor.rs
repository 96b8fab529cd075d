//! The handshake of links and circuits: ntor (docs/protocol.md, "Handshake").
//!
//! Here is what both share; `ntor::link` and `ntor::circuit` put it into their messages.

pub mod circuit;
mod kem;
pub mod link;

use warren_schemas::{PeerId, suites};
use zeroize::Zeroizing;

#[cfg(feature = "hybrid")]
use crate::crypto::mlkem;
use crate::crypto::{Secret, equal, expand, hmac, public_key, x25519};
use crate::drop_reason::DropReason;
use crate::message::VERSION;

/// The strings that keep a suite's hashes apart from everything else.
struct Domain {
    protoid: &'static [u8],
    key_extract: &'static [u8],
    verify: &'static [u8],
    mac: &'static [u8],
    key_expand: &'static [u8],
}

macro_rules! domain {
    ($protoid:literal) => {
        Domain {
            protoid: $protoid.as_bytes(),
            key_extract: concat!($protoid, ":key_extract").as_bytes(),
            verify: concat!($protoid, ":verify").as_bytes(),
            mac: concat!($protoid, ":mac").as_bytes(),
            key_expand: concat!($protoid, ":key_expand:").as_bytes(),
        }
    };
}

const X25519: Domain = domain!("warren-ntor-x25519-sha256-1");
#[cfg(feature = "hybrid")]
const HYBRID: Domain = domain!("warren-ntor-x25519-mlkem768-sha256-1");

/// Bytes of an X25519 key, which is what every share starts with.
const POINT: usize = 32;

/// A way to do the handshake. Shares start with an X25519 public key, which is fresh for every
/// handshake and so names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Suite {
    /// X25519, HKDF-SHA256, ChaCha20-Poly1305.
    X25519 = suites::X25519,
    /// The same with an ephemeral ML-KEM-768 besides.
    #[cfg(feature = "hybrid")]
    Hybrid = suites::HYBRID,
}

/// The numbers of the suites that this build speaks, best first.
#[must_use]
pub const fn suites() -> &'static [u8] {
    if cfg!(feature = "hybrid") { &[suites::HYBRID, suites::X25519] } else { &[suites::X25519] }
}

impl Suite {
    /// The suite of that number.
    ///
    /// # Errors
    /// `Suite` when this build does not speak it.
    pub const fn from_byte(byte: u8) -> Result<Self, DropReason> {
        match byte {
            suites::X25519 => Ok(Self::X25519),
            #[cfg(feature = "hybrid")]
            suites::HYBRID => Ok(Self::Hybrid),
            _ => Err(DropReason::Suite),
        }
    }

    /// Bytes of the initiating side's share.
    #[must_use]
    pub const fn share_len(self) -> usize {
        match self {
            Self::X25519 => POINT,
            #[cfg(feature = "hybrid")]
            Self::Hybrid => POINT + mlkem::KEY_LEN,
        }
    }

    /// Bytes of the answering side's share.
    #[must_use]
    pub const fn answer_len(self) -> usize {
        match self {
            Self::X25519 => POINT,
            #[cfg(feature = "hybrid")]
            Self::Hybrid => POINT + mlkem::CIPHERTEXT_LEN,
        }
    }

    const fn domain(self) -> &'static Domain {
        match self {
            Self::X25519 => &X25519,
            #[cfg(feature = "hybrid")]
            Self::Hybrid => &HYBRID,
        }
    }
}

/// What the handshake is for: the two never give the same keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Purpose {
    /// A link between neighbours.
    Link = 1,
    /// A hop of a circuit.
    Circuit = 2,
}

/// The relay as its descriptor names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// Its peer id.
    pub peer_id: PeerId,
    /// The number of its onion key.
    pub epoch: u32,
    /// The public onion key.
    pub onion_key: [u8; 32],
}

/// The private half of an onion key, wherever it is: `(epoch, point) → X25519`. None when the
/// epoch is unknown or the result would be zero.
pub type OnionDh<'a> = &'a mut dyn FnMut(u32, &[u8; 32]) -> Option<[u8; 32]>;

/// What a finished handshake is worth: every key of the link or the hop comes out of it.
pub struct Seed {
    secret: Secret,
    suite: Suite,
}

impl Seed {
    /// The key of that label.
    #[must_use]
    pub fn key(&self, label: &str) -> Secret {
        expand(&self.secret, &[self.suite.domain().key_expand, label.as_bytes()])
    }
}

/// The initiating side, waiting for its answer.
pub struct Initiator {
    suite: Suite,
    purpose: Purpose,
    target: Target,
    /// The random bytes that all secrets of this side come out of.
    secret: Secret,
    share: Vec<u8>,
}

impl Initiator {
    /// Starts a handshake. `random` is 32 fresh random bytes.
    #[must_use]
    pub fn new(suite: Suite, purpose: Purpose, target: Target, random: [u8; 32]) -> Self {
        let secret = Zeroizing::new(random);
        let mut share = public_key(&kem::scalar(suite, &secret)).to_vec();
        share.append(&mut kem::offer(suite, &secret));
        Self { suite, purpose, target, secret, share }
    }

    /// A handshake that a predecessor started; none when the share has not the suite's length.
    pub(crate) fn resume(
        (suite, purpose): (Suite, Purpose),
        target: Target,
        secret: Secret,
        share: &[u8],
    ) -> Option<Self> {
        let fits = share.len() == suite.share_len();
        fits.then(|| Self { suite, purpose, target, secret, share: share.to_vec() })
    }

    /// The secret behind the share, for a successor.
    pub(crate) const fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The suite it speaks.
    #[must_use]
    pub const fn suite(&self) -> Suite {
        self.suite
    }

    /// Whom it wants.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// The share to send.
    #[must_use]
    pub fn share(&self) -> &[u8] {
        &self.share
    }

    /// Checks the answer.
    ///
    /// # Errors
    /// `Malformed` for an answer of another length, `LowOrder` when a result is zero, `Handshake` when `auth` is not the target's for this exchange.
    pub fn finish(&self, answer: &[u8], auth: &[u8; 32], extra: &[u8]) -> Result<Seed, DropReason> {
        let (y, rest) = split(answer, self.suite.answer_len())?;
        let x = kem::scalar(self.suite, &self.secret);
        let ephemeral = x25519(&x, y).ok_or(DropReason::LowOrder)?;
        let onion = x25519(&x, &self.target.onion_key).ok_or(DropReason::LowOrder)?;
        let encapsulated = kem::open(self.suite, &self.secret, rest)?;
        let transcript = transcript(self.suite, self.purpose, &self.target, &self.share, answer, extra);
        let secrets = [Some(&ephemeral), Some(&onion), encapsulated.as_ref()];
        let (seed, expected) = conclude(self.suite, secrets, &transcript);
        if equal(&*expected, auth) { Ok(seed) } else { Err(DropReason::Handshake) }
    }
}

/// The answering side's result.
pub struct Answer {
    /// The share to send.
    pub share: Vec<u8>,
    /// The proof to send.
    pub auth: [u8; 32],
    /// What the keys come out of.
    pub seed: Seed,
}

/// Answers a handshake. `random` is 32 fresh random bytes; `target` is the answering relay itself.
///
/// # Errors
/// `Malformed` for a share of another length or an ML-KEM key out of range, `LowOrder` for a
/// low-order point, `OnionKey` when the private onion key is refused.
pub fn respond(
    (suite, purpose): (Suite, Purpose),
    target: &Target,
    random: [u8; 32],
    share: &[u8],
    extra: &[u8],
    dh: OnionDh<'_>,
) -> Result<Answer, DropReason> {
    let (x, offer) = split(share, suite.share_len())?;
    let secret = Zeroizing::new(random);
    let y = kem::scalar(suite, &secret);
    let ephemeral = x25519(&y, x).ok_or(DropReason::LowOrder)?;
    let (mut accepted, encapsulated) = kem::accept(suite, &secret, offer)?;
    let onion = Zeroizing::new(dh(target.epoch, x).ok_or(DropReason::OnionKey)?);
    if equal(&*onion, &[0; 32]) {
        return Err(DropReason::LowOrder);
    }
    let mut answer = public_key(&y).to_vec();
    answer.append(&mut accepted);
    let transcript = transcript(suite, purpose, target, share, &answer, extra);
    let secrets = [Some(&ephemeral), Some(&onion), encapsulated.as_ref()];
    let (seed, auth) = conclude(suite, secrets, &transcript);
    Ok(Answer { share: answer, auth: *auth, seed })
}

/// The X25519 key of a share that has the right length, and what is behind it.
fn split(share: &[u8], length: usize) -> Result<(&[u8; POINT], &[u8]), DropReason> {
    share.split_first_chunk().filter(|_| share.len() == length).ok_or(DropReason::Malformed)
}

fn transcript(suite: Suite, purpose: Purpose, target: &Target, x: &[u8], y: &[u8], extra: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(192 + x.len() + y.len() + extra.len());
    bytes.extend_from_slice(suite.domain().protoid);
    bytes.extend_from_slice(&[VERSION, suite as u8, purpose as u8]);
    bytes.extend_from_slice(&target.peer_id.0);
    bytes.extend_from_slice(&target.epoch.to_be_bytes());
    bytes.extend_from_slice(&target.onion_key);
    for field in [x, y, extra] {
        // Shares and `extra` have fixed lengths far below 64 KB.
        bytes.extend_from_slice(&(field.len() as u16).to_be_bytes());
        bytes.extend_from_slice(field);
    }
    bytes
}

fn conclude(suite: Suite, secrets: [Option<&Secret>; 3], transcript: &[u8]) -> (Seed, Secret) {
    let domain = suite.domain();
    let [ephemeral, onion, encapsulated] = secrets.map(|secret| secret.map_or(&[][..], |secret| &secret[..]));
    let secret = [ephemeral, onion, encapsulated, transcript];
    let seed = hmac(domain.key_extract, &secret);
    let verify = hmac(domain.verify, &secret);
    let auth = hmac(domain.mac, &[&*verify, transcript, b"Server"]);
    (Seed { secret: seed, suite }, auth)
}

#[cfg(test)]
pub(crate) mod tests;

//! The handshake of links and circuits: ntor (docs/protocol.md, "Handshake").
//!
//! Here is what both share; `ntor::link` and `ntor::circuit` put it into their messages.

pub mod circuit;
pub mod link;

use warren_schemas::PeerId;
use zeroize::Zeroizing;

use crate::crypto::{Secret, equal, expand, hmac, public_key, x25519};
use crate::drop_reason::DropReason;
use crate::message::VERSION;

const PROTOID: &[u8] = b"warren-ntor-x25519-sha256-1";
const KEY_EXTRACT: &[u8] = b"warren-ntor-x25519-sha256-1:key_extract";
const VERIFY: &[u8] = b"warren-ntor-x25519-sha256-1:verify";
const MAC: &[u8] = b"warren-ntor-x25519-sha256-1:mac";
const KEY_EXPAND: &[u8] = b"warren-ntor-x25519-sha256-1:key_expand:";

/// A way to do the handshake. A later suite has longer shares; their first 32 bytes stay an
/// X25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Suite {
    /// X25519, HKDF-SHA256, ChaCha20-Poly1305.
    X25519 = 1,
}

impl Suite {
    /// The suite of that number.
    ///
    /// # Errors
    /// `Suite` when this code does not speak it.
    pub const fn from_byte(byte: u8) -> Result<Self, DropReason> {
        match byte {
            1 => Ok(Self::X25519),
            _ => Err(DropReason::Suite),
        }
    }

    /// Bytes of the initiating side's share.
    #[must_use]
    pub const fn share_len(self) -> usize {
        match self {
            Self::X25519 => 32,
        }
    }

    /// Bytes of the answering side's share.
    #[must_use]
    pub const fn answer_len(self) -> usize {
        match self {
            Self::X25519 => 32,
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
pub struct Seed(Secret);

impl Seed {
    /// The key of that label.
    #[must_use]
    pub fn key(&self, label: &str) -> Secret {
        expand(&self.0, &[KEY_EXPAND, label.as_bytes()])
    }
}

/// The initiating side, waiting for its answer.
pub struct Initiator {
    suite: Suite,
    purpose: Purpose,
    target: Target,
    secret: Secret,
    share: Vec<u8>,
}

impl Initiator {
    /// Starts a handshake. `random` is 32 fresh random bytes.
    #[must_use]
    pub fn new(suite: Suite, purpose: Purpose, target: Target, random: [u8; 32]) -> Self {
        let secret = Zeroizing::new(random);
        let share = public_key(&secret).to_vec();
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
    /// `LowOrder` when a result is zero, `Handshake` when `auth` is not the target's for this exchange.
    pub fn finish(&self, answer: &[u8], auth: &[u8; 32], extra: &[u8]) -> Result<Seed, DropReason> {
        let y = answer
            .first_chunk()
            .filter(|_| answer.len() == self.suite.answer_len())
            .ok_or(DropReason::Malformed)?;
        let ephemeral = x25519(&self.secret, y).ok_or(DropReason::LowOrder)?;
        let onion = x25519(&self.secret, &self.target.onion_key).ok_or(DropReason::LowOrder)?;
        let transcript = transcript(self.suite, self.purpose, &self.target, &self.share, answer, extra);
        let (seed, expected) = conclude(&ephemeral, &onion, &transcript);
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
/// `Malformed` for a share of another length, `LowOrder` for a low-order point, `OnionKey` when
/// the private onion key is refused.
pub fn respond(
    (suite, purpose): (Suite, Purpose),
    target: &Target,
    random: [u8; 32],
    share: &[u8],
    extra: &[u8],
    dh: OnionDh<'_>,
) -> Result<Answer, DropReason> {
    let x: &[u8; 32] =
        share.first_chunk().filter(|_| share.len() == suite.share_len()).ok_or(DropReason::Malformed)?;
    let secret = Zeroizing::new(random);
    let ephemeral = x25519(&secret, x).ok_or(DropReason::LowOrder)?;
    let onion = Zeroizing::new(dh(target.epoch, x).ok_or(DropReason::OnionKey)?);
    if equal(&*onion, &[0; 32]) {
        return Err(DropReason::LowOrder);
    }
    let answer = public_key(&secret).to_vec();
    let transcript = transcript(suite, purpose, target, share, &answer, extra);
    let (seed, auth) = conclude(&ephemeral, &onion, &transcript);
    Ok(Answer { share: answer, auth: *auth, seed })
}

fn transcript(suite: Suite, purpose: Purpose, target: &Target, x: &[u8], y: &[u8], extra: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(192 + x.len() + y.len() + extra.len());
    bytes.extend_from_slice(PROTOID);
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

fn conclude(ephemeral: &Secret, onion: &Secret, transcript: &[u8]) -> (Seed, Secret) {
    let secret: [&[u8]; 3] = [&**ephemeral, &**onion, transcript];
    let seed = hmac(KEY_EXTRACT, &secret);
    let verify = hmac(VERIFY, &secret);
    let auth = hmac(MAC, &[&*verify, transcript, b"Server"]);
    (Seed(seed), auth)
}

#[cfg(test)]
pub(crate) mod tests;

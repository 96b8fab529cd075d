//! What a suite adds to X25519: nothing, or an ephemeral ML-KEM-768. The initiating side offers an
//! encapsulation key behind its X25519 key, the answering side sends a ciphertext behind its own.
//!
//! In suite 1 a side's 32 random bytes are its X25519 secret. In suite 2 its secrets are expanded
//! from them, each under a label, so that whoever computes an X25519 secret from what was sent
//! learns nothing of the other (as X-Wing does, draft-connolly-cfrg-xwing-kem, section 5).

use super::Suite;
use crate::crypto::Secret;
#[cfg(feature = "hybrid")]
use crate::crypto::{expand, mlkem};
use crate::drop_reason::DropReason;

#[cfg(feature = "hybrid")]
const SCALAR: &[u8] = b"warren-ntor-x25519-mlkem768-sha256-1:x25519";
#[cfg(feature = "hybrid")]
const KEM_SEED: &[u8] = b"warren-ntor-x25519-mlkem768-sha256-1:mlkem768 seed";
#[cfg(feature = "hybrid")]
const KEM_MESSAGE: &[u8] = b"warren-ntor-x25519-mlkem768-sha256-1:mlkem768 message";

/// The X25519 secret of a side with these random bytes.
pub(super) fn scalar(suite: Suite, random: &Secret) -> Secret {
    match suite {
        Suite::X25519 => random.clone(),
        #[cfg(feature = "hybrid")]
        Suite::Hybrid => expand(random, &[SCALAR]),
    }
}

/// What stands behind the initiating side's X25519 key.
pub(super) fn offer(suite: Suite, random: &Secret) -> Vec<u8> {
    match suite {
        Suite::X25519 => {
            let _ = random;
            Vec::new()
        }
        #[cfg(feature = "hybrid")]
        Suite::Hybrid => mlkem::encapsulation_key(&expand(random, &[KEM_SEED])),
    }
}

/// What the answering side sends behind its X25519 key, and the secret in it.
pub(super) fn accept(
    suite: Suite,
    random: &Secret,
    offer: &[u8],
) -> Result<(Vec<u8>, Option<Secret>), DropReason> {
    match suite {
        Suite::X25519 => {
            let _ = (random, offer);
            Ok((Vec::new(), None))
        }
        #[cfg(feature = "hybrid")]
        Suite::Hybrid => {
            let accepted = mlkem::encapsulate(offer, &expand(random, &[KEM_MESSAGE]));
            let (ciphertext, secret) = accepted.ok_or(DropReason::Malformed)?;
            Ok((ciphertext, Some(secret)))
        }
    }
}

/// The secret in what came behind the answering side's X25519 key.
pub(super) fn open(suite: Suite, random: &Secret, accepted: &[u8]) -> Result<Option<Secret>, DropReason> {
    match suite {
        Suite::X25519 => {
            let _ = (random, accepted);
            Ok(None)
        }
        #[cfg(feature = "hybrid")]
        Suite::Hybrid => {
            let secret = mlkem::decapsulate(&expand(random, &[KEM_SEED]), accepted);
            secret.map(Some).ok_or(DropReason::Malformed)
        }
    }
}

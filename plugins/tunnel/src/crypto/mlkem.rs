//! ML-KEM-768 (FIPS 203). A decapsulation key is its seed: it is expanded whenever it is used, so
//! that one that waits takes 64 bytes.

use ml_kem::kem::{Ciphertext, Decapsulate, Key, KeyExport};
use ml_kem::ml_kem_768::{DecapsulationKey, EncapsulationKey};
use ml_kem::{B32, MlKem768, Seed};
use zeroize::{Zeroize, Zeroizing};

use super::Secret;

/// Bytes of an encapsulation key.
pub const KEY_LEN: usize = 1184;
/// Bytes of a ciphertext.
pub const CIPHERTEXT_LEN: usize = 1088;
/// `d ‖ z` of FIPS 203, section 7.1; wiped when dropped.
pub type KemSeed = Zeroizing<[u8; 64]>;

/// The encapsulation key of that seed: [`KEY_LEN`] bytes.
#[must_use]
pub fn encapsulation_key(seed: &KemSeed) -> Vec<u8> {
    expanded(seed).encapsulation_key().to_bytes().to_vec()
}

/// A ciphertext for `key` and its secret, from 32 fresh random bytes. None when `key` has another
/// length or a coefficient out of range (FIPS 203, section 7.2).
#[must_use]
pub fn encapsulate(key: &[u8], random: &Secret) -> Option<(Vec<u8>, Secret)> {
    let key = EncapsulationKey::new(&Key::<EncapsulationKey>::try_from(key).ok()?).ok()?;
    let mut message = B32::from(**random);
    let (ciphertext, mut shared) = key.encapsulate_deterministic(&message);
    let secret = taken(&mut shared);
    message.as_mut_slice().zeroize();
    Some((ciphertext.to_vec(), secret))
}

/// The secret in `ciphertext`; none when it has another length. One that was not made for this key
/// gives a secret that nobody knows (implicit rejection), never an error.
#[must_use]
pub fn decapsulate(seed: &KemSeed, ciphertext: &[u8]) -> Option<Secret> {
    let ciphertext = Ciphertext::<MlKem768>::try_from(ciphertext).ok()?;
    Some(taken(&mut expanded(seed).decapsulate(&ciphertext)))
}

fn expanded(seed: &KemSeed) -> DecapsulationKey {
    let mut bytes = Seed::from(**seed);
    let key = DecapsulationKey::from_seed(bytes);
    bytes.as_mut_slice().zeroize();
    key
}

/// The secret, and nothing where it was.
fn taken(shared: &mut B32) -> Secret {
    let secret = Zeroizing::new((*shared).into());
    shared.as_mut_slice().zeroize();
    secret
}

#[cfg(test)]
mod tests;

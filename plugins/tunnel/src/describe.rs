//! What this build says of itself, and the known answers it computes before it is trusted with a cell.

use warren_schemas::cell::{COVER_LEN, LAYER_LEN};
use warren_schemas::{PeerId, state};
use zeroize::Zeroizing;

use crate::Tunnel;
use crate::crypto::{AeadKey, Secret, TAG_LEN, hmac, public_key, x25519};
use crate::drop_reason::DropReason;
use crate::layer::{HopKeys, LAYER_FRONT, Opener, Sealer};
use crate::ntor::circuit::{Create, Creating};
use crate::ntor::{Suite, Target, suites};

/// What it is.
pub const NAME: &str = "tunnel";
/// Its version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version of the state that it exports.
#[must_use]
pub const fn writes_state() -> u16 {
    state::VERSION
}

/// The versions of a state that it imports, in their order.
#[must_use]
pub fn reads_state() -> Vec<u16> {
    (1..=state::VERSION).collect()
}

/// Which known answer came out wrong: this build must not see a cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SelfTestError {
    /// ChaCha20-Poly1305 does not give what RFC 8439, 2.8.2 says.
    #[error("ChaCha20-Poly1305 does not seal as RFC 8439 says")]
    Seal,
    /// It does not open what it sealed, or opens what was changed.
    #[error("ChaCha20-Poly1305 does not open as RFC 8439 says")]
    Open,
    /// X25519 does not give what RFC 7748, 5.2 and 6.1 say.
    #[error("X25519 does not multiply as RFC 7748 says")]
    X25519,
    /// The two sides of a handshake do not come to the same keys, or not to the known ones.
    #[error("the handshake of suite {0} does not come to the known keys")]
    Handshake(u8),
    /// A layer or a cover is not opened as it was made by the other end, or is opened twice.
    #[error("a layer is not opened as it was sealed, once")]
    Layer,
}

impl Tunnel {
    /// Computes known answers with the ciphers and handshakes that cells are handled with. Needs no
    /// configuration and leaves nothing behind.
    ///
    /// # Errors
    /// The first answer that came out wrong.
    pub fn self_test() -> Result<(), SelfTestError> {
        seals()?;
        multiplies()?;
        for suite in suites() {
            let keys = shakes_hands(*suite).ok_or(SelfTestError::Handshake(*suite))?;
            layers(keys).ok_or(SelfTestError::Layer)?;
        }
        Ok(())
    }
}

/// RFC 8439, 2.8.2.
const CONTENT: &[u8; 114] =
    b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the \
                              future, sunscreen would be it.";
const NONCE: [u8; 12] = [7, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47];
const ASSOCIATED: [u8; 12] = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
const SEALED: [u8; 114] = hex(b"d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6\
    3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58\
    fab324e4fad675945585808b4831d7bc3ff4def08e4b7a9de576d26586cec64b6116");
const TAG: [u8; TAG_LEN] = hex(b"1ae10b594f09e26a7e902ecbd0600691");

fn seals() -> Result<(), SelfTestError> {
    let mut key = [0; 32];
    key.iter_mut().zip(0x80..).for_each(|(byte, value)| *byte = value);
    let key = AeadKey::new(&key);
    let mut content = *CONTENT;
    let tag = key.seal_with(&NONCE, &ASSOCIATED, &mut content);
    if content != SEALED || tag != Ok(TAG) {
        return Err(SelfTestError::Seal);
    }
    let mut wrong = TAG;
    wrong[TAG_LEN - 1] ^= 1;
    let refused = !key.open_with(&NONCE, &ASSOCIATED, &mut content, &wrong) && content == SEALED;
    let opened = key.open_with(&NONCE, &ASSOCIATED, &mut content, &TAG) && content == *CONTENT;
    if refused && opened { Ok(()) } else { Err(SelfTestError::Open) }
}

/// RFC 7748, 5.2 (the first vector) and 6.1.
fn multiplies() -> Result<(), SelfTestError> {
    let secret: Secret =
        Zeroizing::new(hex(b"a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"));
    let point = hex(b"e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
    let shared = hex(b"c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
    let bob: Secret =
        Zeroizing::new(hex(b"5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
    let of_bob = hex(b"de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    let multiplied = x25519(&secret, &point).is_some_and(|result| *result == shared);
    // A point of low order gives zero, which must be refused.
    let refused = x25519(&secret, &[0; 32]).is_none();
    let right = multiplied && refused && public_key(&bob) == of_bob;
    if right { Ok(()) } else { Err(SelfTestError::X25519) }
}

/// The circuit handshake of `schemas/vectors` with empty contents: both sides' keys, when the answer is
/// the known one and no bit of it may flip.
fn shakes_hands(suite: u8) -> Option<(HopKeys, HopKeys)> {
    let suite = Suite::from_byte(suite).ok()?;
    let onion = Zeroizing::new([0x11; 32]);
    let target = Target { peer_id: PeerId([0x44; 32]), epoch: 7, onion_key: public_key(&onion) };
    let mut dh = |_: u32, point: &[u8; 32]| x25519(&onion, point).map(|shared| *shared);
    let (creating, create) = begin(suite, target);
    let (created, theirs) = Create::decode(&create).ok()?.answer(&target, [0x33; 32], &[], &mut dh).ok()?;
    if *hmac(&[], &[&created]) != known(suite) {
        return None;
    }
    let (ours, contents) = creating.finish(&created).ok()?;
    let mut forged = created;
    *forged.get_mut(suite.answer_len())? ^= 1;
    let refused = matches!(creating.finish(&forged), Err(DropReason::Handshake));
    if !contents.is_empty() || !refused {
        return None;
    }
    Some((ours, theirs))
}

/// HMAC-SHA256, with an empty key, of the whole answer that these inputs give: share, proof, contents.
const fn known(suite: Suite) -> [u8; 32] {
    match suite {
        Suite::X25519 => hex(b"f2d249b569a2737279be48d220316496e194fe7d7afe9e215c7fcd9667067d6b"),
        #[cfg(feature = "hybrid")]
        Suite::Hybrid => hex(b"bc65b80b0132db16b23127dba3f29213083618880e5d72581c7bb8aee8c9157e"),
    }
}

fn begin(suite: Suite, target: Target) -> (Creating, Vec<u8>) {
    let creating = Creating::new(suite, target, [0x22; 32]);
    let create = creating.create();
    (creating, create)
}

/// A layer of each direction is opened by the other side, once, and not when it was changed.
fn layers((ours, theirs): (HopKeys, HopKeys)) -> Option<()> {
    let ((mut forward, mut opens_backward), (mut backward, mut opens_forward)) =
        (ours.originator(), theirs.relay());
    travels(&mut forward, &mut opens_forward)?;
    travels(&mut backward, &mut opens_backward)?;
    passes(&mut backward, &mut opens_backward)
}

fn travels(sealer: &mut Sealer, opener: &mut Opener) -> Option<()> {
    const INNER: &[u8; 100] = &[0x5a; 100];
    let mut layer = [0; INNER.len() + LAYER_LEN];
    layer.get_mut(LAYER_FRONT..LAYER_FRONT + INNER.len())?.copy_from_slice(INNER);
    sealer.seal(&mut layer, LAYER_FRONT, INNER.len(), 9).ok()?;
    let mut again = layer;
    let mut changed = layer;
    *changed.last_mut()? ^= 1;
    let refused = opener.open(&mut changed) == Err(DropReason::Layer);
    let (command, place) = opener.open(&mut layer).ok()?;
    let right = command == 9 && layer.get(place)? == INNER;
    let once = opener.open(&mut again) == Err(DropReason::LayerReplay);
    (refused && right && once).then_some(())
}

/// A cover comes off, until it was confirmed.
fn passes(sealer: &mut Sealer, opener: &mut Opener) -> Option<()> {
    const INNER: &[u8; 100] = &[0xa5; 100];
    let mut layer = [0; INNER.len() + COVER_LEN];
    layer.get_mut(COVER_LEN..)?.copy_from_slice(INNER);
    sealer.cover(&mut layer, COVER_LEN, INNER.len()).ok()?;
    let mut again = layer;
    let (counter, place) = opener.uncover(&mut layer).ok()??;
    let right = layer.get(place)? == INNER && opener.uncover(&mut again.clone()).is_ok_and(|it| it.is_some());
    opener.confirm(counter);
    let once = opener.uncover(&mut again) == Err(DropReason::LayerReplay);
    (right && once).then_some(())
}

/// Constants that read like the document they come from.
const fn hex<const N: usize>(text: &[u8]) -> [u8; N] {
    assert!(text.len() == 2 * N);
    let mut bytes = [0; N];
    let mut at = 0;
    while at < N {
        #[expect(clippy::indexing_slicing, reason = "the length was compared, at compile time")]
        let (high, low) = (text[2 * at], text[2 * at + 1]);
        #[expect(clippy::indexing_slicing, reason = "below the length of the array")]
        {
            bytes[at] = digit(high) << 4 | digit(low);
        }
        at += 1;
    }
    bytes
}

const fn digit(character: u8) -> u8 {
    match character {
        b'0'..=b'9' => character - b'0',
        b'a'..=b'f' => character - b'a' + 10,
        #[expect(clippy::panic, reason = "a mistake in a constant is found by the compiler")]
        _ => panic!("no hexadecimal digit"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_build_computes_what_is_known() {
        assert_eq!(Tunnel::self_test(), Ok(()));
        assert_eq!(reads_state().last(), Some(&writes_state()), "it reads what it writes");
    }

    #[test]
    fn both_sides_of_the_handshake_matter() {
        for suite in suites() {
            let (ours, _) = shakes_hands(*suite).unwrap();
            let (_, theirs) = shakes_hands(*suite).unwrap();
            // Keys of one handshake work twice for fresh counters; the roles cannot be exchanged.
            assert!(layers((ours, theirs)).is_some());
            let (ours, theirs) = shakes_hands(*suite).unwrap();
            assert!(
                layers((theirs, ours)).is_some(),
                "directions are bound to keys, not to who derived them"
            );
            let ((mut one, _), (_, mut other)) = {
                let (ours, theirs) = shakes_hands(*suite).unwrap();
                (ours.originator(), theirs.originator())
            };
            assert!(travels(&mut one, &mut other).is_none(), "forward is not backward");
        }
    }

    #[test]
    fn what_it_does_not_speak_is_no_handshake() {
        assert!(shakes_hands(0).is_none());
        assert!(shakes_hands(255).is_none());
    }
}

//! Work of any amount within one request, for measurements.

use zeroize::Zeroizing;

use crate::crypto::chapoly::{ChaPoly, Plain};
use crate::crypto::reference::Reference;
use crate::crypto::{AeadKey, TAG_LEN, x25519};
use crate::drop_reason::DropReason;
use crate::message::Reader;

/// The associated data of a cell has four bytes.
const ASSOCIATED: &[u8; 4] = b"cell";

/// Seals, opens or covers `count` cells of `length` bytes.
pub(super) fn cells(mut request: Reader<'_>) -> Result<Option<Vec<u8>>, DropReason> {
    let (with, key) = (request.u8()?, request.array()?);
    let count = u32::from_be_bytes(request.array()?);
    let mut content = vec![0x5a; usize::from(request.u16()?)];
    match with {
        0 => {
            let key = AeadKey::new(&key);
            Ok(seal(count, &mut content, |nonce, cell| key.seal_with(nonce, ASSOCIATED, cell).ok()))
        }
        1 => {
            let key = Reference::new(&key);
            Ok(seal(count, &mut content, |nonce, cell| key.seal(nonce, ASSOCIATED, cell)))
        }
        2 => {
            let key = ChaPoly::<Plain>::new(&key);
            Ok(seal(count, &mut content, |nonce, cell| key.seal(nonce, ASSOCIATED, cell)))
        }
        3 => open(&AeadKey::new(&key), count, &mut content),
        4 => {
            let key = AeadKey::new(&key);
            let cover = |nonce: &[u8; 12], cell: &mut [u8]| {
                key.apply_keystream_with(nonce, cell).ok().map(|()| [0; TAG_LEN])
            };
            Ok(seal(count, &mut content, cover))
        }
        _ => Err(DropReason::Malformed),
    }
}

fn nonce(number: u32) -> [u8; 12] {
    let [a, b, c, d] = number.to_be_bytes();
    [0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]
}

fn seal(
    count: u32,
    content: &mut [u8],
    mut seal: impl FnMut(&[u8; 12], &mut [u8]) -> Option<[u8; TAG_LEN]>,
) -> Option<Vec<u8>> {
    let mut tag = [0; TAG_LEN];
    for number in 0..count {
        tag = seal(&nonce(number), content)?;
    }
    Some(tag.to_vec())
}

/// Opening changes a cell: each time the same sealed bytes are copied anew, which takes nanoseconds.
fn open(key: &AeadKey, count: u32, content: &mut [u8]) -> Result<Option<Vec<u8>>, DropReason> {
    let tag = key.seal_with(&nonce(0), ASSOCIATED, content)?;
    let mut cell = content.to_vec();
    for _ in 0..count {
        cell.copy_from_slice(content);
        if !key.open_with(&nonce(0), ASSOCIATED, &mut cell, &tag) {
            return Ok(None);
        }
    }
    Ok(Some(tag.to_vec()))
}

/// Goes from point to point `count` times.
pub(super) fn points(mut request: Reader<'_>) -> Result<Option<Vec<u8>>, DropReason> {
    let (secret, mut point) = (Zeroizing::new(request.array()?), request.array()?);
    for _ in 0..u32::from_be_bytes(request.array()?) {
        let Some(shared) = x25519(&secret, &point) else { return Ok(None) };
        point = *shared;
    }
    Ok(Some(point.to_vec()))
}

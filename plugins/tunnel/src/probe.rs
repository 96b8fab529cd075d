//! One door to the primitives, so that the same published vectors run natively and inside Wasm.
//!
//! A request is an operation and its fields; `field` is `length u16 ‖ bytes`.
//!
//! | operation | fields | answer |
//! | --- | --- | --- |
//! | 1 seal | key 32, nonce 12, field associated data, field content | content sealed ‖ tag 16 |
//! | 2 open | key 32, nonce 12, field associated data, field sealed content, tag 16 | content |
//! | 3 x25519 | secret 32, point 32 | shared secret 32; refused when it is zero |
//! | 4 public key | secret 32 | public key 32 |
//! | 5 hmac | field key, field message | 32 |
//! | 6 expand | key 32, field info | 64 |
//! | 7 siphash | key 16, field message | 8 |
//! | 8 golden vectors | index u8 | text of `schemas/vectors/NAME`, NAME being the `vectors::NAMES` at index; computed, not stored |
//! | 9 cells | with u8 (0 seal, 1 seal by the crate, 2 seal by the plain twin, 3 open, 4 encrypt without a tag), key 32, count u32, length u16 | the last tag 16 |
//! | 10 points | secret 32, point 32, count u32 | the point 32 after so many X25519 |
//! | 11 compare | key 32, nonce 12, damage u16, field associated data, field content | tag 16 ‖ name of the cipher in use; refused when it, its plain twin and the crate differ in anything |
//! | 12 leaky open | as 2 | as 2, but the tags are compared up to the first byte that differs: what a measurement of time must find |
//!
//! An answer starts with 0 for done, 1 for refused (nothing follows), 2 for a request that is none.

use zeroize::Zeroizing;

use crate::crypto::{AeadKey, SipKey, TAG_LEN, expand, hmac, public_key, x25519};
use crate::drop_reason::DropReason;
use crate::message::Reader;
use crate::vectors;

const DONE: u8 = 0;
const REFUSED: u8 = 1;
const NO_REQUEST: u8 = 2;

/// Does what `request` asks; never fails otherwise than by its answer.
#[must_use]
pub fn probe(request: &[u8]) -> Vec<u8> {
    match run(Reader::new(request)) {
        Ok(Some(result)) => [&[DONE], &result[..]].concat(),
        Ok(None) => vec![REFUSED],
        Err(_) => vec![NO_REQUEST],
    }
}

fn run(mut request: Reader<'_>) -> Result<Option<Vec<u8>>, DropReason> {
    match request.u8()? {
        1 => seal(request),
        2 => open(request),
        3 => {
            let secret = Zeroizing::new(request.array()?);
            Ok(x25519(&secret, &request.array()?).map(|shared| shared.to_vec()))
        }
        4 => Ok(Some(public_key(&Zeroizing::new(request.array()?)).to_vec())),
        5 => {
            let key = field(&mut request)?;
            Ok(Some(hmac(key, &[field(&mut request)?]).to_vec()))
        }
        6 => Ok(Some(expand::<64>(&request.array()?, &[field(&mut request)?]).to_vec())),
        7 => Ok(Some(SipKey::new(Zeroizing::new(request.array()?)).hash(field(&mut request)?).to_vec())),
        8 => {
            let name = vectors::NAMES.get(usize::from(request.u8()?)).ok_or(DropReason::Malformed)?;
            Ok(vectors::compute(name).map(String::into_bytes))
        }
        9 => repeat::cells(request),
        10 => repeat::points(request),
        11 => compare::run(request),
        12 => leaky_open(request),
        _ => Err(DropReason::UnknownCommand),
    }
}

fn field<'a>(request: &mut Reader<'a>) -> Result<&'a [u8], DropReason> {
    let length = request.u16()?;
    request.take(usize::from(length))
}

fn seal(mut request: Reader<'_>) -> Result<Option<Vec<u8>>, DropReason> {
    let (key, nonce) = (AeadKey::new(&request.array()?), request.array()?);
    let associated = field(&mut request)?;
    let mut content = field(&mut request)?.to_vec();
    let tag = key.seal_with(&nonce, associated, &mut content)?;
    content.extend_from_slice(&tag);
    Ok(Some(content))
}

fn open(mut request: Reader<'_>) -> Result<Option<Vec<u8>>, DropReason> {
    let (key, nonce) = (AeadKey::new(&request.array()?), request.array()?);
    let associated = field(&mut request)?;
    let mut content = field(&mut request)?.to_vec();
    let tag = request.array()?;
    Ok(key.open_with(&nonce, associated, &mut content, &tag).then_some(content))
}

/// Never to be used: its time tells how much of a tag was guessed.
fn leaky_open(mut request: Reader<'_>) -> Result<Option<Vec<u8>>, DropReason> {
    let (key, nonce) = (AeadKey::new(&request.array()?), request.array()?);
    let associated = field(&mut request)?;
    let mut content = field(&mut request)?.to_vec();
    let tag: [u8; TAG_LEN] = request.array()?;
    // Sealing again what was sealed gives the content; sealing that gives the tag.
    key.seal_with(&nonce, associated, &mut content)?;
    let opened = content.clone();
    let expected = key.seal_with(&nonce, associated, &mut content)?;
    let differs = expected.iter().zip(tag).position(|(one, other)| std::hint::black_box(*one != other));
    Ok(differs.is_none().then_some(opened))
}

mod compare;
mod repeat;

#[cfg(test)]
pub mod published;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vectors_hold() {
        let counts = published::check(&mut probe);
        assert_eq!(counts, published::EXPECTED);
    }

    #[test]
    fn the_leaky_one_opens_what_the_other_opens() {
        let fields = |operation, bytes: &[u8]| [&[operation][..], &[7; 44], &[0, 0, 0, 5], bytes].concat();
        let sealed = probe(&fields(1, b"hello"));
        assert_eq!(probe(&fields(12, &sealed[1..])), b"\0hello");
        let mut forged = sealed[1..].to_vec();
        forged[20] ^= 1;
        assert_eq!(probe(&fields(12, &forged)), [REFUSED]);
    }

    #[test]
    fn what_is_no_request_is_said_to_be_none() {
        assert_eq!(probe(&[]), [NO_REQUEST]);
        assert_eq!(probe(&[0]), [NO_REQUEST]);
        assert_eq!(probe(&[3, 1]), [NO_REQUEST]);
        assert_eq!(probe(&[8, 255]), [NO_REQUEST]);
    }
}

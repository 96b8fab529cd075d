//! What a relay says of itself: who it is, where it is, with which keys, for how long.
//!
//! A [`SignedDescriptor`] is kept as it was signed. [`SignedDescriptor::verify`] is the only way
//! from its bytes to a [`Descriptor`], so whoever holds one knows that the peer id signed it.

use std::net::SocketAddr;
use std::time::Duration;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use flatbuffers::{FlatBufferBuilder, InvalidFlatbuffer, VerifierOptions};

use crate::generated::descriptor as fb;
use crate::{Address, PeerId, Timestamp};

/// The most bytes an encoded signed descriptor may have, so that EXTEND fits into one cell.
pub const MAX_LEN: usize = 640;
/// The longest a descriptor may be valid.
pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// How far ahead of our clock `published` may lie.
pub const MAX_SKEW: Duration = Duration::from_secs(600);
/// The version this code writes and reads.
pub const VERSION: u16 = 1;

const CONTEXT: &[u8] = b"warren descriptor 1\0";
const RELAY: u16 = 1;
const EXIT: u16 = 2;

/// A relay's own words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// Whose it is; the key that signed it.
    pub peer_id: PeerId,
    /// When it was made.
    pub published: Timestamp,
    /// From when on it says nothing.
    pub expires: Timestamp,
    /// Number of the onion key.
    pub onion_epoch: u32,
    /// X25519 public key for links and circuits.
    pub onion_key: [u8; 32],
    /// Ed25519 public key that the relay proves in TLS as the last hop.
    pub stream_key: [u8; 32],
    /// Where it takes tunnel datagrams: 1 to 4.
    pub addresses: Vec<SocketAddr>,
    /// Whether it carries other nodes' circuits.
    pub relay: bool,
    /// Whether it connects to the world outside.
    pub exit: bool,
    /// Handshake suites it speaks, best first: 1 to 8.
    pub suites: Vec<u8>,
    /// Bytes a second it will relay; 0 for no stated limit.
    pub bytes_per_second: u64,
    /// Circuits it will carry; 0 for no stated limit.
    pub circuits: u32,
    /// Key of whoever runs it, if it says.
    pub operator: Option<[u8; 32]>,
}

/// An encoded descriptor with its signature.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedDescriptor(Vec<u8>);

/// Why a descriptor is refused.
#[derive(Debug, thiserror::Error)]
pub enum DescriptorError {
    /// More than [`MAX_LEN`] bytes.
    #[error("descriptor of {0} bytes, {MAX_LEN} allowed")]
    TooLong(usize),
    /// FlatBuffers cannot verify it.
    #[error("not a FlatBuffers descriptor: {0}")]
    Malformed(#[from] InvalidFlatbuffer),
    /// A field has a value it cannot have.
    #[error("descriptor field {0} is out of range")]
    Field(&'static str),
    /// The peer id did not sign it.
    #[error("descriptor is not signed by its peer id")]
    Signature,
    /// Its time is over, has not come, or is longer than [`MAX_LIFETIME`].
    #[error("descriptor is expired or not yet valid")]
    Time,
}

impl Descriptor {
    /// Encodes and signs it. `key` is the secret half of `peer_id`.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> SignedDescriptor {
        let body = self.encode();
        let signature = key.sign(&[CONTEXT, &body].concat()).to_bytes();
        let mut builder = FlatBufferBuilder::with_capacity(MAX_LEN);
        let body = builder.create_vector(&body);
        let signature = builder.create_vector(&signature);
        let args = fb::SignedDescriptorArgs { body: Some(body), signature: Some(signature) };
        let root = fb::SignedDescriptor::create(&mut builder, &args);
        builder.finish(root, None);
        SignedDescriptor(builder.finished_data().to_vec())
    }

    fn encode(&self) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::with_capacity(MAX_LEN);
        let addresses: Vec<fb::Address> = self
            .addresses
            .iter()
            .map(|address| {
                let Address { high, low, port } = Address::from(*address);
                fb::Address::new(high, low, port)
            })
            .collect();
        let args = fb::DescriptorArgs {
            version: VERSION,
            peer_id: Some(builder.create_vector(&self.peer_id.0)),
            published: self.published.as_micros(),
            expires: self.expires.as_micros(),
            onion_epoch: self.onion_epoch,
            onion_key: Some(builder.create_vector(&self.onion_key)),
            stream_key: Some(builder.create_vector(&self.stream_key)),
            addresses: Some(builder.create_vector(&addresses)),
            roles: if self.relay { RELAY } else { 0 } | if self.exit { EXIT } else { 0 },
            suites: Some(builder.create_vector(&self.suites)),
            bytes_per_second: self.bytes_per_second,
            circuits: self.circuits,
            operator: self.operator.map(|key| builder.create_vector(&key)),
        };
        let root = fb::Descriptor::create(&mut builder, &args);
        builder.finish(root, None);
        builder.finished_data().to_vec()
    }
}

impl SignedDescriptor {
    /// Wraps bytes that are yet to be verified.
    #[must_use]
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The encoded bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Checks size, structure, ranges, signature and time, and gives the content.
    ///
    /// # Errors
    /// Says which of these does not hold.
    pub fn verify(&self, now: Timestamp) -> Result<Descriptor, DescriptorError> {
        if self.0.len() > MAX_LEN {
            return Err(DescriptorError::TooLong(self.0.len()));
        }
        let options = VerifierOptions {
            max_depth: 4,
            max_tables: 2,
            max_apparent_size: 4 * MAX_LEN,
            ..Default::default()
        };
        let signed = flatbuffers::root_with_opts::<fb::SignedDescriptor>(&options, &self.0)?;
        let body = signed.body().bytes();
        let content = decode(flatbuffers::root_with_opts::<fb::Descriptor>(&options, body)?)?;
        let key = VerifyingKey::from_bytes(&content.peer_id.0).map_err(|_| DescriptorError::Signature)?;
        let signature =
            Signature::from_slice(signed.signature().bytes()).map_err(|_| DescriptorError::Signature)?;
        key.verify_strict(&[CONTEXT, body].concat(), &signature).map_err(|_| DescriptorError::Signature)?;
        let lifetime = content.expires.since(content.published);
        if now >= content.expires || content.published > now.after(MAX_SKEW) || lifetime > MAX_LIFETIME {
            return Err(DescriptorError::Time);
        }
        Ok(content)
    }
}

fn decode(table: fb::Descriptor<'_>) -> Result<Descriptor, DescriptorError> {
    if table.version() != VERSION {
        return Err(DescriptorError::Field("version"));
    }
    let addresses: Vec<SocketAddr> = table
        .addresses()
        .iter()
        .map(|a| Address { high: a.high(), low: a.low(), port: a.port() }.into())
        .collect();
    if !(1..=4).contains(&addresses.len())
        || addresses.iter().any(|a| a.port() == 0 || a.ip().is_unspecified())
    {
        return Err(DescriptorError::Field("addresses"));
    }
    let suites = table.suites().bytes().to_vec();
    if !(1..=8).contains(&suites.len()) {
        return Err(DescriptorError::Field("suites"));
    }
    let operator = table.operator().map(|key| key32(key.bytes(), "operator")).transpose()?;
    Ok(Descriptor {
        peer_id: PeerId(key32(table.peer_id().bytes(), "peer_id")?),
        published: Timestamp::from_micros(table.published()),
        expires: Timestamp::from_micros(table.expires()),
        onion_epoch: table.onion_epoch(),
        onion_key: key32(table.onion_key().bytes(), "onion_key")?,
        stream_key: key32(table.stream_key().bytes(), "stream_key")?,
        addresses,
        relay: table.roles() & RELAY != 0,
        exit: table.roles() & EXIT != 0,
        suites,
        bytes_per_second: table.bytes_per_second(),
        circuits: table.circuits(),
        operator,
    })
}

fn key32(bytes: &[u8], field: &'static str) -> Result<[u8; 32], DescriptorError> {
    bytes.try_into().map_err(|_| DescriptorError::Field(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed() -> (Descriptor, SignedDescriptor, SigningKey) {
        let key = SigningKey::from_bytes(&[3; 32]);
        let content = Descriptor {
            peer_id: PeerId(key.verifying_key().to_bytes()),
            published: Timestamp::from_micros(1_000_000_000),
            expires: Timestamp::from_micros(2_000_000_000),
            onion_epoch: 4,
            onion_key: [1; 32],
            stream_key: [2; 32],
            addresses: vec!["192.0.2.1:9000".parse().unwrap(), "[2001:db8::1]:9000".parse().unwrap()],
            relay: true,
            exit: false,
            suites: vec![1],
            bytes_per_second: 5,
            circuits: 6,
            operator: Some([8; 32]),
        };
        let signed = content.sign(&key);
        (content, signed, key)
    }

    const NOW: Timestamp = Timestamp::from_micros(1_500_000_000);

    #[test]
    fn verifies_to_what_was_signed() {
        let (content, signed, _) = signed();
        assert_eq!(signed.verify(NOW).unwrap(), content);
        assert!(signed.as_bytes().len() <= MAX_LEN);
    }

    #[test]
    fn expired_early_and_long_lived_are_refused() {
        let (content, signed, key) = signed();
        assert!(matches!(signed.verify(content.expires), Err(DescriptorError::Time)));
        assert!(matches!(signed.verify(Timestamp::from_micros(1)), Err(DescriptorError::Time)));
        let long =
            Descriptor { expires: content.published.after(MAX_LIFETIME + Duration::from_secs(1)), ..content };
        assert!(matches!(long.sign(&key).verify(NOW), Err(DescriptorError::Time)));
    }

    #[test]
    fn no_flipped_bit_changes_what_is_believed() {
        let (content, signed, _) = signed();
        for at in 0..signed.as_bytes().len() {
            for bit in 0..8 {
                let mut bytes = signed.as_bytes().to_vec();
                bytes[at] ^= 1 << bit;
                if let Ok(read) = SignedDescriptor::from_bytes(bytes).verify(NOW) {
                    assert_eq!(read, content, "byte {at} bit {bit}");
                }
            }
        }
    }

    #[test]
    fn another_key_cannot_sign_for_a_peer_id() {
        let (content, _, _) = signed();
        let forged = content.sign(&SigningKey::from_bytes(&[4; 32]));
        assert!(matches!(forged.verify(NOW), Err(DescriptorError::Signature)));
    }

    #[test]
    fn oversized_is_refused_before_it_is_read() {
        let long = SignedDescriptor::from_bytes(vec![0; MAX_LEN + 1]);
        assert!(matches!(long.verify(NOW), Err(DescriptorError::TooLong(_))));
    }
}

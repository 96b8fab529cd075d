//! A descriptor as a stranger wrote it, and one whose body was damaged before it was signed.

use std::time::Duration;

use ed25519_dalek::{Signer, SigningKey};
use flatbuffers::FlatBufferBuilder;
use warren_schemas::descriptor::{Descriptor, MAX_LEN, SignedDescriptor};
use warren_schemas::generated::descriptor as fb;
use warren_schemas::{PeerId, Timestamp};

use crate::input::Input;

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
/// What is signed besides the body (docs/protocol.md, "Descriptors").
const CONTEXT: &[u8] = b"warren descriptor 1\0";

fn key() -> SigningKey {
    SigningKey::from_bytes(&[3; 32])
}

fn descriptor() -> Descriptor {
    Descriptor {
        peer_id: PeerId(key().verifying_key().to_bytes()),
        published: NOW,
        expires: NOW.after(Duration::from_secs(3600)),
        onion_epoch: 4,
        onion_key: [1; 32],
        stream_key: [2; 32],
        addresses: vec!["192.0.2.1:9000".parse().unwrap()],
        relay: true,
        exit: false,
        suites: vec![1],
        bytes_per_second: 5,
        circuits: 6,
        operator: Some([8; 32]),
    }
}

fn signed(body: &[u8]) -> Vec<u8> {
    let signature = key().sign(&[CONTEXT, body].concat()).to_bytes();
    let mut builder = FlatBufferBuilder::with_capacity(MAX_LEN);
    let (body, signature) = (builder.create_vector(body), builder.create_vector(&signature));
    let args = fb::SignedDescriptorArgs { body: Some(body), signature: Some(signature) };
    let root = fb::SignedDescriptor::create(&mut builder, &args);
    builder.finish(root, None);
    builder.finished_data().to_vec()
}

fn body() -> Vec<u8> {
    let whole = descriptor().sign(&key());
    let read = flatbuffers::root::<fb::SignedDescriptor<'_>>(whole.as_bytes()).unwrap();
    read.body().bytes().to_vec()
}

pub(crate) fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let how = input.byte();
    let bytes = match how % 3 {
        0 => input.rest().to_vec(),
        1 => {
            let mut bytes = descriptor().sign(&key()).as_bytes().to_vec();
            input.damage(&mut bytes);
            bytes
        }
        _ => {
            let mut bytes = body();
            input.damage(&mut bytes);
            signed(&bytes)
        }
    };
    if let Ok(content) = SignedDescriptor::from_bytes(bytes).verify(NOW) {
        assert_eq!(content.peer_id.0, key().verifying_key().to_bytes(), "nobody else has a key here");
        assert!(how % 3 == 2 || content == descriptor(), "it was not signed like this");
        assert!((1..=4).contains(&content.addresses.len()) && content.expires > NOW);
        let again = content.sign(&key());
        assert_eq!(again.verify(NOW).unwrap(), content);
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let whole = descriptor().sign(&key());
    vec![
        [&[0][..], whole.as_bytes()].concat(),
        vec![1, 1, 0, 40, 1],
        vec![2, 0],
        vec![2, 1, 0, 60, 1],
        vec![2, 2, 0, 20, 8, 0, 90, 128],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_here_verifies() {
        assert_eq!(signed(&body()), descriptor().sign(&key()).as_bytes());
    }
}

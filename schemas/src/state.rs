//! The state that a tunnel worker hands to its successor: its version, its bounds, and the way in.
//!
//! What the fields mean is `fbs/state.fbs` and `plugins/tunnel`; here bytes become a table whose
//! every offset was verified. Nothing is copied. The bytes hold every secret of a worker: wipe them.

use flatbuffers::{FlatBufferBuilder, InvalidFlatbuffer, VerifierOptions, WIPOffset};

use crate::generated::state as fb;

/// The version this code writes, and the newest it reads.
///
/// Version 1 had a table for every circuit; version 2 has most of a relay's in their link's `idle`.
pub const VERSION: u16 = 2;
/// The most bytes of a state: full queues (64 MB), full tables and room to spare.
pub const MAX_STATE: usize = 96 << 20;

const IDENTIFIER: &str = fb::TUNNEL_STATE_IDENTIFIER;

/// Why bytes are no state that this code can read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// More than [`MAX_STATE`] bytes.
    #[error("a state of {0} bytes, {MAX_STATE} allowed")]
    TooLong(usize),
    /// Not even marked as a state.
    #[error("not the state of a tunnel worker")]
    Unknown,
    /// FlatBuffers cannot verify it.
    #[error("not a FlatBuffers state: {0}")]
    Malformed(#[from] InvalidFlatbuffer),
    /// Written by a newer module, which says that this one would misread it; or by none.
    #[error("a state of version {0}; this module reads 1 to {VERSION}")]
    Version(u16),
}

/// The verified state in `bytes`.
///
/// # Errors
/// See [`ReadError`].
pub fn read(bytes: &[u8]) -> Result<fb::TunnelState<'_>, ReadError> {
    if bytes.len() > MAX_STATE {
        return Err(ReadError::TooLong(bytes.len()));
    }
    if bytes.get(4..8) != Some(IDENTIFIER.as_bytes()) {
        return Err(ReadError::Unknown);
    }
    let options = VerifierOptions { max_apparent_size: 4 * MAX_STATE, ..VerifierOptions::default() };
    let state = fb::root_as_tunnel_state_with_opts(&options, bytes)?;
    match state.version() {
        1..=VERSION => Ok(state),
        other => Err(ReadError::Version(other)),
    }
}

/// Finishes a state; the builder's buffer becomes the answer, without a copy that nobody wipes.
#[must_use]
pub fn finish(mut builder: FlatBufferBuilder<'_>, root: WIPOffset<fb::TunnelState<'_>>) -> Vec<u8> {
    builder.finish(root, Some(IDENTIFIER));
    let (mut bytes, start) = builder.collapse();
    bytes.copy_within(start.., 0);
    let end = bytes.len().saturating_sub(start);
    if let Some(left) = bytes.get_mut(end..) {
        left.fill(0);
    }
    bytes.truncate(end);
    bytes
}

/// Overwrites bytes that held a state with zeros. `zeroize` does the same a byte at a time, which
/// takes longer for a state than reading it.
pub fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    // Whoever might read them: the zeros have to be there.
    std::hint::black_box(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(version: u16) -> Vec<u8> {
        let mut builder = FlatBufferBuilder::with_capacity(1 << 12);
        let links = Some(builder.create_vector::<flatbuffers::ForwardsUOffset<fb::Link<'_>>>(&[]));
        let openings = Some(builder.create_vector::<flatbuffers::ForwardsUOffset<fb::Opening<'_>>>(&[]));
        let origins = Some(builder.create_vector::<flatbuffers::ForwardsUOffset<fb::Origin<'_>>>(&[]));
        let relays = Some(builder.create_vector::<flatbuffers::ForwardsUOffset<fb::Relay<'_>>>(&[]));
        let flows = Some(builder.create_vector::<flatbuffers::ForwardsUOffset<fb::Flow<'_>>>(&[]));
        let linked = Some(builder.create_vector::<flatbuffers::ForwardsUOffset<fb::Linked<'_>>>(&[]));
        let created = Some(builder.create_vector::<flatbuffers::ForwardsUOffset<fb::Created<'_>>>(&[]));
        let late = Some(builder.create_vector::<fb::LateAnswer>(&[]));
        let late_bytes = Some(builder.create_vector::<u8>(&[]));
        let drops = Some(builder.create_vector::<fb::DropCount>(&[]));
        let bucket = fb::Bucket::new(1, 2);
        let args = fb::TunnelStateArgs {
            version,
            links,
            openings,
            origins,
            relays,
            flows,
            rate: Some(&bucket),
            handshakes: Some(&bucket),
            proven_handshakes: Some(&bucket),
            linked,
            created,
            late,
            late_bytes,
            drops,
            ..Default::default()
        };
        let root = fb::TunnelState::create(&mut builder, &args);
        finish(builder, root)
    }

    #[test]
    fn reads_its_version_and_refuses_others() {
        for version in [1, 2] {
            assert_eq!(read(&state(version)).unwrap().version(), version);
        }
        for version in [0, 3, u16::MAX] {
            assert_eq!(read(&state(version)).unwrap_err(), ReadError::Version(version));
        }
    }

    #[test]
    fn refuses_what_is_none() {
        assert_eq!(read(&[]).unwrap_err(), ReadError::Unknown);
        assert_eq!(read(&[7; 64]).unwrap_err(), ReadError::Unknown);
        let good = state(1);
        for length in 0..good.len() {
            assert!(read(&good[..length]).is_err(), "cut to {length}");
        }
        assert_eq!(read(&vec![0; MAX_STATE + 1]).unwrap_err(), ReadError::TooLong(MAX_STATE + 1));
    }
}

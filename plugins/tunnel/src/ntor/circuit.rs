//! CREATE and CREATED: the handshake that gives a hop its keys.

use zeroize::Zeroizing;

use super::{Initiator, OnionDh, Purpose, Seed, Suite, Target, respond};
use crate::crypto::{AeadKey, Direction, LayerKind, TAG_LEN, associated_data};
use crate::drop_reason::DropReason;
use crate::fragments::MAX_HANDSHAKE;
use crate::layer::HopKeys;
use crate::message::{Reader, VERSION};

/// The most bytes of contents in CREATED.
pub const MAX_CONTENTS: usize = 256;

/// The originator's side of one hop's handshake.
pub struct Creating(Initiator);

impl Creating {
    /// Starts it. `random` is 32 fresh random bytes.
    #[must_use]
    pub fn new(suite: Suite, target: Target, random: [u8; 32]) -> Self {
        Self(Initiator::new(suite, Purpose::Circuit, target, random))
    }

    /// Goes on with a predecessor's.
    pub(crate) const fn resume(initiator: Initiator) -> Self {
        Self(initiator)
    }

    /// What a successor goes on with.
    pub(crate) const fn initiator(&self) -> &Initiator {
        &self.0
    }

    /// The create: for CREATE, or behind the descriptor in EXTEND. The same at every retry.
    #[must_use]
    pub fn create(&self) -> Vec<u8> {
        let Initiator { suite, target, share, .. } = &self.0;
        [&[VERSION, *suite as u8][..], &target.epoch.to_be_bytes(), share].concat()
    }

    /// Takes the created; gives the hop's keys and the contents the relay sealed.
    ///
    /// # Errors
    /// `Malformed`, `LowOrder`, or `Handshake` when the relay did not prove itself.
    pub fn finish(&self, created: &[u8]) -> Result<(HopKeys, Vec<u8>), DropReason> {
        let suite = self.0.suite();
        let mut reader = Reader::new(created);
        let share = reader.take(suite.answer_len())?;
        let auth = reader.array()?;
        let seed = self.0.finish(share, &auth, &[])?;
        let contents = open_contents(&seed, suite, reader.rest())?;
        Ok((HopKeys::derive(&seed, suite), contents))
    }
}

/// A create as it arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Create<'a> {
    /// Its suite.
    pub suite: Suite,
    /// The onion key it was made for.
    pub epoch: u32,
    /// The originator's share.
    pub share: &'a [u8],
}

/// The most bytes of a create that this build takes.
pub(crate) const MAX_CREATE: usize = 6 + {
    #[cfg(feature = "hybrid")]
    let most = Suite::Hybrid.share_len();
    #[cfg(not(feature = "hybrid"))]
    let most = Suite::X25519.share_len();
    most
};

impl<'a> Create<'a> {
    /// Reads an assembled create.
    ///
    /// # Errors
    /// `Malformed`, `Version` or `Suite`.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(DropReason::Version);
        }
        let suite = Suite::from_byte(reader.u8()?)?;
        let epoch = reader.u32()?;
        let share = reader.rest();
        if share.len() != suite.share_len() {
            return Err(DropReason::Malformed);
        }
        Ok(Self { suite, epoch, share })
    }

    /// What names the handshake, so that a retry is known: the first 32 bytes of the share, which are
    /// an ephemeral key in every suite.
    #[must_use]
    pub fn name(&self) -> &'a [u8] {
        self.share.get(..32).unwrap_or(self.share)
    }

    /// The number of the suite that the first part of a create asks for; none when it is cut off or
    /// of another version.
    #[must_use]
    pub fn suite_asked(first_part: &[u8]) -> Option<u8> {
        match first_part {
            [VERSION, suite, ..] => Some(*suite),
            _ => None,
        }
    }

    /// The relay's answer: the created and the hop's keys. `target` is the relay itself with the
    /// onion key of `epoch`; `random` is 32 fresh random bytes. `contents` over [`MAX_CONTENTS`] are cut.
    ///
    /// # Errors
    /// `Malformed`, `LowOrder`, `OnionKey`, or `Handshake` when the target is of another epoch.
    pub fn answer(
        &self,
        target: &Target,
        random: [u8; 32],
        contents: &[u8],
        dh: OnionDh<'_>,
    ) -> Result<(Vec<u8>, HopKeys), DropReason> {
        if target.epoch != self.epoch {
            return Err(DropReason::Handshake);
        }
        let answer = respond((self.suite, Purpose::Circuit), target, random, self.share, &[], dh)?;
        let sealed = seal_contents(&answer.seed, self.suite, contents)?;
        let created = [&answer.share[..], &answer.auth, &sealed].concat();
        if created.len() > MAX_HANDSHAKE {
            return Err(DropReason::TooLong);
        }
        Ok((created, HopKeys::derive(&answer.seed, self.suite)))
    }
}

fn contents_key(seed: &Seed) -> AeadKey {
    AeadKey::new(&seed.key("created contents"))
}

fn seal_contents(seed: &Seed, suite: Suite, contents: &[u8]) -> Result<Vec<u8>, DropReason> {
    let mut sealed = contents.get(..MAX_CONTENTS).unwrap_or(contents).to_vec();
    let associated = associated_data(suite as u8, Direction::Backward, LayerKind::Contents);
    let tag = contents_key(seed).seal(0, &associated, &mut sealed)?;
    sealed.extend_from_slice(&tag);
    Ok(sealed)
}

fn open_contents(seed: &Seed, suite: Suite, sealed: &[u8]) -> Result<Vec<u8>, DropReason> {
    let (body, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(DropReason::Malformed)?;
    if body.len() > MAX_CONTENTS {
        return Err(DropReason::TooLong);
    }
    let mut contents = Zeroizing::new(body.to_vec());
    let associated = associated_data(suite as u8, Direction::Backward, LayerKind::Contents);
    if !contents_key(seed).open(0, &associated, &mut contents, tag) {
        return Err(DropReason::Handshake);
    }
    well_formed(&contents)?;
    Ok(std::mem::take(&mut *contents))
}

/// A list of `type ‖ length ‖ value`.
fn well_formed(contents: &[u8]) -> Result<(), DropReason> {
    let mut reader = Reader::new(contents);
    while !reader.rest().is_empty() {
        let (_kind, length) = (reader.u8()?, reader.u8()?);
        reader.take(usize::from(length))?;
    }
    Ok(())
}

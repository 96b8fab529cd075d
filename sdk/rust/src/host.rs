/// How loud a log line is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Something is broken.
    Error,
    /// Something is odd.
    Warn,
    /// Something an operator wants to know.
    Info,
    /// Everything else.
    Debug,
}

/// Why the host refused a Diffie-Hellman.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No private key of this epoch is held.
    UnknownEpoch,
    /// The point is not one, or the shared secret came out as zero.
    BadPoint,
    /// Too many calls within a second.
    RateLimited,
}

/// What a worker may ask of its host. Handed to each call; nothing else can make one.
#[derive(Debug)]
pub struct Host(());

#[cfg(target_arch = "wasm32")]
mod imports {
    use super::{Host, Level, Refusal};
    use crate::glue::bindings::warren::worker::{log, onion, random};

    /// The most random bytes that one call of the host gives.
    const FILL: usize = 4096;

    impl Host {
        /// For [`worker!`](crate::worker) only.
        #[doc(hidden)]
        #[must_use]
        pub const fn of_this_worker() -> Self {
            Self(())
        }

        /// Writes one line for the operator; past 1,024 bytes it is cut. Never an address, a key
        /// or an infohash above [`Level::Debug`].
        pub fn log(&mut self, level: Level, line: &str) {
            let level = match level {
                Level::Error => log::Level::Error,
                Level::Warn => log::Level::Warn,
                Level::Info => log::Level::Info,
                Level::Debug => log::Level::Debug,
            };
            log::write(level, line);
        }

        /// Fills `bytes` from the operating system's randomness.
        pub fn random(&mut self, bytes: &mut [u8]) {
            for chunk in bytes.chunks_mut(FILL) {
                let count = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
                let fresh = random::fill(count);
                assert_eq!(fresh.len(), chunk.len(), "the host gave too few random bytes");
                chunk.copy_from_slice(&fresh);
            }
        }

        /// X25519 (RFC 7748) of the relay's private onion key of `epoch` and `point`.
        ///
        /// # Errors
        /// See [`Refusal`].
        pub fn onion_dh(&mut self, epoch: u32, point: &[u8; 32]) -> Result<[u8; 32], Refusal> {
            let shared = onion::dh(epoch, point).map_err(|refusal| match refusal {
                onion::Refusal::UnknownEpoch => Refusal::UnknownEpoch,
                onion::Refusal::BadPoint => Refusal::BadPoint,
                onion::Refusal::RateLimited => Refusal::RateLimited,
            })?;
            shared.try_into().map_err(|_| Refusal::BadPoint)
        }
    }
}

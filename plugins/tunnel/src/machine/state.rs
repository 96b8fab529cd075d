//! Hot swap: the whole machine becomes bytes, once, and a fresh machine goes on with them.
//!
//! Everything travels that the next cell, retry or report depends on, handshakes under way
//! included; keys' counters and replay windows go on where they stopped. What does not travel is
//! configuration (the successor has its own) and what follows from the rest: tables by id, the
//! heap of timers, counts of what is listed.

mod idle;
mod read;
mod read_circuits;
mod write;
mod write_circuits;

use warren_schemas::Timestamp;
use warren_schemas::state::{self, ReadError};

use super::Tunnel;
use crate::queue::Queue;

/// Why a state cannot be given or taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StateError {
    /// The machine has no configuration, so no state either and no way to judge one.
    #[error("the machine is not configured")]
    NotConfigured,
    /// The state was exported before; there is one successor at most.
    #[error("the state has gone to a successor")]
    Gone,
    /// The machine has links or circuits of its own.
    #[error("a state is taken over by a fresh machine only")]
    NotFresh,
    /// The bytes cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Something in it cannot be in a state that a machine gave.
    #[error("a state with an impossible {0}")]
    Impossible(&'static str),
    /// It does not fit into what a state may have.
    #[error("a state of {0} bytes, {max} allowed", max = state::MAX_STATE)]
    TooLong(usize),
}

impl Tunnel {
    /// Gives the whole state to a successor, once. From now on this machine is nothing: it drops
    /// all and refuses every configuration. Its secrets are wiped when it is dropped, so that the
    /// successor need not wait for that. The bytes hold them: wipe those too. The same state gives
    /// the same bytes, natively and in Wasm.
    ///
    /// # Errors
    /// `NotConfigured`, `Gone`; `TooLong` when it holds more than a state may have, and goes on then.
    pub fn export_state(&mut self) -> Result<Vec<u8>, StateError> {
        self.may_give()?;
        let queue = std::mem::replace(self.shaper.parts().1, Queue::new(0, 0));
        let survey = self.survey();
        let most = survey.most(&queue);
        if most > state::MAX_STATE {
            *self.shaper.parts().1 = queue;
            return Err(StateError::TooLong(most));
        }
        let bytes = survey.write(most, |builder| queue.give(builder));
        let nothing = Self { gone: true, ..Self::speaking(self.suites) };
        let remains = std::mem::replace(self, nothing);
        self.remains = Some(Box::new(remains));
        Ok(bytes)
    }

    /// A copy of the state, the bytes that [`export_state`](Self::export_state) would give, while this
    /// machine goes on. For a shadow whose answers are compared and thrown away: a machine that was
    /// given it never acts, or counters would be used twice. The bytes hold every secret: wipe them.
    ///
    /// # Errors
    /// As `export_state`.
    pub fn snapshot(&self) -> Result<Vec<u8>, StateError> {
        self.may_give()?;
        let (survey, queue) = (self.survey(), self.shaper.queue());
        let most = survey.most(queue);
        if most > state::MAX_STATE {
            return Err(StateError::TooLong(most));
        }
        Ok(survey.write(most, |builder| queue.write(builder)))
    }

    fn may_give(&self) -> Result<(), StateError> {
        if self.gone {
            return Err(StateError::Gone);
        }
        if self.settings.is_none() { Err(StateError::NotConfigured) } else { Ok(()) }
    }

    /// Goes on with what a predecessor exported; this machine was configured and did nothing yet.
    /// The `wake_at` of the predecessor's last batch stays in force.
    ///
    /// # Errors
    /// `Gone`, `NotConfigured`, `NotFresh`, and all that can be wrong with the bytes; the machine is
    /// as it was then.
    pub fn import_state(&mut self, now: Timestamp, bytes: &[u8]) -> Result<(), StateError> {
        if self.gone {
            return Err(StateError::Gone);
        }
        let settings = self.settings.as_ref().ok_or(StateError::NotConfigured)?;
        let idle = self.links.is_empty() && self.pending.is_empty() && self.circuits.is_empty();
        if !idle || self.last_handle.is_some() || !self.extras.is_empty() {
            return Err(StateError::NotFresh);
        }
        let state = state::read(bytes)?;
        let mut heir = Self::speaking(self.suites);
        heir.apply(&settings.bounds);
        heir.sync_at = self.sync_at;
        heir.latest = now;
        read::State::new(now, settings, &mut heir).read(&state)?;
        heir.settings = self.settings.take();
        *self = heir;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

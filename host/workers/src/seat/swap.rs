//! Hot swap of one seat: prepare, shadow, commit, and back again.
//!
//! The successor that will act and the instance that shadows are two, made apart. The successor gets
//! no state before the live worker has given its own away, and no state is ever put back: from
//! `export-state` on there is one holder of the counters, or none.

use std::fmt;
use std::sync::Arc;

use warren_schemas::Timestamp;

use super::shadow::{Shadow, ShadowVerdict, wipe};
use super::{Live, Lost, Seat};
use crate::{Description, Worker, WorkerFactory, WorkerFault};

/// A successor could not be prepared, or not be shadowed. Unless it is [`SwapFault::Lost`] the live
/// worker goes on and lost nothing.
#[derive(Debug, thiserror::Error)]
pub enum SwapFault {
    /// One swap at a time: commit or abandon the other first.
    #[error("another swap of this worker is under way: {0} is prepared")]
    Pending(String),
    /// Nothing was prepared, or it was abandoned since.
    #[error("no successor is prepared")]
    NothingPrepared,
    /// There was no module before this one, or it was quarantined.
    #[error("there is no module to go back to")]
    NoPrevious,
    /// The new module does not start, fails its self-test or refuses the configuration.
    #[error(transparent)]
    Unfit(WorkerFault),
    /// It cannot read the state: it can only take new circuits while those of the old one end.
    #[error("{module} reads states of versions {reads:?}, but {live} writes version {writes}: drain instead")]
    StateVersion {
        /// The new module.
        module: String,
        /// The running one.
        live: String,
        /// Version of the state that the running one writes; 0 when it writes none.
        writes: u16,
        /// Versions that the new one reads.
        reads: Vec<u16>,
    },
    /// The live worker gave no copy of its state, so nothing can shadow it.
    #[error(transparent)]
    NoSnapshot(WorkerFault),
    /// The live worker failed while it was asked for a copy of its state, or went through its memory.
    #[error("the running worker was lost before its state went over")]
    Lost(Lost),
}

/// A swap did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitFault {
    /// Nothing was prepared, or it was abandoned since.
    #[error("no successor is prepared")]
    NothingPrepared,
    /// The live worker would not give its state, and goes on with all its circuits.
    #[error("the running worker keeps its state: {0}")]
    Kept(WorkerFault),
    /// The worker failed giving its state, or the successor failed taking it. The circuits are dead,
    /// and a new instance of the old module takes the seat.
    #[error("the worker was lost while its state went over")]
    Lost(Lost),
}

/// Going back failed, in one of its two steps.
#[derive(Debug, thiserror::Error)]
pub enum RollbackFault {
    /// The module that was there before is no successor now.
    #[error(transparent)]
    Prepare(#[from] SwapFault),
    /// Its commit failed.
    #[error(transparent)]
    Commit(#[from] CommitFault),
}

/// A worker whose state went to another. It answers no call; dropping it, on whichever thread, overwrites its
/// memory.
pub struct Retired(#[expect(dead_code, reason = "held until it is dropped")] Box<dyn Worker>);

impl fmt::Debug for Retired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Retired")
    }
}

/// A swap happened: the next call goes to the new worker.
#[derive(Debug)]
pub struct Committed {
    /// Bytes of state that went over; 0 when the seat was empty.
    pub state_bytes: usize,
    /// What the new worker's module says of itself.
    pub module: Description,
    /// Who had the seat. Its own copy of the keys goes with it: drop it soon.
    pub retired: Option<Retired>,
}

/// Pages of memory that are gone through at most, whatever a worker says: 128 MiB.
const MOST_PAGES: u32 = 2048;
/// Pages that a successor takes before it has a state, at most: 16 MiB, room for some 16,000 circuits. Memory
/// that the live worker once needed is not taken over for ever.
const MOST_TAKEN: u32 = 256;

/// A worker that is ready and has no state. It was never a shadow: [`Shadow`] makes its own.
pub(super) struct Successor {
    factory: Arc<dyn WorkerFactory>,
    live: Live,
}

/// What follows the live worker, or did.
pub(super) enum Following {
    Nobody,
    Running(Box<Shadow>),
    Over(ShadowVerdict),
}

impl Seat {
    /// Makes a successor of another module, proves it by its self-test and configures it. It stays
    /// beside the live worker until [`commit`](Self::commit) or [`abandon`](Self::abandon). Takes a
    /// few milliseconds, nearly all of them the self-test's.
    ///
    /// # Errors
    /// See [`SwapFault`]; the live worker goes on.
    pub fn prepare(
        &mut self,
        now: Timestamp,
        factory: Arc<dyn WorkerFactory>,
    ) -> Result<Description, SwapFault> {
        if let Some(successor) = &self.successor {
            return Err(SwapFault::Pending(successor.factory.name().to_owned()));
        }
        let mut live = self.spawn(&factory).map_err(SwapFault::Unfit)?;
        if let Some(old) = self.live.as_ref().filter(|old| !live.module.can_follow(&old.module)) {
            return Err(SwapFault::StateVersion {
                module: factory.name().to_owned(),
                live: self.factory.name().to_owned(),
                writes: old.module.writes_state,
                reads: live.module.reads_state,
            });
        }
        live.worker.self_test().map_err(SwapFault::Unfit)?;
        live.worker.configure(now, &self.config).map_err(SwapFault::Unfit)?;
        let module = live.module.clone();
        self.following = Following::Nobody;
        self.successor = Some(Successor { factory, live });
        Ok(module)
    }

    /// Lets a second instance of the prepared module follow the live worker until it has answered
    /// `answers` calls (at least one) as the live one does. Calls take twice as long meanwhile.
    ///
    /// # Errors
    /// See [`SwapFault`]. A shadow that cannot start is [`SwapFault::Unfit`] and ends the swap.
    pub fn shadow(&mut self, now: Timestamp, answers: u32) -> Result<(), SwapFault> {
        let factory = match &self.successor {
            Some(successor) => Arc::clone(&successor.factory),
            None => return Err(SwapFault::NothingPrepared),
        };
        let (state, tape) = {
            let live = self.seated(now).map_err(SwapFault::Lost)?;
            (live.worker.snapshot(), live.tape.clone())
        };
        let state = match state {
            Ok(state) => state,
            Err(fault @ WorkerFault::State { .. }) => return Err(SwapFault::NoSnapshot(fault)),
            Err(fault) => return Err(SwapFault::Lost(self.failed(now, fault))),
        };
        match Shadow::new(&factory, tape, (now, &self.config), state, answers) {
            Ok(shadow) => {
                self.following = Following::Running(Box::new(shadow));
                Ok(())
            }
            Err(fault) => {
                self.end_shadow(fault.to_string());
                Err(SwapFault::Unfit(fault))
            }
        }
    }

    /// How the shadow does; none when there was none since the last `prepare`.
    #[must_use]
    pub fn shadow_verdict(&self) -> Option<ShadowVerdict> {
        match &self.following {
            Following::Nobody => None,
            Following::Running(shadow) => Some(shadow.verdict()),
            Following::Over(verdict) => Some(verdict.clone()),
        }
    }

    /// The shadow failed, and with it the swap.
    pub(super) fn end_shadow(&mut self, reason: String) {
        let module = self.successor.take().map(|successor| successor.factory.name().to_owned());
        tracing::warn!(module, reason, "the shadow failed; the running worker goes on");
        self.following = Following::Over(ShadowVerdict::Failed(reason));
    }

    /// Gives the prepared successor up, and its shadow. The live worker goes on.
    pub fn abandon(&mut self) {
        self.successor = None;
        self.following = Following::Nobody;
    }

    /// What is prepared, for people.
    #[must_use]
    pub fn prepared(&self) -> Option<&str> {
        self.successor.as_ref().map(|successor| successor.factory.name())
    }

    /// Goes through a page of the memory of the live worker and the prepared one, the first being 0, and says
    /// whether there are more. On machines that fetch back memory which was not used for seconds this is what
    /// a commit would wait for.
    ///
    /// # Errors
    /// See [`SwapFault`]. A successor that fails is gone.
    pub fn warm(&mut self, now: Timestamp, page: u32) -> Result<bool, SwapFault> {
        let live = self.live.as_mut().map_or(Ok(0), |live| live.worker.touch(page, 0));
        let pages = live.map_err(|fault| SwapFault::Lost(self.failed(now, fault)))?.min(MOST_PAGES);
        let Some(successor) = &mut self.successor else { return Err(SwapFault::NothingPrepared) };
        let touched = successor.live.worker.touch(page, pages.min(MOST_TAKEN));
        let touched = touched.inspect_err(|_| self.abandon()).map_err(SwapFault::Unfit)?;
        Ok(page.saturating_add(1) < pages.max(touched.min(MOST_PAGES)))
    }

    /// Moves the state from the live worker into the prepared successor, which takes the seat; the bytes on
    /// the way are wiped before this comes back. A shadow that
    /// still runs is thrown away: whoever wants its verdict waits for it. `wake_at` of the last answer
    /// stays in force. An empty seat is simply taken.
    ///
    /// # Errors
    /// See [`CommitFault`]. The successor is gone in any case.
    pub fn commit(&mut self, now: Timestamp) -> Result<Committed, CommitFault> {
        let mut successor = self.successor.take().ok_or(CommitFault::NothingPrepared)?;
        if let Following::Running(_) = self.following {
            self.following = Following::Nobody;
        }
        let (state_bytes, retired) = match self.live.take() {
            Some(old) => {
                let (bytes, old) = self.hand_over(now, old, &mut successor.live)?;
                (bytes, Some(old))
            }
            None => (0, None),
        };
        let module = successor.live.module.clone();
        self.live = Some(successor.live);
        self.previous = Some(std::mem::replace(&mut self.factory, successor.factory));
        self.trust_anew(now);
        Ok(Committed { state_bytes, module, retired })
    }

    fn hand_over(
        &mut self,
        now: Timestamp,
        mut old: Live,
        new: &mut Live,
    ) -> Result<(usize, Retired), CommitFault> {
        let mut state = match old.worker.export_state() {
            Ok(state) => state,
            Err(fault @ WorkerFault::State { .. }) => {
                self.live = Some(old);
                return Err(CommitFault::Kept(fault));
            }
            Err(fault) => {
                self.live = Some(old);
                return Err(CommitFault::Lost(self.failed(now, fault)));
            }
        };
        let bytes = state.len();
        let taken = new.worker.import_state(now, &state);
        wipe(&mut state);
        match taken {
            Ok(()) => Ok((bytes, Retired(old.worker))),
            Err(fault) => Err(CommitFault::Lost(self.vacate(now, fault))),
        }
    }

    /// The module that had the seat before, for people; it can be had back.
    #[must_use]
    pub fn previous(&self) -> Option<&str> {
        self.previous.as_ref().map(|factory| factory.name())
    }

    /// Prepares the module that had the seat before, for a shadow or a commit.
    ///
    /// # Errors
    /// See [`SwapFault`]; the live worker goes on.
    pub fn prepare_rollback(&mut self, now: Timestamp) -> Result<Description, SwapFault> {
        let previous = self.previous.clone().ok_or(SwapFault::NoPrevious)?;
        self.prepare(now, previous)
    }

    /// Gives the seat back to the module that had it before, with the state of the live worker as it is
    /// now: nothing that was put by is ever restored.
    ///
    /// # Errors
    /// See [`RollbackFault`].
    pub fn rollback(&mut self, now: Timestamp) -> Result<Committed, RollbackFault> {
        self.prepare_rollback(now)?;
        Ok(self.commit(now)?)
    }

    /// Configures whoever stands beside the live worker as it was configured.
    pub(super) fn configure_others(&mut self, now: Timestamp) {
        let config = &self.config;
        let shadow = match &mut self.following {
            Following::Running(shadow) => shadow.configure(now, config),
            _ => Ok(()),
        };
        let successor = match &mut self.successor {
            Some(successor) => {
                successor.live.worker.configure(now, config).map_err(|fault| fault.to_string())
            }
            None => Ok(()),
        };
        if let Err(reason) = shadow.and(successor) {
            self.end_shadow(reason);
        }
    }
}

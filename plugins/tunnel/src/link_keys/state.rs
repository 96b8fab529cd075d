//! A link's keys and counters on their way to a successor.

use warren_schemas::LinkId;
use warren_schemas::generated::state as fb;
use zeroize::Zeroizing;

use super::{LinkOpener, LinkSealer, PhaseKeys};
use crate::counter::Counter;
use crate::crypto::{Direction, LayerKind, Secret, associated_data};
use crate::ntor::Suite;
use crate::replay::ReplayWindow;

/// More phases than a link of hourly keys can live through.
const MAX_GENERATION: u64 = 1 << 48;

/// What a successor's sealer goes on with.
pub(crate) struct SealerState {
    pub suite: u8,
    pub keys: fb::PhaseKeys,
    pub next: fb::Bytes32,
    pub counter: u64,
    pub phase: bool,
}

/// What a successor's opener goes on with.
pub(crate) struct OpenerState<'a> {
    pub current: fb::PhaseKeys,
    pub previous: Option<fb::PhaseKeys>,
    pub next: fb::PhaseKeys,
    pub next_secret: fb::Bytes32,
    pub generation: u64,
    pub lowest: Option<u64>,
    pub counter: u64,
    pub seen: &'a [u64],
}

impl PhaseKeys {
    fn state(&self) -> fb::PhaseKeys {
        fb::PhaseKeys(*self.raw)
    }

    fn resume(keys: &fb::PhaseKeys) -> Self {
        Self::new(
            &Zeroizing::new(keys.aead().into()),
            &Zeroizing::new(keys.tag().into()),
            &Zeroizing::new(keys.mask().into()),
        )
    }
}

impl LinkSealer {
    pub(crate) fn state(&self) -> SealerState {
        let [_, suite, ..] = self.associated;
        SealerState {
            suite,
            keys: self.keys.state(),
            next: fb::Bytes32(*self.next),
            counter: self.counter.next(),
            phase: self.phase,
        }
    }

    /// Goes on where a predecessor that will never act again stopped.
    pub(crate) fn resume(link: &fb::Link<'_>, suite: Suite, direction: Direction) -> Self {
        Self {
            peer: LinkId(link.peer()),
            keys: PhaseKeys::resume(link.seal()),
            next: Secret::new(link.seal_next_secret().bytes().into()),
            phase: link.seal_phase(),
            confirmed: link.seal_confirmed(),
            counter: Counter::resume(link.seal_counter()),
            associated: associated_data(suite as u8, direction, LayerKind::LinkMessage),
        }
    }
}

impl LinkOpener {
    pub(crate) fn state(&self) -> OpenerState<'_> {
        OpenerState {
            current: self.current.state(),
            previous: self.previous.as_ref().map(PhaseKeys::state),
            next: self.next.state(),
            next_secret: fb::Bytes32(*self.next_secret),
            generation: self.generation,
            lowest: self.lowest,
            counter: self.window.next(),
            seen: self.window.words(),
        }
    }

    /// Goes on where a predecessor stopped; none for a window or a number of phases that cannot be.
    pub(crate) fn resume(link: &fb::Link<'_>, suite: Suite, direction: Direction) -> Option<Self> {
        let seen = link.open_seen().unwrap_or_default();
        let generation = link.open_generation();
        if generation > MAX_GENERATION || (generation == 0 && link.open_previous().is_some()) {
            return None;
        }
        Some(Self {
            own: LinkId(link.own()),
            current: PhaseKeys::resume(link.open()),
            previous: link.open_previous().map(PhaseKeys::resume),
            next: PhaseKeys::resume(link.open_next()),
            next_secret: Secret::new(link.open_next_secret().bytes().into()),
            generation,
            lowest: link.open_lowest(),
            window: ReplayWindow::resume(link.open_counter(), seen.iter())?,
            associated: associated_data(suite as u8, direction, LayerKind::LinkMessage),
        })
    }
}

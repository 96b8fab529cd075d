//! A circuit as one node knows it: as its originator, or as one of its hops.

use std::ops::Range;

use warren_schemas::control::CloseReason;
use warren_schemas::{LinkId, RequestId, Timestamp};

use crate::crypto::SealError;
use crate::fragments::Assembler;
use crate::layer::{Opener, Sealer};
use crate::limits::{CIRCUIT_IDLE, CIRCUIT_LIFE, SILENCE, UNANSWERED};
use crate::link::{Leg, Probe};
use crate::message::command;
use crate::ntor::circuit::Creating;
use crate::ntor::{Suite, Target};
use crate::retry::Retry;
use crate::timers::Alarm;

/// A circuit by the role we have on it.
pub(crate) enum Circuit {
    /// We made it.
    Origin(Box<Origin>),
    /// We are one of its hops.
    Relay(Box<Relay>),
}

impl Circuit {
    /// When it needs care next.
    pub(crate) fn due(&self) -> Timestamp {
        match self {
            Self::Origin(origin) => origin.due(),
            Self::Relay(relay) => relay.due(),
        }
    }

    /// The leg on which CREATE went out.
    pub(crate) fn next_leg(&self) -> Option<Leg> {
        match self {
            Self::Origin(origin) => origin.leg,
            Self::Relay(relay) => relay.next_leg(),
        }
    }

    /// Its timer.
    pub(crate) fn alarm(&mut self) -> &mut Alarm {
        match self {
            Self::Origin(origin) => &mut origin.alarm,
            Self::Relay(relay) => &mut relay.alarm,
        }
    }
}

/// One hop of a path that is to be built.
pub(crate) struct Planned {
    /// Its descriptor as it was signed, for EXTEND.
    pub signed: Vec<u8>,
    /// Whom the handshake is for.
    pub target: Target,
    /// The suite of the handshake.
    pub suite: Suite,
}

/// The handshake with the next hop.
pub(crate) struct Building {
    /// Our side of it.
    pub handshake: Creating,
    /// Our number of the attempt, for EXTEND.
    pub exchange: u32,
    /// When it is sent again; none until it was sent, while its link is being opened.
    pub retry: Option<Retry>,
    /// What came of the answer.
    pub parts: Assembler,
    /// Whether it was sent to another link already.
    pub moved: bool,
}

/// A circuit that this node made.
pub(crate) struct Origin {
    /// The host's request.
    pub request: RequestId,
    /// The whole path.
    pub path: Vec<Planned>,
    /// The hops that stand, nearest first.
    pub hops: Vec<(Sealer, Opener)>,
    /// Where the first hop is, once CREATE was sent.
    pub leg: Option<Leg>,
    /// The handshake under way; none once the circuit stands.
    pub building: Option<Building>,
    /// The unanswered PING to the last hop.
    pub probe: Option<Probe>,
    /// When the circuit was asked for.
    pub born: Timestamp,
    /// When something of the last hop came.
    pub heard: Timestamp,
    /// When the first cell was sent after that, if one was.
    pub unanswered: Timestamp,
    /// Inner bytes that arrived.
    pub bytes_in: u64,
    /// Inner bytes that were sent.
    pub bytes_out: u64,
    /// Its timer.
    pub alarm: Alarm,
}

impl Origin {
    /// Seals the `place` of `buf` for hop `index` (from 0) and for every hop before it.
    pub(crate) fn seal(
        &mut self,
        buf: &mut [u8],
        place: Range<usize>,
        index: usize,
        command: u8,
    ) -> Result<Range<usize>, SealError> {
        let mut hops = self.hops.iter_mut().take(index + 1).rev();
        let (last, _) = hops.next().ok_or(SealError::NoRoom)?;
        let mut layer = last.seal(buf, place.start, place.len(), command)?;
        for (sealer, _) in hops {
            layer = sealer.seal(buf, layer.start, layer.len(), command::RELAY)?;
        }
        Ok(layer)
    }

    fn due(&self) -> Timestamp {
        let end = self.born.after(CIRCUIT_LIFE);
        let next = match (&self.building, &self.probe) {
            (Some(building), _) => building.retry.map_or(end, |retry| retry.due()),
            (None, Some(probe)) if probe.since > self.heard => probe.retry.due(),
            (None, _) => self.silent_at(),
        };
        next.min(end)
    }

    /// When silence becomes a question.
    pub(crate) fn silent_at(&self) -> Timestamp {
        let silence = self.heard.after(SILENCE);
        if self.unanswered > self.heard { silence.min(self.unanswered.after(UNANSWERED)) } else { silence }
    }
}

/// A circuit that another node made through us.
pub(crate) struct Relay {
    /// Opens what goes forward.
    pub opener: Opener,
    /// Seals what goes backward.
    pub sealer: Sealer,
    /// Towards the originator.
    pub previous: Leg,
    /// Away from it.
    pub next: Next,
    /// Its CREATE and CREATED, while that is repeated.
    pub birth: Option<Box<Birth>>,
    /// Distinct EXTENDs so far.
    pub extends: u32,
    /// The EXTEND whose parts are being put together.
    pub assembling: Option<Box<(u32, Assembler)>>,
    /// The last EXTEND that was answered.
    pub answered: Option<Answered>,
    /// Whether the host was told of it as a last hop.
    pub delivered: bool,
    /// When it was made.
    pub born: Timestamp,
    /// When something came on it, from either side.
    pub heard: Timestamp,
    /// Inner bytes that arrived here as the last hop.
    pub bytes_in: u64,
    /// Inner bytes that were sent from here as the last hop.
    pub bytes_out: u64,
    /// Cells either way, when it was last asked whether it is active.
    pub cells_seen: u64,
    /// Its timer.
    pub alarm: Alarm,
}

/// How a circuit was asked for and answered.
pub(crate) struct Birth {
    /// What names its CREATE: the originator's X25519 key.
    pub share: Vec<u8>,
    /// What CREATED said.
    pub created: Vec<u8>,
}

/// An answer to EXTEND, to be repeated unchanged.
pub(crate) struct Answered {
    /// The originator's number of the attempt.
    pub exchange: u32,
    /// The created, or why there is none.
    pub outcome: Result<Vec<u8>, CloseReason>,
    /// How long it is repeated.
    pub until: Timestamp,
}

/// The next hop of a relay's circuit.
pub(crate) enum Next {
    /// There is none: this is the last hop.
    None,
    /// It was asked for.
    Extending(Box<Extending>),
    /// It stands.
    Ready(Leg),
}

/// An EXTEND under way.
pub(crate) struct Extending {
    /// The originator's number of the attempt.
    pub exchange: u32,
    /// What CREATE says, as it came.
    pub create: Vec<u8>,
    /// The link that is wanted.
    pub link: LinkId,
    /// The circuit there, once CREATE was sent.
    pub leg: Option<Leg>,
    /// When CREATE is sent again.
    pub retry: Option<Retry>,
    /// What came of CREATED.
    pub parts: Assembler,
    /// The next hop's signed descriptor, until another link was opened with it.
    pub descriptor: Option<Vec<u8>>,
}

impl Relay {
    /// The leg to the next hop, whether or not that has answered.
    pub(crate) fn next_leg(&self) -> Option<Leg> {
        match &self.next {
            Next::None => None,
            Next::Extending(extending) => extending.leg,
            Next::Ready(leg) => Some(*leg),
        }
    }

    fn due(&self) -> Timestamp {
        let idle = self.heard.after(CIRCUIT_IDLE).min(self.born.after(CIRCUIT_LIFE));
        match &self.next {
            Next::Extending(extending) => extending.retry.map_or(idle, |retry| retry.due().min(idle)),
            _ => idle,
        }
    }
}

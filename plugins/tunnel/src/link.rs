//! A link: its two ends of cryptography, its address, the circuits on it, and when it needs care.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use warren_schemas::{CircuitHandle, CircuitId, LinkId, PeerId, Timestamp};

use crate::bucket::Bucket;
use crate::limits::{HALF_OPEN, LINK_UNUSED, REKEY, SILENCE, SILENCE_UNUSED};
use crate::link_keys::{LinkOpener, LinkSealer};
use crate::message::TOKEN_LEN;
use crate::ntor::link::Opening;
use crate::retry::Retry;
use crate::timers::Alarm;

/// Eight bytes that a neighbour or hop sends back.
pub(crate) type Token = [u8; TOKEN_LEN];

/// A question after a sign of life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    /// What comes back.
    pub token: Token,
    /// When it was asked first.
    pub since: Timestamp,
    /// When it is asked again.
    pub retry: Retry,
}

/// A new address of the neighbour that is not believed yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Challenge {
    /// Where it was sent.
    pub address: SocketAddr,
    /// What must come back from there.
    pub token: Token,
    /// When it was sent.
    pub at: Timestamp,
}

/// A PING of the current key phase that has no PONG yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PhasePing {
    /// What comes back.
    pub token: Token,
    /// When it is sent again.
    pub again: Timestamp,
}

/// A link that stands, or that is half open at its responder.
pub(crate) struct Link {
    /// Sends to the neighbour.
    pub sealer: LinkSealer,
    /// Receives from it.
    pub opener: LinkOpener,
    /// Where it is.
    pub address: SocketAddr,
    /// Who it is, when we opened the link; whoever opened a link to us is anonymous.
    pub relay: Option<PeerId>,
    /// Circuits by their id on this link. The neighbour chooses ids, so no hashing.
    pub circuits: BTreeMap<CircuitId, CircuitHandle>,
    /// Whether nothing authenticated has come on it yet.
    pub half_open: bool,
    /// Whether it was opened with a cookie.
    pub proven: bool,
    /// When it was made.
    pub opened: Timestamp,
    /// When something authenticated came last.
    pub heard: Timestamp,
    /// When the last circuit left it.
    pub used: Timestamp,
    /// The unanswered PING.
    pub probe: Option<Probe>,
    /// The unanswered PATH_CHALLENGE.
    pub challenge: Option<Challenge>,
    /// When our direction's key was changed last.
    pub rekeyed: Timestamp,
    /// The unanswered PING of the key phase.
    pub phase_ping: Option<PhasePing>,
    /// How many circuits the neighbour may ask for.
    pub creates: Bucket,
    /// Its timer.
    pub alarm: Alarm,
}

impl Link {
    /// A link that has just been agreed upon.
    pub(crate) fn new(
        now: Timestamp,
        (sealer, opener): (LinkSealer, LinkOpener),
        address: SocketAddr,
        relay: Option<PeerId>,
        creates_per_second: u64,
    ) -> Self {
        Self {
            sealer,
            opener,
            address,
            relay,
            circuits: BTreeMap::new(),
            half_open: relay.is_none(),
            proven: false,
            opened: now,
            heard: now,
            used: now,
            probe: None,
            challenge: None,
            rekeyed: now,
            phase_ping: None,
            creates: Bucket::new(creates_per_second, creates_per_second),
            alarm: Alarm::default(),
        }
    }

    /// Whether the neighbour opened it and may ask for circuits; its cells go forward.
    pub(crate) const fn is_theirs(&self) -> bool {
        self.relay.is_none()
    }

    /// When silence becomes a question.
    pub(crate) fn silent_at(&self) -> Timestamp {
        self.heard.after(if self.circuits.is_empty() { SILENCE_UNUSED } else { SILENCE })
    }

    /// Whether it has carried no circuit for too long.
    pub(crate) fn is_unused(&self, now: Timestamp) -> bool {
        self.circuits.is_empty() && now >= self.used.after(LINK_UNUSED)
    }

    /// When it needs care next.
    pub(crate) fn due(&self) -> Timestamp {
        if self.half_open {
            return self.opened.after(HALF_OPEN);
        }
        let silence = match &self.probe {
            Some(probe) if probe.since > self.heard => probe.retry.due(),
            _ => self.silent_at(),
        };
        let unused = self.circuits.is_empty().then(|| self.used.after(LINK_UNUSED));
        let rekey = match &self.phase_ping {
            Some(ping) => ping.again,
            None => self.rekeyed.after(REKEY),
        };
        silence.min(rekey).min(unused.unwrap_or(rekey))
    }
}

/// A link that waits for LINKED.
pub(crate) struct Pending {
    /// The handshake.
    pub handshake: Opening,
    /// Who is wanted.
    pub relay: PeerId,
    /// Where it may be, in the order of its descriptor.
    pub addresses: Vec<SocketAddr>,
    /// When LINK goes out again.
    pub retry: Retry,
    /// Cookies taken so far: at most one for each LINK of the schedule.
    pub cookies: usize,
    /// Circuits that want it.
    pub waiting: Vec<CircuitHandle>,
    /// Its timer.
    pub alarm: Alarm,
}

impl Pending {
    /// Where LINK goes this time: each address in turn.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        let turn = (self.retry.sent() - 1) % self.addresses.len().max(1);
        self.addresses.get(turn).copied()
    }
}

/// How to reach a relay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// The link that stands or is being opened.
    pub link: LinkId,
    /// When the newest descriptor that it agrees with was made.
    pub published: Timestamp,
}

/// One end of a circuit on a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leg {
    /// Which link.
    pub link: LinkId,
    /// The circuit's id on it.
    pub id: CircuitId,
}

//! From bytes to the machine. As strict as with a stranger's: what is taken keeps every promise
//! that the machine relies on, so that the worst a lying state can do is to be a useless one.

use std::cmp::Reverse;
use std::net::SocketAddr;

use warren_schemas::batch::SlotKind;
use warren_schemas::cell::MAX_DATAGRAM;
use warren_schemas::generated::state as fb;
use warren_schemas::{Address, CircuitHandle, CircuitId, LinkId, PeerId, Timestamp};

use super::StateError;
use crate::crypto::{Direction, Secret};
use crate::fragments::{Assembler, Fragment, MAX_HANDSHAKE};
use crate::limits::{MAX_RECENT, SAME_ANSWER};
use crate::link::{Challenge, Leg, Link, Pending, PhasePing, Probe, Way};
use crate::link_keys::{LinkOpener, LinkSealer};
use crate::machine::Tunnel;
use crate::machine::incomplete::Entry;
use crate::machine::opening::network_of;
use crate::machine::settings::Settings;
use crate::ntor::link::Opening;
use crate::ntor::{Initiator, Purpose, Suite, Target};
use crate::retry::{GIVE_UP, Retry};
use crate::timers::{Alarm, Timers, Whose};

/// Above every count that can be reached, and far from where additions wrap.
const MAX_COUNT: u64 = u64::MAX / 4;
/// Addresses in a descriptor.
const MAX_ADDRESSES: usize = 4;

pub(super) type Result<T> = std::result::Result<T, StateError>;

pub(super) const fn impossible(what: &'static str) -> StateError {
    StateError::Impossible(what)
}

/// A successor that is being filled.
pub(super) struct State<'a> {
    pub now: Timestamp,
    pub settings: &'a Settings,
    pub heir: &'a mut Tunnel,
    /// All timers, until they are put in order at once.
    timers: Vec<Reverse<(Timestamp, Whose)>>,
    /// Next legs of idle circuits, until they are put on their links at once.
    pub nexts: Vec<(Leg, CircuitHandle)>,
}

impl<'a> State<'a> {
    pub(super) const fn new(now: Timestamp, settings: &'a Settings, heir: &'a mut Tunnel) -> Self {
        Self { now, settings, heir, timers: Vec::new(), nexts: Vec::new() }
    }

    pub(super) fn read(mut self, state: &fb::TunnelState<'_>) -> Result<()> {
        self.heir.last_handle = state.last_handle();
        let idle: usize = state.links().iter().filter_map(|link| link.idle()).map(|idle| idle.len()).sum();
        let circuits = idle + state.relays().len() + state.origins().len();
        self.heir.circuits.reserve(circuits);
        self.timers.reserve(circuits + state.links().len() + state.openings().len());
        for link in state.links() {
            self.link(&link)?;
        }
        for opening in state.openings() {
            self.opening(&opening)?;
        }
        self.attach_nexts()?;
        for origin in state.origins() {
            self.origin(&origin)?;
        }
        for relay in state.relays() {
            self.relay(&relay)?;
        }
        for opening in state.openings() {
            self.waiting(&opening)?;
        }
        for link in state.links() {
            self.arm_link(&link);
        }
        let now = self.now;
        self.heir.shaper.parts().0.resume(now, state.rate());
        self.heir.handshakes.resume(now, state.handshakes());
        self.heir.proven_handshakes.resume(now, state.proven_handshakes());
        for flow in state.flows() {
            self.flow(&flow)?;
        }
        self.remembered(state)?;
        self.incomplete(state)?;
        self.late(state)?;
        self.counts(state);
        self.heir.timers = Timers::resume(self.timers);
        Ok(())
    }

    fn link(&mut self, table: &fb::Link<'_>) -> Result<()> {
        let own = self.own_id(table.own())?;
        let relay = table.relay().map(|id| PeerId(id.bytes().into()));
        let suite = suite(table.suite())?;
        let sealing = if relay.is_some() { Direction::Forward } else { Direction::Backward };
        let sealer = LinkSealer::resume(table, suite, sealing);
        let opener = LinkOpener::resume(table, suite, sealing.reverse()).ok_or(impossible("link window"))?;
        let creates = if relay.is_some() { 0 } else { self.settings.bounds.creates_per_second };
        let made = Link::new(self.now, (sealer, opener), address(table.address()), relay, creates);
        let mut link = Link {
            half_open: table.half_open() && relay.is_none(),
            proven: table.proven() && relay.is_none(),
            opened: self.past(table.opened()),
            heard: self.past(table.heard()),
            used: self.past(table.used()),
            rekeyed: self.past(table.rekeyed()),
            probe: table.probe().map(|probe| self.probe(probe)).transpose()?,
            challenge: table.challenge().map(|sent| Challenge {
                address: address(sent.address()),
                token: sent.token().into(),
                at: self.past(sent.at()),
            }),
            phase_ping: table.phase_ping().map(|ping| PhasePing {
                token: ping.token().into(),
                again: Timestamp::from_micros(ping.again()),
            }),
            ..made
        };
        link.creates.resume(self.now, table.creates());
        link.circuits = self.idle(table, own, link.is_theirs())?;
        if link.half_open {
            self.heir.half_open += 1;
            if link.proven {
                *self.heir.proven.entry(network_of(link.address)).or_default() += 1;
            }
        }
        if let Some(relay) = relay {
            self.way(relay, own, table.published())?;
        }
        self.heir.links.insert(own, Box::new(link));
        Ok(())
    }

    /// When a link is due depends on whether it carries circuits.
    fn arm_link(&mut self, table: &fb::Link<'_>) {
        let (own, armed) = (LinkId(table.own()), table.alarm());
        let Some(link) = self.heir.links.get_mut(&own) else { return };
        let at = earlier(link.due(), armed);
        link.alarm = Alarm::of(at);
        self.timers.push(Reverse((at, Whose::Link(own))));
    }

    fn opening(&mut self, table: &fb::Opening<'_>) -> Result<()> {
        let own = self.own_id(table.own())?;
        let (initiator, parts) = handshake(table.handshake(), Purpose::Link)?;
        let relay = initiator.target().peer_id;
        if !(1..=MAX_ADDRESSES).contains(&table.addresses().len()) {
            return Err(impossible("number of addresses"));
        }
        let retry = retry(table.retry())?;
        let mut pending = Pending {
            handshake: Opening::resume(initiator, own, table.cookie().bytes().into(), parts),
            relay,
            addresses: table.addresses().iter().map(address).collect(),
            retry,
            cookies: (table.cookies() as usize).min(retry.sent()),
            waiting: Vec::new(),
            alarm: Alarm::default(),
        };
        self.way(relay, own, table.published())?;
        self.arm(&mut pending.alarm, Whose::Opening(own), retry.due(), table.alarm());
        self.heir.pending.insert(own, pending);
        Ok(())
    }

    /// Circuits that were given up while they waited are not missed.
    fn waiting(&mut self, table: &fb::Opening<'_>) -> Result<()> {
        let id = LinkId(table.own());
        let mut waiting = Vec::new();
        for handle in table.waiting().iter().map(CircuitHandle) {
            if self.wants(handle, id) {
                waiting.push(handle);
            }
        }
        let mut sorted = waiting.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != waiting.len() {
            return Err(impossible("circuit that waits twice"));
        }
        let pending = self.heir.pending.get_mut(&id).ok_or(impossible("opening"))?;
        pending.waiting = waiting;
        Ok(())
    }

    fn flow(&mut self, table: &fb::Flow<'_>) -> Result<()> {
        if !self.heir.circuits.contains_key(&CircuitHandle(table.circuit())) {
            return Err(impossible("queue of no circuit"));
        }
        let queue = self.heir.shaper.parts().1;
        queue.resume(self.now, table).ok_or(impossible("queue"))
    }

    fn remembered(&mut self, state: &fb::TunnelState<'_>) -> Result<()> {
        if state.linked().len() > MAX_RECENT || state.created().len() > MAX_RECENT {
            return Err(impossible("number of remembered handshakes"));
        }
        let latest = self.now.after(SAME_ANSWER);
        let mut before = Timestamp::default();
        for entry in state.linked() {
            let (answer, end) = (entry.answer().bytes(), latest.min(Timestamp::from_micros(entry.end())));
            if answer.len() > MAX_DATAGRAM || end < before {
                return Err(impossible("remembered LINKED"));
            }
            before = end;
            if end <= self.now {
                continue;
            }
            let key = (address(entry.from()), entry.key().bytes().into());
            self.heir.linked.insert(key, answer.to_vec(), end);
        }
        before = Timestamp::default();
        for entry in state.created() {
            let (share, end) = (entry.share().bytes(), latest.min(Timestamp::from_micros(entry.end())));
            if share.len() > MAX_HANDSHAKE || end < before {
                return Err(impossible("remembered CREATE"));
            }
            before = end;
            if end > self.now {
                self.heir.created.insert(share.to_vec(), (), end);
            }
        }
        Ok(())
    }

    fn incomplete(&mut self, state: &fb::TunnelState<'_>) -> Result<()> {
        let latest = self.now.after(GIVE_UP);
        for entry in state.incomplete().into_iter().flatten() {
            let (leg, end) = (leg(entry.leg()), latest.min(Timestamp::from_micros(entry.end())));
            let theirs = self.heir.links.get(&leg.link).is_some_and(|link| link.is_theirs());
            if !theirs || self.heir.incomplete.contains(leg) {
                return Err(impossible("incomplete CREATE"));
            }
            self.heir.incomplete.add(Entry { leg, parts: parts(Some(entry.parts()))?, end });
        }
        Ok(())
    }

    fn late(&mut self, state: &fb::TunnelState<'_>) -> Result<()> {
        let mut bytes = state.late_bytes().bytes();
        for answer in state.late() {
            let (own, rest) =
                bytes.split_at_checked(usize::from(answer.length())).ok_or(impossible("late answer"))?;
            bytes = rest;
            let taken = self.heir.extras.resume(SlotKind(answer.kind()), address(answer.address()), own);
            taken.ok_or(impossible("kind of a late answer"))?;
        }
        if bytes.is_empty() { Ok(()) } else { Err(impossible("late answer")) }
    }

    fn counts(&mut self, state: &fb::TunnelState<'_>) {
        let counts = &mut self.heir.counts;
        counts.cells_relayed = count(state.cells_relayed());
        counts.bytes_relayed = count(state.bytes_relayed());
        counts.cells_originated = count(state.cells_originated());
        counts.cells_delivered = count(state.cells_delivered());
        for drop in state.drops() {
            if let Some(total) = counts.drops.get_mut(usize::from(drop.reason())) {
                *total = count(drop.count());
            }
        }
        // A report that was due at the predecessor is not put off by the swap.
        if let (Some(own), Some(theirs)) = (self.heir.sync_at, state.sync_at()) {
            self.heir.sync_at = Some(own.min(Timestamp::from_micros(theirs)));
        }
    }

    /// An id under which this worker receives, and which is not taken yet.
    fn own_id(&self, id: u32) -> Result<LinkId> {
        let id = LinkId(id);
        if id.worker() != self.settings.config.worker_index || id == LinkId::NONE {
            return Err(impossible("link of another worker"));
        }
        if self.heir.links.contains_key(&id) || self.heir.pending.contains_key(&id) {
            return Err(impossible("link id that comes twice"));
        }
        Ok(id)
    }

    fn way(&mut self, relay: PeerId, link: LinkId, published: Option<u64>) -> Result<()> {
        let Some(published) = published.map(Timestamp::from_micros) else { return Ok(()) };
        match self.heir.to_relay.insert(relay, Way { link, published }) {
            None => Ok(()),
            Some(_) => Err(impossible("second way to a relay")),
        }
    }

    pub(super) fn arm(&mut self, alarm: &mut Alarm, whose: Whose, due: Timestamp, armed: Option<u64>) {
        let at = earlier(due, armed);
        *alarm = Alarm::of(at);
        self.timers.push(Reverse((at, whose)));
    }

    /// A time at which something happened.
    pub(super) fn past(&self, micros: u64) -> Timestamp {
        self.now.min(Timestamp::from_micros(micros))
    }

    pub(super) fn probe(&self, probe: &fb::Probe) -> Result<Probe> {
        let retry = retry(probe.retry())?;
        Ok(Probe { token: probe.token().into(), since: self.past(probe.since()), retry })
    }
}

/// When a timer would have rung at the predecessor, never later than it is due.
fn earlier(due: Timestamp, armed: Option<u64>) -> Timestamp {
    armed.map_or(due, |at| due.min(Timestamp::from_micros(at)))
}

pub(super) fn count(value: u64) -> u64 {
    value.min(MAX_COUNT)
}

pub(super) fn suite(byte: u8) -> Result<Suite> {
    Suite::from_byte(byte).map_err(|_| impossible("suite"))
}

pub(super) fn retry(state: &fb::Retry) -> Result<Retry> {
    Retry::resume(state).ok_or(impossible("number of retries"))
}

pub(super) fn leg(leg: &fb::Leg) -> Leg {
    Leg { link: LinkId(leg.link()), id: CircuitId(leg.circuit()) }
}

pub(super) fn target(target: &fb::Target) -> Target {
    Target {
        peer_id: PeerId(target.peer_id().into()),
        epoch: target.epoch(),
        onion_key: target.onion_key().into(),
    }
}

fn address(address: &fb::Address) -> SocketAddr {
    Address { high: address.high(), low: address.low(), port: address.port() }.into()
}

pub(super) fn handshake(table: fb::Handshake<'_>, purpose: Purpose) -> Result<(Initiator, Assembler)> {
    let suite = suite(table.suite())?;
    let secret = Secret::new(table.secret().bytes().into());
    let initiator =
        Initiator::resume((suite, purpose), target(table.target()), secret, table.share().bytes());
    Ok((initiator.ok_or(impossible("share"))?, parts(table.parts())?))
}

pub(super) fn parts(table: Option<fb::Parts<'_>>) -> Result<Assembler> {
    let mut assembler = Assembler::new();
    let Some(table) = table else { return Ok(assembler) };
    for part in table.parts() {
        let part = Fragment::of(part.index(), table.total(), part.bytes().bytes());
        let taken = part.and_then(|part| assembler.push(&part));
        taken.map_err(|_| impossible("part of a handshake"))?;
    }
    Ok(assembler)
}

//! Circuits of others on which no handshake goes on: one struct each, and no search on either side.
//!
//! They stand in the link on which they came, in the order of their ids there, so that a successor
//! builds every table in one go; next legs are put in order once.

use std::collections::BTreeMap;

use flatbuffers::{Vector, WIPOffset};
use warren_schemas::control::CloseReason;
use warren_schemas::generated::state as fb;
use warren_schemas::{CircuitHandle, CircuitId, LinkId, Timestamp};

use super::read::{self, Result, State, count, impossible};
use super::write::{self, Builder};
use crate::circuit::{Answered, Circuit, Next, Relay};
use crate::crypto::Direction;
use crate::layer::{self, state::HopState};
use crate::limits::{MAX_EXTENDS, SAME_ANSWER};
use crate::link::{Leg, Link};
use crate::machine::Tunnel;
use crate::replay::ReplayWindow;
use crate::timers::Alarm;

const DELIVERED: u8 = 1;
const HAS_NEXT: u8 = 2;
const ANSWERED: u8 = 4;
const ARMED: u8 = 8;

/// An idle circuit, by its id on its previous link.
pub(super) struct Idle<'a> {
    id: CircuitId,
    handle: CircuitHandle,
    relay: &'a Relay,
}

type Records<'b> = Option<WIPOffset<Vector<'b, fb::IdleRelay>>>;
type Words<'b> = Option<WIPOffset<Vector<'b, u64>>>;

impl Relay {
    /// Whether its handshakes are over, and the time in which their answers are repeated.
    pub(super) fn is_idle(&self, now: Timestamp) -> bool {
        now >= self.born.after(SAME_ANSWER)
            && self.answered.as_ref().is_none_or(|answered| now >= answered.until)
            && self.assembling.is_none()
            && !matches!(self.next, Next::Extending(_))
    }
}

impl Tunnel {
    /// The idle circuits that came on `link`, in the order of their ids.
    pub(super) fn find_idle<'a>(&'a self, link: &Link, found: &mut Vec<Idle<'a>>) {
        if !link.is_theirs() {
            return;
        }
        for (id, handle) in &link.circuits {
            if let Some(Circuit::Relay(relay)) = self.circuits.get(handle)
                && relay.is_idle(self.latest)
            {
                found.push(Idle { id: *id, handle: *handle, relay });
            }
        }
    }
}

impl Idle<'_> {
    /// Bytes that it takes.
    pub(super) fn len(&self) -> usize {
        size_of::<fb::IdleRelay>() + layer::state::window_len(&self.relay.opener)
    }

    /// The words of its window that have no place in the struct.
    fn words(&self) -> &[u64] {
        let (_, seen) = layer::state::of(&self.relay.sealer, &self.relay.opener);
        seen.get(1..).unwrap_or_default()
    }

    fn record(&self) -> fb::IdleRelay {
        let relay = self.relay;
        let (hop, seen) = layer::state::of(&relay.sealer, &relay.opener);
        let next = relay.next_leg();
        let alarm = relay.alarm.at();
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        fb::IdleRelay::new(
            &fb::Bytes32(*hop.seal),
            &fb::Bytes32(*hop.open),
            hop.seal_counter,
            hop.open_counter,
            seen.first().copied().unwrap_or(0),
            relay.born.as_micros(),
            relay.heard.as_micros(),
            relay.bytes_in,
            relay.bytes_out,
            alarm.map_or(0, Timestamp::as_micros),
            self.handle.0,
            self.id.0,
            &next.map_or(fb::Leg::new(0, 0), write::leg),
            relay.answered.as_ref().map_or(0, |answered| answered.exchange),
            hop.suite,
            u8::try_from(self.words().len()).unwrap_or(u8::MAX),
            u8::try_from(relay.extends).unwrap_or(u8::MAX),
            flag(relay.delivered, DELIVERED)
                | flag(next.is_some(), HAS_NEXT)
                | flag(relay.answered.is_some(), ANSWERED)
                | flag(alarm.is_some(), ARMED),
        )
    }
}

/// Writes them where they are to be: a vector of them beside the buffer would have to be wiped.
pub(super) fn write<'b>(builder: &mut Builder<'b>, circuits: &[Idle<'_>]) -> (Records<'b>, Words<'b>) {
    if circuits.is_empty() {
        return (None, None);
    }
    let count = circuits.iter().map(|idle| idle.words().len()).sum();
    let mut words = None;
    if count > 0 {
        builder.start_vector::<u64>(count);
        for word in circuits.iter().rev().flat_map(|idle| idle.words().iter().rev()) {
            builder.push(*word);
        }
        words = Some(builder.end_vector(count));
    }
    builder.start_vector::<fb::IdleRelay>(circuits.len());
    for idle in circuits.iter().rev() {
        builder.push(idle.record());
    }
    (Some(builder.end_vector(circuits.len())), words)
}

impl State<'_> {
    /// Reads the idle circuits of a link; gives its table of circuits.
    pub(super) fn idle(
        &mut self,
        table: &fb::Link<'_>,
        link: LinkId,
        theirs: bool,
    ) -> Result<BTreeMap<CircuitId, CircuitHandle>> {
        let records = table.idle().unwrap_or_default();
        if !theirs && !records.is_empty() {
            return Err(impossible("leg"));
        }
        let mut words = table.idle_seen().unwrap_or_default().iter();
        let mut on = Vec::with_capacity(records.len());
        let mut before = CircuitId(0);
        for record in records {
            let previous = Leg { link, id: CircuitId(record.circuit()) };
            if previous.id <= before {
                return Err(impossible("leg"));
            }
            before = previous.id;
            let extra = usize::from(record.words());
            if extra > words.len() {
                return Err(impossible("hop"));
            }
            let window = words.by_ref().take(extra);
            let window = ReplayWindow::resume_apart(record.open_counter(), record.open_seen(), window);
            let handle = self.idle_relay(record, previous, window.ok_or(impossible("hop"))?)?;
            on.push((previous.id, handle));
        }
        // Strictly in order: the table is built without a search.
        if words.len() == 0 { Ok(on.into_iter().collect()) } else { Err(impossible("hop")) }
    }

    fn idle_relay(
        &mut self,
        record: &fb::IdleRelay,
        previous: Leg,
        window: ReplayWindow,
    ) -> Result<CircuitHandle> {
        let handle = self.new_circuit(record.handle())?;
        let hop = HopState {
            suite: record.suite(),
            seal: &record.seal().0,
            seal_counter: record.seal_counter(),
            open: &record.open().0,
            open_counter: record.open_counter(),
        };
        let hop = layer::state::resume(&hop, window, Direction::Backward);
        let (sealer, opener) = hop.ok_or(impossible("hop"))?;
        let has = |flag| record.flags() & flag != 0;
        let next = if has(HAS_NEXT) { Next::Ready(read::leg(record.next())) } else { Next::None };
        if let Next::Ready(leg) = next {
            self.nexts.push((leg, handle));
        }
        let outcome = Err(CloseReason::Unspecified);
        let answered = Answered { exchange: record.answered(), outcome, until: Timestamp::default() };
        let cells_seen = sealer.sealed() + opener.opened();
        let relay = Relay {
            opener,
            sealer,
            previous,
            next,
            birth: None,
            extends: u32::from(record.extends()).min(MAX_EXTENDS),
            assembling: None,
            answered: has(ANSWERED).then_some(answered),
            delivered: has(DELIVERED),
            born: self.past(record.born()),
            heard: self.past(record.heard()),
            bytes_in: count(record.bytes_in()),
            bytes_out: count(record.bytes_out()),
            cells_seen,
            alarm: Alarm::default(),
        };
        self.heir.counts.relayed_circuits += 1;
        self.add(handle, Circuit::Relay(Box::new(relay)), has(ARMED).then(|| record.alarm()))?;
        Ok(handle)
    }

    /// Puts the idle circuits on their next links, each link's table in one go. To be called before
    /// other circuits come on them.
    pub(super) fn attach_nexts(&mut self) -> Result<()> {
        self.nexts.sort_unstable_by_key(|(leg, _)| u64::from(leg.link.0) << 32 | u64::from(leg.id.0));
        for group in self.nexts.chunk_by(|(one, _), (other, _)| one.link == other.link) {
            let Some((first, _)) = group.first() else { continue };
            let link = self.heir.links.get_mut(&first.link).ok_or(impossible("leg on no link"))?;
            let once = group.is_sorted_by(|(one, _), (other, _)| one.id < other.id);
            if link.is_theirs() || first.id == CircuitId(0) || !once {
                return Err(impossible("leg"));
            }
            link.circuits = group.iter().map(|(leg, handle)| (leg.id, *handle)).collect();
        }
        Ok(())
    }
}

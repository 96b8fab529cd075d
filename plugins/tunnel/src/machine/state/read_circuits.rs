//! Circuits, in both roles.

use warren_schemas::cell::MAX_HOPS;
use warren_schemas::control::CloseReason;
use warren_schemas::descriptor::MAX_LEN;
use warren_schemas::generated::state as fb;
use warren_schemas::{CircuitHandle, CircuitId, LinkId, RequestId, Timestamp};

use super::read::{Result, State, count, handshake, impossible, leg, parts, retry, suite, target};
use crate::circuit::{Answered, Birth, Building, Circuit, Extending, Next, Origin, Planned, Relay};
use crate::crypto::Direction;
use crate::fragments::{Assembler, MAX_HANDSHAKE};
use crate::layer;
use crate::limits::{MAX_EXTENDS, SAME_ANSWER};
use crate::link::Leg;
use crate::ntor::circuit::Creating;
use crate::ntor::{Purpose, Suite};
use crate::timers::{Alarm, Whose};

/// Who asked for the circuits of a link.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opened {
    ByUs,
    ByThem,
}

impl State<'_> {
    pub(super) fn origin(&mut self, table: &fb::Origin<'_>) -> Result<()> {
        let handle = self.new_circuit(table.handle())?;
        let suite = suite(table.suite())?;
        let building = table.building().map(|building| read_building(&building)).transpose()?;
        let (path, hops) = (table.path(), table.hops());
        let wanted = hops.len() + usize::from(building.is_some());
        let whole = if building.is_some() { wanted <= path.len() } else { wanted == path.len() };
        if !(1..=MAX_HOPS).contains(&path.len()) || !whole || (!hops.is_empty() && table.leg().is_none()) {
            return Err(impossible("path"));
        }
        let mut standing = Vec::with_capacity(MAX_HOPS);
        for hop in hops {
            standing.push(layer::state::read(&hop, Direction::Forward).ok_or(impossible("hop"))?);
        }
        let origin = Origin {
            request: RequestId(table.request()),
            path: path.iter().map(|planned| read_planned(&planned, suite)).collect::<Result<_>>()?,
            hops: standing,
            leg: table.leg().map(|on| self.attach(leg(on), handle, Opened::ByUs)).transpose()?,
            building,
            probe: table.probe().map(|probe| self.probe(probe)).transpose()?,
            born: self.past(table.born()),
            heard: self.past(table.heard()),
            unanswered: self.past(table.unanswered()),
            bytes_in: count(table.bytes_in()),
            bytes_out: count(table.bytes_out()),
            alarm: Alarm::default(),
        };
        self.add(handle, Circuit::Origin(Box::new(origin)), table.alarm())
    }

    pub(super) fn relay(&mut self, table: &fb::Relay<'_>) -> Result<()> {
        let handle = self.new_circuit(table.handle())?;
        let hop = layer::state::read(&table.hop(), Direction::Backward);
        let (sealer, opener) = hop.ok_or(impossible("hop"))?;
        let born = self.past(table.born());
        let share = short(table.share().bytes())?;
        let repeated = self.now < born.after(SAME_ANSWER);
        let created =
            table.created().filter(|_| repeated).map(|created| short(created.bytes())).transpose()?;
        let birth = Birth { share, created: created.unwrap_or_default() };
        let assembling = table.assembling().map(|came| parts(Some(came))).transpose()?;
        let cells_seen = sealer.sealed() + opener.opened();
        let relay = Relay {
            opener,
            sealer,
            previous: self.attach(leg(table.previous()), handle, Opened::ByThem)?,
            next: self.next(table, handle)?,
            birth: repeated.then(|| Box::new(birth)),
            extends: table.extends().min(MAX_EXTENDS),
            assembling: assembling.map(|assembler| Box::new((table.assembling_exchange(), assembler))),
            answered: table.answered().map(|answered| self.answered(&answered)).transpose()?,
            delivered: table.delivered(),
            born,
            heard: self.past(table.heard()),
            bytes_in: count(table.bytes_in()),
            bytes_out: count(table.bytes_out()),
            cells_seen,
            alarm: Alarm::default(),
        };
        self.heir.counts.relayed_circuits += 1;
        self.add(handle, Circuit::Relay(Box::new(relay)), table.alarm())
    }

    /// Whether a circuit's CREATE goes out on that link as soon as it stands.
    pub(super) fn wants(&self, handle: CircuitHandle, link: LinkId) -> bool {
        match self.heir.circuits.get(&handle) {
            Some(Circuit::Origin(origin)) => origin.leg.is_none(),
            Some(Circuit::Relay(relay)) => {
                matches!(&relay.next, Next::Extending(next) if next.link == link && next.leg.is_none())
            }
            None => false,
        }
    }

    fn next(&mut self, table: &fb::Relay<'_>, handle: CircuitHandle) -> Result<Next> {
        match (table.next(), table.extending()) {
            (None, None) => Ok(Next::None),
            (Some(ready), None) => Ok(Next::Ready(self.attach(leg(ready), handle, Opened::ByUs)?)),
            (None, Some(next)) => {
                let on = next.leg().map(|on| self.attach(leg(on), handle, Opened::ByUs)).transpose()?;
                let link = LinkId(next.link());
                if on.is_some_and(|on| on.link != link) {
                    return Err(impossible("leg"));
                }
                Ok(Next::Extending(Box::new(Extending {
                    exchange: next.exchange(),
                    create: short(next.create_bytes().bytes())?,
                    link,
                    leg: on,
                    retry: next.retry().map(retry).transpose()?,
                    parts: parts(next.parts())?,
                    descriptor: next.descriptor().map(|signed| descriptor(signed.bytes())).transpose()?,
                })))
            }
            (Some(_), Some(_)) => Err(impossible("next hop")),
        }
    }

    fn answered(&self, table: &fb::Answered<'_>) -> Result<Answered> {
        let outcome = match table.created() {
            Some(created) => Ok(short(created.bytes())?),
            None => Err(CloseReason(table.reason())),
        };
        let until = self.now.after(SAME_ANSWER).min(Timestamp::from_micros(table.until()));
        Ok(Answered { exchange: table.exchange(), outcome, until })
    }

    /// A handle that was given out; [`State::add`] refuses one that is taken.
    pub(super) fn new_circuit(&self, handle: u32) -> Result<CircuitHandle> {
        let given = self.heir.last_handle.is_some_and(|last| (1..=last).contains(&handle));
        if given { Ok(CircuitHandle(handle)) } else { Err(impossible("handle")) }
    }

    /// Puts a circuit on a link of the right kind, under an id that is free there.
    fn attach(&mut self, leg: Leg, handle: CircuitHandle, opened: Opened) -> Result<Leg> {
        let link = self.heir.links.get_mut(&leg.link).ok_or(impossible("leg on no link"))?;
        let kind = if link.is_theirs() { Opened::ByThem } else { Opened::ByUs };
        let free = leg.id != CircuitId(0) && link.circuits.insert(leg.id, handle).is_none();
        if kind == opened && free { Ok(leg) } else { Err(impossible("leg")) }
    }

    pub(super) fn add(
        &mut self,
        handle: CircuitHandle,
        mut circuit: Circuit,
        armed: Option<u64>,
    ) -> Result<()> {
        let due = circuit.due();
        self.arm(circuit.alarm(), Whose::Circuit(handle), due, armed);
        if self.heir.circuits.insert(handle, circuit).is_some() {
            return Err(impossible("handle"));
        }
        Ok(())
    }
}

fn read_planned(table: &fb::Planned<'_>, of_all: Suite) -> Result<Planned> {
    let signed = descriptor(table.signed().bytes())?;
    let suite = if table.suite() == 0 { of_all } else { suite(table.suite())? };
    Ok(Planned { signed, target: target(table.target()), suite })
}

fn read_building(table: &fb::Building<'_>) -> Result<Building> {
    let (initiator, parts): (_, Assembler) = handshake(table.handshake(), Purpose::Circuit)?;
    let retry = table.retry().map(retry).transpose()?;
    let (handshake, exchange, moved) = (Creating::resume(initiator), table.exchange(), table.moved());
    Ok(Building { handshake, exchange, retry, parts, moved })
}

fn descriptor(signed: &[u8]) -> Result<Vec<u8>> {
    if signed.len() > MAX_LEN { Err(impossible("descriptor")) } else { Ok(signed.to_vec()) }
}

/// A handshake, or part of one.
fn short(bytes: &[u8]) -> Result<Vec<u8>> {
    if bytes.len() > MAX_HANDSHAKE { Err(impossible("length of a handshake")) } else { Ok(bytes.to_vec()) }
}

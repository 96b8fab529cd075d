//! CREATE and CREATED, on both sides of a link.

use warren_schemas::control::CloseReason;
use warren_schemas::{CircuitHandle, CircuitId, LinkId};

use super::Tunnel;
use super::closing::Ending;
use super::context::Context;
use crate::circuit::{Birth, Circuit, Next, Relay};
use crate::drop_reason::DropReason;
use crate::fragments::{Assembler, FRAGMENT_LEN, Fragment, split};
use crate::layer::HopKeys;
use crate::limits::SAME_ANSWER;
use crate::link::Leg;
use crate::message::LinkMessage;
use crate::ntor::circuit::{Create, MAX_CREATE};
use crate::retry::{GIVE_UP, Retry};
use crate::timers::Alarm;

impl Tunnel {
    /// The neighbour wants a circuit.
    pub(super) fn on_create(
        &mut self,
        cx: &mut Context<'_>,
        leg: Leg,
        part: &Fragment<'_>,
    ) -> Result<(), DropReason> {
        let link = self.links.get(&leg.link).ok_or(DropReason::UnknownLink)?;
        if !link.is_theirs() {
            return Err(DropReason::Unexpected);
        }
        if leg.id == CircuitId(0) {
            return Err(DropReason::Malformed);
        }
        let known = link.circuits.get(&leg.id).copied();
        if known.is_none() && self.is_draining() && !self.incomplete.contains(leg) {
            return Err(self.turn_away(leg, part));
        }
        self.judge_suite(leg, part)?;
        if part.total == 1 {
            return self.take_create(cx, leg, known, part.bytes);
        }
        match self.assemble_create(cx, leg, known, part)? {
            Some(create) => self.take_create(cx, leg, known, &create),
            None => Ok(()),
        }
    }

    /// The first part says which suite is wanted: whoever wants another one is told.
    fn judge_suite(&mut self, leg: Leg, part: &Fragment<'_>) -> Result<(), DropReason> {
        let asked = Create::suite_asked(part.bytes).filter(|_| part.index == 0);
        if let Some(Err(fault)) = asked.map(|suite| self.speak(suite)) {
            self.say(leg.link, leg.id, &LinkMessage::CreateFailed(CloseReason::Refused));
            return Err(fault);
        }
        Ok(())
    }

    /// Puts a create together. What can be refused is refused before anything of it is kept.
    fn assemble_create(
        &mut self,
        cx: &Context<'_>,
        leg: Leg,
        known: Option<CircuitHandle>,
        part: &Fragment<'_>,
    ) -> Result<Option<Vec<u8>>, DropReason> {
        if usize::from(part.total) > MAX_CREATE.div_ceil(FRAGMENT_LEN) {
            return Err(DropReason::Fragment);
        }
        if !self.incomplete.contains(leg) {
            match known {
                Some(handle) => self.may_repeat(cx, handle, leg)?,
                None if part.index == 0 => self.admit(cx, leg)?,
                // It is told once, with the first part.
                None => self.may_create(cx, leg.link).map_err(|(_, fault)| fault)?,
            }
        }
        self.incomplete.push(cx.now, leg, part)
    }

    fn take_create(
        &mut self,
        cx: &mut Context<'_>,
        leg: Leg,
        known: Option<CircuitHandle>,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        let create = Create::decode(bytes)?;
        if let Some(handle) = known {
            return self.repeat_created(cx, handle, leg, &create);
        }
        if self.created.get(cx.now, &create.name().to_vec()).is_some() {
            return Err(DropReason::Unexpected);
        }
        // One of several parts was admitted with the first of them.
        if bytes.len() <= FRAGMENT_LEN {
            self.admit(cx, leg)?;
        }
        let (created, keys) = self.answer_create(cx, &create)?;
        self.add_relayed(cx, leg, &create, created, keys)
    }

    /// Whether the neighbour may have another circuit; if not it is told.
    fn admit(&mut self, cx: &Context<'_>, leg: Leg) -> Result<(), DropReason> {
        self.may_create(cx, leg.link).map_err(|(reason, fault)| {
            self.say(leg.link, leg.id, &LinkMessage::CreateFailed(reason));
            fault
        })
    }

    fn may_create(&mut self, cx: &Context<'_>, link: LinkId) -> Result<(), (CloseReason, DropReason)> {
        let full = (CloseReason::Limit, DropReason::Limit);
        let settings = self.settings.as_ref().ok_or((CloseReason::Refused, DropReason::NotRunning))?;
        if !settings.config.relay {
            return Err((CloseReason::Refused, DropReason::NotRelay));
        }
        let bounds = &settings.bounds;
        if self.counts.relayed_circuits as usize >= bounds.circuits {
            return Err(full);
        }
        let link = self.links.get_mut(&link).ok_or(full)?;
        if link.circuits.len() >= bounds.circuits_per_link {
            return Err(full);
        }
        if link.creates.take(cx.now, 1) { Ok(()) } else { Err((CloseReason::Limit, DropReason::Rate)) }
    }

    fn answer_create(
        &self,
        cx: &mut Context<'_>,
        create: &Create<'_>,
    ) -> Result<(Vec<u8>, HopKeys), DropReason> {
        let settings = self.settings.as_ref().ok_or(DropReason::NotRunning)?;
        let target = settings.own_target(cx.now, create.epoch)?;
        let random = cx.random();
        let env = &mut *cx.env;
        create.answer(&target, random, &[], &mut |epoch, point| env.onion_dh(epoch, point))
    }

    fn add_relayed(
        &mut self,
        cx: &mut Context<'_>,
        leg: Leg,
        create: &Create<'_>,
        created: Vec<u8>,
        keys: HopKeys,
    ) -> Result<(), DropReason> {
        let handle = self.new_handle(cx).ok_or(DropReason::Limit)?;
        let link = self.links.get_mut(&leg.link).ok_or(DropReason::UnknownLink)?;
        link.circuits.insert(leg.id, handle);
        let (sealer, opener) = keys.relay();
        let relay = Relay {
            opener,
            sealer,
            previous: leg,
            next: Next::None,
            birth: Some(Box::new(Birth { share: create.name().to_vec(), created })),
            extends: 0,
            assembling: None,
            answered: None,
            delivered: false,
            born: cx.now,
            heard: cx.now,
            bytes_in: 0,
            bytes_out: 0,
            cells_seen: 0,
            alarm: Alarm::default(),
        };
        self.created.insert(create.name().to_vec(), (), cx.now.after(SAME_ANSWER));
        self.counts.relayed_circuits += 1;
        self.circuits.insert(handle, Circuit::Relay(Box::new(relay)));
        self.arm_circuit(handle);
        self.arm_link(leg.link);
        self.send_created(handle);
        Ok(())
    }

    fn repeat_created(
        &mut self,
        cx: &Context<'_>,
        handle: CircuitHandle,
        leg: Leg,
        create: &Create<'_>,
    ) -> Result<(), DropReason> {
        self.may_repeat(cx, handle, leg)?;
        let same = matches!(self.circuits.get(&handle),
            Some(Circuit::Relay(relay))
                if relay.birth.as_ref().is_some_and(|birth| birth.share == create.name()));
        if !same {
            return Err(DropReason::Unexpected);
        }
        self.send_created(handle);
        Ok(())
    }

    /// Whether the CREATE of a circuit that stands may come again: on its own leg, for a while.
    fn may_repeat(&self, cx: &Context<'_>, handle: CircuitHandle, leg: Leg) -> Result<(), DropReason> {
        match self.circuits.get(&handle) {
            Some(Circuit::Relay(relay))
                if relay.previous == leg && cx.now < relay.born.after(SAME_ANSWER) =>
            {
                Ok(())
            }
            _ => Err(DropReason::Unexpected),
        }
    }

    fn send_created(&mut self, handle: CircuitHandle) {
        let Some(Circuit::Relay(relay)) = self.circuits.get(&handle) else { return };
        let Some(birth) = &relay.birth else { return };
        let (leg, created) = (relay.previous, birth.created.clone());
        for part in split(&created).into_iter().flatten() {
            self.say(leg.link, leg.id, &LinkMessage::Created(part));
        }
    }

    /// Sends the first CREATE of a circuit that waits for this link.
    pub(super) fn start_create(&mut self, cx: &mut Context<'_>, handle: CircuitHandle, link: LinkId) {
        if let Err(reason) = self.try_create(cx, handle, link) {
            self.building_failed(cx, handle, reason);
        }
    }

    fn try_create(
        &mut self,
        cx: &mut Context<'_>,
        handle: CircuitHandle,
        id: LinkId,
    ) -> Result<(), CloseReason> {
        let most = self.settings.as_ref().map_or(0, |settings| settings.bounds.circuits_per_link);
        // Whoever has gone meanwhile needs no circuit.
        let Some(circuit) = self.circuits.get_mut(&handle) else { return Ok(()) };
        let link = self.links.get_mut(&id).ok_or(CloseReason::Link)?;
        if link.circuits.len() >= most {
            return Err(CloseReason::Limit);
        }
        let leg = loop {
            let number = CircuitId(u32::from_be_bytes(cx.random()));
            if number != CircuitId(0) && !link.circuits.contains_key(&number) {
                break Leg { link: id, id: number };
            }
        };
        // On its second way it keeps the time of the first.
        let retry = |before: Option<Retry>| {
            Some(before.map_or_else(|| Retry::start(cx.now, GIVE_UP), |paused| paused.resumed(cx.now)))
        };
        match circuit {
            Circuit::Origin(origin) => {
                origin.leg = Some(leg);
                if let Some(building) = &mut origin.building {
                    building.retry = retry(building.retry);
                }
            }
            Circuit::Relay(relay) => {
                let Next::Extending(extending) = &mut relay.next else { return Ok(()) };
                if extending.link != id {
                    return Ok(());
                }
                extending.leg = Some(leg);
                extending.retry = retry(extending.retry);
            }
        }
        link.circuits.insert(leg.id, handle);
        self.arm_circuit(handle);
        self.arm_link(id);
        self.send_create(handle);
        Ok(())
    }

    /// Sends CREATE, for the first time or again.
    pub(super) fn send_create(&mut self, handle: CircuitHandle) {
        let (leg, create) = match self.circuits.get(&handle) {
            Some(Circuit::Origin(origin)) => {
                (origin.leg, origin.building.as_ref().map(|building| building.handshake.create()))
            }
            Some(Circuit::Relay(relay)) => (relay.next_leg(), relay.create_for_next()),
            None => return,
        };
        let (Some(leg), Some(create)) = (leg, create) else { return };
        for part in split(&create).into_iter().flatten() {
            self.say(leg.link, leg.id, &LinkMessage::Create(part));
        }
    }

    /// The next hop has answered.
    pub(super) fn on_created(
        &mut self,
        cx: &mut Context<'_>,
        leg: Leg,
        part: &Fragment<'_>,
    ) -> Result<(), DropReason> {
        let handle = self.circuit_on(leg)?;
        let whole = self.first_parts(handle, leg).ok_or(DropReason::Unexpected)?.push(part)?;
        let Some(created) = whole else { return Ok(()) };
        match self.circuits.get(&handle) {
            Some(Circuit::Origin(_)) => self.finish_hop(cx, handle, &created),
            _ => self.extension_done(cx, handle, leg, created),
        }
    }

    /// Where the parts of CREATED on that leg are put together, if it is awaited.
    fn first_parts(&mut self, handle: CircuitHandle, leg: Leg) -> Option<&mut Assembler> {
        match self.circuits.get_mut(&handle)? {
            Circuit::Origin(origin) if origin.hops.is_empty() => Some(&mut origin.building.as_mut()?.parts),
            Circuit::Relay(relay) => match &mut relay.next {
                Next::Extending(extending) if extending.leg == Some(leg) => Some(&mut extending.parts),
                _ => None,
            },
            Circuit::Origin(_) => None,
        }
    }

    pub(super) fn on_create_failed(
        &mut self,
        cx: &mut Context<'_>,
        leg: Leg,
        reason: CloseReason,
    ) -> Result<(), DropReason> {
        let handle = self.circuit_on(leg)?;
        self.first_parts(handle, leg).ok_or(DropReason::Unexpected)?;
        // The neighbour keeps no circuit that it could be told to destroy.
        self.detach(cx, leg);
        match self.circuits.get_mut(&handle) {
            Some(Circuit::Origin(origin)) => origin.leg = None,
            Some(Circuit::Relay(relay)) => relay.forget_next_leg(),
            None => {}
        }
        if reason == CloseReason::Moved {
            self.go_elsewhere(cx, handle, leg.link);
        } else {
            self.building_failed(cx, handle, reason);
        }
        Ok(())
    }

    /// The hop that was being added will not be: a circuit of our own ends, a relayed one stays.
    pub(super) fn building_failed(&mut self, cx: &Context<'_>, handle: CircuitHandle, reason: CloseReason) {
        match self.circuits.get(&handle) {
            Some(Circuit::Origin(_)) => self.end_circuit(cx, handle, Ending::of(reason)),
            Some(Circuit::Relay(_)) => self.extension_failed(cx, handle, reason),
            None => {}
        }
    }
}

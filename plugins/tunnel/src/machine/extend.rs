//! EXTEND at the relay that is asked to make a circuit longer.

use std::net::SocketAddr;

use warren_schemas::control::CloseReason;
use warren_schemas::descriptor::{Descriptor, SignedDescriptor};
use warren_schemas::{CircuitHandle, Timestamp};

use super::Tunnel;
use super::context::Context;
use super::opening::For;
use crate::circuit::{Answered, Circuit, Extending, Next, Relay};
use crate::drop_reason::DropReason;
use crate::fragments::{Assembler, Fragment, split};
use crate::limits::{MAX_EXTENDS, SAME_ANSWER, may_send_to};
use crate::link::Leg;
use crate::message::{Extend, HopMessage, LinkMessage};

/// Why an EXTEND is refused: what the originator is told, and what is counted.
type Refusal = (CloseReason, DropReason);

const REFUSED: Refusal = (CloseReason::Refused, DropReason::Target);

impl Tunnel {
    /// A part of an EXTEND.
    pub(super) fn on_extend(
        &mut self,
        cx: &mut Context<'_>,
        handle: CircuitHandle,
        exchange: u32,
        part: &Fragment<'_>,
    ) -> Result<(), DropReason> {
        let relay = self.relay_mut(handle)?;
        if let Some(answered) = relay.answered.as_ref().filter(|answered| answered.exchange == exchange) {
            // Told already. After the time of identical answers the originator has given up.
            return if cx.now < answered.until {
                self.send_extended(handle)
            } else {
                Err(DropReason::Unexpected)
            };
        }
        if matches!(&relay.next, Next::Extending(extending) if extending.exchange == exchange) {
            return Ok(());
        }
        // Judged before anything is kept: parts that can come to nothing take no memory.
        if let Err((reason, fault)) = relay.may_extend() {
            relay.assembling = None;
            self.answer_extend(cx, handle, exchange, Err(reason));
            return Err(fault);
        }
        let Some(extend) = relay.assemble_extend(exchange, part)? else { return Ok(()) };
        relay.extends += 1;
        if let Err((reason, fault)) = self.extend(cx, handle, exchange, &extend) {
            self.answer_extend(cx, handle, exchange, Err(reason));
            return Err(fault);
        }
        Ok(())
    }

    fn extend(
        &mut self,
        cx: &mut Context<'_>,
        handle: CircuitHandle,
        exchange: u32,
        extend: &[u8],
    ) -> Result<(), Refusal> {
        let malformed = |fault| (CloseReason::Protocol, fault);
        let relay = self.relay_mut(handle).map_err(malformed)?;
        let previous = relay.previous;
        let Extend { descriptor, create } = Extend::decode(extend).map_err(malformed)?;
        // The suite is between originator and next hop; all that is asked here is that the hop lists it.
        let suite = create.get(1).copied().ok_or(malformed(DropReason::Malformed))?;
        let (target, addresses) = self.judge_target(cx, descriptor, suite, previous)?;
        let link = self.link_to(cx, &target, addresses, For::Others);
        let link = link.map_err(|reason| (reason, DropReason::Limit))?;
        let relay = self.relay_mut(handle).map_err(malformed)?;
        relay.next = Next::Extending(Box::new(Extending {
            exchange,
            create: create.to_vec(),
            link,
            leg: None,
            retry: None,
            parts: Assembler::new(),
            descriptor: Some(descriptor.to_vec()),
        }));
        self.join_link(cx, handle, link);
        Ok(())
    }

    /// Whether a circuit may go on to that relay; gives the addresses that may be sent to.
    pub(super) fn judge_target(
        &self,
        cx: &Context<'_>,
        signed: &[u8],
        suite: u8,
        previous: Leg,
    ) -> Result<(Descriptor, Vec<SocketAddr>), Refusal> {
        let settings = self.settings.as_ref().ok_or((CloseReason::Refused, DropReason::NotRunning))?;
        let descriptor = SignedDescriptor::from_bytes(signed.to_vec())
            .verify(cx.now)
            .map_err(|_| (CloseReason::Descriptor, DropReason::Descriptor))?;
        let own = descriptor.peer_id == settings.config.peer_id;
        if own || !descriptor.relay || !descriptor.suites.contains(&suite) {
            return Err(REFUSED);
        }
        // A circuit does not turn back to the node it came from.
        let back = self.links.get(&previous.link).map(|link| link.address);
        let addresses: Vec<SocketAddr> = descriptor
            .addresses
            .iter()
            .copied()
            .filter(|address| may_send_to(&settings.config, *address))
            .collect();
        if addresses.is_empty() || addresses.iter().any(|address| Some(*address) == back) {
            return Err(REFUSED);
        }
        Ok((descriptor, addresses))
    }

    /// CREATED came for an extension.
    pub(super) fn extension_done(
        &mut self,
        cx: &Context<'_>,
        handle: CircuitHandle,
        leg: Leg,
        created: Vec<u8>,
    ) -> Result<(), DropReason> {
        let relay = self.relay_mut(handle)?;
        let Next::Extending(extending) = &relay.next else { return Err(DropReason::Unexpected) };
        let exchange = extending.exchange;
        relay.next = Next::Ready(leg);
        self.answer_extend(cx, handle, exchange, Ok(created));
        Ok(())
    }

    /// An extension will not be; the circuit stays as it was before.
    pub(super) fn extension_failed(&mut self, cx: &Context<'_>, handle: CircuitHandle, reason: CloseReason) {
        let Ok(relay) = self.relay_mut(handle) else { return };
        let Next::Extending(extending) = std::mem::replace(&mut relay.next, Next::None) else { return };
        if let Some(leg) = extending.leg {
            self.say(leg.link, leg.id, &LinkMessage::Destroy(reason));
            self.detach(cx, leg);
        } else if let Some(pending) = self.pending.get_mut(&extending.link) {
            // It may be asked to extend there again.
            pending.waiting.retain(|other| *other != handle);
        }
        self.answer_extend(cx, handle, extending.exchange, Err(reason));
    }

    fn answer_extend(
        &mut self,
        cx: &Context<'_>,
        handle: CircuitHandle,
        exchange: u32,
        outcome: Result<Vec<u8>, CloseReason>,
    ) {
        let Ok(relay) = self.relay_mut(handle) else { return };
        relay.answered = Some(Answered { exchange, outcome, until: cx.now.after(SAME_ANSWER) });
        if let Err(reason) = self.send_extended(handle) {
            self.counts.drop(reason);
        }
    }

    fn send_extended(&mut self, handle: CircuitHandle) -> Result<(), DropReason> {
        let answered = self.relay_mut(handle)?.answered.as_ref().ok_or(DropReason::Unexpected)?;
        let exchange = answered.exchange;
        match answered.outcome.clone() {
            Err(reason) => self.tell_originator(handle, &HopMessage::ExtendFailed { exchange, reason }),
            Ok(created) => split(&created)
                .into_iter()
                .flatten()
                .try_for_each(|part| self.tell_originator(handle, &HopMessage::Extended { exchange, part })),
        }
    }

    fn relay_mut(&mut self, handle: CircuitHandle) -> Result<&mut Relay, DropReason> {
        match self.circuits.get_mut(&handle) {
            Some(Circuit::Relay(relay)) => Ok(relay),
            _ => Err(DropReason::UnknownCircuit),
        }
    }
}

impl Relay {
    /// Whether it waits for an answer on that link.
    pub(super) fn is_extending_on(&self, link: warren_schemas::LinkId) -> bool {
        matches!(&self.next, Next::Extending(extending) if extending.link == link)
    }

    /// What CREATE says to the next hop.
    pub(super) fn create_for_next(&self) -> Option<Vec<u8>> {
        match &self.next {
            Next::Extending(extending) => Some(extending.create.clone()),
            _ => None,
        }
    }

    /// The next hop has no circuit after all.
    pub(super) fn forget_next_leg(&mut self) {
        if let Next::Extending(extending) = &mut self.next {
            extending.leg = None;
        }
    }

    fn may_extend(&self) -> Result<(), Refusal> {
        if self.delivered || !matches!(self.next, Next::None) {
            return Err((CloseReason::Refused, DropReason::Unexpected));
        }
        if self.extends >= MAX_EXTENDS {
            return Err((CloseReason::Limit, DropReason::Limit));
        }
        Ok(())
    }

    /// Forgets answers that nobody may ask for again, and parts that were never completed.
    pub(super) fn tidy(&mut self, now: Timestamp) {
        if let Some(answered) = self.answered.as_mut().filter(|answered| now >= answered.until) {
            answered.outcome = Err(CloseReason::Unspecified);
        }
        self.assembling = None;
        if now >= self.born.after(SAME_ANSWER) {
            self.birth = None;
        }
    }

    /// Puts parts together, of one attempt at a time: the originator has given up the one before.
    fn assemble_extend(&mut self, exchange: u32, part: &Fragment<'_>) -> Result<Option<Vec<u8>>, DropReason> {
        let (_, parts) = &mut **match &mut self.assembling {
            Some(current) if current.0 == exchange => current,
            other => other.insert(Box::new((exchange, Assembler::new()))),
        };
        let whole = parts.push(part)?;
        if whole.is_some() {
            self.assembling = None;
        }
        Ok(whole)
    }
}

//! Links that take no new circuits: a worker that drains says so, and its neighbours open other ones.

use std::net::SocketAddr;

use warren_schemas::control::CloseReason;
use warren_schemas::descriptor::{Descriptor, SignedDescriptor};
use warren_schemas::{CircuitHandle, LinkId};

use super::Tunnel;
use super::context::Context;
use super::opening::For;
use crate::circuit::{Circuit, Extending, Next};
use crate::drop_reason::DropReason;
use crate::fragments::{Assembler, Fragment};
use crate::limits::may_send_to;
use crate::link::Leg;
use crate::message::LinkMessage;
use crate::retry::Retry;

impl Tunnel {
    /// Whether neighbours get no new circuits here. Those that stand are still made longer.
    pub(super) fn is_draining(&self) -> bool {
        self.settings.as_ref().is_some_and(|settings| settings.config.relay && settings.config.draining)
    }

    /// Sends a CREATE to another link. It is told once, with the first part, whatever the suite:
    /// the worker behind the other link may speak more than this one.
    pub(super) fn turn_away(&mut self, leg: Leg, part: &Fragment<'_>) -> DropReason {
        if part.index == 0 {
            self.say(leg.link, leg.id, &LinkMessage::CreateFailed(CloseReason::Moved));
        }
        DropReason::Draining
    }

    /// The neighbour takes no new circuits on that link: CREATE goes out on another one, once.
    pub(super) fn go_elsewhere(&mut self, cx: &mut Context<'_>, handle: CircuitHandle, link: LinkId) {
        self.retire_link(cx, link);
        match self.link_elsewhere(cx, handle) {
            Ok(link) => self.join_link(cx, handle, link),
            Err(reason) => self.building_failed(cx, handle, reason),
        }
    }

    /// No new circuit goes this way. Without old ones the link is of no use.
    fn retire_link(&mut self, cx: &Context<'_>, id: LinkId) {
        let Some(link) = self.links.get(&id) else { return };
        let unused = link.circuits.is_empty();
        if let Some(relay) = link.relay {
            self.forget_way(relay, id);
        }
        if unused {
            self.close_link(cx, id, CloseReason::Finished);
        }
    }

    /// Another link for the hop that is being added. A hop that sends us on a second time takes no
    /// circuits; neither originator nor host need to know of links.
    fn link_elsewhere(&mut self, cx: &mut Context<'_>, handle: CircuitHandle) -> Result<LinkId, CloseReason> {
        match self.circuits.get_mut(&handle) {
            Some(Circuit::Origin(origin)) => {
                let building = origin.building.as_mut().ok_or(CloseReason::Limit)?;
                if std::mem::replace(&mut building.moved, true) {
                    return Err(CloseReason::Limit);
                }
                building.parts = Assembler::new();
                building.retry = building.retry.map(Retry::paused);
                let signed = origin.path.first().map(|planned| planned.signed.clone()).unwrap_or_default();
                let (relay, addresses) = self.first_hop(cx, signed)?;
                self.link_to(cx, &relay, addresses, For::Ourselves)
            }
            Some(Circuit::Relay(_)) => self.extend_elsewhere(cx, handle),
            None => Err(CloseReason::Link),
        }
    }

    fn extend_elsewhere(
        &mut self,
        cx: &mut Context<'_>,
        handle: CircuitHandle,
    ) -> Result<LinkId, CloseReason> {
        let (previous, extending) = self.extending(handle).ok_or(CloseReason::Link)?;
        let signed = extending.descriptor.take().ok_or(CloseReason::Limit)?;
        extending.parts = Assembler::new();
        extending.retry = extending.retry.map(Retry::paused);
        let suite = extending.create.get(1).copied().ok_or(CloseReason::Protocol)?;
        let judged = self.judge_target(cx, &signed, suite, previous);
        let (next, addresses) = judged.map_err(|(reason, _)| reason)?;
        let link = self.link_to(cx, &next, addresses, For::Others)?;
        let (_, extending) = self.extending(handle).ok_or(CloseReason::Link)?;
        extending.link = link;
        Ok(link)
    }

    fn extending(&mut self, handle: CircuitHandle) -> Option<(Leg, &mut Extending)> {
        let Some(Circuit::Relay(relay)) = self.circuits.get_mut(&handle) else { return None };
        let Next::Extending(extending) = &mut relay.next else { return None };
        Some((relay.previous, extending))
    }

    /// The first hop's descriptor again; it held when the circuit was asked for.
    fn first_hop(
        &self,
        cx: &Context<'_>,
        signed: Vec<u8>,
    ) -> Result<(Descriptor, Vec<SocketAddr>), CloseReason> {
        let settings = self.settings.as_ref().ok_or(CloseReason::Refused)?;
        let signed = SignedDescriptor::from_bytes(signed);
        let descriptor = signed.verify(cx.now).map_err(|_| CloseReason::Descriptor)?;
        let mut addresses = descriptor.addresses.clone();
        addresses.retain(|address| may_send_to(&settings.config, *address));
        if addresses.is_empty() { Err(CloseReason::Refused) } else { Ok((descriptor, addresses)) }
    }
}

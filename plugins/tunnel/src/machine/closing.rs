//! The end of circuits and links.

use warren_schemas::control::{CircuitEnd, CloseReason, Event};
use warren_schemas::{CircuitHandle, CircuitId, LinkId, RequestId};

use super::Tunnel;
use super::context::Context;
use crate::circuit::{Circuit, Origin};
use crate::drop_reason::DropReason;
use crate::link::Leg;
use crate::message::LinkMessage;

/// How a circuit ends.
#[derive(Clone, Copy)]
pub(super) struct Ending {
    /// Why; goes over the wire.
    pub reason: CloseReason,
    /// The host's request, if it asked for the end.
    pub asked: RequestId,
    /// The link that knows already.
    pub from: Option<LinkId>,
}

impl Ending {
    /// For a reason of our own.
    pub(super) const fn of(reason: CloseReason) -> Self {
        Self { reason, asked: RequestId(0), from: None }
    }
}

impl Tunnel {
    pub(super) fn close_as_asked(
        &mut self,
        cx: &Context<'_>,
        asked: RequestId,
        handle: CircuitHandle,
        reason: CloseReason,
    ) {
        if self.circuits.contains_key(&handle) {
            return self.end_circuit(cx, handle, Ending { asked, ..Ending::of(reason) });
        }
        // Which end it was is forgotten; the host asked about an end that is gone.
        let end = CircuitEnd::Originator;
        self.extras.event(asked, &Event::CircuitDead { handle, end, reason: CloseReason::Unspecified });
    }

    pub(super) fn on_destroy(
        &mut self,
        cx: &Context<'_>,
        leg: Leg,
        reason: CloseReason,
    ) -> Result<(), DropReason> {
        let handle = self.circuit_on(leg)?;
        self.end_circuit(cx, handle, Ending { from: Some(leg.link), ..Ending::of(reason) });
        Ok(())
    }

    pub(super) fn circuit_on(&self, leg: Leg) -> Result<CircuitHandle, DropReason> {
        let link = self.links.get(&leg.link).ok_or(DropReason::UnknownLink)?;
        link.circuits.get(&leg.id).copied().ok_or(DropReason::UnknownCircuit)
    }

    /// Ends a circuit: DESTROY to its neighbours, an event if the host knows of it.
    pub(super) fn end_circuit(&mut self, cx: &Context<'_>, handle: CircuitHandle, ending: Ending) {
        let Some(circuit) = self.circuits.remove(&handle) else { return };
        self.shaper.forget(handle);
        let reason = ending.reason;
        match circuit {
            Circuit::Origin(origin) => {
                self.leave(cx, origin.leg, ending);
                self.extras.event(ending.request(&origin), &farewell(&origin, handle, reason));
            }
            Circuit::Relay(relay) => {
                self.counts.relayed_circuits -= 1;
                self.leave(cx, Some(relay.previous), ending);
                self.leave(cx, relay.next_leg(), ending);
                if relay.delivered {
                    let end = CircuitEnd::LastHop;
                    self.extras.event(ending.asked, &Event::CircuitDead { handle, end, reason });
                }
            }
        }
    }

    fn leave(&mut self, cx: &Context<'_>, leg: Option<Leg>, ending: Ending) {
        let Some(leg) = leg else { return };
        if ending.from != Some(leg.link) {
            self.say(leg.link, leg.id, &LinkMessage::Destroy(ending.reason));
        }
        self.detach(cx, leg);
    }

    /// A circuit is no longer on that link.
    pub(super) fn detach(&mut self, cx: &Context<'_>, leg: Leg) {
        if let Some(link) = self.links.get_mut(&leg.link) {
            link.circuits.remove(&leg.id);
            link.used = cx.now;
        }
    }

    /// Says goodbye on a link and drops it.
    pub(super) fn close_link(&mut self, cx: &Context<'_>, id: LinkId, reason: CloseReason) {
        self.say(id, CircuitId(0), &LinkMessage::Close(reason));
        self.drop_link(cx, id, CloseReason::Link);
    }

    /// Forgets a link; its circuits end with `reason`.
    pub(super) fn drop_link(&mut self, cx: &Context<'_>, id: LinkId, reason: CloseReason) {
        let Some(link) = self.links.remove(&id) else { return };
        if link.half_open {
            self.count_out(link.address, link.proven);
        }
        if let Some(relay) = link.relay {
            self.forget_way(relay, id);
        }
        for handle in link.circuits.into_values() {
            self.lost_link(cx, handle, id, reason);
        }
    }

    /// A circuit whose link is gone. A relay's extension that has not answered is only that.
    fn lost_link(&mut self, cx: &Context<'_>, handle: CircuitHandle, link: LinkId, reason: CloseReason) {
        let extending = match self.circuits.get(&handle) {
            Some(Circuit::Relay(relay)) => relay.is_extending_on(link),
            _ => false,
        };
        if extending {
            self.extension_failed(cx, handle, reason);
        } else {
            self.end_circuit(cx, handle, Ending { from: Some(link), ..Ending::of(reason) });
        }
    }
}

impl Ending {
    fn request(&self, origin: &Origin) -> RequestId {
        if origin.building.is_some() { origin.request } else { self.asked }
    }
}

fn farewell(origin: &Origin, handle: CircuitHandle, reason: CloseReason) -> Event {
    if origin.building.is_some() {
        let hop = u8::try_from(origin.hops.len() + 1).unwrap_or(u8::MAX);
        return Event::CircuitFailed { reason, hop };
    }
    Event::CircuitDead { handle, end: CircuitEnd::Originator, reason }
}

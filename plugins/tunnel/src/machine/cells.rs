//! The way of a cell through a node. Nothing here allocates.

use std::ops::Range;

use warren_schemas::CircuitHandle;
use warren_schemas::batch::{HEADROOM, STRIDE};
use warren_schemas::cell::{LAYER_LEN, MAX_HOPS, MAX_INNER};
use warren_schemas::control::CircuitEnd;

use super::Tunnel;
use super::context::{Context, Outcome, Verdict};
use crate::circuit::{Circuit, Next};
use crate::drop_reason::DropReason;
use crate::link::Leg;
use crate::message::command;
use crate::timers::Whose;

impl Tunnel {
    /// A cell from the previous hop: our layer comes off.
    pub(super) fn forward(
        &mut self,
        cx: &mut Context<'_>,
        region: &mut [u8],
        layer: Range<usize>,
        handle: CircuitHandle,
    ) -> Outcome {
        let Some(Circuit::Relay(relay)) = self.circuits.get_mut(&handle) else {
            return Err(DropReason::UnknownCircuit);
        };
        let bytes = region.get_mut(layer.clone()).ok_or(DropReason::NoRoom)?;
        let (command, inner) = relay.opener.open(bytes)?;
        relay.heard = cx.now;
        let inner = layer.start + inner.start..layer.start + inner.end;
        match (command, &relay.next) {
            (command::RELAY, _) if inner.len() < LAYER_LEN => Err(DropReason::Malformed),
            (command::RELAY, Next::Ready(leg)) => {
                let leg = *leg;
                self.pass_on(cx, region, inner, handle, leg)
            }
            (command::RELAY, _) => Err(DropReason::Unexpected),
            _ => self.for_this_hop(cx, handle, command, region, inner),
        }
    }

    /// A cell from the next hop: our cover goes around it, or, at the originator, all come off.
    pub(super) fn backward(
        &mut self,
        cx: &mut Context<'_>,
        region: &mut [u8],
        layer: Range<usize>,
        handle: CircuitHandle,
    ) -> Outcome {
        match self.circuits.get_mut(&handle) {
            Some(Circuit::Relay(relay)) => {
                if !matches!(relay.next, Next::Ready(_)) {
                    return Err(DropReason::Unexpected);
                }
                let covered = relay.sealer.cover(region, layer.start, layer.len())?;
                relay.heard = cx.now;
                let previous = relay.previous;
                self.pass_on(cx, region, covered, handle, previous)
            }
            Some(Circuit::Origin(_)) => self.arrived(cx, region, layer, handle),
            None => Err(DropReason::UnknownCircuit),
        }
    }

    fn arrived(
        &mut self,
        cx: &mut Context<'_>,
        region: &mut [u8],
        mut place: Range<usize>,
        handle: CircuitHandle,
    ) -> Outcome {
        let Some(Circuit::Origin(origin)) = self.circuits.get_mut(&handle) else {
            return Err(DropReason::UnknownCircuit);
        };
        let mut covers = [0; MAX_HOPS];
        for index in 0..origin.hops.len() {
            let bytes = region.get_mut(place.clone()).ok_or(DropReason::NoRoom)?;
            let (outer, rest) = origin.hops.split_at_mut(index);
            let ([(_, opener), further @ ..], Some(cover)) = (rest, covers.get_mut(index)) else { break };
            let last = further.is_empty();
            if !last && let Some((counter, inner)) = opener.uncover(bytes)? {
                *cover = counter;
                place = place.start + inner.start..place.start + inner.end;
                continue;
            }
            let (command, inner) = opener.open(bytes)?;
            // It is right, and so is all that was around it.
            for ((_, opener), counter) in outer.iter_mut().zip(covers) {
                opener.confirm(counter);
            }
            place = place.start + inner.start..place.start + inner.end;
            if last {
                origin.heard = cx.now;
            }
            match command {
                command::DATA if last && origin.building.is_none() => {}
                command::DATA | command::RELAY => return Err(DropReason::Unexpected),
                _ => return self.message_of_hop(cx, handle, last, command, region, place),
            }
            check_inner(&place)?;
            origin.bytes_in += place.len() as u64;
            self.counts.cells_delivered += 1;
            return Ok(Verdict::Deliver(handle, CircuitEnd::Originator, place));
        }
        Err(DropReason::Unexpected)
    }

    /// An inner datagram of the host, for the other end of the circuit.
    pub(super) fn outgoing(
        &mut self,
        cx: &mut Context<'_>,
        region: &mut [u8],
        place: Range<usize>,
        handle: CircuitHandle,
    ) -> Outcome {
        check_inner(&place)?;
        let bytes = place.len() as u64;
        match self.circuits.get_mut(&handle) {
            Some(Circuit::Origin(origin)) if origin.building.is_none() => {
                let last = origin.hops.len().saturating_sub(1);
                let leg = origin.leg.ok_or(DropReason::NoLink)?;
                let layer = origin.seal(region, place, last, command::DATA)?;
                origin.bytes_out += bytes;
                if origin.unanswered <= origin.heard {
                    origin.unanswered = cx.now;
                    let silent_at = origin.silent_at();
                    self.timers.arm(&mut origin.alarm, Whose::Circuit(handle), silent_at);
                }
                self.counts.cells_originated += 1;
                self.launch(region, layer, leg)
            }
            Some(Circuit::Relay(relay)) if relay.delivered => {
                let layer = relay.sealer.seal(region, place.start, place.len(), command::DATA)?;
                relay.bytes_out += bytes;
                let previous = relay.previous;
                self.counts.cells_originated += 1;
                self.shape(cx, region, layer, handle, previous)
            }
            _ => Err(DropReason::UnknownHandle),
        }
    }

    /// A relayed cell goes on, now or when the rate lets it.
    fn pass_on(
        &mut self,
        cx: &Context<'_>,
        region: &mut [u8],
        body: Range<usize>,
        handle: CircuitHandle,
        leg: Leg,
    ) -> Outcome {
        self.counts.cells_relayed += 1;
        self.counts.bytes_relayed += body.len() as u64;
        self.shape(cx, region, body, handle, leg)
    }

    fn shape(
        &mut self,
        cx: &Context<'_>,
        region: &mut [u8],
        body: Range<usize>,
        handle: CircuitHandle,
        leg: Leg,
    ) -> Outcome {
        if self.shaper.pass(cx.now, body.len()) {
            return self.launch(region, body, leg);
        }
        let body = region.get(body).ok_or(DropReason::NoRoom)?;
        self.enqueue(cx.now, handle, leg, body)?;
        Ok(Verdict::Taken)
    }

    /// Puts the link's header in front of the layer at `body`.
    fn launch(&mut self, region: &mut [u8], body: Range<usize>, leg: Leg) -> Outcome {
        let link = self.links.get_mut(&leg.link).ok_or(DropReason::NoLink)?;
        let place = link.sealer.seal_cell(region, body.start, body.len(), leg.id)?;
        Ok(Verdict::Send(link.address, place))
    }

    /// Sends a layer that is not in a slot.
    pub(super) fn send_layer(&mut self, leg: Leg, layer: &[u8]) -> Result<(), DropReason> {
        let mut buf = [0; STRIDE];
        let body = HEADROOM..HEADROOM + layer.len();
        buf.get_mut(body.clone()).ok_or(DropReason::TooLong)?.copy_from_slice(layer);
        if let Verdict::Send(address, place) = self.launch(&mut buf, body, leg)? {
            self.extras.send(address, buf.get(place).unwrap_or_default());
        }
        Ok(())
    }
}

fn check_inner(place: &Range<usize>) -> Result<(), DropReason> {
    match place.len() {
        0 => Err(DropReason::Malformed),
        1..=MAX_INNER => Ok(()),
        _ => Err(DropReason::TooLong),
    }
}

//! What hops and originator say to each other through the layers.

use std::ops::Range;

use warren_schemas::CircuitHandle;
use warren_schemas::batch::{HEADROOM, STRIDE};
use warren_schemas::cell::MAX_INNER;
use warren_schemas::control::CircuitEnd;

use super::Tunnel;
use super::context::{Context, Outcome, Verdict};
use crate::circuit::{Circuit, Next};
use crate::drop_reason::DropReason;
use crate::message::HopMessage;

impl Tunnel {
    /// A command for us as a hop.
    pub(super) fn for_this_hop(
        &mut self,
        cx: &mut Context<'_>,
        handle: CircuitHandle,
        command: u8,
        region: &[u8],
        inner: Range<usize>,
    ) -> Outcome {
        let bytes = region.get(inner.clone()).ok_or(DropReason::NoRoom)?;
        match HopMessage::decode(command, bytes)? {
            HopMessage::Data(_) => return self.deliver_last(handle, inner),
            HopMessage::Extend { exchange, part } => self.on_extend(cx, handle, exchange, &part)?,
            HopMessage::Ping(token) => self.tell_originator(handle, &HopMessage::Pong(token))?,
            HopMessage::Padding => {}
            HopMessage::Extended { .. } | HopMessage::ExtendFailed { .. } | HopMessage::Pong(_) => {
                return Err(DropReason::Unexpected);
            }
        }
        Ok(Verdict::Taken)
    }

    /// Data for the last hop, which needs the role of an exit.
    fn deliver_last(&mut self, handle: CircuitHandle, inner: Range<usize>) -> Outcome {
        if !self.settings.as_ref().is_some_and(|settings| settings.config.exit) {
            return Err(DropReason::NotExit);
        }
        let Some(Circuit::Relay(relay)) = self.circuits.get_mut(&handle) else {
            return Err(DropReason::UnknownCircuit);
        };
        if !matches!(relay.next, Next::None) {
            return Err(DropReason::Unexpected);
        }
        relay.delivered = true;
        relay.bytes_in += inner.len() as u64;
        self.counts.cells_delivered += 1;
        Ok(Verdict::Deliver(handle, CircuitEnd::LastHop, inner))
    }

    /// A command from a hop of a circuit that we made; DATA is dealt with already.
    pub(super) fn message_of_hop(
        &mut self,
        cx: &mut Context<'_>,
        handle: CircuitHandle,
        last: bool,
        command: u8,
        region: &[u8],
        inner: Range<usize>,
    ) -> Outcome {
        let bytes = region.get(inner).ok_or(DropReason::NoRoom)?;
        match HopMessage::decode(command, bytes)? {
            HopMessage::Extended { exchange, part } if last => {
                self.on_extended(cx, handle, exchange, &part)?
            }
            HopMessage::ExtendFailed { exchange, reason } if last => {
                self.on_extend_failed(cx, handle, exchange, reason)?;
            }
            // Only the last hop's PONG tells anything, and that it came is all it tells.
            HopMessage::Pong(_) | HopMessage::Padding => {}
            _ => return Err(DropReason::Unexpected),
        }
        Ok(Verdict::Taken)
    }

    /// A hop speaks to the originator.
    pub(super) fn tell_originator(
        &mut self,
        handle: CircuitHandle,
        message: &HopMessage<'_>,
    ) -> Result<(), DropReason> {
        let Some(Circuit::Relay(relay)) = self.circuits.get_mut(&handle) else {
            return Err(DropReason::UnknownCircuit);
        };
        let mut buf = [0; STRIDE];
        let length = write(&mut buf, message)?;
        let layer = relay.sealer.seal(&mut buf, HEADROOM, length, message.command())?;
        let leg = relay.previous;
        self.send_layer(leg, buf.get(layer).unwrap_or_default())
    }

    /// The originator speaks to the last hop that stands.
    pub(super) fn tell_last_hop(
        &mut self,
        handle: CircuitHandle,
        message: &HopMessage<'_>,
    ) -> Result<(), DropReason> {
        let Some(Circuit::Origin(origin)) = self.circuits.get_mut(&handle) else {
            return Err(DropReason::UnknownCircuit);
        };
        let mut buf = [0; STRIDE];
        let length = write(&mut buf, message)?;
        let last = origin.hops.len().saturating_sub(1);
        let leg = origin.leg.ok_or(DropReason::NoLink)?;
        let layer = origin.seal(&mut buf, HEADROOM..HEADROOM + length, last, message.command())?;
        self.send_layer(leg, buf.get(layer).unwrap_or_default())
    }
}

fn write(buf: &mut [u8; STRIDE], message: &HopMessage<'_>) -> Result<usize, DropReason> {
    let room = buf.get_mut(HEADROOM..HEADROOM + MAX_INNER).ok_or(DropReason::NoRoom)?;
    message.encode(room).ok_or(DropReason::TooLong)
}

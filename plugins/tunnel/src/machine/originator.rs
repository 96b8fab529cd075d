//! Circuits of our own: planned by the host, built hop by hop.

use std::net::SocketAddr;

use warren_schemas::control::{CloseReason, Event};
use warren_schemas::descriptor::{Descriptor, SignedDescriptor};
use warren_schemas::{CircuitHandle, PeerId, RequestId};

use super::Tunnel;
use super::closing::Ending;
use super::context::Context;
use super::opening::{For, target_of};
use crate::circuit::{Building, Circuit, Origin, Planned};
use crate::drop_reason::DropReason;
use crate::fragments::{Assembler, Fragment, split};
use crate::limits::may_send_to;
use crate::message::{Extend, HopMessage};
use crate::ntor::circuit::Creating;
use crate::retry::{GIVE_UP_EXTEND, Retry};
use crate::timers::Alarm;
use warren_schemas::cell::MAX_HOPS;

/// A path whose descriptors hold, and where its first hop is.
struct Plan {
    path: Vec<Planned>,
    first: Descriptor,
    addresses: Vec<SocketAddr>,
}

impl Tunnel {
    /// The host wants a circuit.
    pub(super) fn make_circuit(
        &mut self,
        cx: &mut Context<'_>,
        request: RequestId,
        hops: &[SignedDescriptor],
        suites: &[u8],
    ) {
        if let Err((hop, reason)) = self.try_make(cx, request, hops, suites) {
            self.extras.event(request, &Event::CircuitFailed { reason, hop });
        }
    }

    fn try_make(
        &mut self,
        cx: &mut Context<'_>,
        request: RequestId,
        hops: &[SignedDescriptor],
        suites: &[u8],
    ) -> Result<(), (u8, CloseReason)> {
        let Plan { path, first, addresses } = self.plan(cx, hops, suites)?;
        let most = self.settings.as_ref().map_or(0, |settings| settings.bounds.circuits);
        // Strangers' circuits must not take the room for our own.
        let own = self.circuits.len().saturating_sub(self.counts.relayed_circuits as usize);
        if own >= most {
            return Err((1, CloseReason::Limit));
        }
        let handle = self.new_handle(cx).ok_or((1, CloseReason::Limit))?;
        let link = self.link_to(cx, &first, addresses, For::Ourselves).map_err(|reason| (1, reason))?;
        let building = path.first().map(|planned| Building::new(cx, planned, 0));
        let origin = Origin {
            request,
            path,
            hops: Vec::with_capacity(MAX_HOPS),
            leg: None,
            building,
            probe: None,
            born: cx.now,
            heard: cx.now,
            unanswered: cx.now,
            bytes_in: 0,
            bytes_out: 0,
            alarm: Alarm::default(),
        };
        self.circuits.insert(handle, Circuit::Origin(Box::new(origin)));
        self.arm_circuit(handle);
        self.join_link(cx, handle, link);
        Ok(())
    }

    /// Checks every hop: its number and the reason say which does not hold.
    fn plan(
        &self,
        cx: &Context<'_>,
        hops: &[SignedDescriptor],
        suites: &[u8],
    ) -> Result<Plan, (u8, CloseReason)> {
        let settings = self.settings.as_ref().ok_or((1, CloseReason::Refused))?;
        if !(1..=MAX_HOPS).contains(&hops.len()) || suites.len() != hops.len() {
            return Err((1, CloseReason::Refused));
        }
        let mut seen: Vec<PeerId> = vec![settings.config.peer_id];
        let mut path = Vec::with_capacity(hops.len());
        let mut first = None;
        for (hop, (signed, suite)) in (1u8..).zip(hops.iter().zip(suites)) {
            // A module that was taken back speaks less than the host still thinks: no relay's fault.
            let spoken = self.speak(*suite).map_err(|_| (0, CloseReason::Refused))?;
            let descriptor = signed.verify(cx.now).map_err(|_| (hop, CloseReason::Descriptor))?;
            let mut addresses = descriptor.addresses.clone();
            addresses.retain(|address| may_send_to(&settings.config, *address));
            let repeated = seen.contains(&descriptor.peer_id);
            if repeated || !descriptor.relay || !descriptor.suites.contains(suite) || addresses.is_empty() {
                return Err((hop, CloseReason::Refused));
            }
            seen.push(descriptor.peer_id);
            let (signed, target) = (signed.as_bytes().to_vec(), target_of(&descriptor));
            path.push(Planned { signed, target, suite: spoken });
            first.get_or_insert((descriptor, addresses));
        }
        let (first, addresses) = first.ok_or((1, CloseReason::Refused))?;
        Ok(Plan { path, first, addresses })
    }

    /// A hop has answered: its keys are checked, then the next one is asked, or the circuit stands.
    pub(super) fn finish_hop(
        &mut self,
        cx: &mut Context<'_>,
        handle: CircuitHandle,
        created: &[u8],
    ) -> Result<(), DropReason> {
        let origin = self.origin_mut(handle)?;
        let building = origin.building.as_ref().ok_or(DropReason::Unexpected)?;
        let exchange = building.exchange;
        match building.handshake.finish(created) {
            Ok((keys, _contents)) => origin.hops.push(keys.originator()),
            Err(fault) => {
                // It came through authenticated hops: one of them lies, the circuit is worth nothing.
                self.end_circuit(cx, handle, Ending::of(CloseReason::Handshake));
                return Err(fault);
            }
        }
        origin.heard = cx.now;
        let next = origin.path.get(origin.hops.len());
        origin.building = next.map(|planned| Building::new(cx, planned, exchange.wrapping_add(1)));
        if let Some(building) = &mut origin.building {
            building.retry = Some(Retry::start(cx.now, GIVE_UP_EXTEND));
            self.send_extend(handle);
        } else {
            let (request, hops) = (origin.request, u8::try_from(origin.hops.len()).unwrap_or(u8::MAX));
            self.extras.event(request, &Event::CircuitReady { handle, hops });
        }
        self.arm_circuit(handle);
        Ok(())
    }

    /// Sends EXTEND, for the first time or again.
    pub(super) fn send_extend(&mut self, handle: CircuitHandle) {
        let Ok(origin) = self.origin_mut(handle) else { return };
        let (Some(building), Some(planned)) = (&origin.building, origin.path.get(origin.hops.len())) else {
            return;
        };
        let exchange = building.exchange;
        let create = building.handshake.create();
        let Some(extend) = (Extend { descriptor: &planned.signed, create: &create }).encode() else { return };
        for part in split(&extend).into_iter().flatten() {
            if let Err(reason) = self.tell_last_hop(handle, &HopMessage::Extend { exchange, part }) {
                self.counts.drop(reason);
            }
        }
    }

    pub(super) fn on_extended(
        &mut self,
        cx: &mut Context<'_>,
        handle: CircuitHandle,
        exchange: u32,
        part: &Fragment<'_>,
    ) -> Result<(), DropReason> {
        let building = self.awaited(handle, exchange)?;
        match building.parts.push(part)? {
            Some(created) => self.finish_hop(cx, handle, &created),
            None => Ok(()),
        }
    }

    pub(super) fn on_extend_failed(
        &mut self,
        cx: &Context<'_>,
        handle: CircuitHandle,
        exchange: u32,
        reason: CloseReason,
    ) -> Result<(), DropReason> {
        self.awaited(handle, exchange)?;
        self.end_circuit(cx, handle, Ending::of(reason));
        Ok(())
    }

    fn awaited(&mut self, handle: CircuitHandle, exchange: u32) -> Result<&mut Building, DropReason> {
        let origin = self.origin_mut(handle)?;
        let extending = !origin.hops.is_empty();
        let building = origin.building.as_mut().filter(|building| extending && building.exchange == exchange);
        building.ok_or(DropReason::Unexpected)
    }

    fn origin_mut(&mut self, handle: CircuitHandle) -> Result<&mut Origin, DropReason> {
        match self.circuits.get_mut(&handle) {
            Some(Circuit::Origin(origin)) => Ok(origin),
            _ => Err(DropReason::UnknownCircuit),
        }
    }
}

impl Building {
    fn new(cx: &mut Context<'_>, planned: &Planned, exchange: u32) -> Self {
        let handshake = Creating::new(planned.suite, planned.target, cx.random());
        Self { handshake, exchange, retry: None, parts: Assembler::new(), moved: false }
    }
}

//! The machine: its doors, and the order in which things happen behind each.
//!
//! What arrives is worked on in place, slot by slot; then timers that are due, then cells that the
//! rate lets go; then everything leaves in one batch.

mod cells;
mod closing;
mod context;
mod create;
mod extend;
mod hops;
mod incomplete;
mod messages;
mod moving;
mod opening;
mod originator;
mod report;
mod settings;
mod shaper;
mod state;
mod upkeep;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use warren_schemas::batch::{Batch, HEADROOM, MAX_SLOTS, STRIDE, Slot, SlotKind};
use warren_schemas::cell::{self, HEADER_LEN, Kind};
use warren_schemas::control::{CloseReason, Request, TunnelConfig};
use warren_schemas::{CircuitHandle, CircuitId, LinkId, PeerId, Timestamp};

use crate::bucket::Bucket;
use crate::circuit::Circuit;
use crate::drop_reason::DropReason;
use crate::env::{Env, Level};
use crate::limits::{Bounds, MAX_RECENT};
use crate::link::{Link, Pending, Way};
use crate::message::LinkMessage;
use crate::ntor::{Suite, suites};
use crate::output::Extras;
use crate::table::{OwnIdMap, Recent};
use crate::timers::Timers;

use context::{Context, Outcome, Verdict};
use incomplete::Incomplete;
use report::{Counts, Told};
use settings::Settings;
use shaper::Shaper;

pub use settings::ConfigError;
pub use state::StateError;

/// Timers that one call looks at; the others wait for the next, at once.
const TIMERS_A_CALL: usize = 1024;

/// Every link and circuit of one worker.
///
/// Call [`Tunnel::configure`] first. Each of the other doors answers with a batch whose slots say
/// what to do, and whose `wake_at` replaces the one before: when it comes, call
/// [`Tunnel::handle_timeout`]. `now` must not go back from call to call.
pub struct Tunnel {
    /// Whether its state has gone to a successor.
    gone: bool,
    /// The suites it speaks, best first.
    suites: &'static [u8],
    /// What it was before, to be wiped with it.
    remains: Option<Box<Self>>,
    settings: Option<Settings>,
    links: OwnIdMap<LinkId, Box<Link>>,
    pending: BTreeMap<LinkId, Pending>,
    to_relay: BTreeMap<PeerId, Way>,
    half_open: usize,
    /// Half-open links whose cookie was right, by network.
    proven: BTreeMap<IpAddr, usize>,
    circuits: OwnIdMap<CircuitHandle, Circuit>,
    last_handle: Option<u32>,
    timers: Timers,
    extras: Extras,
    shaper: Shaper,
    handshakes: Bucket,
    proven_handshakes: Bucket,
    /// LINKs answered of late, by source and fingerprint: their LINKED without padding.
    linked: Recent<(SocketAddr, [u8; 32]), Vec<u8>>,
    /// What names the CREATEs answered of late.
    created: Recent<Vec<u8>, ()>,
    incomplete: Incomplete,
    counts: Counts,
    sync_at: Option<Timestamp>,
    told: Told,
    /// When it was called last.
    latest: Timestamp,
}

impl Default for Tunnel {
    fn default() -> Self {
        Self::new()
    }
}

impl Tunnel {
    /// A machine that is not configured: it drops everything.
    #[must_use]
    pub fn new() -> Self {
        Self::speaking(suites())
    }

    /// The same, which speaks only those of [`suites`] that are given, best first: what another
    /// build is, without the build.
    #[must_use]
    pub fn speaking(suites: &'static [u8]) -> Self {
        Self {
            gone: false,
            suites,
            remains: None,
            settings: None,
            links: OwnIdMap::default(),
            pending: BTreeMap::new(),
            to_relay: BTreeMap::new(),
            half_open: 0,
            proven: BTreeMap::new(),
            circuits: OwnIdMap::default(),
            last_handle: None,
            timers: Timers::default(),
            extras: Extras::default(),
            shaper: Shaper::new(),
            handshakes: Bucket::unlimited(),
            proven_handshakes: Bucket::unlimited(),
            linked: Recent::new(MAX_RECENT),
            created: Recent::new(MAX_RECENT),
            incomplete: Incomplete::default(),
            counts: Counts::default(),
            sync_at: None,
            told: Told::default(),
            latest: Timestamp::default(),
        }
    }

    /// Takes its configuration, the first or a changed one; links and circuits survive.
    ///
    /// # Errors
    /// When a relay has no onion key, the worker's index changes while links carry it, or the state
    /// has gone to a successor.
    pub fn configure(&mut self, now: Timestamp, config: TunnelConfig) -> Result<(), ConfigError> {
        let moved = self.settings.as_ref().is_some_and(|old| old.config.worker_index != config.worker_index);
        if moved && !(self.links.is_empty() && self.pending.is_empty()) {
            return Err(ConfigError::WorkerIndex);
        }
        if self.gone {
            return Err(ConfigError::Gone);
        }
        let settings = Settings::new(config)?;
        self.apply(&settings.bounds);
        self.sync_at = settings.next_sync(now);
        self.settings = Some(settings);
        Ok(())
    }

    fn apply(&mut self, bounds: &Bounds) {
        self.shaper.configure(bounds);
        for bucket in [&mut self.handshakes, &mut self.proven_handshakes] {
            bucket.set(bounds.handshakes_per_second, bounds.handshakes_per_second);
        }
    }

    /// The suite of that number, if this machine speaks it.
    fn speak(&self, suite: u8) -> Result<Suite, DropReason> {
        if self.suites.contains(&suite) { Suite::from_byte(suite) } else { Err(DropReason::Suite) }
    }

    /// Takes one encoded [`Request`]. Its answer is an event, in this batch or a later one.
    pub fn handle_control(&mut self, env: &mut dyn Env, now: Timestamp, request: &[u8]) -> Batch {
        let mut cx = Context { env, now };
        match Request::decode(request) {
            Ok(_) if self.gone => {
                cx.env.log(Level::Error, "a request, but the state has gone to a successor");
            }
            Ok((id, Request::Create { hops, suites })) => self.make_circuit(&mut cx, id, &hops, &suites),
            Ok((id, Request::Circuit { handle, reason })) => self.close_as_asked(&cx, id, handle, reason),
            Ok((id, Request::Monitor)) => self.report(now, id),
            Err(error) => cx.env.log(Level::Error, &format!("a request from the host: {error}")),
        }
        self.settle(&mut cx);
        self.answer(now)
    }

    /// Takes a batch of `Received` and `Outgoing` slots. Each is rewritten in place to what came of it.
    pub fn handle_data(&mut self, env: &mut dyn Env, now: Timestamp, mut batch: Batch) -> Batch {
        let mut cx = Context { env, now };
        for index in 0..batch.slot_count() {
            self.take_slot(&mut cx, &mut batch, index);
        }
        self.settle(&mut cx);
        self.finish(now, batch)
    }

    /// The time that the last batch asked for has come.
    pub fn handle_timeout(&mut self, env: &mut dyn Env, now: Timestamp) -> Batch {
        let mut cx = Context { env, now };
        self.settle(&mut cx);
        self.answer(now)
    }

    /// Says goodbye on every link, which ends every circuit. The machine drops everything from now on.
    pub fn shutdown(&mut self, _env: &mut dyn Env, _now: Timestamp, reason: u8) -> Batch {
        let mut links: Vec<LinkId> = self.links.keys().copied().collect();
        links.sort_unstable();
        for id in links {
            self.say(id, CircuitId(0), &LinkMessage::Close(CloseReason(reason)));
        }
        let mut extras = std::mem::take(&mut self.extras);
        *self = Self { gone: self.gone, ..Self::speaking(self.suites) };
        extras.answer(Batch::with_slots(extras.count().min(MAX_SLOTS)))
    }

    fn take_slot(&mut self, cx: &mut Context<'_>, batch: &mut Batch, index: usize) {
        let Some(slot) = batch.slot(index) else { return };
        let answer = match slot.kind {
            SlotKind::Received | SlotKind::Outgoing => {
                let base = (slot.offset as usize).saturating_sub(HEADROOM);
                let start = slot.offset as usize - base;
                let place = start..start + usize::from(slot.length);
                let payload = batch.payload_mut();
                let end = payload.len().min(base + STRIDE);
                let outcome = match payload.get_mut(base..end) {
                    Some(region) if place.end <= region.len() => self.take(cx, region, place, &slot),
                    _ => Err(DropReason::NoRoom),
                };
                self.result(base, outcome)
            }
            _ => Slot::EMPTY,
        };
        batch.set_slot(index, answer);
    }

    fn take(&mut self, cx: &mut Context<'_>, region: &mut [u8], place: Range<usize>, slot: &Slot) -> Outcome {
        if self.settings.is_none() {
            return Err(DropReason::NotRunning);
        }
        if slot.kind == SlotKind::Outgoing {
            return self.outgoing(cx, region, place, slot.handle);
        }
        let datagram = region.get(place.clone()).unwrap_or_default();
        let kind = datagram.first().copied().and_then(Kind::from_byte).ok_or(DropReason::Malformed)?;
        match kind {
            Kind::Cell | Kind::Message => self.sealed(cx, region, place, slot.address.into()),
            Kind::Link => self.on_link(cx, region, place, slot.address.into()),
            Kind::Linked => self.on_linked(cx, datagram, slot.address.into()),
            Kind::Cookie => self.on_cookie(datagram),
        }
    }

    /// What the slot of an outcome says. `base` is where its region starts in the payload.
    fn result(&mut self, base: usize, outcome: Outcome) -> Slot {
        let place = |place: &Range<usize>| (u32::try_from(base + place.start), u16::try_from(place.len()));
        let (slot, place) = match outcome {
            Ok(Verdict::Taken) => return Slot::EMPTY,
            Ok(Verdict::Send(address, at)) => {
                (Slot { kind: SlotKind::Send, address: address.into(), ..Slot::EMPTY }, place(&at))
            }
            Ok(Verdict::Deliver(handle, end, at)) => {
                (Slot { kind: SlotKind::Deliver, detail: end.0, handle, ..Slot::EMPTY }, place(&at))
            }
            Err(reason) => {
                self.counts.drop(reason);
                return Slot { kind: SlotKind::Dropped, detail: reason as u8, ..Slot::EMPTY };
            }
        };
        match place {
            (Ok(offset), Ok(length)) => Slot { offset, length, ..slot },
            _ => Slot::EMPTY,
        }
    }

    /// A MESSAGE or CELL: its link first, then what it is.
    fn sealed(
        &mut self,
        cx: &mut Context<'_>,
        region: &mut [u8],
        place: Range<usize>,
        from: SocketAddr,
    ) -> Outcome {
        let datagram = region.get_mut(place.clone()).ok_or(DropReason::NoRoom)?;
        let id = cell::link_of(datagram).ok_or(DropReason::Malformed)?;
        let link = self.links.get_mut(&id).ok_or(DropReason::UnknownLink)?;
        let accepted = link.opener.accept(datagram)?;
        link.heard = cx.now;
        let circuit = link.circuits.get(&accepted.circuit).copied();
        let forward = link.is_theirs();
        if link.half_open || link.address != from {
            self.notice(cx, id, from, accepted.newest);
        }
        match accepted.kind {
            Kind::Cell => {
                let circuit = circuit.ok_or(DropReason::UnknownCircuit)?;
                let layer = place.start + HEADER_LEN..place.end;
                if forward {
                    self.forward(cx, region, layer, circuit)
                } else {
                    self.backward(cx, region, layer, circuit)
                }
            }
            _ => self.link_message(cx, id, &accepted, datagram, from),
        }
    }

    /// Everything that is due, whatever was asked.
    fn settle(&mut self, cx: &mut Context<'_>) {
        if self.settings.is_none() {
            return;
        }
        self.latest = cx.now;
        for _ in 0..TIMERS_A_CALL {
            let Some((at, whose)) = self.timers.pop(cx.now) else { break };
            self.care(cx, at, whose);
        }
        self.let_go(cx.now);
        self.linked.expire(cx.now);
        self.created.expire(cx.now);
        self.incomplete.expire(cx.now);
        let at_once = self.settings.as_ref().is_some_and(|settings| settings.config.sync_period == 0);
        if at_once || self.sync_at.is_some_and(|at| at <= cx.now) {
            self.report_changes(cx.now);
            self.sync_at = self.settings.as_ref().and_then(|settings| settings.next_sync(cx.now));
        }
    }

    fn answer(&mut self, now: Timestamp) -> Batch {
        let batch = Batch::with_slots(self.extras.count().min(MAX_SLOTS));
        self.finish(now, batch)
    }

    fn finish(&mut self, now: Timestamp, batch: Batch) -> Batch {
        let mut batch = self.extras.answer(batch);
        let times = [self.timers.next(), self.sync_at, self.shaper.ready_at(now)];
        let next = if self.extras.is_empty() { times.into_iter().flatten().min() } else { Some(now) };
        batch.set_wake_at(next);
        batch
    }

    fn new_handle(&mut self, cx: &mut Context<'_>) -> Option<CircuitHandle> {
        // The host may still hold handles of a predecessor: they must not come to name our circuits.
        let last = self.last_handle.unwrap_or_else(|| u32::from_be_bytes(cx.random()) >> 1);
        let handle = last.checked_add(1)?;
        self.last_handle = Some(handle);
        Some(CircuitHandle(handle))
    }
}

#[cfg(test)]
mod tests;

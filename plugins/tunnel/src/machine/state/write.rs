//! From the machine to bytes. Ids are written in their order: the same state gives the same bytes.

use std::ops::Range;

use flatbuffers::{FlatBufferBuilder, WIPOffset};
use warren_schemas::generated::state as fb;
use warren_schemas::state::{VERSION, finish};
use warren_schemas::{Address, CircuitHandle, LinkId, Timestamp};

use super::idle::{self, Idle};
use super::write_circuits::write_circuits;
use crate::circuit::Circuit;
use crate::fragments::Assembler;
use crate::link::{Leg, Link, Pending, Probe};
use crate::machine::Tunnel;
use crate::ntor::{Initiator, Target};
use crate::output::Extras;
use crate::queue::Queue;

/// Bytes of a link, and of the fixed part of everything else with room to spare.
const LINK: usize = 1400;
const OPENING: usize = 512 + 32;
const CELL: usize = 24;
const REMEMBERED: usize = 160;
const FRAME: usize = 16 << 10;

pub(super) type Builder<'b> = FlatBufferBuilder<'b>;

/// What there is to write, looked up once.
pub(super) struct Survey<'a> {
    tunnel: &'a Tunnel,
    /// In the order of their ids.
    links: Vec<(&'a Link, Range<usize>)>,
    /// Of all links, each link's in its range.
    idle: Vec<Idle<'a>>,
    /// In the order of their handles.
    others: Vec<(CircuitHandle, &'a Circuit)>,
}

impl Tunnel {
    pub(super) fn survey(&self) -> Survey<'_> {
        let mut links: Vec<&Link> = self.links.values().map(Box::as_ref).collect();
        links.sort_unstable_by_key(|link| link.opener.own_id());
        let mut idle = Vec::with_capacity(self.circuits.len());
        let range = |link| {
            let start = idle.len();
            self.find_idle(link, &mut idle);
            (link, start..idle.len())
        };
        let links = links.into_iter().map(range).collect();
        let mut others = Vec::new();
        if idle.len() < self.circuits.len() {
            let busy =
                |circuit: &Circuit| !matches!(circuit, Circuit::Relay(relay) if relay.is_idle(self.latest));
            let all = self.circuits.iter().map(|(handle, circuit)| (*handle, circuit));
            others = all.filter(|(_, circuit)| busy(circuit)).collect();
            others.sort_unstable_by_key(|(handle, _)| *handle);
        }
        Survey { tunnel: self, links, idle, others }
    }
}

impl Survey<'_> {
    /// The most bytes that the state can take.
    pub(super) fn most(&self, queue: &Queue) -> usize {
        let tunnel = self.tunnel;
        let (bytes, cells) = queue.size();
        let opening = |pending: &Pending| {
            OPENING
                + 4 * pending.waiting.len()
                + 24 * pending.addresses.len()
                + pending.handshake.state().0.share().len()
                + parts_len(pending.handshake.state().2)
        };
        let answers = tunnel.linked.iter().map(|(_, answer, _)| REMEMBERED + answer.map_or(0, Vec::len));
        let shares = tunnel.created.iter().map(|(share, ..)| REMEMBERED + share.len());
        let incomplete = tunnel.incomplete.iter().map(|entry| 64 + parts_len(&entry.parts));
        FRAME
            + incomplete.sum::<usize>()
            + LINK * self.links.len()
            + tunnel.pending.values().map(opening).sum::<usize>()
            + self.idle.iter().map(Idle::len).sum::<usize>()
            + self.others.iter().map(|(_, circuit)| circuit.state_len()).sum::<usize>()
            + bytes
            + (CELL + 8) * cells
            + answers.sum::<usize>()
            + shares.sum::<usize>()
            + 2 * tunnel.extras.len()
    }

    /// Writes it, in a buffer that need not grow: a buffer left behind would not be wiped.
    pub(super) fn write(
        self,
        most: usize,
        flows: impl for<'b> FnOnce(&mut Builder<'b>) -> Vec<WIPOffset<fb::Flow<'b>>>,
    ) -> Vec<u8> {
        let builder = &mut FlatBufferBuilder::with_capacity(most.next_multiple_of(8));
        let tunnel = self.tunnel;
        let flows = flows(builder);
        let flows = Some(builder.create_vector(&flows));
        let links = self.write_links(builder);
        let links = Some(builder.create_vector(&links));
        let openings: Vec<_> =
            tunnel.pending.iter().map(|(id, pending)| tunnel.write_opening(builder, *id, pending)).collect();
        let openings = Some(builder.create_vector(&openings));
        let (origins, relays) = write_circuits(builder, &self.others);
        let (origins, relays) = (Some(builder.create_vector(&origins)), Some(builder.create_vector(&relays)));
        let (linked, created) = tunnel.write_remembered(builder);
        let (linked, created) = (Some(builder.create_vector(&linked)), Some(builder.create_vector(&created)));
        let incomplete = tunnel.write_incomplete(builder);
        let incomplete = (!incomplete.is_empty()).then(|| builder.create_vector(&incomplete));
        let (late, late_bytes) = late(&tunnel.extras);
        let (late, late_bytes) =
            (Some(builder.create_vector(&late)), Some(builder.create_vector(&late_bytes)));
        let drops = (0..=u8::MAX).zip(tunnel.counts.drops).filter(|(_, count)| *count > 0);
        let drops: Vec<_> = drops.map(|(reason, count)| fb::DropCount::new(count, reason)).collect();
        let args = fb::TunnelStateArgs {
            version: VERSION,
            last_handle: tunnel.last_handle,
            links,
            openings,
            origins,
            relays,
            flows,
            rate: Some(&tunnel.shaper.rate().state()),
            handshakes: Some(&tunnel.handshakes.state()),
            proven_handshakes: Some(&tunnel.proven_handshakes.state()),
            linked,
            created,
            late,
            late_bytes,
            cells_relayed: tunnel.counts.cells_relayed,
            bytes_relayed: tunnel.counts.bytes_relayed,
            cells_originated: tunnel.counts.cells_originated,
            cells_delivered: tunnel.counts.cells_delivered,
            drops: Some(builder.create_vector(&drops)),
            sync_at: tunnel.sync_at.map(Timestamp::as_micros),
            incomplete,
        };
        let root = fb::TunnelState::create(builder, &args);
        finish(std::mem::take(builder), root)
    }

    fn write_links<'b>(&self, builder: &mut Builder<'b>) -> Vec<WIPOffset<fb::Link<'b>>> {
        let idle = |range: &Range<usize>| self.idle.get(range.clone()).unwrap_or_default();
        self.links.iter().map(|(link, range)| self.tunnel.write_link(builder, link, idle(range))).collect()
    }
}

impl Tunnel {
    fn write_incomplete<'b>(&self, builder: &mut Builder<'b>) -> Vec<WIPOffset<fb::Incomplete<'b>>> {
        let mut written = Vec::with_capacity(self.incomplete.iter().len());
        for entry in self.incomplete.iter() {
            let parts = parts(builder, &entry.parts);
            let args = fb::IncompleteArgs { leg: Some(&leg(entry.leg)), parts, end: entry.end.as_micros() };
            written.push(fb::Incomplete::create(builder, &args));
        }
        written
    }

    fn write_link<'b>(
        &self,
        builder: &mut Builder<'b>,
        link: &Link,
        circuits: &[Idle<'_>],
    ) -> WIPOffset<fb::Link<'b>> {
        let (idle, idle_seen) = idle::write(builder, circuits);
        let (seal, open) = (link.sealer.state(), link.opener.state());
        let own = link.opener.own_id();
        let open_seen = (!open.seen.is_empty()).then(|| builder.create_vector(open.seen));
        let way = link.relay.and_then(|relay| self.to_relay.get(&relay)).filter(|way| way.link == own);
        let relay = link.relay.map(|relay| fb::Bytes32(relay.0));
        let asked = link.probe.as_ref().map(probe);
        let challenge = link
            .challenge
            .map(|sent| fb::Challenge::new(&sent.token, sent.at.as_micros(), &address(sent.address)));
        let phase_ping = link.phase_ping.map(|ping| fb::PhasePing::new(&ping.token, ping.again.as_micros()));
        let args = fb::LinkArgs {
            own: own.0,
            peer: link.sealer.peer().0,
            suite: seal.suite,
            address: Some(&address(link.address)),
            relay: relay.as_ref(),
            half_open: link.half_open,
            proven: link.proven,
            published: way.map(|way| way.published.as_micros()),
            opened: link.opened.as_micros(),
            heard: link.heard.as_micros(),
            used: link.used.as_micros(),
            rekeyed: link.rekeyed.as_micros(),
            seal: Some(&seal.keys),
            seal_next_secret: Some(&seal.next),
            seal_counter: seal.counter,
            seal_phase: seal.phase,
            seal_confirmed: link.sealer.is_confirmed(),
            open: Some(&open.current),
            open_previous: open.previous.as_ref(),
            open_next: Some(&open.next),
            open_next_secret: Some(&open.next_secret),
            open_generation: open.generation,
            open_lowest: open.lowest,
            open_counter: open.counter,
            open_seen,
            probe: asked.as_ref(),
            challenge: challenge.as_ref(),
            phase_ping: phase_ping.as_ref(),
            creates: Some(&link.creates.state()),
            alarm: link.alarm.at().map(Timestamp::as_micros),
            idle,
            idle_seen,
        };
        fb::Link::create(builder, &args)
    }

    fn write_opening<'b>(
        &self,
        builder: &mut Builder<'b>,
        own: LinkId,
        pending: &Pending,
    ) -> WIPOffset<fb::Opening<'b>> {
        let (initiator, cookie, assembler) = pending.handshake.state();
        let addresses: Vec<_> = pending.addresses.iter().copied().map(address).collect();
        let waiting: Vec<u32> = pending.waiting.iter().map(|handle| handle.0).collect();
        let way = self.to_relay.get(&pending.relay).filter(|way| way.link == own);
        let args = fb::OpeningArgs {
            own: own.0,
            handshake: Some(handshake(builder, initiator, assembler)),
            cookie: Some(&fb::Bytes32(*cookie)),
            addresses: Some(builder.create_vector(&addresses)),
            retry: Some(&pending.retry.state()),
            cookies: u32::try_from(pending.cookies).unwrap_or(u32::MAX),
            waiting: Some(builder.create_vector(&waiting)),
            published: way.map(|way| way.published.as_micros()),
            alarm: pending.alarm.at().map(Timestamp::as_micros),
        };
        fb::Opening::create(builder, &args)
    }

    fn write_remembered<'b>(
        &self,
        builder: &mut Builder<'b>,
    ) -> (Vec<WIPOffset<fb::Linked<'b>>>, Vec<WIPOffset<fb::Created<'b>>>) {
        let mut linked = Vec::new();
        for ((from, key), answer, end) in self.linked.iter() {
            let answer = Some(builder.create_vector(answer.map_or(&[][..], Vec::as_slice)));
            let (from, key) = (address(*from), fb::Bytes32(*key));
            let args = fb::LinkedArgs { from: Some(&from), key: Some(&key), answer, end: end.as_micros() };
            linked.push(fb::Linked::create(builder, &args));
        }
        let mut created = Vec::new();
        for (share, _, end) in self.created.iter() {
            let share = Some(builder.create_vector(share));
            created.push(fb::Created::create(builder, &fb::CreatedArgs { share, end: end.as_micros() }));
        }
        (linked, created)
    }
}

fn late(extras: &Extras) -> (Vec<fb::LateAnswer>, Vec<u8>) {
    let (mut late, mut late_bytes) = (Vec::new(), Vec::new());
    for (slot, bytes) in extras.waiting() {
        late.push(fb::LateAnswer::new(&address(slot.address), slot.length, slot.kind.0));
        late_bytes.extend_from_slice(bytes);
    }
    (late, late_bytes)
}

pub(super) fn address(address: impl Into<Address>) -> fb::Address {
    let Address { high, low, port } = address.into();
    fb::Address::new(high, low, port)
}

pub(super) fn leg(leg: Leg) -> fb::Leg {
    fb::Leg::new(leg.link.0, leg.id.0)
}

pub(super) fn probe(probe: &Probe) -> fb::Probe {
    fb::Probe::new(&probe.token, probe.since.as_micros(), &probe.retry.state())
}

pub(super) fn target(target: &Target) -> fb::Target {
    fb::Target::new(&target.peer_id.0, &target.onion_key, target.epoch)
}

pub(super) fn handshake<'b>(
    builder: &mut Builder<'b>,
    initiator: &Initiator,
    assembler: &Assembler,
) -> WIPOffset<fb::Handshake<'b>> {
    let args = fb::HandshakeArgs {
        suite: initiator.suite() as u8,
        target: Some(&target(initiator.target())),
        secret: Some(&fb::Bytes32(**initiator.secret())),
        share: Some(builder.create_vector(initiator.share())),
        parts: parts(builder, assembler),
    };
    fb::Handshake::create(builder, &args)
}

/// None when no part has come.
pub(super) fn parts<'b>(
    builder: &mut Builder<'b>,
    assembler: &Assembler,
) -> Option<WIPOffset<fb::Parts<'b>>> {
    let (total, came) = assembler.state();
    let came: Vec<_> = came
        .map(|part| {
            let bytes = Some(builder.create_vector(part.bytes));
            fb::Part::create(builder, &fb::PartArgs { index: part.index, bytes })
        })
        .collect();
    let parts = (!came.is_empty()).then(|| builder.create_vector(&came))?;
    Some(fb::Parts::create(builder, &fb::PartsArgs { total, parts: Some(parts) }))
}

pub(super) fn parts_len(assembler: &Assembler) -> usize {
    64 + assembler.state().1.map(|part| 64 + part.bytes.len()).sum::<usize>()
}

//! Circuits, in both roles.

use flatbuffers::WIPOffset;
use warren_schemas::generated::state as fb;
use warren_schemas::{CircuitHandle, Timestamp};

use super::write::{Builder, handshake, leg, parts, parts_len, probe, target};
use crate::circuit::{Answered, Building, Circuit, Extending, Next, Origin, Planned, Relay};
use crate::layer;
use crate::retry::Retry;

/// Bytes of a circuit beside what varies, with room to spare.
const ORIGIN: usize = 512;
const RELAY: usize = 512;
const HOP: usize = 160;
const ANSWERED: usize = 64;
const EXTENDING: usize = 192;

type Origins<'b> = Vec<WIPOffset<fb::Origin<'b>>>;
type Relays<'b> = Vec<WIPOffset<fb::Relay<'b>>>;

impl Circuit {
    /// The most bytes that its state can take.
    pub(super) fn state_len(&self) -> usize {
        match self {
            Self::Origin(origin) => {
                let hops = origin.hops.iter().map(|(_, opener)| HOP + layer::state::window_len(opener));
                let path = origin.path.iter().map(|planned| 128 + planned.signed.len());
                let building = origin.building.iter().map(|building| {
                    512 + building.handshake.initiator().share().len() + parts_len(&building.parts)
                });
                ORIGIN + hops.sum::<usize>() + path.sum::<usize>() + building.sum::<usize>()
            }
            Self::Relay(relay) => relay.state_len(),
        }
    }
}

impl Relay {
    fn state_len(&self) -> usize {
        let assembling = self.assembling.iter().map(|assembling| parts_len(&assembling.1));
        let extending = match &self.next {
            Next::Extending(extending) => {
                let signed = extending.descriptor.as_ref().map_or(0, Vec::len);
                EXTENDING + extending.create.len() + signed + parts_len(&extending.parts)
            }
            _ => 0,
        };
        let answered =
            self.answered.iter().map(|answered| ANSWERED + answered.outcome.as_ref().map_or(0, Vec::len));
        RELAY
            + layer::state::window_len(&self.opener)
            + self.birth.iter().map(|birth| birth.share.len() + birth.created.len()).sum::<usize>()
            + assembling.sum::<usize>()
            + extending
            + answered.sum::<usize>()
    }
}

pub(super) fn write_circuits<'b>(
    builder: &mut Builder<'b>,
    circuits: &[(CircuitHandle, &Circuit)],
) -> (Origins<'b>, Relays<'b>) {
    let (mut origins, mut relays) = (Vec::new(), Vec::new());
    for (handle, circuit) in circuits {
        match circuit {
            Circuit::Origin(origin) => origins.push(write_origin(builder, *handle, origin)),
            Circuit::Relay(relay) => relays.push(write_relay(builder, *handle, relay)),
        }
    }
    (origins, relays)
}

fn write_origin<'b>(
    builder: &mut Builder<'b>,
    handle: CircuitHandle,
    origin: &Origin,
) -> WIPOffset<fb::Origin<'b>> {
    let path: Vec<_> = origin.path.iter().map(|planned| write_planned(builder, planned)).collect();
    let hops: Vec<_> =
        origin.hops.iter().map(|(sealer, opener)| layer::state::write(builder, (sealer, opener))).collect();
    let (first, asked) = (origin.leg.map(leg), origin.probe.as_ref().map(probe));
    let args = fb::OriginArgs {
        handle: handle.0,
        request: origin.request.0,
        suite: origin.path.iter().map(|planned| planned.suite as u8).max().unwrap_or_default(),
        path: Some(builder.create_vector(&path)),
        hops: Some(builder.create_vector(&hops)),
        leg: first.as_ref(),
        building: origin.building.as_ref().map(|building| write_building(builder, building)),
        probe: asked.as_ref(),
        born: origin.born.as_micros(),
        heard: origin.heard.as_micros(),
        unanswered: origin.unanswered.as_micros(),
        bytes_in: origin.bytes_in,
        bytes_out: origin.bytes_out,
        alarm: origin.alarm.at().map(Timestamp::as_micros),
    };
    fb::Origin::create(builder, &args)
}

fn write_planned<'b>(builder: &mut Builder<'b>, planned: &Planned) -> WIPOffset<fb::Planned<'b>> {
    let signed = Some(builder.create_vector(&planned.signed));
    let (target, suite) = (target(&planned.target), planned.suite as u8);
    fb::Planned::create(builder, &fb::PlannedArgs { signed, target: Some(&target), suite })
}

fn write_building<'b>(builder: &mut Builder<'b>, building: &Building) -> WIPOffset<fb::Building<'b>> {
    let retry = building.retry.as_ref().map(Retry::state);
    let args = fb::BuildingArgs {
        handshake: Some(handshake(builder, building.handshake.initiator(), &building.parts)),
        exchange: building.exchange,
        retry: retry.as_ref(),
        moved: building.moved,
    };
    fb::Building::create(builder, &args)
}

fn write_relay<'b>(
    builder: &mut Builder<'b>,
    handle: CircuitHandle,
    relay: &Relay,
) -> WIPOffset<fb::Relay<'b>> {
    let (next, extending) = match &relay.next {
        Next::None => (None, None),
        Next::Ready(ready) => (Some(leg(*ready)), None),
        Next::Extending(extending) => (None, Some(write_extending(builder, extending))),
    };
    let (share, created) = match &relay.birth {
        Some(birth) => (birth.share.as_slice(), birth.created.as_slice()),
        None => Default::default(),
    };
    let args = fb::RelayArgs {
        handle: handle.0,
        hop: Some(layer::state::write(builder, (&relay.sealer, &relay.opener))),
        previous: Some(&leg(relay.previous)),
        next: next.as_ref(),
        extending,
        share: Some(builder.create_vector(share)),
        created: (!created.is_empty()).then(|| builder.create_vector(created)),
        extends: relay.extends,
        assembling: relay.assembling.as_ref().and_then(|assembling| parts(builder, &assembling.1)),
        assembling_exchange: relay.assembling.as_ref().map_or(0, |assembling| assembling.0),
        answered: relay.answered.as_ref().map(|answered| write_answered(builder, answered)),
        delivered: relay.delivered,
        born: relay.born.as_micros(),
        heard: relay.heard.as_micros(),
        bytes_in: relay.bytes_in,
        bytes_out: relay.bytes_out,
        alarm: relay.alarm.at().map(Timestamp::as_micros),
    };
    fb::Relay::create(builder, &args)
}

fn write_extending<'b>(builder: &mut Builder<'b>, extending: &Extending) -> WIPOffset<fb::Extending<'b>> {
    let (on, retry) = (extending.leg.map(leg), extending.retry.as_ref().map(Retry::state));
    let args = fb::ExtendingArgs {
        exchange: extending.exchange,
        create_bytes: Some(builder.create_vector(&extending.create)),
        link: extending.link.0,
        leg: on.as_ref(),
        retry: retry.as_ref(),
        parts: parts(builder, &extending.parts),
        descriptor: extending.descriptor.as_ref().map(|signed| builder.create_vector(signed)),
    };
    fb::Extending::create(builder, &args)
}

fn write_answered<'b>(builder: &mut Builder<'b>, answered: &Answered) -> WIPOffset<fb::Answered<'b>> {
    let (created, reason) = match &answered.outcome {
        Ok(created) => (Some(builder.create_vector(created)), 0),
        Err(reason) => (None, reason.0),
    };
    let until = answered.until.as_micros();
    fb::Answered::create(builder, &fb::AnsweredArgs { exchange: answered.exchange, created, reason, until })
}

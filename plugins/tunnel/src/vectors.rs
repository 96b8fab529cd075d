//! Golden vectors: what this code makes of fixed inputs, as text. `schemas/vectors` holds the
//! same text; a second implementation is right when it gets these bytes from these inputs.

use std::fmt::Write;

use warren_schemas::cell::{COVER_LEN, HEADER_LEN, LAYER_LEN, MAX_DATAGRAM, MAX_INNER};
use warren_schemas::control::CloseReason;
use warren_schemas::{CircuitId, LinkId, PeerId, Timestamp};
use zeroize::Zeroizing;

use crate::cookie::CookieKey;
use crate::crypto::{Direction, public_key, x25519};
use crate::fragments::{Fragment, split};
use crate::layer::Sealer;
use crate::link_keys::{LinkOpener, LinkSealer};
use crate::message::{CookieMessage, Extend, HopMessage, Link, LinkMessage, Linked, command};
use crate::ntor::circuit::{Create, Creating};
use crate::ntor::link::{Opening, answer};
use crate::ntor::{Suite, Target};

/// The files in `schemas/vectors`; those of suite 2 come last.
pub const NAMES: &[&str] = &[
    "circuit.txt",
    "layers.txt",
    "link.txt",
    "messages.txt",
    #[cfg(feature = "hybrid")]
    "circuit-2.txt",
    #[cfg(feature = "hybrid")]
    "link-2.txt",
];

/// The relay's private onion key.
pub(crate) const ONION_SECRET: [u8; 32] = [0x11; 32];
/// The initiating side's ephemeral secret.
pub(crate) const INITIATOR_RANDOM: [u8; 32] = [0x22; 32];
/// The answering side's ephemeral secret.
pub(crate) const RESPONDER_RANDOM: [u8; 32] = [0x33; 32];
/// The initiator's link id.
pub(crate) const INITIATOR_ID: LinkId = LinkId(0x0100_00a1);
/// The responder's link id.
pub(crate) const RESPONDER_ID: LinkId = LinkId(0x0200_00b2);
/// The layer key of `layers.txt`.
pub(crate) const LAYER_KEY: [u8; 32] = [0x55; 32];
/// The counters of `layers.txt`.
pub(crate) const LAYER_COUNTERS: [u64; 3] = [0, 1, 0x1_0000_0005];

/// The text of the file `name`; none when there is no such file.
#[must_use]
pub fn compute(name: &str) -> Option<String> {
    match name {
        "circuit.txt" => circuit(Suite::X25519),
        #[cfg(feature = "hybrid")]
        "circuit-2.txt" => circuit(Suite::Hybrid),
        "layers.txt" => layers(),
        "link.txt" => link(Suite::X25519),
        #[cfg(feature = "hybrid")]
        "link-2.txt" => link(Suite::Hybrid),
        "messages.txt" => messages(),
        _ => None,
    }
}

/// A text of `name = hex` lines in blocks.
struct Text(String);

impl Text {
    fn new(about: &str) -> Self {
        Self(format!("# docs/protocol.md, {about}\n"))
    }

    fn block(&mut self) {
        self.0.push('\n');
    }

    fn line(&mut self, name: &str, bytes: &[u8]) {
        let _ = write!(self.0, "{name} = ");
        for byte in bytes {
            let _ = write!(self.0, "{byte:02x}");
        }
        self.0.push('\n');
    }
}

/// The relay of all vectors.
pub(crate) fn target() -> Target {
    let onion_key = public_key(&Zeroizing::new(ONION_SECRET));
    Target { peer_id: PeerId([0x44; 32]), epoch: 7, onion_key }
}

/// What the relay's host answers.
pub(crate) fn onion_dh(_epoch: u32, point: &[u8; 32]) -> Option<[u8; 32]> {
    x25519(&Zeroizing::new(ONION_SECRET), point).map(|shared| *shared)
}

fn inputs(text: &mut Text, suite: Suite) {
    let target = target();
    text.block();
    if suite != Suite::X25519 {
        text.line("suite", &[suite as u8]);
    }
    text.line("peer_id", &target.peer_id.0);
    text.line("epoch", &target.epoch.to_be_bytes());
    text.line("onion_secret", &ONION_SECRET);
    text.line("onion_key", &target.onion_key);
    text.line("initiator_random", &INITIATOR_RANDOM);
    text.line("responder_random", &RESPONDER_RANDOM);
}

fn circuit(suite: Suite) -> Option<String> {
    let mut text =
        Text::new("sections 3, 6.1 and 7: a circuit's handshake and the first layers under its keys");
    inputs(&mut text, suite);
    let creating = Creating::new(suite, target(), INITIATOR_RANDOM);
    let create = creating.create();
    let request = Create::decode(&create).ok()?;
    for contents in [&[][..], &[1, 2, 0xaa, 0xbb]] {
        let (created, keys) = request.answer(&target(), RESPONDER_RANDOM, contents, &mut onion_dh).ok()?;
        let (mut backward, _) = keys.relay();
        let (mut forward, _) = creating.finish(&created).ok()?.0.originator();
        text.block();
        text.line("create", &create);
        text.line("contents", contents);
        text.line("created", &created);
        for (name, sealer) in [("forward_layer", &mut forward), ("backward_layer", &mut backward)] {
            text.line(name, &layer(sealer, 1, b"inner")?);
        }
    }
    Some(text.0)
}

fn layer(sealer: &mut Sealer, command: u8, inner: &[u8]) -> Option<Vec<u8>> {
    let mut buf = vec![0; inner.len() + LAYER_LEN];
    let start = LAYER_LEN - 16;
    buf.get_mut(start..start + inner.len())?.copy_from_slice(inner);
    let place = sealer.seal(&mut buf, start, inner.len(), command).ok()?;
    buf.get(place).map(<[u8]>::to_vec)
}

fn cover(sealer: &mut Sealer, inner: &[u8]) -> Option<Vec<u8>> {
    let mut buf = [&[0; COVER_LEN], inner].concat();
    let place = sealer.cover(&mut buf, COVER_LEN, inner.len()).ok()?;
    buf.get(place).map(<[u8]>::to_vec)
}

fn layers() -> Option<String> {
    let mut text = Text::new("section 7: single layers, key and counter given");
    // What a last hop seals at most has many blocks of the key stream.
    let longest: Vec<u8> = (0..MAX_INNER + LAYER_LEN).map(|at| at as u8).collect();
    let [.., last] = LAYER_COUNTERS;
    for direction in [Direction::Forward, Direction::Backward] {
        for counter in LAYER_COUNTERS {
            single(&mut text, direction, counter, command::RELAY, b"a layer of the next hop")?;
        }
    }
    single(&mut text, Direction::Backward, last, command::RELAY, &longest)?;
    for counter in LAYER_COUNTERS {
        single(&mut text, Direction::Backward, counter, command::DATA, b"a datagram")?;
    }
    Some(text.0)
}

/// One hop's part of a cell. Nobody seals RELAY towards the originator: relays cover what they pass on.
fn single(text: &mut Text, direction: Direction, counter: u64, command: u8, inner: &[u8]) -> Option<()> {
    let mut sealer = Sealer::resume(&LAYER_KEY, Suite::X25519, direction, counter);
    let (name, part) = if (direction, command) == (Direction::Backward, command::RELAY) {
        ("cover", cover(&mut sealer, inner)?)
    } else {
        ("layer", layer(&mut sealer, command, inner)?)
    };
    text.block();
    text.line("key", &LAYER_KEY);
    text.line("direction", &[direction as u8]);
    text.line("counter", &counter.to_be_bytes());
    text.line("command", &[command]);
    text.line("inner", inner);
    text.line(name, &part);
    Some(())
}

fn link(suite: Suite) -> Option<String> {
    let mut text = Text::new("sections 4 and 5: opening a link, and datagrams both ways in three key phases");
    inputs(&mut text, suite);
    text.line("initiator_id", &INITIATOR_ID.0.to_be_bytes());
    text.line("responder_id", &RESPONDER_ID.0.to_be_bytes());
    let mut opening = Opening::new(suite, target(), INITIATOR_ID, INITIATOR_RANDOM);
    cookie(&mut text, &mut opening)?;
    let link = opening.datagrams().pop()?;
    let request = Link::decode(&link).ok()?;
    let answered =
        answer(&request, request.part.bytes, &target(), RESPONDER_ID, RESPONDER_RANDOM, &mut onion_dh)
            .ok()?;
    let linked = answered.datagrams.first()?.clone();
    let initiator = opening.take_linked(&Linked::decode(&linked).ok()?).ok()??;
    text.block();
    text.line("link", &link);
    text.line("linked", &linked);
    datagrams(&mut text, initiator, (answered.sealer, answered.opener))?;
    Some(text.0)
}

fn cookie(text: &mut Text, opening: &mut Opening) -> Option<()> {
    let (key, now, source) = ([0x66; 32], Timestamp::from_micros(1_000_000_000), ([192, 0, 2, 1], 4500));
    let x = Link::decode(&opening.datagrams().pop()?).ok()?.x;
    let cookie = CookieKey::new(key).make(now, source.into(), INITIATOR_ID, &x);
    let [a, b, c, d, e, f, g, h, ..] = x;
    let message = CookieMessage { initiator: INITIATOR_ID, echo: [a, b, c, d, e, f, g, h], cookie };
    let mut datagram = [0; MAX_DATAGRAM];
    let length = message.encode(&mut datagram)?;
    opening.take_cookie(&message).ok()?;
    text.block();
    text.line("cookie_key", &key);
    text.line("now_seconds", &1000u64.to_be_bytes());
    text.line("source", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1, 0x11, 0x94]);
    text.line("cookie", datagram.get(..length)?);
    Some(())
}

type End = (LinkSealer, LinkOpener);

fn datagrams(text: &mut Text, mut initiator: End, mut responder: End) -> Option<()> {
    let circuit = CircuitId(0x0a0b_0c0d);
    for phase in 0u8..3 {
        for (name, sealer, opener) in [
            ("forward", &mut initiator.0, &mut responder.1),
            ("backward", &mut responder.0, &mut initiator.1),
        ] {
            text.block();
            text.line("phase", &[phase]);
            text.line("counter", &sealer.next_counter().to_be_bytes());
            text.line("circuit", &circuit.0.to_be_bytes());
            let mut buf = [0; 128];
            let length = LinkMessage::Destroy(CloseReason::Finished).encode(buf.get_mut(32..)?)?;
            text.line("message", buf.get(32..32 + length)?);
            let place = sealer.seal_message(&mut buf, 32, length, circuit).ok()?;
            text.line(&format!("{name}_message"), buf.get(place.clone())?);
            opener.accept(buf.get(place)?).ok()?;
            let mut cell = [0x77; HEADER_LEN + LAYER_LEN + 4];
            let place = sealer.seal_cell(&mut cell, HEADER_LEN, LAYER_LEN + 4, circuit).ok()?;
            text.line(&format!("{name}_cell"), cell.get(place.clone())?);
            opener.accept(cell.get(place)?).ok()?;
            sealer.confirm_phase();
            sealer.rekey();
        }
    }
    Some(())
}

fn messages() -> Option<String> {
    let mut text = Text::new("sections 3.2, 6 and 7: messages before they are sealed");
    let part = Fragment { index: 0, total: 1, bytes: b"handshake" };
    let token = *b"8 octets";
    let links: [(&str, LinkMessage<'_>); 10] = [
        ("padding", LinkMessage::Padding),
        ("create", LinkMessage::Create(part)),
        ("created", LinkMessage::Created(part)),
        ("create_failed", LinkMessage::CreateFailed(CloseReason::Limit)),
        ("destroy", LinkMessage::Destroy(CloseReason::Finished)),
        ("path_challenge", LinkMessage::PathChallenge(token)),
        ("path_response", LinkMessage::PathResponse(token)),
        ("ping", LinkMessage::Ping(token)),
        ("pong", LinkMessage::Pong(token)),
        ("close", LinkMessage::Close(CloseReason::Shutdown)),
    ];
    text.block();
    for (name, message) in links {
        let mut buf = [0; 64];
        let length = message.encode(&mut buf)?;
        text.line(&format!("link_{name}"), buf.get(..length)?);
    }
    hop_messages(&mut text, part, token)?;
    let extend = Extend { descriptor: b"a descriptor", create: b"a create" }.encode()?;
    text.block();
    text.line("extend_content", &extend);
    let long: Vec<u8> = (0..1100u32).map(|at| at as u8).collect();
    for part in split(&long)? {
        let mut buf = [0; 1100];
        let length = LinkMessage::Create(part).encode(&mut buf)?;
        text.line("part_of_1100", buf.get(..length)?);
    }
    Some(text.0)
}

fn hop_messages(text: &mut Text, part: Fragment<'_>, token: [u8; 8]) -> Option<()> {
    let exchange = 0x0102_0304;
    let hops: [(&str, HopMessage<'_>); 7] = [
        ("data", HopMessage::Data(b"datagram")),
        ("extend", HopMessage::Extend { exchange, part }),
        ("extended", HopMessage::Extended { exchange, part }),
        ("extend_failed", HopMessage::ExtendFailed { exchange, reason: CloseReason::Descriptor }),
        ("ping", HopMessage::Ping(token)),
        ("pong", HopMessage::Pong(token)),
        ("padding", HopMessage::Padding),
    ];
    text.block();
    for (name, message) in hops {
        let mut buf = [0; 64];
        let length = message.encode(&mut buf)?;
        text.line(&format!("hop_{name}_{}", message.command()), buf.get(..length)?);
    }
    Some(())
}

#[cfg(test)]
mod tests;

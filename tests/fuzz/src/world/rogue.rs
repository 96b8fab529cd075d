//! A node with a link and a circuit of its own, which says what it likes: its bytes get past every tag.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use warren_schemas::cell::{HEADER_LEN, LAYER_LEN};
use warren_schemas::{CircuitId, LinkId};
use warren_tunnel::fragments::split;
use warren_tunnel::layer::{LAYER_FRONT, Sealer};
use warren_tunnel::link_keys::{LinkOpener, LinkSealer};
use warren_tunnel::message::{LinkMessage, Linked};
use warren_tunnel::ntor::circuit::Creating;
use warren_tunnel::ntor::link::Opening;
use warren_tunnel::ntor::{Suite, Target};
use warren_tunnel::testing::Net;

/// Where it is.
pub(crate) const HERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(6, 6, 6, 6)), 6666);
/// Somebody from whom nothing was ever proven.
pub(crate) const STRANGER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(7, 7, 7, 7)), 7777);
/// Its circuit.
const CIRCUIT: CircuitId = CircuitId(0x77);
/// Longest content that still fits into a datagram.
const LONGEST: usize = 1290;

/// Its ends. Counters go on from input to input: the machines that hear it have seen none of them.
pub(crate) struct Rogue {
    link: LinkSealer,
    hop: Sealer,
}

impl Rogue {
    pub(super) fn open(net: &mut Net, relay: usize) -> Self {
        let descriptor = net.descriptor(relay);
        let target = Target {
            peer_id: descriptor.peer_id,
            epoch: descriptor.onion_epoch,
            onion_key: descriptor.onion_key,
        };
        let mut opening = Opening::new(Suite::X25519, target, LinkId(0x66), [6; 32]);
        net.inject(relay, HERE, &opening.datagrams()[0]);
        let linked = answer(net);
        let linked = Linked::decode(&linked).unwrap();
        let (mut link, mut opener) = opening.take_linked(&linked).unwrap().unwrap();
        let creating = Creating::new(Suite::X25519, target, [5; 32]);
        for part in split(&creating.create()).unwrap() {
            let datagram = message(&mut link, CIRCUIT, &encoded(&LinkMessage::Create(part)));
            net.inject(relay, HERE, &datagram);
        }
        let created = read(&mut opener, answer(net));
        let Ok(LinkMessage::Created(part)) = LinkMessage::decode(&created) else { panic!("no CREATED") };
        let (hop, _) = creating.finish(part.bytes).unwrap().0.originator();
        Self { link, hop }
    }

    /// A message on its link.
    pub(crate) fn message(&mut self, circuit: u32, content: &[u8]) -> Vec<u8> {
        message(&mut self.link, or_own(circuit), content)
    }

    /// A cell on its link, whose layer opens only when it was sealed by its circuit.
    pub(crate) fn cell(&mut self, circuit: u32, layer: &[u8]) -> Vec<u8> {
        let mut buf = [&[0; HEADER_LEN][..], &layer[..layer.len().min(LONGEST)]].concat();
        buf.resize(buf.len().max(HEADER_LEN + LAYER_LEN), 0);
        let length = buf.len() - HEADER_LEN;
        let at = self.link.seal_cell(&mut buf, HEADER_LEN, length, or_own(circuit)).unwrap();
        buf[at].to_vec()
    }

    /// A command for the hop of its circuit.
    pub(crate) fn command(&mut self, command: u8, inner: &[u8]) -> Vec<u8> {
        let inner = &inner[..inner.len().min(LONGEST)];
        let mut buf = [&[0; LAYER_FRONT][..], inner, &[0; LAYER_LEN - LAYER_FRONT]].concat();
        let at = self.hop.seal(&mut buf, LAYER_FRONT, inner.len(), command).unwrap();
        self.cell(0, &buf[at])
    }
}

/// Its circuit for 0.
const fn or_own(circuit: u32) -> CircuitId {
    if circuit == 0 { CIRCUIT } else { CircuitId(circuit) }
}

/// What the relay sent to the rogue last.
fn answer(net: &mut Net) -> Vec<u8> {
    net.record.iter().rfind(|flight| flight.to == HERE).unwrap().bytes.clone()
}

fn encoded(message: &LinkMessage<'_>) -> Vec<u8> {
    let mut content = vec![0; LONGEST];
    let length = message.encode(&mut content).unwrap();
    content.truncate(length);
    content
}

fn message(link: &mut LinkSealer, circuit: CircuitId, content: &[u8]) -> Vec<u8> {
    let content = &content[..content.len().min(LONGEST)];
    let mut buf = [&[0; HEADER_LEN][..], content, &[0; 16]].concat();
    buf.resize(buf.len().max(HEADER_LEN + 17), 0);
    let length = buf.len() - HEADER_LEN - 16;
    let at = link.seal_message(&mut buf, HEADER_LEN, length, circuit).unwrap();
    buf[at].to_vec()
}

fn read(opener: &mut LinkOpener, mut datagram: Vec<u8>) -> Vec<u8> {
    let accepted = opener.accept(&datagram).unwrap();
    let at = opener.open_message(&accepted, &mut datagram).unwrap();
    datagram[at].to_vec()
}

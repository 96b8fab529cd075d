use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use warren_schemas::cell::{COVER_LEN, HEADER_LEN, Kind, LAYER_LEN};
use warren_schemas::control::CloseReason;
use warren_schemas::{CircuitId, LinkId};
use warren_tunnel::Env;
use warren_tunnel::drop_reason::DropReason;
use warren_tunnel::fragments::{Assembler, split};
use warren_tunnel::layer::{HopKeys, LAYER_FRONT, Opener, Sealer};
use warren_tunnel::link_keys::{LinkOpener, LinkSealer};
use warren_tunnel::message::{Extend, HopMessage, Link, LinkMessage, Linked};
use warren_tunnel::ntor::circuit::{Create, Creating};
use warren_tunnel::ntor::link::{Opening, answer};
use warren_tunnel::ntor::{Suite, Target};
use warren_tunnel::testing::Net;

/// Where the rogue initiator is.
pub(crate) const HERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(6, 6, 6, 6)), 6666);

/// A node as a handshake names it.
pub(crate) fn target(net: &Net, node: usize) -> Target {
    let descriptor = net.descriptor(node);
    Target { peer_id: descriptor.peer_id, epoch: descriptor.onion_epoch, onion_key: descriptor.onion_key }
}

/// Takes what was sent to `address` out of the record.
pub(crate) fn sent_to(net: &mut Net, address: SocketAddr) -> Vec<Vec<u8>> {
    let (taken, kept) = std::mem::take(&mut net.record).into_iter().partition(|flight| flight.to == address);
    net.record = kept;
    let taken: Vec<warren_tunnel::testing::Flight> = taken;
    taken.into_iter().map(|flight| flight.bytes).collect()
}

/// Injects and gives the reason for which it was dropped; none when it was not.
pub(crate) fn refused(net: &mut Net, node: usize, from: SocketAddr, bytes: &[u8]) -> Option<DropReason> {
    net.nodes[node].drops.clear();
    net.inject(node, from, bytes);
    net.nodes[node].drops.last().map(|reason| DropReason::from_byte(*reason).unwrap())
}

/// What came over a link.
#[derive(Debug)]
pub(crate) enum Heard {
    Message(CircuitId, Vec<u8>),
    Cell(CircuitId, Vec<u8>),
}

/// Two ends of a link, and how to write with them.
pub(crate) struct Ends {
    pub(crate) sealer: LinkSealer,
    pub(crate) opener: LinkOpener,
}

impl Ends {
    pub(crate) fn message(&mut self, circuit: CircuitId, message: &LinkMessage<'_>) -> Vec<u8> {
        let mut content = vec![0; 1300];
        let length = message.encode(&mut content).unwrap();
        self.raw_message(circuit, &content[..length])
    }

    pub(crate) fn raw_message(&mut self, circuit: CircuitId, content: &[u8]) -> Vec<u8> {
        let (mut buf, place) = roomy(content);
        let place = self.sealer.seal_message(&mut buf, place.start, place.len(), circuit).unwrap();
        buf[place].to_vec()
    }

    pub(crate) fn cell(&mut self, circuit: CircuitId, layer: &[u8]) -> Vec<u8> {
        let (mut buf, place) = roomy(layer);
        let place = self.sealer.seal_cell(&mut buf, place.start, place.len(), circuit).unwrap();
        buf[place].to_vec()
    }

    pub(crate) fn read(&mut self, mut datagram: Vec<u8>) -> Heard {
        let accepted = self.opener.accept(&datagram).unwrap();
        if accepted.kind == Kind::Cell {
            return Heard::Cell(accepted.circuit, datagram[HEADER_LEN..].to_vec());
        }
        let place = self.opener.open_message(&accepted, &mut datagram).unwrap();
        Heard::Message(accepted.circuit, datagram[place].to_vec())
    }
}

fn roomy(bytes: &[u8]) -> (Vec<u8>, Range<usize>) {
    let mut buf = vec![0; 1600];
    let place = 100..100 + bytes.len();
    buf[place.clone()].copy_from_slice(bytes);
    (buf, place)
}

/// Puts a layer around a command.
pub(crate) fn layer(sealer: &mut Sealer, command: u8, inner: &[u8]) -> Vec<u8> {
    let mut buf = vec![0; inner.len() + LAYER_LEN];
    buf[LAYER_FRONT..LAYER_FRONT + inner.len()].copy_from_slice(inner);
    let place = sealer.seal(&mut buf, LAYER_FRONT, inner.len(), command).unwrap();
    buf[place].to_vec()
}

/// Covers what the next hop has sent.
pub(crate) fn cover(sealer: &mut Sealer, inside: &[u8]) -> Vec<u8> {
    let mut buf = [&[0; COVER_LEN], inside].concat();
    let place = sealer.cover(&mut buf, COVER_LEN, inside.len()).unwrap();
    buf[place].to_vec()
}

/// A node that opens a link to a relay and then says what it likes.
pub(crate) struct Initiator {
    pub(crate) relay: usize,
    pub(crate) ends: Ends,
}

/// A circuit of one hop that the initiator made.
pub(crate) struct Hop {
    pub(crate) id: CircuitId,
    pub(crate) sealer: Sealer,
    pub(crate) opener: Opener,
}

impl Initiator {
    /// A link to `relay`, and from now on a record of all that is sent.
    pub(crate) fn open(net: &mut Net, relay: usize) -> Self {
        net.recording = true;
        let mut opening = Opening::new(Suite::X25519, target(net, relay), LinkId(0x66), [6; 32]);
        assert_eq!(refused(net, relay, HERE, &opening.datagrams()[0]), None);
        let linked = sent_to(net, HERE).pop().unwrap();
        let (sealer, opener) = opening.take_linked(&Linked::decode(&linked).unwrap()).unwrap().unwrap();
        let mut initiator = Self { relay, ends: Ends { sealer, opener } };
        initiator.is_answered(net);
        initiator
    }

    /// The link still stands: a PING gets its PONG and nothing else comes.
    pub(crate) fn is_answered(&mut self, net: &mut Net) {
        sent_to(net, HERE);
        let ping = self.ends.message(CircuitId(0), &LinkMessage::Ping(*b"a token!"));
        assert_eq!(self.say(net, &ping), None);
        match &self.hear(net)[..] {
            [Heard::Message(_, content)] => {
                assert_eq!(LinkMessage::decode(content), Ok(LinkMessage::Pong(*b"a token!")));
            }
            other => panic!("{other:?}"),
        }
    }

    /// Sends a datagram from its own address.
    pub(crate) fn say(&self, net: &mut Net, datagram: &[u8]) -> Option<DropReason> {
        refused(net, self.relay, HERE, datagram)
    }

    /// Sends a datagram that must be dropped for that reason, without a word to anybody.
    pub(crate) fn is_dropped(&self, net: &mut Net, datagram: &[u8], reason: DropReason) {
        net.record.clear();
        assert_eq!(self.say(net, datagram), Some(reason));
        assert!(net.record.is_empty(), "{reason} was answered");
    }

    pub(crate) fn hear(&mut self, net: &mut Net) -> Vec<Heard> {
        sent_to(net, HERE).into_iter().map(|datagram| self.ends.read(datagram)).collect()
    }

    /// Makes a circuit of one hop.
    pub(crate) fn circuit(&mut self, net: &mut Net, id: u32) -> Hop {
        let id = CircuitId(id);
        let creating = Creating::new(Suite::X25519, target(net, self.relay), [id.0 as u8; 32]);
        let create = creating.create();
        for part in split(&create).unwrap() {
            let datagram = self.ends.message(id, &LinkMessage::Create(part));
            assert_eq!(self.say(net, &datagram), None);
        }
        let Some(Heard::Message(circuit, content)) = self.hear(net).pop() else { panic!("no CREATED") };
        let Ok(LinkMessage::Created(part)) = LinkMessage::decode(&content) else { panic!("{content:?}") };
        assert_eq!(circuit, id);
        let (sealer, opener) = creating.finish(part.bytes).unwrap().0.originator();
        Hop { id, sealer, opener }
    }

    /// A datagram with one command for the hop.
    pub(crate) fn command(&mut self, hop: &mut Hop, message: &HopMessage<'_>) -> Vec<u8> {
        let mut inner = vec![0; 1300];
        let length = message.encode(&mut inner).unwrap();
        let layer = layer(&mut hop.sealer, message.command(), &inner[..length]);
        self.ends.cell(hop.id, &layer)
    }

    /// What the hop has said, each as command and inner part.
    pub(crate) fn answers(&mut self, net: &mut Net, hop: &mut Hop) -> Vec<(u8, Vec<u8>)> {
        let mut answers = Vec::new();
        for heard in self.hear(net) {
            if let Heard::Cell(circuit, mut layer) = heard {
                assert_eq!(circuit, hop.id);
                let (command, inner) = hop.opener.open(&mut layer).unwrap();
                answers.push((command, layer[inner].to_vec()));
            }
        }
        answers
    }

    /// Asks the hop to extend to a descriptor with a create, and gives what it said within 15 s:
    /// nothing for EXTENDED.
    pub(crate) fn extend(
        &mut self,
        net: &mut Net,
        hop: &mut Hop,
        exchange: u32,
        descriptor: &[u8],
        create: &[u8],
    ) -> Option<CloseReason> {
        let content = raw_extend(descriptor, create);
        for part in split(&content).unwrap() {
            let datagram = self.command(hop, &HopMessage::Extend { exchange, part });
            self.say(net, &datagram);
        }
        net.run_for(Duration::from_secs(15));
        let answers = self.answers(net, hop);
        let [(command, inner)] = &answers[..] else { panic!("{answers:?}") };
        match HopMessage::decode(*command, inner).unwrap() {
            HopMessage::Extended { exchange: of, .. } if of == exchange => None,
            HopMessage::ExtendFailed { exchange: of, reason } if of == exchange => Some(reason),
            other => panic!("{other:?}"),
        }
    }
}

/// An extend that may break the rules.
pub(crate) fn raw_extend(descriptor: &[u8], create: &[u8]) -> Vec<u8> {
    let length = u16::try_from(descriptor.len()).unwrap().to_be_bytes();
    let raw = [&length[..], descriptor, create].concat();
    if let Some(regular) = (Extend { descriptor, create }).encode() {
        assert_eq!(raw, regular);
    }
    raw
}

/// A create for `node`.
pub(crate) fn create_for(net: &Net, node: usize) -> Vec<u8> {
    Creating::new(Suite::X25519, target(net, node), [0x77; 32]).create()
}

/// What `node` answers to a create, always the same, and the keys.
pub(crate) fn created_by(net: &mut Net, node: usize, create: &[u8]) -> (Vec<u8>, HopKeys) {
    let own = target(net, node);
    let env = &mut net.nodes[node].env;
    let mut dh = |epoch, point: &[u8; 32]| env.onion_dh(epoch, point);
    Create::decode(create).unwrap().answer(&own, [8; 32], &[], &mut dh).unwrap()
}

/// A relay of the network whose machine is off: the attacker answers in its place and with its keys.
pub(crate) struct Relay {
    pub(crate) node: usize,
    pub(crate) client: usize,
    pub(crate) ends: Ends,
}

impl Relay {
    /// Lets `client` ask for a circuit in `suite` that starts at `node`, and answers its LINK.
    pub(crate) fn take_over(net: &mut Net, client: usize, node: usize, suite: u8) -> Self {
        Self::lead(net, client, &[node], suite)
    }

    /// The same for a circuit through all of `path`, which starts at the relay.
    pub(crate) fn lead(net: &mut Net, client: usize, path: &[usize], suite: u8) -> Self {
        let node = path[0];
        net.recording = true;
        net.kill(node);
        let address = net.nodes[node].address;
        let link = sent_to(net, address);
        assert!(link.is_empty());
        net.create_in(client, path, vec![suite; path.len()]);
        Self::answer(net, client, node)
    }

    /// Answers the LINK that the client has sent now.
    pub(crate) fn answer_link(self, net: &mut Net) -> Self {
        Self::answer(net, self.client, self.node)
    }

    fn answer(net: &mut Net, client: usize, node: usize) -> Self {
        let address = net.nodes[node].address;
        let is_link = |datagram: &Vec<u8>| datagram[0] == Kind::Link as u8;
        let link = sent_to(net, address).into_iter().rfind(is_link).unwrap();
        let link = Link::decode(&link).unwrap();
        let own = target(net, node);
        let env = &mut net.nodes[node].env;
        let mut dh = |epoch, point: &[u8; 32]| env.onion_dh(epoch, point);
        let answered = answer(&link, link.part.bytes, &own, LinkId(0x99), [9; 32], &mut dh).unwrap();
        let ends = Ends { sealer: answered.sealer, opener: answered.opener };
        assert_eq!(refused(net, client, address, &answered.datagrams[0]), None);
        Self { node, client, ends }
    }

    /// The CREATE that the client has sent last: its circuit id and content.
    pub(crate) fn create(&mut self, net: &mut Net) -> (CircuitId, Vec<u8>) {
        let heard = self.hear(net);
        let messages = heard.iter().filter_map(|heard| match heard {
            Heard::Message(circuit, content) => Some((*circuit, LinkMessage::decode(content).ok()?)),
            Heard::Cell(..) => None,
        });
        let mut parts = Assembler::new();
        let creates = messages.filter_map(|(circuit, message)| match message {
            LinkMessage::Create(part) => Some((circuit, parts.push(&part).unwrap()?)),
            _ => None,
        });
        creates.last().unwrap()
    }

    /// What the client has sent to the relay.
    pub(crate) fn hear(&mut self, net: &mut Net) -> Vec<Heard> {
        let address = net.nodes[self.node].address;
        sent_to(net, address).into_iter().map(|datagram| self.ends.read(datagram)).collect()
    }

    /// The right answer to a create.
    pub(crate) fn created(&self, net: &mut Net, create: &[u8]) -> (Vec<u8>, HopKeys) {
        created_by(net, self.node, create)
    }

    /// Sends a datagram to the client from the relay's address.
    pub(crate) fn say(&self, net: &mut Net, datagram: &[u8]) -> Option<DropReason> {
        let address = net.nodes[self.node].address;
        refused(net, self.client, address, datagram)
    }
}

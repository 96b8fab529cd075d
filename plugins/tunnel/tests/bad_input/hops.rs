use warren_schemas::CircuitId;
use warren_schemas::cell::COVER_LEN;
use warren_schemas::control::Event;
use warren_tunnel::drop_reason::DropReason;
use warren_tunnel::fragments::{Assembler, Fragment, split};
use warren_tunnel::layer::{Opener, Sealer};
use warren_tunnel::message::{Extend, HopMessage, LinkMessage, command};
use warren_tunnel::testing::Net;

use crate::rogue::{Heard, Relay, cover, created_by, layer};

const CLIENT: usize = 0;

/// A client's circuit whose first hop holds the keys of the others too: what is for them it answers itself.
/// Hop n is node n of the network.
pub(crate) struct Hops {
    pub(crate) net: Net,
    relay: Relay,
    circuit: CircuitId,
    /// The hops that stand: their own ends, and the create of each.
    stand: Vec<(Sealer, Opener, Vec<u8>)>,
}

/// The answer to an EXTEND that has come, and the ends of the hop that it adds.
pub(crate) struct Next {
    pub(crate) exchange: u32,
    pub(crate) extended: Vec<u8>,
    pub(crate) sealer: Sealer,
    opener: Opener,
    create: Vec<u8>,
}

impl Hops {
    /// A circuit of three hops, of which so many stand. The client has asked the last of them for the next.
    pub(crate) fn standing(count: usize) -> Self {
        let mut net = Net::with_relays(6, 3);
        let mut relay = Relay::lead(&mut net, CLIENT, &[1, 2, 3], 1);
        let (circuit, create) = relay.create(&mut net);
        let (answer, keys) = relay.created(&mut net, &create);
        let created = LinkMessage::Created(split(&answer).unwrap().next().unwrap());
        let created = relay.ends.message(circuit, &created);
        assert_eq!(relay.say(&mut net, &created), None);
        let (sealer, opener) = keys.relay();
        let mut hops = Self { net, relay, circuit, stand: vec![(sealer, opener, create)] };
        while hops.stand.len() < count {
            let next = hops.asked();
            hops.add(next);
        }
        hops
    }

    /// The EXTEND that has come, and the answer to it.
    pub(crate) fn asked(&mut self) -> Next {
        let (mut parts, mut whole) = (Assembler::new(), None);
        for heard in self.relay.hear(&mut self.net) {
            let Heard::Cell(_, body) = heard else { continue };
            let inner = self.opened(body, command::EXTEND);
            let message = HopMessage::decode(command::EXTEND, &inner).unwrap();
            let HopMessage::Extend { exchange, part } = message else { panic!("{message:?}") };
            whole = parts.push(&part).unwrap().map(|whole| (exchange, whole)).or(whole);
        }
        let (exchange, whole) = whole.unwrap();
        let create = Extend::decode(&whole).unwrap().create.to_vec();
        let (created, keys) = created_by(&mut self.net, self.stand.len() + 1, &create);
        let (sealer, opener) = keys.relay();
        let part = Fragment { index: 0, total: 1, bytes: &created };
        let extended = inner(&HopMessage::Extended { exchange, part });
        Next { exchange, extended, sealer, opener, create }
    }

    /// What came for the last hop that stands, with that command.
    fn opened(&mut self, mut body: Vec<u8>, wanted: u8) -> Vec<u8> {
        let last = self.stand.len() - 1;
        for (index, (_, opener, _)) in self.stand.iter_mut().enumerate() {
            let (command, inner) = opener.open(&mut body).unwrap();
            assert_eq!(command, if index == last { wanted } else { command::RELAY });
            body = body[inner].to_vec();
        }
        body
    }

    /// The last hop that stands says that the next one does too.
    pub(crate) fn add(&mut self, next: Next) {
        let body = self.said(self.stand.len(), command::EXTENDED, &next.extended);
        assert_eq!(self.say(&body), None);
        self.stand.push((next.sealer, next.opener, next.create));
        let ready =
            self.events().iter().any(|(_, event)| matches!(event, Event::CircuitReady { hops: 3, .. }));
        assert_eq!(ready, self.stand.len() == 3);
    }

    /// A cell in which hop `hop` says something. Its parts, outermost first: the body of the cell, of which
    /// each hop before it has covered the next.
    pub(crate) fn parts(&mut self, hop: usize, command: u8, inner: &[u8]) -> Vec<Vec<u8>> {
        let mut parts = vec![layer(&mut self.stand[hop - 1].0, command, inner)];
        for nearer in (1..hop).rev() {
            parts.insert(0, self.covered(nearer, &parts[0].clone()));
        }
        parts
    }

    /// The same, the body alone.
    pub(crate) fn said(&mut self, hop: usize, command: u8, inner: &[u8]) -> Vec<u8> {
        self.parts(hop, command, inner).swap_remove(0)
    }

    /// What hop `hop` makes of something that came from the next one.
    pub(crate) fn covered(&mut self, hop: usize, inside: &[u8]) -> Vec<u8> {
        cover(&mut self.stand[hop - 1].0, inside)
    }

    /// Another sealer with the key of a hop, from the first counter on.
    pub(crate) fn second_sealer(&mut self, hop: usize) -> Sealer {
        created_by(&mut self.net, hop, &self.stand[hop - 1].2).1.relay().0
    }

    /// Puts a body into a cell of the link.
    pub(crate) fn cell(&mut self, body: &[u8]) -> Vec<u8> {
        self.relay.ends.cell(self.circuit, body)
    }

    /// Sends a datagram to the client.
    pub(crate) fn say_datagram(&mut self, datagram: &[u8]) -> Option<DropReason> {
        self.relay.say(&mut self.net, datagram)
    }

    /// Sends a body to the client.
    pub(crate) fn say(&mut self, body: &[u8]) -> Option<DropReason> {
        let cell = self.cell(body);
        self.say_datagram(&cell)
    }

    /// Sends a body that must lead to nothing: no datagram, no delivery, no event. Gives the reason for which it
    /// was dropped; none when it was not.
    pub(crate) fn leads_nowhere(&mut self, body: &[u8]) -> Option<DropReason> {
        let before = (self.events().len(), self.delivered().len());
        self.net.record.clear();
        let reason = self.say(body);
        assert!(self.net.record.is_empty(), "{reason:?} was answered");
        assert_eq!((self.events().len(), self.delivered().len()), before, "{reason:?}");
        reason
    }

    /// Sends a body that must be dropped for that reason.
    pub(crate) fn is_dropped(&mut self, body: &[u8], reason: DropReason) {
        assert_eq!(self.leads_nowhere(body), Some(reason));
    }

    /// Sends a body that must bring `inner` to the client's host.
    pub(crate) fn arrives(&mut self, body: &[u8], inner: &[u8]) {
        let before = self.delivered().len();
        assert_eq!(self.say(body), None);
        assert_eq!(self.delivered()[before..], [inner]);
    }

    /// What came to the client's host.
    pub(crate) fn delivered(&self) -> Vec<&[u8]> {
        self.net.nodes[CLIENT].delivered.iter().map(|(_, _, inner)| &inner[..]).collect()
    }

    /// What the client's host was told.
    pub(crate) fn events(&self) -> &[(warren_schemas::RequestId, Event)] {
        &self.net.nodes[CLIENT].events
    }

    /// How many cells the client has sent.
    pub(crate) fn cells_heard(&mut self) -> usize {
        let heard = self.relay.hear(&mut self.net);
        heard.iter().filter(|heard| matches!(heard, Heard::Cell(..))).count()
    }
}

/// A message as the inner part of a layer.
pub(crate) fn inner(message: &HopMessage<'_>) -> Vec<u8> {
    let mut inner = vec![0; 1240];
    let length = message.encode(&mut inner).unwrap();
    inner.truncate(length);
    inner
}

/// Puts `other` in the place of `known`, which is inside so many covers: who knows it needs no key.
pub(crate) fn swapped(body: &[u8], covers: usize, known: &[u8], other: &[u8]) -> Vec<u8> {
    assert_eq!(known.len(), other.len());
    let (fronts, inside) = body.split_at(covers * COVER_LEN);
    assert_eq!(inside.len(), known.len());
    let inside = inside.iter().zip(known).zip(other).map(|((byte, known), other)| byte ^ known ^ other);
    fronts.iter().copied().chain(inside).collect()
}

//! LINK, LINKED and COOKIE, on both sides.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use warren_schemas::cell::MAX_DATAGRAM;
use warren_schemas::control::CloseReason;
use warren_schemas::descriptor::Descriptor;
use warren_schemas::{CircuitHandle, CircuitId, LinkId, PeerId, suites};

use super::Tunnel;
use super::context::{Context, Outcome, Verdict};
use crate::drop_reason::DropReason;
use crate::limits::{MAX_PENDING_AT, OWN_LINKS, SAME_ANSWER, is_public};
use crate::link::{Link, Pending, Way};
use crate::message::{self, CookieMessage, LinkMessage, Linked};
use crate::ntor::Target;
use crate::ntor::link::{Opening, answer};
use crate::retry::{GIVE_UP, Retry};
use crate::timers::Alarm;

impl Tunnel {
    /// The link to a relay: the one that stands or is being opened, else a new one.
    pub(super) fn link_to(
        &mut self,
        cx: &mut Context<'_>,
        relay: &Descriptor,
        addresses: Vec<SocketAddr>,
        whom: For,
    ) -> Result<LinkId, CloseReason> {
        if let Some(id) = self.known_way(relay, &addresses) {
            return Ok(id);
        }
        if !self.may_open(whom, &addresses) {
            return Err(CloseReason::Limit);
        }
        let suite = suites::common(self.suites, &relay.suites).ok_or(CloseReason::Refused)?;
        let suite = self.speak(suite).map_err(|_| CloseReason::Refused)?;
        let id = self.new_link_id(cx);
        let target = target_of(relay);
        let pending = Pending {
            handshake: Opening::new(suite, target, id, cx.random()),
            relay: relay.peer_id,
            addresses,
            retry: Retry::start(cx.now, GIVE_UP),
            cookies: 0,
            waiting: Vec::new(),
            alarm: Alarm::default(),
        };
        self.to_relay.insert(relay.peer_id, Way { link: id, published: relay.published });
        self.pending.insert(id, pending);
        self.send_link(id);
        Ok(id)
    }

    /// The link to a relay that is there, unless a newer descriptor says that the relay is no longer
    /// where that link leads. An older one, which anybody may still have, changes nothing.
    fn known_way(&mut self, relay: &Descriptor, addresses: &[SocketAddr]) -> Option<LinkId> {
        let way = self.to_relay.get_mut(&relay.peer_id)?;
        if relay.published > way.published {
            let agrees = match (self.links.get(&way.link), self.pending.get(&way.link)) {
                (Some(link), _) => addresses.contains(&link.address),
                (None, Some(pending)) => {
                    *pending.handshake.target() == target_of(relay)
                        && pending.addresses.iter().any(|address| addresses.contains(address))
                }
                (None, None) => false,
            };
            if !agrees {
                return None;
            }
            way.published = relay.published;
        }
        Some(way.link)
    }

    /// Whether there is room for another link of ours.
    fn may_open(&self, whom: For, addresses: &[SocketAddr]) -> bool {
        let Some(settings) = &self.settings else { return false };
        let bounds = &settings.bounds;
        let links = self.links.len() + self.pending.len();
        let (most, waiting) = match whom {
            For::Ourselves => (bounds.links.saturating_add(OWN_LINKS), bounds.half_open),
            For::Others => (bounds.links, (bounds.half_open / 2).max(1)),
        };
        // Anybody can sign a descriptor that names somebody else's address.
        let at = |ip: IpAddr| {
            let there = |pending: &&Pending| pending.addresses.iter().any(|address| address.ip() == ip);
            self.pending.values().filter(there).count()
        };
        let crowded = addresses.iter().any(|a| is_public(a.ip()) && at(a.ip()) >= MAX_PENDING_AT);
        links < most && self.pending.len() < waiting && !crowded
    }

    /// No circuit is led to that relay by this link any more.
    pub(super) fn forget_way(&mut self, relay: PeerId, id: LinkId) {
        if self.to_relay.get(&relay).is_some_and(|way| way.link == id) {
            self.to_relay.remove(&relay);
        }
    }

    /// A circuit's CREATE goes out on that link, as soon as it stands.
    pub(super) fn join_link(&mut self, cx: &mut Context<'_>, handle: CircuitHandle, id: LinkId) {
        let Some(pending) = self.pending.get_mut(&id) else { return self.start_create(cx, handle, id) };
        let most = self.settings.as_ref().map_or(0, |settings| settings.bounds.circuits_per_link);
        if pending.waiting.len() >= most {
            return self.building_failed(cx, handle, CloseReason::Limit);
        }
        pending.waiting.push(handle);
    }

    /// Sends LINK, for the first time or again.
    pub(super) fn send_link(&mut self, id: LinkId) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        if let Some(address) = pending.address() {
            for datagram in pending.handshake.datagrams() {
                self.extras.send(address, &datagram);
            }
        }
        let due = pending.retry.due();
        self.timers.arm(&mut pending.alarm, crate::timers::Whose::Opening(id), due);
    }

    /// Nobody answers there: whoever waits for the link is told.
    pub(super) fn give_up_link(&mut self, cx: &Context<'_>, id: LinkId) {
        let Some(pending) = self.pending.remove(&id) else { return };
        self.forget_way(pending.relay, id);
        for handle in pending.waiting {
            self.building_failed(cx, handle, CloseReason::Timeout);
        }
    }

    /// LINKED: the link stands when the relay has proved itself.
    pub(super) fn on_linked(&mut self, cx: &mut Context<'_>, datagram: &[u8], from: SocketAddr) -> Outcome {
        let linked = Linked::decode(datagram)?;
        let id = linked.initiator;
        let pending = self.pending.get_mut(&id).ok_or(DropReason::UnknownLink)?;
        if !pending.addresses.contains(&from) {
            return Err(DropReason::Address);
        }
        let Some(ends) = pending.handshake.take_linked(&linked)? else { return Ok(Verdict::Taken) };
        let Some(pending) = self.pending.remove(&id) else { return Ok(Verdict::Taken) };
        // Nobody may ask us for circuits on a link that we opened.
        let link = Link::new(cx.now, ends, from, Some(pending.relay), 0);
        self.links.insert(id, Box::new(link));
        self.arm_link(id);
        // The first message shows the relay that the link is wanted, whoever still waits for it.
        let token = cx.random();
        self.say(id, CircuitId(0), &LinkMessage::Ping(token));
        for handle in pending.waiting {
            self.start_create(cx, handle, id);
        }
        Ok(Verdict::Taken)
    }

    /// COOKIE: the relay is busy, LINK goes out again with it.
    pub(super) fn on_cookie(&mut self, datagram: &[u8]) -> Outcome {
        let cookie = CookieMessage::decode(datagram)?;
        let pending = self.pending.get_mut(&cookie.initiator).ok_or(DropReason::UnknownLink)?;
        if pending.cookies >= pending.retry.sent() {
            return Err(DropReason::Cookie);
        }
        pending.handshake.take_cookie(&cookie)?;
        pending.cookies += 1;
        self.send_link(cookie.initiator);
        Ok(Verdict::Taken)
    }

    /// LINK: somebody wants a link to us. The answer takes its place in the slot.
    pub(super) fn on_link(
        &mut self,
        cx: &mut Context<'_>,
        region: &mut [u8],
        place: Range<usize>,
        from: SocketAddr,
    ) -> Outcome {
        let datagram = region.get(place.clone()).ok_or(DropReason::NoRoom)?;
        let link = message::Link::decode(datagram)?;
        let settings = self.settings.as_ref().ok_or(DropReason::NotRunning)?;
        if !settings.config.relay {
            return Err(DropReason::NotRelay);
        }
        if link.peer_id != settings.config.peer_id {
            return Err(DropReason::WrongPeer);
        }
        let same = (from, link.fingerprint());
        if let Some(linked) = self.linked.get(cx.now, &same) {
            return overwrite(region, place, from, |room| repeat(linked, room));
        }
        let proven = settings.cookies.check(cx.now, from, link.initiator, &link.x, &link.cookie);
        // Spoofed sources must not be able to take the whole table either.
        let crowded = self.half_open >= settings.bounds.half_open / 2;
        if !proven && (crowded || !self.handshakes.take(cx.now, 1)) {
            let cookie = settings.cookies.make(cx.now, from, link.initiator, &link.x);
            let echo = link.x.first_chunk().copied().unwrap_or_default();
            let message = CookieMessage { initiator: link.initiator, echo, cookie };
            self.counts.drop(DropReason::CookieSent);
            return overwrite(region, place, from, |room| message.encode(room));
        }
        if self.has_its_part(from) {
            return Err(DropReason::Limit);
        }
        if proven {
            self.may_finish(cx, from)?;
        }
        let linked = self.answer_link(cx, &link, from, proven)?;
        self.linked.insert(same, linked.clone(), cx.now.after(SAME_ANSWER));
        overwrite(region, place, from, |room| repeat(&linked, room))
    }

    /// Makes a half-open link; gives its LINKED without the padding.
    fn answer_link(
        &mut self,
        cx: &mut Context<'_>,
        link: &message::Link<'_>,
        from: SocketAddr,
        proven: bool,
    ) -> Result<Vec<u8>, DropReason> {
        let settings = self.settings.as_ref().ok_or(DropReason::NotRunning)?;
        let bounds = settings.bounds;
        let links = self.links.len() + self.pending.len();
        if self.half_open >= bounds.half_open || links >= bounds.links {
            return Err(DropReason::Limit);
        }
        self.speak(link.suite)?;
        // No suite that is spoken here has a share that does not fit into one LINK.
        if link.part.total != 1 {
            return Err(DropReason::Fragment);
        }
        let target = settings.own_target(cx.now, link.epoch)?;
        let own = self.new_link_id(cx);
        let random = cx.random();
        let env = &mut *cx.env;
        let mut dh = |epoch, point: &[u8; 32]| env.onion_dh(epoch, point);
        let answered = answer(link, link.part.bytes, &target, own, random, &mut dh)?;
        let linked = answered.datagrams.into_iter().next().ok_or(DropReason::Malformed)?;
        let used = linked.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let linked = linked.get(..used).unwrap_or_default().to_vec();
        let ends = (answered.sealer, answered.opener);
        let made = Link::new(cx.now, ends, from, None, bounds.creates_per_second);
        self.links.insert(own, Box::new(Link { proven, ..made }));
        self.half_open += 1;
        if proven {
            *self.proven.entry(network_of(from)).or_default() += 1;
        }
        self.arm_link(own);
        Ok(linked)
    }

    /// Whether half of the links are taken, and this public address has an eighth. Counted then only, as links may move; without
    /// those that somebody else may have begun in its name.
    fn has_its_part(&self, from: SocketAddr) -> bool {
        let links = self.links.len() + self.pending.len();
        let most = self.settings.as_ref().map_or(0, |settings| settings.bounds.links);
        let network = network_of(from);
        let theirs = |link: &Link| {
            let is_known = link.proven || !link.half_open;
            link.relay.is_none() && is_known && network_of(link.address) == network
        };
        links >= most / 2
            && is_public(from.ip())
            && self.links.values().filter(|link| theirs(link)).count() >= (most / 8).max(1)
    }

    /// Whether an address that has proved itself may have another handshake: one that never
    /// finishes any must not take the whole table.
    fn may_finish(&mut self, cx: &Context<'_>, from: SocketAddr) -> Result<(), DropReason> {
        let most = self.settings.as_ref().map_or(0, |settings| settings.bounds.half_open);
        let there = self.proven.get(&network_of(from)).copied().unwrap_or_default();
        if there >= (most / 8).max(1) {
            return Err(DropReason::Limit);
        }
        if self.proven_handshakes.take(cx.now, 1) { Ok(()) } else { Err(DropReason::Rate) }
    }

    /// A link is half open no longer; it had this address all the time that it was.
    pub(super) fn count_out(&mut self, address: SocketAddr, proven: bool) {
        self.half_open -= 1;
        if !proven {
            return;
        }
        let network = network_of(address);
        if let Some(count) = self.proven.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                self.proven.remove(&network);
            }
        }
    }

    fn new_link_id(&self, cx: &mut Context<'_>) -> LinkId {
        let worker = self.settings.as_ref().map_or(0, |settings| settings.config.worker_index);
        loop {
            let id = LinkId::new(worker, u32::from_be_bytes(cx.random()));
            if !self.links.contains_key(&id) && !self.pending.contains_key(&id) {
                return id;
            }
        }
    }
}

/// For whom a link is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum For {
    /// A circuit of this node.
    Ourselves,
    /// A circuit that somebody makes through it.
    Others,
}

/// What one party has to itself: an IPv4 address, or the first 64 bits of an IPv6 address.
pub(super) fn network_of(address: SocketAddr) -> IpAddr {
    match address.ip().to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// Whom a handshake with that relay is for.
pub(super) fn target_of(relay: &Descriptor) -> Target {
    Target { peer_id: relay.peer_id, epoch: relay.onion_epoch, onion_key: relay.onion_key }
}

/// LINKED from what is remembered of it: the rest is zeros.
fn repeat(linked: &[u8], room: &mut [u8]) -> Option<usize> {
    let room = room.get_mut(..MAX_DATAGRAM)?;
    let (head, padding) = room.split_at_mut_checked(linked.len())?;
    head.copy_from_slice(linked);
    padding.fill(0);
    Some(MAX_DATAGRAM)
}

/// Puts an answer where its cause was.
fn overwrite(
    region: &mut [u8],
    place: Range<usize>,
    to: SocketAddr,
    write: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> Outcome {
    // The answer is never larger than its cause, so the slot has room for it.
    let room = region.get_mut(place.clone()).ok_or(DropReason::NoRoom)?;
    let length = write(room).ok_or(DropReason::NoRoom)?;
    Ok(Verdict::Send(to, place.start..place.start + length))
}

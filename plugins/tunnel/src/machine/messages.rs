//! What neighbours say to each other, and what a new address of a neighbour leads to.

use std::net::SocketAddr;

use warren_schemas::batch::STRIDE;
use warren_schemas::cell::HEADER_LEN;
use warren_schemas::control::CloseReason;
use warren_schemas::{CircuitId, LinkId};

use super::Tunnel;
use super::context::{Context, Outcome, Verdict};
use crate::drop_reason::DropReason;
use crate::limits::CHALLENGE_PAUSE;
use crate::link::{Challenge, Leg, Token};
use crate::link_keys::Accepted;
use crate::message::LinkMessage;

impl Tunnel {
    /// A MESSAGE whose tag was right.
    pub(super) fn link_message(
        &mut self,
        cx: &mut Context<'_>,
        id: LinkId,
        accepted: &Accepted,
        datagram: &mut [u8],
        from: SocketAddr,
    ) -> Outcome {
        let link = self.links.get_mut(&id).ok_or(DropReason::UnknownLink)?;
        let place = link.opener.open_message(accepted, datagram)?;
        let message = LinkMessage::decode(datagram.get(place).unwrap_or_default())?;
        let leg = Leg { link: id, id: accepted.circuit };
        match message {
            LinkMessage::Padding => {}
            LinkMessage::Create(part) => self.on_create(cx, leg, &part)?,
            LinkMessage::Created(part) => self.on_created(cx, leg, &part)?,
            LinkMessage::CreateFailed(reason) => self.on_create_failed(cx, leg, reason)?,
            LinkMessage::Destroy(reason) => self.on_destroy(cx, leg, reason)?,
            LinkMessage::PathChallenge(token) => {
                self.say(id, CircuitId(0), &LinkMessage::PathResponse(token))
            }
            LinkMessage::PathResponse(token) => self.on_path_response(id, token, from)?,
            LinkMessage::Ping(token) => self.say(id, CircuitId(0), &LinkMessage::Pong(token)),
            LinkMessage::Pong(token) => self.on_pong(id, token),
            LinkMessage::Close(_) => self.drop_link(cx, id, CloseReason::Link),
        }
        Ok(Verdict::Taken)
    }

    /// Sends a message on a link, to where the neighbour is known to be. Without the link it does nothing.
    pub(super) fn say(&mut self, id: LinkId, circuit: CircuitId, message: &LinkMessage<'_>) {
        if let Some(address) = self.links.get(&id).map(|link| link.address) {
            self.say_to(address, id, circuit, message);
        }
    }

    fn say_to(&mut self, address: SocketAddr, id: LinkId, circuit: CircuitId, message: &LinkMessage<'_>) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let mut buf = [0; STRIDE];
        let length = buf.get_mut(HEADER_LEN..).and_then(|room| message.encode(room));
        let Some(length) = length else { return };
        match link.sealer.seal_message(&mut buf, HEADER_LEN, length, circuit) {
            Ok(place) => self.extras.send(address, buf.get(place).unwrap_or_default()),
            Err(error) => self.counts.drop(error.into()),
        }
    }

    /// The first authenticated datagram of a half-open link, or one from another address.
    #[cold]
    pub(super) fn notice(&mut self, cx: &mut Context<'_>, id: LinkId, from: SocketAddr, newest: bool) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.half_open {
            link.half_open = false;
            let (address, proven) = (link.address, link.proven);
            self.count_out(address, proven);
        }
        let Some(link) = self.links.get_mut(&id) else { return };
        let recently = link.challenge.is_some_and(|sent| cx.now < sent.at.after(CHALLENGE_PAUSE));
        // An initiator keeps to the relay's descriptor; an old datagram says nothing of where it is now.
        if !link.is_theirs() || link.address == from || !newest || recently {
            return self.arm_link(id);
        }
        let token = cx.random();
        link.challenge = Some(Challenge { address: from, token, at: cx.now });
        self.say_to(from, id, CircuitId(0), &LinkMessage::PathChallenge(token));
        self.arm_link(id);
    }

    fn on_path_response(&mut self, id: LinkId, token: Token, from: SocketAddr) -> Result<(), DropReason> {
        let link = self.links.get_mut(&id).ok_or(DropReason::UnknownLink)?;
        let challenge = link.challenge.filter(|sent| sent.token == token && sent.address == from);
        let challenge = challenge.ok_or(DropReason::PathResponse)?;
        link.address = challenge.address;
        link.challenge = None;
        Ok(())
    }

    fn on_pong(&mut self, id: LinkId, token: Token) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.phase_ping.is_some_and(|ping| ping.token == token) {
            link.sealer.confirm_phase();
            link.phase_ping = None;
        }
    }
}

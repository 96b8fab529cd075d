//! LINK and LINKED: the handshake that opens a link.

use warren_schemas::LinkId;
use warren_schemas::cell::MAX_DATAGRAM;

use super::{Initiator, OnionDh, Purpose, Suite, Target, respond};
use crate::cookie::COOKIE_LEN;
use crate::drop_reason::DropReason;
use crate::fragments::{Assembler, split_in};
use crate::link_keys::{LinkKeys, LinkOpener, LinkSealer};
use crate::message::{CookieMessage, LINK_ROOM, LINKED_ROOM, Link, Linked};

/// The initiator's side, from LINK to LINKED.
pub struct Opening {
    ntor: Initiator,
    own: LinkId,
    cookie: [u8; COOKIE_LEN],
    parts: Assembler,
}

impl Opening {
    /// Starts it. `own` is the id under which this side will receive; `random` is 32 fresh random bytes.
    #[must_use]
    pub fn new(suite: Suite, target: Target, own: LinkId, random: [u8; 32]) -> Self {
        let ntor = Initiator::new(suite, Purpose::Link, target, random);
        Self { ntor, own, cookie: [0; COOKIE_LEN], parts: Assembler::new() }
    }

    /// Goes on with a predecessor's.
    pub(crate) const fn resume(
        ntor: Initiator,
        own: LinkId,
        cookie: [u8; COOKIE_LEN],
        parts: Assembler,
    ) -> Self {
        Self { ntor, own, cookie, parts }
    }

    /// What a successor goes on with.
    pub(crate) const fn state(&self) -> (&Initiator, &[u8; COOKIE_LEN], &Assembler) {
        (&self.ntor, &self.cookie, &self.parts)
    }

    /// The id under which this side will receive.
    #[must_use]
    pub const fn own_id(&self) -> LinkId {
        self.own
    }

    /// Whom it is for.
    #[must_use]
    pub const fn target(&self) -> &Target {
        self.ntor.target()
    }

    /// The LINK datagrams to send, now and at every retry: one in every suite there is.
    #[must_use]
    pub fn datagrams(&self) -> Vec<Vec<u8>> {
        let Some((x, rest)) = self.ntor.share().split_first_chunk() else { return Vec::new() };
        let target = self.ntor.target();
        let encode = |part| {
            let mut datagram = vec![0; MAX_DATAGRAM];
            let link = Link {
                suite: self.ntor.suite() as u8,
                initiator: self.own,
                peer_id: target.peer_id,
                epoch: target.epoch,
                x: *x,
                cookie: self.cookie,
                part,
            };
            link.encode(&mut datagram).map(|_| datagram)
        };
        split_in(rest, LINK_ROOM).into_iter().flatten().filter_map(encode).collect()
    }

    /// Takes a cookie; the datagrams carry it from now on.
    ///
    /// # Errors
    /// `Cookie` when it is not for this handshake.
    pub fn take_cookie(&mut self, message: &CookieMessage) -> Result<(), DropReason> {
        let ours = message.initiator == self.own && self.ntor.share().starts_with(&message.echo);
        if !ours {
            return Err(DropReason::Cookie);
        }
        self.cookie = message.cookie;
        Ok(())
    }

    /// Takes a LINKED; gives the link's two ends when it was the last part.
    ///
    /// # Errors
    /// `Unexpected` for another link or suite, `Fragment`, `LowOrder`, or `Handshake` when it is not the relay's.
    /// The handshake goes on: a forged answer must not end it.
    pub fn take_linked(
        &mut self,
        linked: &Linked<'_>,
    ) -> Result<Option<(LinkSealer, LinkOpener)>, DropReason> {
        let suite = self.ntor.suite();
        if linked.initiator != self.own || linked.suite != suite as u8 {
            return Err(DropReason::Unexpected);
        }
        let Some(rest) = self.assemble(linked)? else { return Ok(None) };
        let extra = extra(self.own, linked.responder);
        let finished = self.ntor.finish(&[&linked.y[..], &rest].concat(), &linked.auth, &extra);
        let seed = finished.inspect_err(|_| self.parts = Assembler::new())?;
        Ok(Some(LinkKeys::derive(&seed, suite).initiator(self.own, linked.responder)))
    }

    fn assemble(&mut self, linked: &Linked<'_>) -> Result<Option<Vec<u8>>, DropReason> {
        self.parts.push(&linked.part).inspect_err(|_| self.parts = Assembler::new())
    }
}

/// The responder's side, finished.
pub struct Answered {
    /// The LINKED datagrams to send, now and again whenever LINK is repeated: one in every suite
    /// there is.
    pub datagrams: Vec<Vec<u8>>,
    /// This side's sealer.
    pub sealer: LinkSealer,
    /// This side's opener.
    pub opener: LinkOpener,
}

/// Answers LINK. `rest` is the share without X, empty in suite 1; `target` is the relay itself
/// with the onion key of the LINK's epoch; `own` is the id under which it will receive;
/// `random` is 32 fresh random bytes.
///
/// # Errors
/// `WrongPeer` when it is meant for another peer, `OnionKey` when `target` is of another epoch or refused,
/// `Suite`, `Malformed` for a share of another length, `LowOrder`.
pub fn answer(
    link: &Link<'_>,
    rest: &[u8],
    target: &Target,
    own: LinkId,
    random: [u8; 32],
    dh: OnionDh<'_>,
) -> Result<Answered, DropReason> {
    if link.peer_id != target.peer_id {
        return Err(DropReason::WrongPeer);
    }
    if link.epoch != target.epoch {
        return Err(DropReason::OnionKey);
    }
    let suite = Suite::from_byte(link.suite)?;
    let share = [&link.x[..], rest].concat();
    let answer = respond((suite, Purpose::Link), target, random, &share, &extra(link.initiator, own), dh)?;
    let (sealer, opener) = LinkKeys::derive(&answer.seed, suite).responder(own, link.initiator);
    let (y, rest) = answer.share.split_first_chunk().ok_or(DropReason::Malformed)?;
    let encode = |part| {
        let mut datagram = vec![0; MAX_DATAGRAM];
        let (initiator, suite) = (link.initiator, link.suite);
        let linked = Linked { initiator, suite, responder: own, y: *y, auth: answer.auth, part };
        linked.encode(&mut datagram).map(|_| datagram)
    };
    let datagrams = split_in(rest, LINKED_ROOM).into_iter().flatten().filter_map(encode).collect();
    Ok(Answered { datagrams, sealer, opener })
}

fn extra(initiator: LinkId, responder: LinkId) -> [u8; 8] {
    let [a, b, c, d] = initiator.0.to_be_bytes();
    let [e, f, g, h] = responder.0.to_be_bytes();
    [a, b, c, d, e, f, g, h]
}

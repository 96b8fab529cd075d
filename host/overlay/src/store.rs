//! The descriptors that are held: the newest of each relay, until it expires.

use std::collections::{BTreeMap, HashMap};

use sha2::{Digest, Sha256};
use warren_schemas::descriptor::{Descriptor, DescriptorError, SignedDescriptor};
use warren_schemas::{PeerId, Timestamp};

use crate::pages::{HEADER, MAX_PAGE, Page, Request};

#[cfg(test)]
mod tests;

/// Most descriptors held. When there are as many, only newer ones of the same relays are taken.
pub(crate) const MAX_HELD: usize = 1000;

/// The first bytes of a descriptor's SHA-256: names it here and in gossip.
pub(crate) type Name = [u8; 20];

pub(crate) fn name(bytes: &[u8]) -> Name {
    let mut name = Name::default();
    name.iter_mut().zip(Sha256::digest(bytes)).for_each(|(to, from)| *to = from);
    name
}

fn digest_of(name: &Name) -> u64 {
    name.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// What became of a descriptor that was offered.
#[derive(Debug)]
pub(crate) enum Offer {
    /// It is new, or newer.
    Taken(Box<Descriptor>),
    /// It is held already, and was not passed on by gossip yet.
    FirstGossip,
    /// It is held, older than what is held, or there is no room.
    Known,
    /// It may be right for others: expired, not yet valid, or of a later version.
    NotNow(DescriptorError),
    /// It is wrong, and whoever sent it could have known.
    Invalid(DescriptorError),
}

/// How it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    Gossip,
    Page,
    /// It is this node's own: there is always room for it.
    Own,
}

struct Held {
    signed: SignedDescriptor,
    name: Name,
    published: Timestamp,
    expires: Timestamp,
    /// Whether it came by gossip, which passes each descriptor on once.
    gossiped: bool,
}

#[derive(Default)]
pub(crate) struct Store {
    held: BTreeMap<PeerId, Held>,
    names: HashMap<Name, PeerId>,
    digest: u64,
}

impl Store {
    pub(crate) fn offer(&mut self, now: Timestamp, way: Way, signed: &SignedDescriptor) -> Offer {
        let name = name(signed.as_bytes());
        if let Some(held) = self.names.get(&name).and_then(|peer| self.held.get_mut(peer)) {
            // Before verifying: the same bytes come from every neighbour.
            let first = way != Way::Page && !held.gossiped;
            held.gossiped |= first;
            return if first && held.expires > now { Offer::FirstGossip } else { Offer::Known };
        }
        match signed.verify(now) {
            Ok(descriptor) => self.insert(now, way, signed, name, descriptor),
            Err(error @ (DescriptorError::Time | DescriptorError::Field("version"))) => Offer::NotNow(error),
            Err(error) => Offer::Invalid(error),
        }
    }

    fn insert(
        &mut self,
        now: Timestamp,
        way: Way,
        signed: &SignedDescriptor,
        name: Name,
        content: Descriptor,
    ) -> Offer {
        let peer = content.peer_id;
        let newer = self.held.get(&peer).is_none_or(|held| held.published < content.published);
        if self.held.len() >= MAX_HELD {
            self.expire(now);
        }
        let full = self.held.len() >= MAX_HELD && !self.held.contains_key(&peer);
        if !newer || (full && way != Way::Own) {
            return Offer::Known;
        }
        self.remove(&peer);
        let (published, expires) = (content.published, content.expires);
        let held = Held { signed: signed.clone(), name, published, expires, gossiped: way != Way::Page };
        self.held.insert(peer, held);
        self.names.insert(name, peer);
        self.digest ^= digest_of(&name);
        Offer::Taken(Box::new(content))
    }

    fn remove(&mut self, peer: &PeerId) {
        if let Some(held) = self.held.remove(peer) {
            self.names.remove(&held.name);
            self.digest ^= digest_of(&held.name);
        }
    }

    pub(crate) fn expire(&mut self, now: Timestamp) {
        let over: Vec<_> =
            self.held.iter().filter(|(_, held)| held.expires <= now).map(|(peer, _)| *peer).collect();
        over.iter().for_each(|peer| self.remove(peer));
    }

    /// Equal, but for accidents, in stores that hold the same.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    /// The answer to a request: unexpired descriptors in the order of their peer ids.
    pub(crate) fn page(&mut self, now: Timestamp, request: Request) -> Page {
        self.expire(now);
        if request.digest == self.digest {
            return Page::default();
        }
        let mut page = Page::default();
        let (mut size, mut last) = (HEADER, request.after);
        for (peer, held) in self.held.iter().filter(|(peer, _)| peer.0 > request.after) {
            size += 2 + held.signed.as_bytes().len();
            if size > MAX_PAGE {
                page.next = Some(last);
                break;
            }
            page.descriptors.push(held.signed.as_bytes().to_vec());
            last = peer.0;
        }
        page
    }
}

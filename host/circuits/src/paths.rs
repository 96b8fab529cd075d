//! The search for a path that breaks no rule.

use std::collections::BTreeSet;

use warren_schemas::PeerId;

use crate::relays::{Distinct, Network, Relay};

/// Candidates per position, best first. The first path found in that order is taken; when there
/// is any path, one is found.
#[derive(Debug)]
pub(crate) struct Search<'a> {
    pub(crate) hops: usize,
    pub(crate) distinct: Distinct,
    pub(crate) firsts: Vec<&'a Relay>,
    pub(crate) middles: Vec<&'a Relay>,
    pub(crate) lasts: Vec<&'a Relay>,
}

/// What decides whom a relay may share a path with, apart from its id.
type Class<'a> = (Option<[u8; 32]>, &'a [Network]);

impl<'a> Search<'a> {
    /// Peer ids, first hop first.
    pub(crate) fn find(&self) -> Option<Vec<PeerId>> {
        let mut hopeless: BTreeSet<Class<'a>> = BTreeSet::new();
        for last in &self.lasts {
            let class = (last.descriptor.operator, last.networks.as_slice());
            // Relays of one class exclude each other, so they fail together. Without the network
            // rule they do not; then nearly every search succeeds at once.
            if self.distinct.networks && hopeless.contains(&class) {
                continue;
            }
            let mut path = vec![*last];
            if self.extend(&mut path) {
                // It was filled as last, first, middles.
                path.rotate_left(1);
                return Some(path.iter().map(|relay| relay.descriptor.peer_id).collect());
            }
            hopeless.insert(class);
        }
        None
    }

    fn extend(&self, path: &mut Vec<&'a Relay>) -> bool {
        if path.len() == self.hops {
            return true;
        }
        let candidates = if path.len() == 1 { &self.firsts } else { &self.middles };
        for candidate in candidates {
            if path.iter().all(|chosen| chosen.may_join(candidate, self.distinct)) {
                path.push(candidate);
                if self.extend(path) {
                    return true;
                }
                path.pop();
            }
        }
        false
    }
}

//! CREATEs of which not all parts have come.

use std::collections::VecDeque;

use warren_schemas::Timestamp;

use crate::drop_reason::DropReason;
use crate::fragments::{Assembler, Fragment};
use crate::link::Leg;
use crate::retry::GIVE_UP;

/// Most of them in a worker; the oldest gives way. The parts of one are sent together, so an honest
/// one is complete long before as many others have started.
const MOST: usize = 512;

/// What has come of one.
#[derive(Debug)]
pub(super) struct Entry {
    pub leg: Leg,
    pub parts: Assembler,
    /// When its originator has given up.
    pub end: Timestamp,
}

/// Oldest first.
#[derive(Debug, Default)]
pub(super) struct Incomplete(VecDeque<Entry>);

impl Incomplete {
    /// Whether a part of that circuit's CREATE has come.
    pub(super) fn contains(&self, leg: Leg) -> bool {
        self.0.iter().any(|entry| entry.leg == leg)
    }

    /// Takes a part; gives the whole, and forgets it, when it was the missing one.
    ///
    /// # Errors
    /// `Fragment` when it contradicts an earlier one.
    pub(super) fn push(
        &mut self,
        now: Timestamp,
        leg: Leg,
        part: &Fragment<'_>,
    ) -> Result<Option<Vec<u8>>, DropReason> {
        let at = self.0.iter().position(|entry| entry.leg == leg);
        let at = at.unwrap_or_else(|| {
            self.add(Entry { leg, parts: Assembler::new(), end: now.after(GIVE_UP) });
            self.0.len() - 1
        });
        let entry = self.0.get_mut(at).ok_or(DropReason::Fragment)?;
        let whole = entry.parts.push(part)?;
        if whole.is_some() {
            self.0.remove(at);
        }
        Ok(whole)
    }

    /// Adds the newest.
    pub(super) fn add(&mut self, entry: Entry) {
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(entry);
    }

    /// Forgets those whose time is over.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while self.0.front().is_some_and(|entry| entry.end <= now) {
            self.0.pop_front();
        }
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.0.iter()
    }
}

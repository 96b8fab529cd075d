//! SYNC: what a worker holds and has counted, told as change frames.

use std::collections::BTreeMap;

use flatbuffers::{FlatBufferBuilder, UnionWIPOffset, WIPOffset};

use super::tables;
use crate::CircuitHandle;
use crate::generated::control as fb;
use crate::generated::control::CircuitEnd;

/// The period of a worker that tells only when it is asked.
pub const SYNC_NEVER: u64 = u64::MAX;

/// Circuits of others that a worker may carry, whatever its limits say.
pub const MOST_CIRCUITS: u32 = 65_536;

/// Circuit ends that a worker may have told of at one time, others' and the node's own. A host takes
/// a worker that tells of more for one that gave a bad answer.
pub const MOST_TOLD: usize = 2 * MOST_CIRCUITS as usize;

/// State of one circuit end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CircuitState {
    /// Which.
    pub handle: CircuitHandle,
    /// Which end this worker holds.
    pub end: CircuitEnd,
    /// Hops of the path; 0 at a last hop, which does not know.
    pub hops: u8,
    /// Inner bytes that arrived.
    pub bytes_in: u64,
    /// Inner bytes that were sent.
    pub bytes_out: u64,
}

/// What a worker holds and has counted since it started.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "the names say it; units are cells and datagram bytes")]
pub struct Sync {
    pub links: u32,
    pub relayed_circuits: u32,
    /// Circuits that carried cells of their users since the frame before.
    pub active: u32,
    pub cells_relayed: u64,
    pub bytes_relayed: u64,
    pub cells_originated: u64,
    pub cells_delivered: u64,
    /// Count by `DropReason`, in its order.
    pub drops: Vec<(u8, u64)>,
    /// By handle, in its order.
    pub circuits: Vec<CircuitState>,
}

/// What changed of a [`Sync`]: none and absent where nothing did.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "fields of Sync")]
pub struct SyncFrame {
    /// Everything is in it, or in the frames that follow it in the same answer.
    pub full: bool,
    pub links: Option<u32>,
    pub relayed_circuits: Option<u32>,
    pub active: Option<u32>,
    pub cells_relayed: Option<u64>,
    pub bytes_relayed: Option<u64>,
    pub cells_originated: Option<u64>,
    pub cells_delivered: Option<u64>,
    pub drops: Vec<(u8, u64)>,
    pub circuits: Vec<CircuitState>,
}

impl Sync {
    /// The frame after which a reader who knew `before` knows this; none when nothing changed. Circuits
    /// that are gone are not in it.
    #[must_use]
    pub fn since(&self, before: &Self) -> Option<SyncFrame> {
        fn changed<T: PartialEq>(now: T, before: T) -> Option<T> {
            (now != before).then_some(now)
        }
        let counted = |reason: u8| before.drops.iter().find(|(of, _)| *of == reason).map(|(_, count)| *count);
        let drops = self.drops.iter().filter(|(reason, count)| counted(*reason) != Some(*count));
        let known = |circuit: &&CircuitState| {
            let place = before.circuits.binary_search_by_key(&circuit.handle, |known| known.handle);
            place.ok().and_then(|place| before.circuits.get(place)) != Some(*circuit)
        };
        let frame = SyncFrame {
            full: false,
            links: changed(self.links, before.links),
            relayed_circuits: changed(self.relayed_circuits, before.relayed_circuits),
            active: changed(self.active, before.active),
            cells_relayed: changed(self.cells_relayed, before.cells_relayed),
            bytes_relayed: changed(self.bytes_relayed, before.bytes_relayed),
            cells_originated: changed(self.cells_originated, before.cells_originated),
            cells_delivered: changed(self.cells_delivered, before.cells_delivered),
            drops: drops.copied().collect(),
            circuits: self.circuits.iter().filter(known).copied().collect(),
        };
        (frame != SyncFrame::default()).then_some(frame)
    }

    /// Everything, in one frame.
    #[must_use]
    pub fn whole(&self) -> SyncFrame {
        SyncFrame {
            full: true,
            links: Some(self.links),
            relayed_circuits: Some(self.relayed_circuits),
            active: Some(self.active),
            cells_relayed: Some(self.cells_relayed),
            bytes_relayed: Some(self.bytes_relayed),
            cells_originated: Some(self.cells_originated),
            cells_delivered: Some(self.cells_delivered),
            drops: self.drops.clone(),
            circuits: self.circuits.clone(),
        }
    }
}

/// A worker told of more circuit ends than [`MOST_TOLD`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it has told of more than {MOST_TOLD} circuit ends that live")]
pub struct TooMany;

/// What a reader of a worker's change frames knows. Holds at most [`MOST_TOLD`] circuit ends.
#[derive(Default)]
pub struct Told {
    /// Without circuits.
    counts: Sync,
    circuits: BTreeMap<CircuitHandle, CircuitState>,
}

impl Told {
    /// Takes what a frame says.
    ///
    /// # Errors
    /// When it tells of more circuit ends than there may be; the rest of the frame is left out.
    pub fn apply(&mut self, frame: &SyncFrame) -> Result<(), TooMany> {
        fn set<T: Copy>(now: &mut T, told: Option<T>) {
            if let Some(told) = told {
                *now = told;
            }
        }
        if frame.full {
            *self = Self::default();
        }
        let counts = &mut self.counts;
        set(&mut counts.links, frame.links);
        set(&mut counts.relayed_circuits, frame.relayed_circuits);
        set(&mut counts.active, frame.active);
        set(&mut counts.cells_relayed, frame.cells_relayed);
        set(&mut counts.bytes_relayed, frame.bytes_relayed);
        set(&mut counts.cells_originated, frame.cells_originated);
        set(&mut counts.cells_delivered, frame.cells_delivered);
        for (reason, count) in &frame.drops {
            match counts.drops.binary_search_by_key(reason, |(of, _)| *of) {
                Ok(place) => counts.drops.splice(place..=place, [(*reason, *count)]),
                Err(place) => counts.drops.splice(place..place, [(*reason, *count)]),
            };
        }
        for circuit in &frame.circuits {
            if self.circuits.len() >= MOST_TOLD && !self.circuits.contains_key(&circuit.handle) {
                return Err(TooMany);
            }
            self.circuits.insert(circuit.handle, *circuit);
        }
        Ok(())
    }

    /// CIRDEAD said that it is gone.
    pub fn forget(&mut self, handle: CircuitHandle) {
        self.circuits.remove(&handle);
    }

    /// What was counted, without circuits.
    #[must_use]
    pub const fn counts(&self) -> &Sync {
        &self.counts
    }

    /// What a circuit end carried.
    #[must_use]
    pub fn circuit(&self, handle: CircuitHandle) -> Option<&CircuitState> {
        self.circuits.get(&handle)
    }

    /// Every circuit end, by handle.
    pub fn circuits(&self) -> impl Iterator<Item = &CircuitState> {
        self.circuits.values()
    }

    /// All of it.
    #[must_use]
    pub fn sync(&self) -> Sync {
        Sync { circuits: self.circuits.values().copied().collect(), ..self.counts.clone() }
    }
}

impl SyncFrame {
    pub(super) fn table(&self, b: &mut FlatBufferBuilder<'_>) -> WIPOffset<UnionWIPOffset> {
        let drops = tables(b, &self.drops, |b, (reason, count)| {
            fb::DropCount::create(b, &fb::DropCountArgs { reason: *reason, count: *count })
        });
        let circuits = tables(b, &self.circuits, |b, c: &CircuitState| {
            let args = fb::CircuitStateArgs {
                handle: c.handle.0,
                end: c.end,
                hops: c.hops,
                bytes_in: c.bytes_in,
                bytes_out: c.bytes_out,
            };
            fb::CircuitState::create(b, &args)
        });
        let drops = (!drops.is_empty()).then(|| b.create_vector(&drops));
        let circuits = (!circuits.is_empty()).then(|| b.create_vector(&circuits));
        let args = fb::SyncArgs {
            full: self.full,
            links: self.links,
            relayed_circuits: self.relayed_circuits,
            active: self.active,
            cells_relayed: self.cells_relayed,
            bytes_relayed: self.bytes_relayed,
            cells_originated: self.cells_originated,
            cells_delivered: self.cells_delivered,
            drops,
            circuits,
        };
        fb::Sync::create(b, &args).as_union_value()
    }

    pub(super) fn of(table: fb::Sync<'_>) -> Self {
        let state = |c: fb::CircuitState<'_>| CircuitState {
            handle: CircuitHandle(c.handle()),
            end: c.end(),
            hops: c.hops(),
            bytes_in: c.bytes_in(),
            bytes_out: c.bytes_out(),
        };
        Self {
            full: table.full(),
            links: table.links(),
            relayed_circuits: table.relayed_circuits(),
            active: table.active(),
            cells_relayed: table.cells_relayed(),
            bytes_relayed: table.bytes_relayed(),
            cells_originated: table.cells_originated(),
            cells_delivered: table.cells_delivered(),
            drops: table.drops().iter().flatten().map(|d| (d.reason(), d.count())).collect(),
            circuits: table.circuits().iter().flatten().map(state).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(handle: u32, bytes_in: u64) -> CircuitState {
        CircuitState {
            handle: CircuitHandle(handle),
            end: CircuitEnd::LastHop,
            hops: 0,
            bytes_in,
            bytes_out: 0,
        }
    }

    #[test]
    fn frames_say_what_changed_and_only_that() {
        let first = Sync { links: 2, cells_relayed: 9, drops: vec![(1, 1), (7, 2)], ..Sync::default() };
        let first = Sync { circuits: vec![state(1, 5), state(4, 0)], ..first };
        let mut view = Told::default();
        let other = Sync { links: 99, circuits: vec![state(77, 0)], ..Sync::default() };
        view.apply(&other.whole()).unwrap();
        view.apply(&first.whole()).unwrap();
        assert_eq!(view.sync(), first);
        assert_eq!(first.since(&view.sync()), None);
        let mut second = Sync { cells_relayed: 10, drops: vec![(1, 1), (3, 1), (7, 4)], ..first.clone() };
        second.circuits = vec![state(1, 6), state(2, 0)];
        let frame = second.since(&first).unwrap();
        assert_eq!((frame.links, frame.cells_relayed), (None, Some(10)));
        assert_eq!((frame.drops.len(), frame.circuits.len()), (2, 2));
        view.apply(&frame).unwrap();
        assert_eq!(view.circuit(CircuitHandle(4)), Some(&state(4, 0)), "CIRDEAD says that it is gone");
        view.forget(CircuitHandle(4));
        assert_eq!(view.sync(), second);
    }

    #[test]
    fn a_reader_knows_so_many_circuit_ends_and_no_more() {
        let frame = |handles: std::ops::Range<u32>| SyncFrame {
            circuits: handles.map(|handle| state(handle, 1)).collect(),
            ..SyncFrame::default()
        };
        let most = MOST_TOLD as u32;
        let mut view = Told::default();
        assert_eq!(view.apply(&frame(0..most)), Ok(()));
        assert_eq!(view.apply(&frame(0..most)), Ok(()), "they are the same");
        assert_eq!(view.apply(&frame(most - 1..most + 1)), Err(TooMany));
        assert_eq!(view.circuits().count(), MOST_TOLD);
        view.forget(CircuitHandle(0));
        assert_eq!(view.apply(&frame(most..most + 1)), Ok(()), "another is dead");
        let whole = SyncFrame { full: true, ..frame(0..3) };
        assert_eq!((view.apply(&whole), view.circuits().count()), (Ok(()), 3));
    }
}

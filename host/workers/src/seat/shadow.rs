//! An instance of a new module beside the live worker: it gets the same calls, and its answers are
//! compared and thrown away.
//!
//! It was given a copy of the live worker's state, so it holds the same keys and the same counters. If
//! it ever acted, a counter would be used twice under one key. That is why the instance never leaves
//! this file: [`Shadow`] has no way to give it back.

use std::hint::black_box;
use std::sync::Arc;

use warren_schemas::Timestamp;
use warren_schemas::batch::{Batch, Slot, SlotKind};
use warren_schemas::control::Event;

use super::Call;
use crate::tape::{Replay, Tape};
use crate::{Worker, WorkerFactory, WorkerFault};

/// How a shadow does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ShadowVerdict {
    /// It follows, and answered so many calls alike.
    Running {
        /// Answers compared so far.
        compared: u32,
    },
    /// It answered as many calls alike as were asked for, and is gone.
    Agreed {
        /// Answers compared.
        compared: u32,
        /// Those of them whose events or deliveries had other bytes.
        differing_bytes: u32,
    },
    /// It failed, answered otherwise, or there was nothing left to follow. The swap is over; the live
    /// worker lost nothing by it.
    Failed(String),
}

/// The shadow.
pub(super) struct Shadow {
    worker: Box<dyn Worker>,
    tape: Tape,
    wanted: u32,
    compared: u32,
    differing_bytes: u32,
}

impl Shadow {
    /// An instance of its own, with a copy of the state, which is wiped. `tape` is the live worker's.
    pub(super) fn new(
        factory: &Arc<dyn WorkerFactory>,
        tape: Tape,
        (now, config): (Timestamp, &[u8]),
        mut state: Vec<u8>,
        wanted: u32,
    ) -> Result<Self, WorkerFault> {
        let made = factory.spawn(Box::new(Replay { tape: tape.clone() })).and_then(|mut worker| {
            worker.configure(now, config)?;
            worker.import_state(now, &state)?;
            Ok(worker)
        });
        wipe(&mut state);
        Ok(Self { worker: made?, tape, wanted: wanted.max(1), compared: 0, differing_bytes: 0 })
    }

    /// Takes the configuration that the live worker took.
    pub(super) fn configure(&mut self, now: Timestamp, config: &[u8]) -> Result<(), String> {
        self.worker.configure(now, config).map_err(|fault| fault.to_string())
    }

    /// The live worker answered `call` with `answer`: so must this one. The tape holds what the live
    /// one was given meanwhile.
    pub(super) fn follow(&mut self, now: Timestamp, call: Call<'_>, answer: &Batch) -> Result<(), String> {
        let name = call.name();
        self.tape.rewind();
        let ours = call.run(self.worker.as_mut(), now);
        let trouble = self.tape.end();
        let ours = ours.map_err(|fault| fault.to_string())?;
        let at = |what: String| format!("answer {} ({name}): {what}", self.compared + 1);
        if let Some(trouble) = trouble {
            return Err(at(trouble.to_owned()));
        }
        let same_bytes = compare(answer, &ours).map_err(at)?;
        self.compared = self.compared.saturating_add(1);
        self.differing_bytes = self.differing_bytes.saturating_add(u32::from(!same_bytes));
        Ok(())
    }

    pub(super) const fn verdict(&self) -> ShadowVerdict {
        let (compared, differing_bytes) = (self.compared, self.differing_bytes);
        if compared >= self.wanted {
            ShadowVerdict::Agreed { compared, differing_bytes }
        } else {
            ShadowVerdict::Running { compared }
        }
    }
}

/// Whether the bytes are the same too, when both ask for the same. An event may be longer or shorter:
/// a newer module may say more in it. When it wants to wake up is not compared, because a worker that
/// lived longer may hold alarms that mean nothing any more; what it does when it is woken is. Words
/// never name an address.
fn compare(live: &Batch, shadow: &Batch) -> Result<bool, String> {
    let asked = |batch: &Batch| -> Vec<Slot> {
        let is_asked = |slot: &Slot| match slot.kind {
            SlotKind::Empty => false,
            // What a worker has told already does not travel: a successor tells it anew.
            SlotKind::Event => !matches!(Event::decode(batch.bytes_of(slot)), Ok((_, Event::Sync(_)))),
            _ => true,
        };
        batch.slots().filter(is_asked).collect()
    };
    let (theirs, ours) = (asked(live), asked(shadow));
    if theirs.len() != ours.len() {
        return Err(format!("{} actions, where the live worker's has {}", ours.len(), theirs.len()));
    }
    let mut same_bytes = true;
    for (index, (their, our)) in theirs.iter().zip(&ours).enumerate() {
        let part = difference(their, our);
        if let Some(part) = part {
            let (kind, length) = (our.kind, our.length);
            return Err(format!("action {index} ({kind:?}, {length} bytes) has another {part}"));
        }
        let same = live.bytes_of(their) == shadow.bytes_of(our);
        if !same && our.kind == SlotKind::Send {
            // Same state, time and randomness: other bytes are another key, or another counter.
            return Err(format!("action {index} (Send, {} bytes) has other bytes", our.length));
        }
        same_bytes &= same;
    }
    Ok(same_bytes)
}

fn difference(their: &Slot, our: &Slot) -> Option<&'static str> {
    let parts = [
        ("kind", their.kind == our.kind),
        ("address", their.address == our.address),
        ("circuit", their.handle == our.handle),
        ("detail", their.detail == our.detail),
        ("length", their.length == our.length || their.kind == SlotKind::Event),
    ];
    parts.into_iter().find(|(_, same)| !same).map(|(part, _)| part)
}

/// Overwrites a state. Not byte by byte as `zeroize` does: millions of bytes lie here while cells wait.
pub(super) fn wipe(state: &mut Vec<u8>) {
    state.fill(0);
    black_box(state.as_slice());
    state.clear();
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use warren_schemas::{Address, CircuitHandle};

    use super::*;

    fn batch(slots: &[(SlotKind, u32, &[u8])]) -> Batch {
        let mut batch = Batch::with_slots(slots.len());
        let address: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        for (index, (kind, handle, bytes)) in slots.iter().enumerate() {
            assert!(batch.fill(index, *kind, address, CircuitHandle(*handle), bytes));
        }
        batch
    }

    #[test]
    fn what_leaves_must_be_the_same_byte_for_byte_and_events_may_differ() {
        let live = batch(&[(SlotKind::Send, 0, b"one"), (SlotKind::Event, 0, b"two")]);
        assert_eq!(compare(&live, &live.clone()), Ok(true));
        let bytes = batch(&[(SlotKind::Send, 0, b"eno"), (SlotKind::Event, 0, b"two")]);
        let error = compare(&live, &bytes).unwrap_err();
        assert!(error.contains("other bytes"), "another counter or key would show like this: {error}");
        let event = batch(&[(SlotKind::Send, 0, b"one"), (SlotKind::Event, 0, b"longer")]);
        assert_eq!(compare(&live, &event), Ok(false), "an event may say more");
        let later = {
            let mut later = live.clone();
            later.set_wake_at(Some(Timestamp::from_micros(5)));
            later
        };
        assert_eq!(compare(&live, &later), Ok(true), "alarms are not compared");
    }

    #[test]
    fn every_difference_has_its_name() {
        let live = batch(&[(SlotKind::Send, 0, b"one")]);
        for (other, part) in [
            (batch(&[(SlotKind::Deliver, 0, b"one")]), "kind"),
            (batch(&[(SlotKind::Send, 7, b"one")]), "circuit"),
            (batch(&[(SlotKind::Send, 0, b"ones")]), "length"),
            (batch(&[]), "0 actions"),
            (batch(&[(SlotKind::Send, 0, b"one"), (SlotKind::Send, 0, b"one")]), "2 actions"),
        ] {
            let error = compare(&live, &other).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        let mut moved = live.clone();
        let slot = live.slot(0).unwrap();
        moved.set_slot(0, Slot { address: Address { port: 4001, ..slot.address }, ..slot });
        let error = compare(&live, &moved).unwrap_err();
        assert!(error.contains("address") && !error.contains("192"), "{error}");
        moved.set_slot(0, Slot { detail: 3, ..slot });
        assert!(compare(&live, &moved).unwrap_err().contains("detail"));
    }

    #[test]
    fn slots_may_stand_elsewhere() {
        let live = batch(&[(SlotKind::Empty, 0, b""), (SlotKind::Send, 0, b"one")]);
        assert_eq!(compare(&live, &batch(&[(SlotKind::Send, 0, b"one")])), Ok(true));
    }
}

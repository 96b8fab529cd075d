//! Swaps of a worker whose whole state is a counter: each answer to `data` carries the next value, so
//! that a value that comes twice, or is left out, is seen.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use warren_schemas::CircuitHandle;
use warren_schemas::batch::SlotKind;

use super::*;
use crate::{CommitFault, Committed, RollbackFault, ShadowVerdict, SwapFault};

/// What is wrong with a module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Quirk {
    None,
    NoStart,
    SelfTest,
    Config,
    ExportRefused,
    ExportTrap,
    SnapshotRefused,
    SnapshotTrap,
    ImportRefused,
    ImportTrap,
    /// In `data`, once it has counted to three.
    TrapsLater,
    /// Answers otherwise, once it has counted to three.
    DiffersLater,
    /// Other bytes than others.
    OtherBytes,
    /// Takes more randomness than others.
    Greedy,
    /// Uses the onion key where others do not.
    OnionKey,
    TouchTrap,
    /// Says that it has more memory than there is.
    Endless,
}

struct Counter {
    next: u32,
    quirk: Quirk,
    name: &'static str,
    reads: Vec<u16>,
    writes: u16,
    host: Box<dyn WorkerHost>,
}

struct Counters {
    name: &'static str,
    quirk: Quirk,
    writes: u16,
    reads: Vec<u16>,
}

fn module(name: &'static str, quirk: Quirk) -> Arc<Counters> {
    Arc::new(Counters { name, quirk, writes: 1, reads: vec![1] })
}

impl WorkerFactory for Counters {
    fn name(&self) -> &str {
        self.name
    }
    fn spawn(&self, host: Box<dyn WorkerHost>) -> Result<Box<dyn Worker>, WorkerFault> {
        let Self { name, quirk, writes, ref reads } = *self;
        if quirk == Quirk::NoStart {
            return Err(trap("instantiate"));
        }
        Ok(Box::new(Counter { next: 0, quirk, name, reads: reads.clone(), writes, host }))
    }
}

impl Counter {
    fn refuse(&self, call: &'static str, refused: Quirk, trapped: Quirk) -> Result<(), WorkerFault> {
        if self.quirk == trapped {
            return Err(trap(call));
        }
        if self.quirk == refused {
            return Err(WorkerFault::State { plugin: self.name.to_owned(), call, detail: "no".to_owned() });
        }
        Ok(())
    }
}

impl Worker for Counter {
    fn describe(&mut self) -> Result<Description, WorkerFault> {
        Ok(Description {
            name: self.name.to_owned(),
            version: "1".to_owned(),
            suites: vec![1],
            writes_state: self.writes,
            reads_state: self.reads.clone(),
        })
    }
    fn self_test(&mut self) -> Result<(), WorkerFault> {
        if self.quirk == Quirk::SelfTest {
            return Err(WorkerFault::SelfTest { plugin: self.name.to_owned(), detail: "2 + 2".to_owned() });
        }
        Ok(())
    }
    fn configure(&mut self, _: Timestamp, config: &[u8]) -> Result<(), WorkerFault> {
        if self.quirk == Quirk::Config || (self.name == "old only" && config != b"first") {
            return Err(WorkerFault::Refused { plugin: self.name.to_owned(), detail: "no".to_owned() });
        }
        Ok(())
    }
    fn control(&mut self, _: Timestamp, _: &[u8]) -> Result<Batch, WorkerFault> {
        Ok(Batch::with_slots(0))
    }
    fn data(&mut self, _: Timestamp, batch: Batch) -> Result<Batch, WorkerFault> {
        let later = self.next >= 3;
        if later && self.quirk == Quirk::TrapsLater {
            return Err(trap("data"));
        }
        let mut bytes = [0; 8];
        self.host.random(&mut bytes);
        if self.quirk == Quirk::OtherBytes {
            bytes[0] ^= 1;
        }
        if self.quirk == Quirk::Greedy {
            self.host.random(&mut [0; 1]);
        }
        if self.quirk == Quirk::OnionKey {
            let _ = self.host.onion_dh(1, &[9; 32]);
        }
        let kind =
            if later && self.quirk == Quirk::DiffersLater { SlotKind::Send } else { SlotKind::Deliver };
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        let mut answer = batch;
        assert!(answer.fill(0, kind, nowhere, CircuitHandle(self.next), &bytes));
        self.next += 1;
        Ok(answer)
    }
    fn timeout(&mut self, _: Timestamp) -> Result<Batch, WorkerFault> {
        Ok(Batch::with_slots(0))
    }
    fn export_state(&mut self) -> Result<Vec<u8>, WorkerFault> {
        self.refuse("export-state", Quirk::ExportRefused, Quirk::ExportTrap)?;
        Ok(self.next.to_be_bytes().to_vec())
    }
    fn snapshot(&mut self) -> Result<Vec<u8>, WorkerFault> {
        self.refuse("snapshot", Quirk::SnapshotRefused, Quirk::SnapshotTrap)?;
        Ok(self.next.to_be_bytes().to_vec())
    }
    fn import_state(&mut self, _: Timestamp, state: &[u8]) -> Result<(), WorkerFault> {
        self.refuse("import-state", Quirk::ImportRefused, Quirk::ImportTrap)?;
        self.next = u32::from_be_bytes(state.try_into().unwrap());
        Ok(())
    }
    fn touch(&mut self, _: u32, least: u32) -> Result<u32, WorkerFault> {
        match self.quirk {
            Quirk::TouchTrap => Err(trap("touch")),
            Quirk::Endless => Ok(u32::MAX),
            _ => Ok(least.max(3)),
        }
    }
    fn shutdown(&mut self, _: Timestamp, _: u8) -> Result<Batch, WorkerFault> {
        Ok(Batch::with_slots(0))
    }
}

/// Randomness that counts.
struct Random(u8);

impl WorkerHost for Random {
    fn log(&mut self, _: LogLevel, _: &str) {}
    fn random(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_add(1);
            *byte = self.0;
        }
    }
    fn onion_dh(&mut self, _: u32, _: &[u8]) -> Result<[u8; 32], DhRefusal> {
        Err(DhRefusal::UnknownEpoch)
    }
}

const NOW: Timestamp = at(5);

fn seat_of(factory: Arc<Counters>) -> Seat {
    let mut seat = Seat::new(factory, Box::new(|| Box::new(Random(0))), b"first".to_vec());
    seat.start(NOW).unwrap();
    seat
}

/// The next value, by a worker of the module that is expected.
fn next(seat: &mut Seat, name: &str) -> u32 {
    let batch = seat.data(NOW, Batch::with_slots(1)).unwrap();
    assert_eq!(seat.module().unwrap().name, name);
    batch.slot(0).unwrap().handle.0
}

#[test]
fn the_state_goes_over_and_back_and_nothing_comes_twice() {
    let mut seat = seat_of(module("old", Quirk::None));
    assert_eq!([next(&mut seat, "old"), next(&mut seat, "old")], [0, 1]);
    assert_eq!(seat.prepare(NOW, module("new", Quirk::None)).unwrap().to_string(), "new 1");
    assert_eq!(seat.prepared(), Some("new"));
    assert_eq!(next(&mut seat, "old"), 2, "what is prepared does not act");
    let Committed { state_bytes, module, .. } = seat.commit(NOW).unwrap();
    assert_eq!((state_bytes, module.name.as_str()), (4, "new"));
    assert_eq!(next(&mut seat, "new"), 3);
    assert_eq!((seat.previous(), seat.plugin(), seat.restarts()), (Some("old"), "new", 0));
    seat.rollback(NOW).unwrap();
    assert_eq!(next(&mut seat, "old"), 4, "from the live one, not from what was put by");
    seat.rollback(NOW).unwrap();
    assert_eq!(next(&mut seat, "new"), 5);
    assert!(matches!(seat.commit(NOW), Err(CommitFault::NothingPrepared)));
}

/// Pages that are gone through until there are no more.
fn warmed(seat: &mut Seat) -> Result<u32, SwapFault> {
    let mut page = 0;
    while seat.warm(NOW, page)? {
        page += 1;
    }
    Ok(page + 1)
}

#[test]
fn memory_is_gone_through_as_far_as_there_is_some() {
    for (old, new, pages) in [
        (Quirk::None, Quirk::None, 3),
        (Quirk::Endless, Quirk::None, 2048),
        (Quirk::None, Quirk::Endless, 2048),
    ] {
        let mut seat = seat_of(module("old", old));
        assert!(matches!(warmed(&mut seat), Err(SwapFault::NothingPrepared)));
        next(&mut seat, "old");
        seat.prepare(NOW, module("new", new)).unwrap();
        assert_eq!(warmed(&mut seat).unwrap(), pages);
        seat.commit(NOW).unwrap();
        assert_eq!(next(&mut seat, "new"), 1);
    }
}

#[test]
fn a_worker_that_fails_over_its_memory_is_the_one_that_goes() {
    let mut seat = seat_of(module("old", Quirk::None));
    seat.prepare(NOW, module("new", Quirk::TouchTrap)).unwrap();
    assert!(matches!(warmed(&mut seat), Err(SwapFault::Unfit(WorkerFault::Trap { call: "touch", .. }))));
    assert_eq!(seat.prepared(), None);
    assert_eq!(next(&mut seat, "old"), 0);

    let mut seat = seat_of(module("old", Quirk::TouchTrap));
    seat.prepare(NOW, module("new", Quirk::None)).unwrap();
    assert!(matches!(warmed(&mut seat), Err(SwapFault::Lost(Lost { fault: Some(_), .. }))));
    assert_eq!(seat.restarts(), 1);
    assert_eq!(next(&mut seat, "old"), 0);
}

#[test]
fn a_replacement_after_a_swap_is_of_the_new_module() {
    let mut seat = seat_of(module("old", Quirk::None));
    next(&mut seat, "old");
    seat.prepare(NOW, module("new", Quirk::None)).unwrap();
    seat.commit(NOW).unwrap();
    seat.kill(NOW, "test").unwrap();
    assert_eq!(next(&mut seat, "new"), 0, "a fresh one");
}

#[test]
fn a_shadow_that_agrees_acts_never_and_leaves_the_successor_untouched() {
    for (quirk, differing) in [(Quirk::None, 0), (Quirk::OtherBytes, 5)] {
        let mut seat = seat_of(module("old", Quirk::None));
        next(&mut seat, "old");
        assert!(matches!(seat.shadow(NOW, 5), Err(SwapFault::NothingPrepared)));
        seat.prepare(NOW, module("new", quirk)).unwrap();
        assert_eq!(seat.shadow_verdict(), None);
        seat.shadow(NOW, 5).unwrap();
        for value in 1..=7 {
            assert_eq!(next(&mut seat, "old"), value, "the live worker's answers only");
            let verdict = seat.shadow_verdict().unwrap();
            if value < 5 {
                assert_eq!(verdict, ShadowVerdict::Running { compared: value });
            } else {
                assert_eq!(verdict, ShadowVerdict::Agreed { compared: 5, differing_bytes: differing });
            }
        }
        seat.commit(NOW).unwrap();
        assert_eq!(next(&mut seat, "new"), 8);
    }
}

#[test]
fn a_shadow_that_fails_or_differs_costs_nothing() {
    for (quirk, words) in [
        (Quirk::TrapsLater, "trapped in data"),
        (Quirk::DiffersLater, "answer 3 (data): action 0 (Send, 8 bytes) has another kind"),
        (Quirk::Greedy, "asked for more randomness"),
        (Quirk::OnionKey, "used the onion key"),
    ] {
        let mut seat = seat_of(module("old", Quirk::None));
        next(&mut seat, "old");
        seat.prepare(NOW, module("new", quirk)).unwrap();
        seat.shadow(NOW, 100).unwrap();
        for value in 1..6 {
            assert_eq!(next(&mut seat, "old"), value, "{quirk:?}");
        }
        let Some(ShadowVerdict::Failed(reason)) = seat.shadow_verdict() else { panic!("{quirk:?}") };
        assert!(reason.contains(words), "{quirk:?}: {reason}");
        assert_eq!((seat.prepared(), seat.restarts()), (None, 0));
        assert!(matches!(seat.commit(NOW), Err(CommitFault::NothingPrepared)));
        seat.prepare(NOW, module("better", Quirk::None)).unwrap();
        seat.commit(NOW).unwrap();
        assert_eq!(next(&mut seat, "better"), 6);
    }
}

#[test]
fn a_shadow_that_cannot_start_ends_the_swap() {
    let mut seat = seat_of(module("old", Quirk::None));
    seat.prepare(NOW, module("new", Quirk::ImportRefused)).unwrap();
    assert!(matches!(seat.shadow(NOW, 5), Err(SwapFault::Unfit(WorkerFault::State { .. }))));
    assert_eq!(seat.prepared(), None);
    assert_eq!(next(&mut seat, "old"), 0);
}

#[test]
fn without_a_copy_there_is_no_shadow() {
    let mut seat = seat_of(module("old", Quirk::SnapshotRefused));
    seat.prepare(NOW, module("new", Quirk::None)).unwrap();
    assert!(matches!(seat.shadow(NOW, 5), Err(SwapFault::NoSnapshot(_))));
    assert_eq!(next(&mut seat, "old"), 0);
    seat.commit(NOW).unwrap();
    assert_eq!(next(&mut seat, "new"), 1, "but a swap there can be");

    let mut seat = seat_of(module("old", Quirk::SnapshotTrap));
    seat.prepare(NOW, module("new", Quirk::None)).unwrap();
    assert!(matches!(seat.shadow(NOW, 5), Err(SwapFault::Lost(Lost { fault: Some(_), .. }))));
    assert_eq!(seat.restarts(), 1);
}

#[test]
fn a_shadow_ends_with_the_worker_that_it_follows() {
    let mut seat = seat_of(module("old", Quirk::TrapsLater));
    seat.prepare(NOW, module("new", Quirk::None)).unwrap();
    seat.shadow(NOW, 100).unwrap();
    (0..3).for_each(|value| assert_eq!(next(&mut seat, "old"), value));
    assert!(seat.data(NOW, Batch::with_slots(1)).is_err());
    let Some(ShadowVerdict::Failed(reason)) = seat.shadow_verdict() else { panic!() };
    assert!(reason.contains("was lost"), "{reason}");
    assert_eq!(next(&mut seat, "old"), 0);
}

#[test]
fn what_is_unfit_is_found_before_it_has_the_seat() {
    let mut seat = seat_of(module("old", Quirk::None));
    for quirk in [Quirk::NoStart, Quirk::SelfTest, Quirk::Config] {
        let fault = seat.prepare(NOW, module("new", quirk)).unwrap_err();
        assert!(matches!(fault, SwapFault::Unfit(_)), "{quirk:?}: {fault}");
        assert_eq!(next(&mut seat, "old"), seat_value(quirk));
    }
    let newer = Arc::new(Counters { name: "newer", quirk: Quirk::None, writes: 3, reads: vec![2, 3] });
    let fault = seat.prepare(NOW, newer).unwrap_err();
    assert!(matches!(fault, SwapFault::StateVersion { writes: 1, .. }), "{fault}");
    assert!(fault.to_string().contains("[2, 3]") && fault.to_string().contains("old"), "{fault}");
    seat.prepare(NOW, module("one", Quirk::None)).unwrap();
    let fault = seat.prepare(NOW, module("two", Quirk::None)).unwrap_err();
    assert!(matches!(&fault, SwapFault::Pending(name) if name == "one"), "{fault}");
    seat.abandon();
    seat.prepare(NOW, module("two", Quirk::None)).unwrap();
    assert!(matches!(seat.rollback(NOW), Err(RollbackFault::Prepare(SwapFault::NoPrevious))));
    assert!(matches!(seat_of(module("bad", Quirk::None)).rollback(NOW), Err(RollbackFault::Prepare(_))));
}

fn seat_value(quirk: Quirk) -> u32 {
    match quirk {
        Quirk::NoStart => 0,
        Quirk::SelfTest => 1,
        _ => 2,
    }
}

#[test]
fn an_old_worker_that_keeps_its_state_goes_on_with_it() {
    let mut seat = seat_of(module("old", Quirk::ExportRefused));
    next(&mut seat, "old");
    seat.prepare(NOW, module("new", Quirk::None)).unwrap();
    assert!(matches!(seat.commit(NOW), Err(CommitFault::Kept(WorkerFault::State { .. }))));
    assert_eq!(next(&mut seat, "old"), 1);
    assert_eq!((seat.prepared(), seat.previous(), seat.restarts()), (None, None, 0));
}

#[test]
fn a_state_that_was_lost_on_its_way_is_restored_by_nobody() {
    for (old, new) in [
        (Quirk::ExportTrap, Quirk::None),
        (Quirk::None, Quirk::ImportRefused),
        (Quirk::None, Quirk::ImportTrap),
    ] {
        let mut seat = seat_of(module("old", old));
        (0..2).for_each(|value| assert_eq!(next(&mut seat, "old"), value));
        seat.prepare(NOW, module("new", new)).unwrap();
        let Err(CommitFault::Lost(lost)) = seat.commit(NOW) else { panic!("{old:?} {new:?}") };
        assert!(lost.fault.is_some());
        assert_eq!(lost.wake_at, NOW, "the seat is filled at once");
        assert_eq!((seat.restarts(), seat.plugin(), seat.previous()), (1, "old", None));
        assert_eq!(next(&mut seat, "old"), 0, "a new instance of the old module");
    }
}

#[test]
fn a_module_that_fails_after_its_commit_gives_the_seat_back() {
    let mut seat = seat_of(module("old", Quirk::None));
    next(&mut seat, "old");
    seat.prepare(NOW, module("new", Quirk::TrapsLater)).unwrap();
    seat.commit(NOW).unwrap();
    let mut now = NOW;
    let mut faults = 0;
    while seat.plugin() == "new" {
        match seat.data(now, Batch::with_slots(1)) {
            Ok(_) => {}
            Err(lost) => {
                faults += u32::from(lost.fault.is_some());
                now = now.max(lost.wake_at);
            }
        }
    }
    assert_eq!(faults, 3);
    let words = seat.quarantined().unwrap();
    assert!(words.starts_with("new is quarantined") && words.ends_with("old has the seat back"), "{words}");
    assert_eq!(seat.previous(), None);
    let batch = seat.data(now, Batch::with_slots(1)).unwrap();
    assert_eq!(batch.slot(0).unwrap().handle.0, 0, "a new instance");
    seat.timeout(now.after(Duration::from_secs(120))).unwrap();
    assert!(seat.quarantined().is_some(), "the other module's good life does not clear it");
}

#[test]
fn an_empty_seat_is_simply_taken() {
    let (_, mut seat) = super::seat(b"ok");
    assert!(seat.is_empty());
    seat.prepare(NOW, module("new", Quirk::None)).unwrap();
    assert_eq!(seat.commit(NOW).unwrap().state_bytes, 0);
    assert_eq!(next(&mut seat, "new"), 0);
}

#[test]
fn a_changed_configuration_reaches_whoever_is_prepared() {
    let mut seat = seat_of(module("old", Quirk::None));
    seat.prepare(NOW, module("old only", Quirk::None)).unwrap();
    seat.shadow(NOW, 5).unwrap();
    seat.configure(NOW, b"second".to_vec()).unwrap();
    let Some(ShadowVerdict::Failed(reason)) = seat.shadow_verdict() else { panic!() };
    assert!(reason.contains("refused its configuration"), "{reason}");
    assert_eq!(seat.prepared(), None);
    seat.prepare(NOW, module("new", Quirk::None)).unwrap();
    seat.configure(NOW, b"third".to_vec()).unwrap();
    seat.commit(NOW).unwrap();
    assert_eq!(next(&mut seat, "new"), 0);
}

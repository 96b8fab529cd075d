mod swap;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::*;
use crate::{Description, DhRefusal, Frames, LogLevel};

/// Fails where its configuration says: `d` in data, `c` in configure, `r` refuses.
struct Fragile {
    config: Vec<u8>,
}

#[derive(Default)]
struct Fragiles {
    spawned: AtomicU32,
    /// Spawns that fail, counted down.
    barren: Mutex<u32>,
}

fn trap(call: &'static str) -> WorkerFault {
    WorkerFault::Trap { plugin: "fragile".to_owned(), call, detail: String::new(), frames: Frames::default() }
}

impl Worker for Fragile {
    fn describe(&mut self) -> Result<Description, WorkerFault> {
        Ok(Description {
            name: "fragile".to_owned(),
            version: "1".to_owned(),
            suites: Vec::new(),
            writes_state: 0,
            reads_state: Vec::new(),
        })
    }
    fn self_test(&mut self) -> Result<(), WorkerFault> {
        Ok(())
    }
    fn snapshot(&mut self) -> Result<Vec<u8>, WorkerFault> {
        Err(trap("snapshot"))
    }
    fn configure(&mut self, _: Timestamp, config: &[u8]) -> Result<(), WorkerFault> {
        match config {
            b"c" => Err(trap("configure")),
            b"r" => Err(WorkerFault::Refused { plugin: "fragile".to_owned(), detail: "no".to_owned() }),
            _ => {
                self.config = config.to_vec();
                Ok(())
            }
        }
    }
    fn control(&mut self, _: Timestamp, _: &[u8]) -> Result<Batch, WorkerFault> {
        Ok(Batch::with_slots(self.config.len()))
    }
    fn data(&mut self, _: Timestamp, batch: Batch) -> Result<Batch, WorkerFault> {
        if self.config == b"d" { Err(trap("data")) } else { Ok(batch) }
    }
    fn timeout(&mut self, _: Timestamp) -> Result<Batch, WorkerFault> {
        Ok(Batch::with_slots(0))
    }
    fn export_state(&mut self) -> Result<Vec<u8>, WorkerFault> {
        Err(trap("export-state"))
    }
    fn import_state(&mut self, _: Timestamp, _: &[u8]) -> Result<(), WorkerFault> {
        Err(trap("import-state"))
    }
    fn shutdown(&mut self, _: Timestamp, _: u8) -> Result<Batch, WorkerFault> {
        if self.config == b"d" { Err(trap("shutdown")) } else { Ok(Batch::with_slots(0)) }
    }
}

impl WorkerFactory for Fragiles {
    fn name(&self) -> &str {
        "fragile"
    }
    fn spawn(&self, _: Box<dyn WorkerHost>) -> Result<Box<dyn Worker>, WorkerFault> {
        let mut barren = self.barren.lock().unwrap();
        if *barren > 0 {
            *barren -= 1;
            return Err(trap("instantiate"));
        }
        self.spawned.fetch_add(1, Relaxed);
        Ok(Box::new(Fragile { config: Vec::new() }))
    }
}

struct Deaf;

impl WorkerHost for Deaf {
    fn log(&mut self, _: LogLevel, _: &str) {}
    fn random(&mut self, _: &mut [u8]) {}
    fn onion_dh(&mut self, _: u32, _: &[u8]) -> Result<[u8; 32], DhRefusal> {
        Err(DhRefusal::UnknownEpoch)
    }
}

fn seat(config: &[u8]) -> (Arc<Fragiles>, Seat) {
    let factory = Arc::new(Fragiles::default());
    let hosts: HostMaker = Box::new(|| Box::new(Deaf));
    (Arc::clone(&factory), Seat::new(factory, hosts, config.to_vec()))
}

const fn at(millis: u64) -> Timestamp {
    Timestamp::from_micros(1_000_000_000_000 + millis * 1000)
}

fn data(seat: &mut Seat, now: Timestamp) -> Result<Batch, Lost> {
    seat.data(now, Batch::with_slots(1))
}

#[test]
fn a_healthy_worker_keeps_its_seat() {
    let (factory, mut seat) = seat(b"ok");
    seat.start(at(0)).unwrap();
    for time in 0..5 {
        data(&mut seat, at(time)).unwrap();
    }
    assert_eq!(factory.spawned.load(Relaxed), 1);
    assert_eq!(seat.restarts(), 0);
    assert!(seat.shutdown(at(9), 2).unwrap().is_some());
}

#[test]
fn waits_double_up_to_five_seconds_and_end_with_a_long_life() {
    let (_, mut seat) = seat(b"d");
    let mut now = 0;
    let mut waits = Vec::new();
    for _ in 0..9 {
        let lost = data(&mut seat, at(now)).unwrap_err();
        assert!(lost.fault.is_some());
        let wait = lost.wake_at.since(at(now)).as_millis() as u64;
        waits.push(wait);
        if wait > 0 {
            let early = data(&mut seat, at(now + wait - 1)).unwrap_err();
            assert!(early.fault.is_none(), "an empty seat has nothing new to tell");
            assert_eq!(early.wake_at, lost.wake_at);
        }
        now += wait;
    }
    assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    assert_eq!(seat.restarts(), 9);
    seat.timeout(at(now)).unwrap();
    let lost = data(&mut seat, at(now + 60_000)).unwrap_err();
    assert_eq!(lost.wake_at, at(now + 60_000), "a worker that lived a minute is replaced at once");
}

#[test]
fn workers_that_did_some_work_are_replaced_at_once_and_their_module_is_quarantined() {
    let (_, mut seat) = seat(b"d");
    for failure in 0..20u64 {
        let now = failure * 1000;
        assert_eq!(seat.quarantined().is_some(), failure >= 8, "before failure {failure}");
        if failure > 0 {
            seat.timeout(at(now)).unwrap();
        }
        let lost = data(&mut seat, at(now + 1000)).unwrap_err();
        if failure > 0 {
            assert_eq!(lost.wake_at, at(now + 1000), "after failure {failure}");
        }
    }
    let words = seat.last_fault().unwrap();
    assert!(words.contains("fragile trapped in data"), "{words}");
}

#[test]
fn what_a_worker_tells_may_cost_it_its_seat() {
    let (_, mut seat) = seat(b"ok");
    assert!(seat.reject(at(0), "SYNC", "too much".to_owned()).is_none(), "nobody sits there");
    seat.start(at(0)).unwrap();
    let lost = seat.reject(at(1), "SYNC", "too much".to_owned()).unwrap();
    assert_eq!(lost.fault.unwrap().to_string(), "fragile gave a bad answer in SYNC: too much");
    assert_eq!((lost.wake_at, seat.restarts()), (at(1), 1));
    data(&mut seat, at(1)).unwrap();
    let lost = seat.reject(at(2), "SYNC", "again".to_owned()).unwrap();
    assert_eq!(lost.wake_at, at(102), "it counts as any fault");
}

#[test]
fn a_replacement_that_does_not_start_is_tried_again() {
    let (factory, mut seat) = seat(b"d");
    *factory.barren.lock().unwrap() = 0;
    data(&mut seat, at(0)).unwrap_err();
    *factory.barren.lock().unwrap() = 1;
    let lost = seat.timeout(at(0)).unwrap_err();
    assert!(lost.fault.is_none());
    assert_eq!(lost.wake_at, at(100));
    seat.timeout(at(100)).unwrap();
    assert_eq!(factory.spawned.load(Relaxed), 2);
}

#[test]
fn a_replacement_gets_the_last_configuration_that_was_taken() {
    let (_, mut seat) = seat(b"ok");
    seat.start(at(0)).unwrap();
    let refused = seat.configure(at(0), b"r".to_vec()).unwrap_err();
    assert!(matches!(refused, ReconfigureError::Refused(_)));
    assert_eq!(seat.restarts(), 0, "a refusal costs no worker");
    seat.configure(at(0), vec![1; 9]).unwrap();
    let lost = seat.configure(at(0), b"c".to_vec()).unwrap_err();
    assert!(matches!(lost, ReconfigureError::Lost(Lost { fault: Some(_), .. })));
    assert_eq!(seat.control(at(0), b"").unwrap().slot_count(), 9, "the replacement has nine bytes");
}

#[test]
fn a_configuration_that_cannot_work_is_found_at_start() {
    let (_, mut seat) = seat(b"r");
    assert!(matches!(seat.start(at(0)), Err(WorkerFault::Refused { .. })));
    let (_, mut other) = self::seat(b"d");
    other.start(at(0)).unwrap();
    assert!(other.shutdown(at(1), 2).is_err(), "a worker that fails at its end is reported and gone");
}

#[test]
fn a_module_that_fails_again_and_again_is_quarantined_until_it_lives() {
    let (_, mut seat) = seat(b"d");
    let mut now = 0;
    for failure in 1..=9 {
        assert_eq!(seat.quarantined().is_some(), failure > 8, "before failure {failure}");
        let lost = data(&mut seat, at(now)).unwrap_err();
        now += lost.wake_at.since(at(now)).as_millis() as u64;
    }
    let words = seat.quarantined().unwrap();
    assert!(words.contains("fragile") && words.contains("9 failures") && words.contains("data"), "{words}");
    seat.timeout(at(now)).unwrap();
    assert!(seat.quarantined().is_some());
    seat.timeout(at(now + 60_000)).unwrap();
    assert!(seat.quarantined().is_none(), "a minute of life clears it");
    let lost = data(&mut seat, at(now + 60_001)).unwrap_err();
    assert_eq!(lost.wake_at, at(now + 60_001));
}

#[test]
fn a_worker_dropped_by_order_is_replaced_at_once_however_often() {
    let (factory, mut seat) = seat(b"ok");
    assert!(seat.kill(at(0), "nobody there").is_none());
    for round in 1..=20u64 {
        data(&mut seat, at(round)).unwrap();
        let lost = seat.kill(at(round), "a test\nERROR forged").unwrap();
        assert_eq!(lost.wake_at, at(round));
        let words = lost.fault.unwrap().to_string();
        assert!(words.contains("fragile") && words.ends_with("by order: a test ERROR forged"), "{words}");
        assert_eq!(seat.restarts(), round);
    }
    data(&mut seat, at(21)).unwrap();
    assert_eq!(u64::from(factory.spawned.load(Relaxed)), 21);
    assert!(seat.quarantined().is_none());
}

#[test]
fn a_seat_that_is_drained_is_not_filled_again() {
    let (factory, mut seat) = seat(b"d");
    seat.start(at(0)).unwrap();
    seat.retire();
    assert!(data(&mut seat, at(1)).unwrap_err().fault.is_some());
    assert!(seat.is_empty());
    let lost = seat.timeout(at(1_000_000)).unwrap_err();
    assert!(lost.fault.is_none() && lost.wake_at > at(u64::from(u32::MAX)));
    assert_eq!(factory.spawned.load(Relaxed), 1);
    seat.stay();
    assert!(seat.timeout(at(2)).is_ok(), "it is wanted again");
    assert_eq!(factory.spawned.load(Relaxed), 2);
    seat.retire();
    assert!(data(&mut seat, at(3)).is_err());
    assert!(seat.shutdown(at(4), 2).unwrap().is_none());
}

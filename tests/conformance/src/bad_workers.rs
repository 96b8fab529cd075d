use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::time::Duration;
use std::{fs, io};

use sha2::{Digest, Sha256};
use warren_fixtures::{Behaviour, component};
use warren_sandbox::{Error, Sandbox, Settings};
use warren_schemas::batch::{Batch, MAX_SLOTS, SlotKind};
use warren_schemas::{CircuitHandle, Timestamp};
use warren_workers::{LogLevel, Seat, Worker, WorkerFault};

use crate::host::{Asked, Seeded, SeededHost, factory, settings};

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

/// A rogue that was told what to do, and its host.
fn rogue(settings: Settings, behaviour: Behaviour, more: &[u8]) -> (Box<dyn Worker>, SeededHost) {
    rogue_on(SeededHost::new(1), settings, behaviour, more)
}

fn rogue_on(
    host: SeededHost,
    settings: Settings,
    behaviour: Behaviour,
    more: &[u8],
) -> (Box<dyn Worker>, SeededHost) {
    let mut worker = factory(settings, "rogue").spawn(Box::new(host.clone())).unwrap();
    worker.configure(NOW, &[&[behaviour as u8], more].concat()).unwrap();
    (worker, host)
}

/// For limits that are no time.
fn patient() -> Settings {
    let long = Duration::from_secs(60);
    Settings { data_cpu: long, control_cpu: long, wall: long, ..settings() }
}

fn full() -> Batch {
    let mut batch = Batch::with_slots(MAX_SLOTS);
    for slot in 0..MAX_SLOTS {
        let from: SocketAddr = "192.0.2.1:4000".parse().unwrap();
        assert!(batch.fill(slot, SlotKind::Received, from, CircuitHandle(slot as u32), &[slot as u8; 1350]));
    }
    batch
}

/// Every call of a dead worker answers with a fault.
fn assert_dead(worker: &mut dyn Worker) {
    assert!(worker.data(NOW, full()).is_err());
    assert!(worker.control(NOW, b"").is_err());
    assert!(worker.timeout(NOW).is_err());
    assert!(worker.configure(NOW, b"").is_err());
    let fault = worker.shutdown(NOW, 0).unwrap_err();
    assert!(fault.to_string().contains("not called again"), "{fault}");
}

#[test]
fn a_batch_comes_back_as_it_went() {
    let (mut worker, _) = rogue(settings(), Behaviour::Echo, b"");
    for _ in 0..100 {
        let batch = full();
        let sent = batch.as_bytes().to_vec();
        assert_eq!(worker.data(NOW, batch).unwrap().as_bytes(), sent);
    }
    assert_eq!(worker.shutdown(NOW, 2).unwrap().slot_count(), 0);
}

#[test]
fn a_loop_ends_by_cpu_time() {
    let (mut worker, _) = rogue(settings(), Behaviour::LoopInData, b"");
    let fault = worker.data(NOW, full()).unwrap_err();
    assert!(matches!(fault, WorkerFault::Deadline { call: "data", limit_ms: 50, .. }), "{fault}");
    assert!(fault.to_string().contains("limit of 50 ms; it was in warren_fixtures::weak::spin"), "{fault}");
    assert_dead(worker.as_mut());
}

#[test]
fn a_worker_that_hangs_at_its_exit_is_stopped() {
    let (mut worker, _) = rogue(settings(), Behaviour::LoopInShutdown, b"");
    let fault = worker.shutdown(NOW, 2).unwrap_err();
    assert!(matches!(fault, WorkerFault::Deadline { call: "shutdown", limit_ms: 500, .. }), "{fault}");
}

#[test]
fn a_call_that_uses_no_cpu_ends_by_wall_time() {
    // 100 lines of 5 ms each are half a second in which the worker's thread sleeps.
    let settings =
        Settings { wall: Duration::from_millis(100), data_cpu: Duration::from_secs(60), ..settings() };
    let slow = SeededHost::new(1).slow(Duration::from_millis(5));
    let (mut worker, _) = rogue_on(slow, settings, Behaviour::FloodLog, b"");
    let fault = worker.data(NOW, full()).unwrap_err();
    assert!(matches!(fault, WorkerFault::Deadline { call: "data", limit_ms: 100, .. }), "{fault}");
}

#[test]
fn a_panic_says_where_and_ends_the_worker() {
    let (mut worker, host) = rogue(settings(), Behaviour::TrapInData, &[2]);
    worker.data(NOW, full()).unwrap();
    worker.data(NOW, full()).unwrap();
    let fault = worker.data(NOW, full()).unwrap_err();
    assert!(matches!(fault, WorkerFault::Trap { call: "data", .. }), "{fault}");
    let text = fault.to_string();
    assert!(text.starts_with("rogue 1 (") && text.contains("trapped in data"), "{text}");
    assert!(text.contains("rogue.rs:") && text.contains("data call 2"), "{text}");
    // Where it stood: by name, and without the panic's own machinery.
    assert!(text.contains("; it was in rogue::give_up, called by "), "{text}");
    let record = host.record();
    let record = record.lock().unwrap();
    let logged = record
        .iter()
        .any(|asked| matches!(asked, Asked::Line(LogLevel::Error, line) if line.contains("rogue.rs:")));
    assert!(logged, "{record:?}");
    assert_dead(worker.as_mut());
}

#[test]
fn a_trap_at_a_cell_takes_its_batch_with_it() {
    let (mut worker, _) = rogue(settings(), Behaviour::TrapAtCell, &[100]);
    assert_eq!(worker.data(NOW, full()).unwrap().slot_count(), MAX_SLOTS);
    let fault = worker.data(NOW, full()).unwrap_err();
    assert!(fault.to_string().contains("cell 100"), "{fault}");
    assert_dead(worker.as_mut());
}

/// One worker spins until its budget ends; another on another thread, of the same engine, answers all
/// the while.
#[test]
fn a_worker_that_spins_does_not_keep_the_others() {
    let settings = Settings { data_cpu: Duration::from_millis(400), ..settings() };
    let factory = factory(settings, "rogue");
    let spawn = |behaviour: Behaviour| {
        let mut worker = factory.spawn(Box::new(SeededHost::new(1))).unwrap();
        worker.configure(NOW, &[behaviour as u8]).unwrap();
        worker
    };
    let (mut spinning, mut healthy) = (spawn(Behaviour::LoopInData), spawn(Behaviour::Echo));
    let (over, begin) = (AtomicBool::new(false), Barrier::new(2));
    std::thread::scope(|scope| {
        let answers = scope.spawn(|| {
            begin.wait();
            let mut answers = 0u32;
            while !over.load(SeqCst) {
                assert_eq!(healthy.data(NOW, full()).unwrap().slot_count(), MAX_SLOTS);
                answers += 1;
            }
            answers
        });
        begin.wait();
        let fault = spinning.data(NOW, full()).unwrap_err();
        over.store(true, SeqCst);
        assert!(matches!(fault, WorkerFault::Deadline { limit_ms: 400, .. }), "{fault}");
        let answers = answers.join().unwrap();
        assert!(answers > 100, "{answers} answers while the other span");
    });
    healthy.data(NOW, full()).unwrap();
}

/// The limits as they are in use, and more threads that compute than there are cores.
#[test]
fn a_busy_machine_kills_no_healthy_worker() {
    let factory = factory(Settings { instances: 16, ..Settings::default() }, "rogue");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    black_box(Seeded(1).word());
                }
            });
        }
        let healthy = || {
            let mut worker = factory.spawn(Box::new(SeededHost::new(1)))?;
            worker.configure(NOW, &[Behaviour::LogThenCompute as u8])?;
            (0..30).try_for_each(|_| worker.data(NOW, full()).map(drop))
        };
        let done = healthy();
        over.store(true, SeqCst);
        done.unwrap();
    });
}

/// The program was stopped, the machine slept, the log's disk hung: a single pause, however long.
#[test]
fn a_pause_of_the_machine_kills_no_healthy_worker() {
    let settings =
        Settings { wall: Duration::from_millis(200), data_cpu: Duration::from_secs(60), ..settings() };
    let slow = SeededHost::new(1).slow(Duration::from_secs(1));
    let (mut worker, _) = rogue_on(slow, settings, Behaviour::LogThenCompute, b"");
    worker.data(NOW, full()).unwrap();
}

#[test]
fn the_stack_has_an_end() {
    let (mut worker, _) = rogue(patient(), Behaviour::Recurse, b"");
    let fault = worker.data(NOW, full()).unwrap_err();
    assert!(matches!(fault, WorkerFault::Trap { call: "data", .. }), "{fault}");
    assert!(fault.to_string().contains("it was in rogue::recurse, called by rogue::recurse"), "{fault}");
}

#[test]
fn a_configuration_may_be_refused_and_may_trap() {
    let mut worker = factory(settings(), "rogue").spawn(Box::new(SeededHost::new(1))).unwrap();
    let fault = worker.configure(NOW, &[Behaviour::Refuse as u8]).unwrap_err();
    assert!(matches!(&fault, WorkerFault::Refused { detail, .. } if detail == "not with me"), "{fault}");
    worker.configure(NOW, &[Behaviour::Echo as u8]).unwrap();
    let fault = worker.configure(NOW, &[Behaviour::PanicInConfigure as u8]).unwrap_err();
    assert!(matches!(fault, WorkerFault::Trap { call: "configure", .. }), "{fault}");
    assert_dead(worker.as_mut());
}

#[test]
fn what_is_no_batch_is_refused() {
    for (behaviour, more, words) in [
        (Behaviour::Garbage, &b""[..], "FlatBuffers"),
        (Behaviour::TooMuch, b"", "393217"),
        (Behaviour::TooMuch, &[40], "more than 393216"),
        (Behaviour::SlotOutside, b"", "slot 0"),
        (Behaviour::FloodActions, b"", "12160 actions with 16416000 bytes, out of a payload of 1350"),
    ] {
        let (mut worker, _) = rogue(patient(), behaviour, more);
        let fault = worker.data(NOW, full()).unwrap_err();
        assert!(matches!(fault, WorkerFault::Answer { call: "data", .. }), "{behaviour:?}: {fault}");
        assert!(fault.to_string().contains(words), "{behaviour:?}: {fault}");
        assert_dead(worker.as_mut());
    }
}

#[test]
fn a_fault_names_plugin_call_and_limit() {
    for (behaviour, more, call, limit) in [
        (Behaviour::TrapInData, &[0][..], "trapped in data", "data call 0"),
        (Behaviour::TrapAtCell, &[5], "trapped in data", "cell 5"),
        (Behaviour::LoopInData, b"", "stopped in data", "limit of 50 ms"),
        (Behaviour::TakeMemory, b"", "asked in data", "limit of 67108864 bytes"),
        (Behaviour::TooMuchRandom, b"", "trapped in data", "4096"),
        (Behaviour::Recurse, b"", "trapped in data", "call stack exhausted"),
        (Behaviour::Garbage, b"", "bad answer in data", "FlatBuffers"),
        (Behaviour::TooMuch, b"", "bad answer in data", "393216"),
        (Behaviour::FloodActions, b"", "bad answer in data", "out of a payload of 1350"),
    ] {
        let settings = if behaviour == Behaviour::LoopInData { settings() } else { patient() };
        let (mut worker, _) = rogue(settings, behaviour, more);
        let text = worker.data(NOW, full()).unwrap_err().to_string();
        for part in ["rogue 1 (", call, limit] {
            assert!(text.contains(part), "{behaviour:?}: {part} in {text}");
        }
    }
}

#[test]
fn memory_has_an_end() {
    let (mut worker, _) = rogue(patient(), Behaviour::TakeMemory, b"");
    let fault = worker.data(NOW, full()).unwrap_err();
    assert!(matches!(fault, WorkerFault::Memory { call: "data", limit, .. } if limit == 64 << 20), "{fault}");
    assert_dead(worker.as_mut());
}

#[test]
fn randomness_is_given_in_measure() {
    let (mut worker, host) = rogue(patient(), Behaviour::TooMuchRandom, b"");
    let fault = worker.data(NOW, full()).unwrap_err();
    assert!(matches!(fault, WorkerFault::Trap { call: "data", .. }), "{fault}");
    assert!(fault.to_string().contains("4097"), "{fault}");
    assert!(host.record().lock().unwrap().is_empty());
}

#[test]
fn log_lines_are_cut_and_counted() {
    let (mut worker, host) = rogue(patient(), Behaviour::FloodLog, b"");
    worker.data(NOW, full()).unwrap();
    let lines = host.record().lock().unwrap().clone();
    assert_eq!(lines.len(), 101, "100 of a second, and one that says so");
    for line in &lines[..100] {
        assert!(matches!(line, Asked::Line(LogLevel::Info, line) if line.len() == 1024));
    }
    assert!(matches!(&lines[100], Asked::Line(LogLevel::Warn, _)));
    worker.data(NOW.after(Duration::from_secs(1)), full()).unwrap();
    assert_eq!(host.record().lock().unwrap().len(), 202, "the next second has its own");
}

#[test]
fn the_onion_key_answers_through_the_boundary() {
    let (mut worker, host) = rogue(settings(), Behaviour::OnionDh, b"");
    let answer = worker.control(NOW, b"").unwrap();
    let slot = answer.slot(0).unwrap();
    assert_eq!(answer.bytes_of(&slot), host.public_onion_key(), "the base point gives the public key");
}

#[test]
fn a_copy_of_the_state_leaves_nothing_behind_in_the_worker() {
    let (mut worker, _) = rogue(patient(), Behaviour::LookForSecrets, b"");
    let found = |worker: &mut dyn Worker| {
        let answer = worker.control(NOW, b"").unwrap();
        u32::from_le_bytes(answer.bytes_of(&answer.slot(0).unwrap()).try_into().unwrap())
    };
    assert_eq!(found(worker.as_mut()), 0);
    assert_eq!(worker.snapshot().unwrap().len(), 100_000);
    assert_eq!(found(worker.as_mut()), 0);
    worker.data(NOW, full()).unwrap();
    assert!(found(worker.as_mut()) > 500, "what any other call frees stays, and is found");
}

#[test]
fn what_is_not_in_the_world_is_refused_by_name() {
    let sandbox = Sandbox::new(settings()).unwrap();
    let load = |name: &str| sandbox.load(name, &component(name).unwrap()).err().expect("a refusal");
    match load("undeclared") {
        Error::UndeclaredImport { import, .. } => assert_eq!(import, "warren:undeclared/sockets"),
        other => panic!("{other}"),
    }
    match load("other_version") {
        Error::OtherVersion { found, spoken, .. } => {
            assert_eq!(found, "warren:worker/machine@0.9.0");
            assert_eq!(spoken, "warren:worker/machine@0.1.0");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn what_is_no_component_is_refused() {
    let sandbox = Sandbox::new(settings()).unwrap();
    let whole = component("rogue").unwrap();
    let half = &whole[..whole.len() / 2];
    for bytes in [&b""[..], b"\0asm\x01\0\0\0", b"ELF", half] {
        let error = sandbox.load("broken", bytes).err().expect("a refusal");
        assert!(matches!(error, Error::Compile { .. }), "{error}");
    }
    let empty_component = b"\0asm\x0d\0\x01\0";
    let error = sandbox.load("empty", empty_component).err().expect("a refusal");
    assert!(matches!(error, Error::World { .. }), "{error}");
}

#[test]
fn instances_are_counted_and_come_back() {
    let factory = factory(Settings { instances: 2, ..settings() }, "rogue");
    let spawn = || factory.spawn(Box::new(SeededHost::new(1)));
    let (first, second) = (spawn().unwrap(), spawn().unwrap());
    assert!(matches!(spawn().err(), Some(WorkerFault::Trap { call: "instantiate", .. })));
    drop(first);
    drop(spawn().unwrap());
    drop(second);
}

#[test]
fn a_seat_replaces_a_worker_that_trapped() {
    let config = vec![Behaviour::TrapInData as u8, 1];
    let mut seat = Seat::new(factory(settings(), "rogue"), Box::new(|| Box::new(SeededHost::new(1))), config);
    seat.start(NOW).unwrap();
    for round in 1..4 {
        let now = NOW.after(Duration::from_secs(10 * round));
        seat.data(now, full()).unwrap();
        let lost = seat.data(now, full()).unwrap_err();
        assert!(matches!(lost.fault, Some(WorkerFault::Trap { call: "data", .. })));
        assert_eq!(seat.restarts(), round);
    }
}

#[test]
fn compiled_code_is_kept_and_damage_is_seen() -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir()?;
    let cache = folder.path().join("code");
    let component = component("rogue")?;
    let load = || {
        let sandbox = Sandbox::new(Settings { cache: Some(cache.clone()), ..settings() }).unwrap();
        let factory = Arc::new(sandbox.load("rogue", &component).unwrap());
        let mut seat = Seat::new(factory, Box::new(|| Box::new(SeededHost::new(1))), vec![0]);
        seat.data(NOW, full()).unwrap();
    };
    let files = || -> Vec<_> { fs::read_dir(&cache).unwrap().map(|file| file.unwrap().path()).collect() };
    load();
    assert_eq!(fs::metadata(&cache)?.permissions().mode() & 0o777, 0o700);
    let [file] = &files()[..] else { panic!("{:?}", files()) };
    let code = fs::read(file)?;
    load();
    assert_eq!(fs::read(file)?, code, "what is there is used");
    let mut flipped = code.clone();
    flipped[code.len() / 2] ^= 1;
    for damaged in [&flipped[..], &code[..code.len() - 1], &code[..10], b""] {
        fs::write(file, damaged)?;
        load();
        assert_eq!(fs::read(file)?, code, "damaged code is compiled again");
    }
    // Whole by its digest, but not what this engine wrote: wasmtime's own check refuses it.
    fs::write(file, [&b"not code"[..], &Sha256::digest(b"not code")].concat())?;
    load();
    assert_eq!(fs::read(file)?, code);
    Ok(())
}

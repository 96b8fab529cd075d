//! What a bad module comes to when it is exchanged, or exchanged for: at its load, in its self-test, as a
//! shadow, giving its state and taking another's. The words name the plugin, the call and the limit.

use std::net::SocketAddr;
use std::sync::Arc;

use warren_fixtures::{Behaviour, component};
use warren_native::NativeFactory;
use warren_sandbox::{Error, Sandbox, Settings};
use warren_schemas::batch::{Batch, SlotKind};
use warren_schemas::control::{Limits, TunnelConfig};
use warren_schemas::state::MAX_STATE;
use warren_schemas::{CircuitHandle, PeerId, Timestamp};
use warren_workers::{
    CommitFault, HostMaker, Lost, Seat, ShadowVerdict, SwapFault, Worker, WorkerFactory, WorkerFault,
};

use crate::host::{SeededHost, factory, settings};

const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

fn hosts() -> HostMaker {
    Box::new(|| Box::new(SeededHost::new(1)))
}

/// Room for a state that is too long.
fn roomy() -> Settings {
    Settings { memory: 512 << 20, ..settings() }
}

/// A rogue in a seat, and another instance of the same plugin prepared to follow it.
fn seat(behaviour: Behaviour, more: &[u8]) -> Seat {
    let config = [&[behaviour as u8], more].concat();
    let factory = factory(roomy(), "rogue");
    let mut seat = Seat::new(Arc::clone(&factory), hosts(), config);
    seat.start(NOW).unwrap();
    seat.prepare(NOW, factory).unwrap();
    seat
}

fn one() -> Batch {
    let mut batch = Batch::with_slots(1);
    let from: SocketAddr = "192.0.2.1:4000".parse().unwrap();
    assert!(batch.fill(0, SlotKind::Received, from, CircuitHandle(0), &[7; 1350]));
    batch
}

fn names(fault: &WorkerFault, words: &[&str]) {
    let text = fault.to_string();
    for word in ["rogue 1 ("].iter().chain(words) {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

fn lost(fault: CommitFault) -> WorkerFault {
    match fault {
        CommitFault::Lost(Lost { fault: Some(fault), .. }) => fault,
        other => panic!("{other}"),
    }
}

#[test]
fn a_module_that_traps_at_its_start_is_not_loaded() {
    let sandbox = Sandbox::new(settings()).unwrap();
    let error = sandbox.load("stillborn", &component("trap_at_start").unwrap()).err().expect("a refusal");
    assert!(matches!(&error, Error::World { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("stillborn trapped in instantiate") && text.contains("unreachable"), "{text}");
    assert!(text.contains("_initialize"), "{text}");
}

#[test]
fn a_module_that_fails_its_self_test_never_gets_the_seat() {
    let ailing = factory(settings(), "ailing");
    assert!(ailing.name().starts_with("ailing 7 ("), "{}", ailing.name());
    let mut first = Seat::new(Arc::clone(&ailing), hosts(), vec![0]);
    let fault = first.start(NOW).unwrap_err();
    assert!(matches!(fault, WorkerFault::SelfTest { .. }), "{fault}");

    let mut seat = Seat::new(factory(settings(), "rogue"), hosts(), vec![0]);
    seat.start(NOW).unwrap();
    let fault = seat.prepare(NOW, ailing).unwrap_err();
    assert!(matches!(fault, SwapFault::Unfit(WorkerFault::SelfTest { .. })), "{fault}");
    let text = fault.to_string();
    assert!(text.starts_with("ailing 7 (") && text.ends_with("self-test: 2 + 2 came out as 5"), "{text}");
    assert_eq!((seat.prepared(), seat.restarts()), (None, 0));
    seat.data(NOW, one()).unwrap();
}

#[test]
fn a_shadow_that_goes_wrong_costs_no_circuit() {
    for (behaviour, words) in [
        (Behaviour::DifferAsHeir, "answer 1 (data): action 0 (Deliver, 1350 bytes) has another kind"),
        (Behaviour::TrapAsHeir, "trapped in data"),
        (Behaviour::LoopAsHeir, "was stopped in data after its limit of 50 ms"),
        (Behaviour::GreedyAsHeir, "more randomness"),
    ] {
        let mut seat = seat(behaviour, b"");
        seat.shadow(NOW, 3).unwrap();
        for _ in 0..5 {
            let answer = seat.data(NOW, one()).unwrap();
            assert_eq!(answer.as_bytes(), one().as_bytes(), "{behaviour:?}: the live worker's answer");
        }
        let Some(ShadowVerdict::Failed(reason)) = seat.shadow_verdict() else { panic!("{behaviour:?}") };
        assert!(reason.contains(words), "{behaviour:?}: {reason}");
        assert_eq!((seat.prepared(), seat.restarts()), (None, 0));
    }
    let mut seat = seat(Behaviour::Echo, b"");
    seat.shadow(NOW, 3).unwrap();
    (0..3).for_each(|_| drop(seat.data(NOW, one()).unwrap()));
    assert_eq!(seat.shadow_verdict(), Some(ShadowVerdict::Agreed { compared: 3, differing_bytes: 0 }));
}

#[test]
fn memory_grows_when_it_is_told_to_and_is_left_as_it_was() {
    let mut worker = factory(settings(), "rogue").spawn(Box::new(SeededHost::new(1))).unwrap();
    worker.configure(NOW, &[Behaviour::Echo as u8]).unwrap();
    let pages = worker.touch(0, 0).unwrap();
    assert!(pages > 16, "{pages}");
    let grown = worker.touch(0, pages + 20).unwrap();
    assert!((pages + 20..pages + 24).contains(&grown), "{pages} {grown}");
    for page in 0..=grown {
        assert_eq!(worker.touch(page, grown - 3).unwrap(), grown, "page {page}");
    }
    assert_eq!(worker.data(NOW, one()).unwrap().as_bytes(), one().as_bytes());
    let fault = worker.touch(0, u32::MAX).unwrap_err();
    names(&fault, &["asked in touch", "limit of 67108864 bytes"]);
}

#[test]
fn a_worker_that_keeps_its_state_goes_on() {
    let mut seat = seat(Behaviour::RefuseExport, b"");
    let fault = seat.shadow(NOW, 3).unwrap_err();
    assert!(matches!(fault, SwapFault::NoSnapshot(_)), "{fault}");
    let Err(CommitFault::Kept(fault)) = seat.commit(NOW) else { panic!() };
    names(&fault, &["refused in export-state: mine"]);
    seat.data(NOW, one()).unwrap();
    assert_eq!(seat.restarts(), 0);
}

#[test]
fn a_worker_that_fails_over_its_state_is_replaced() {
    for (behaviour, more, words) in [
        (Behaviour::TrapInExport, &b""[..], &["trapped in export-state", "export after 0", "give_up"][..]),
        (Behaviour::LoopInExport, b"", &["stopped in export-state", "limit of 500 ms", "spin"]),
        (Behaviour::ExportTooMuch, &[1], &["bad answer in export-state", "100663297", "100663296 allowed"]),
        (Behaviour::ExportTooMuch, &[2], &["bad answer in export-state", "more than 100663296"]),
        (Behaviour::RefuseImport, b"", &["refused in import-state: not that"]),
        (Behaviour::TrapInImport, b"", &["trapped in import-state", "a state of 5", "give_up"]),
    ] {
        let mut seat = seat(behaviour, more);
        seat.data(NOW, one()).unwrap_or_else(|_| panic!("{behaviour:?}"));
        // Its own count is part of what it says.
        let mut seat = if behaviour == Behaviour::TrapInExport { self::seat(behaviour, more) } else { seat };
        names(&lost(seat.commit(NOW).unwrap_err()), words);
        assert_eq!((seat.restarts(), seat.prepared()), (1, None), "{behaviour:?}");
        seat.data(NOW, one()).unwrap();
    }
    let mut seat = seat(Behaviour::TrapInSnapshot, b"");
    let Err(SwapFault::Lost(Lost { fault: Some(fault), .. })) = seat.shadow(NOW, 1) else { panic!() };
    names(&fault, &["trapped in snapshot"]);
}

/// The two ends of a real hand-over: the tunnel takes nothing from a worker that lies about its state.
#[test]
fn a_state_that_lies_is_refused_by_the_tunnel() {
    let config = TunnelConfig {
        worker_index: 0,
        workers: 1,
        peer_id: PeerId([1; 32]),
        onion_keys: Vec::new(),
        relay: false,
        exit: false,
        allow_private: false,
        own_addresses: Vec::new(),
        limits: Limits::default(),
        cookie_key: [2; 32],
        sync_period: warren_schemas::control::SYNC_NEVER,
        draining: false,
    };
    let tunnel = |factory: &dyn WorkerFactory| -> Box<dyn Worker> {
        let mut worker = factory.spawn(Box::new(SeededHost::new(1))).unwrap();
        worker.configure(NOW, &config.encode()).unwrap();
        worker
    };
    let wasm = factory(settings(), "tunnel");
    let honest = tunnel(&NativeFactory).export_state().unwrap();
    let mut other = honest.clone();
    let at = version_at(&other);
    other[at..at + 2].copy_from_slice(&999u16.to_le_bytes());
    let rogue = factory(settings(), "rogue");
    for (lie, words) in [
        (&other[..], "version 999"),
        (&[0xa5; 4000], "not the state of a tunnel worker"),
        (&honest[..honest.len() / 2], ""),
        (b"", "not the state"),
    ] {
        let mut liar = rogue.spawn(Box::new(SeededHost::new(1))).unwrap();
        liar.configure(NOW, &[&[Behaviour::ExportThese as u8], lie].concat()).unwrap();
        let state = liar.export_state().unwrap();
        assert_eq!(state, lie);
        for factory in [&NativeFactory as &dyn WorkerFactory, wasm.as_ref()] {
            let mut heir = tunnel(factory);
            let fault = heir.import_state(NOW, &state).unwrap_err();
            assert!(matches!(fault, WorkerFault::State { call: "import-state", .. }), "{fault}");
            assert!(fault.to_string().contains(words), "{fault}");
            heir.import_state(NOW, &honest).unwrap();
        }
    }
    assert!(honest.len() < MAX_STATE);
}

/// Where the first field of a table lies: FlatBuffers' root, its vtable, the first entry.
fn version_at(state: &[u8]) -> usize {
    let word = |at: usize| u32::from_le_bytes(state[at..at + 4].try_into().unwrap()) as usize;
    let root = word(0);
    let vtable = root.wrapping_sub(word(root) as i32 as usize);
    root + usize::from(u16::from_le_bytes(state[vtable + 4..vtable + 6].try_into().unwrap()))
}

//! The pool of workers in a running network: modules are exchanged, workers die, come and go, and
//! nobody who downloads something notices.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod faults;
mod scene;

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use warren_e2e::fetch::{self, Page, Steady};
use warren_e2e::operator::{self, Signer};

use scene::{MB, PATIENCE, Scene, id, ids, places, states, worker_of};

#[test]
fn modules_are_exchanged_under_a_download_and_taken_back() {
    let scene = Scene::new(3, 2, 2);
    let module = scene.signer.signed("tunnel.wasm").unwrap();
    let before = scene.settled();
    let (page, carrier) = scene.page("h3", 300 * MB);
    let nodes = [scene.node_at(&carrier, 0), scene.node_at(&carrier, 2), "client".to_owned()];
    for node in &nodes {
        let report = scene.lab.swap(node, &module, &[]).unwrap();
        assert_eq!(report["workers"].as_array().unwrap().len(), 2, "{report}");
        let steps = scene.lab.audit(node).unwrap();
        let expected = [
            "verified",
            "self-tested 0",
            "shadowing 0",
            "agreed 0",
            "committed 0",
            "self-tested 1",
            "committed 1",
            "finished",
        ];
        assert_eq!(places(&steps), expected, "{node}: {steps:#?}");
    }
    let told = scene.lab.audit(&nodes[1]).unwrap().len();
    scene.lab.rollback(&nodes[1]).unwrap();
    let steps = scene.lab.audit(&nodes[1]).unwrap().split_off(told);
    let expected = ["self-tested 0", "committed 0", "self-tested 1", "committed 1", "finished"];
    assert_eq!(places(&steps), expected, "{steps:#?}");
    assert!(page.is_under_way(), "the page must be longer for this to say anything");
    assert!(scene.ids().is_superset(&before), "circuits died: {before:?} {:#?}", scene.circuits());
    page.finish().unwrap();
    assert!(scene.ids().is_superset(&before), "circuits died: {before:?} {:#?}", scene.circuits());
    for node in &nodes {
        assert_eq!(scene.restarts(node), 0, "{node}");
    }
    assert_eq!(scene.origin.requests(), 1);
}

#[test]
fn a_network_goes_over_to_another_suite_during_a_download() {
    let scene = Scene::new(3, 2, 1);
    let module = scene.signer.signed("tunnel-hybrid.wasm").unwrap();
    let before = scene.settled();
    let (page, _) = scene.page("h3", 300 * MB);
    assert!(scene.circuits().iter().all(|circuit| suites(circuit).iter().all(|suite| *suite == 1)));
    for node in ["relay-1", "relay-2", "relay-3", "exit-1", "exit-2", "client"] {
        scene.lab.swap(node, &module, &[]).unwrap();
    }
    assert!(page.is_under_way(), "the page must be longer for this to say anything");
    assert!(scene.ids().is_superset(&before), "circuits died: {before:?} {:#?}", scene.circuits());
    // New descriptors take their time; once all relays have told theirs, nothing else is used.
    let mut turn = 0;
    let hybrid = || {
        turn += 1;
        fetch::page(&scene.door, &format!("h3-{turn}"), scene.origin.address(), MB)?;
        let circuits = scene.circuits();
        Ok(circuits.iter().any(|circuit| suites(circuit) == [2, 2, 2]).then_some(()))
    };
    scene.lab.until("client", "circuit of suite 2", PATIENCE, hybrid).unwrap();
    assert!(page.is_under_way(), "the page must be longer for this to say anything");
    page.finish().unwrap();
    assert!(scene.ids().is_superset(&before), "circuits died: {before:?} {:#?}", scene.circuits());
}

fn suites(circuit: &Value) -> Vec<u64> {
    circuit["suites"].as_array().unwrap().iter().map(|suite| suite.as_u64().unwrap()).collect()
}

#[test]
fn only_the_circuits_of_a_killed_worker_are_rebuilt() {
    let scene = Scene::new(4, 2, 2);
    scene.settled();
    let (page, carrier) = scene.page("h3", 400 * MB);
    let worker = worker_of(id(&carrier));
    let other = scene.page_on(1 - worker, MB / 100);
    let mut others = scene.ids();
    others.retain(|id| worker_of(id) != worker);
    assert!(!others.is_empty());
    for kill in 1..=10 {
        scene.lab.kill_worker("client", worker).unwrap();
        std::thread::sleep(Duration::from_secs(2));
        scene.carried_by(worker);
        assert!(page.is_under_way() && other.is_under_way(), "after kill {kill}");
        assert!(scene.ids().is_superset(&others), "{others:?} {:#?}", scene.circuits());
        assert_eq!(scene.restarts("client"), kill);
    }
    let relay = scene.node_at(&scene.carried_by(worker), 0);
    let mut elsewhere = scene.circuits();
    elsewhere.retain(|circuit| (0..3).all(|hop| circuit["path"][hop] != scene.lab.id_of(&relay)));
    for worker in 0..2 {
        scene.lab.kill_worker(&relay, worker).unwrap();
    }
    assert!(page.is_under_way());
    page.finish().unwrap();
    other.finish().unwrap();
    assert_eq!(scene.restarts(&relay), 2);
    assert!(scene.ids().is_superset(&ids(&elsewhere)), "{elsewhere:#?} {:#?}", scene.circuits());
}

#[test]
fn a_module_that_is_not_as_it_should_be_is_refused_and_nothing_changes() {
    let scene = Scene::new(2, 1, 1);
    let stranger = Signer::new().unwrap();
    let before = scene.ids();
    let (page, _) = scene.page("h2", 300 * MB);
    let unsigned = scene.signer.copy("tunnel.wasm", "unsigned.wasm").unwrap();
    let foreign = stranger.signed("tunnel.wasm").unwrap();
    let changed = scene.signer.copy("tunnel.wasm", "changed.wasm").unwrap();
    scene.signer.sign(&changed).unwrap();
    change(&changed);
    let signed = |name: &str| scene.signer.signed(name).unwrap();
    let modules = [
        (unsigned, "unsigned.wasm.minisig"),
        (foreign, "key"),
        (changed, "signature"),
        (signed("undeclared.wasm"), "warren:undeclared/sockets"),
        (signed("other_version.wasm"), "0.9.0"),
        (signed("trap_at_start.wasm"), "unreachable"),
        (signed("ailing.wasm"), "2 + 2 came out"),
        (signed("rogue.wasm"), "reads states of versions [1]"),
        (signed("contrary.wasm"), "0 actions, where the live worker's has"),
    ];
    let plugin = scene.lab.workers("client").unwrap()[0]["plugin"].clone();
    for (module, says) in modules {
        let refused = scene.lab.order("client", &["worker", "swap", "tunnel", module.to_str().unwrap()]);
        let refused = refused.unwrap();
        let words = operator::words(&refused);
        assert_eq!(refused.status.code(), Some(1), "{}: {words}", module.display());
        assert!(words.contains(says), "{}: {words}", module.display());
        let last = scene.lab.audit("client").unwrap().pop().unwrap();
        assert_eq!(last.stage, "rolled-back", "{last:?}");
        assert!(last.detail.contains(says), "{last:?}");
        let workers = scene.lab.workers("client").unwrap();
        assert_eq!((&workers[0]["plugin"], workers.len()), (&plugin, 1), "{}", module.display());
    }
    assert!(scene.ids().is_superset(&before), "{before:?} {:#?}", scene.circuits());
    assert!(page.is_under_way(), "the page must be longer for this to say anything");
    page.finish().unwrap();
    assert_eq!(scene.restarts("client"), 0);
}

/// Changes a byte in the middle of a file.
fn change(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    *bytes.get_mut(middle).unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn with_drain_the_old_worker_keeps_its_circuits_until_they_end() {
    let scene = Scene::new(3, 2, 1);
    let module = scene.signer.signed("tunnel-hybrid.wasm").unwrap();
    scene.settled();
    let (page, carrier) = scene.page("h3", 300 * MB);
    let relay = scene.node_at(&carrier, 0);
    for node in [relay.as_str(), "client"] {
        scene.lab.swap(node, &module, &["--drain"]).unwrap();
        let steps = scene.lab.audit(node).unwrap();
        assert_eq!(places(&steps), ["verified", "self-tested 1", "draining 0", "finished"], "{steps:#?}");
        let drains = [(0, "draining".into()), (1, "running".into())];
        let seen = || Ok((states(&scene.lab, node) == drains).then_some(()));
        scene.lab.until(node, "worker that drains", PATIENCE, seen).unwrap();
    }
    fetch::page(&scene.door, "h2-new", scene.origin.address(), MB).unwrap();
    let new: Vec<Value> =
        scene.circuits().into_iter().filter(|circuit| circuit["isolation"] == "new").collect();
    assert!(!new.is_empty(), "{:#?}", scene.circuits());
    assert!(new.iter().all(|circuit| worker_of(id(circuit)) == 1), "{new:#?}");
    assert!(page.is_under_way(), "the page must be longer for this to say anything");
    assert!(scene.ids().contains(id(&carrier)), "{:#?}", scene.circuits());
    page.finish().unwrap();
    assert_eq!(scene.origin.requests(), 2, "it is the same stream");
    fetch::page(&scene.door, "h3", scene.origin.address(), MB).unwrap();
    scene.drained("client");
    // The client goes on making circuits through the relay: over other links.
    scene.drained(&relay);
}

#[test]
fn a_worker_comes_when_there_is_much_to_do_and_goes_when_it_is_quiet() {
    let set = [("workers.min", "1"), ("workers.max", "2")];
    let scene = Scene::with(2, 2, &set.map(|(key, value)| (key, value.to_owned())));
    assert_eq!(states(&scene.lab, "client"), [(0, "running".into())]);
    let pages: Vec<Steady> = (0..12)
        .map(|user| Page::open(&scene.door, &format!("h1-{user}"), scene.origin.address(), 100 * MB))
        .map(|page| Steady::read(page.unwrap(), MB / 2))
        .collect();
    let count = |wanted: usize| {
        let list = || Ok((states(&scene.lab, "client").len() == wanted).then_some(()));
        scene.lab.until("client", &format!("list of {wanted} workers"), PATIENCE, list).unwrap();
    };
    count(2);
    assert!(pages.iter().all(Steady::is_under_way));
    let slow = scene.page_on(1, MB / 100);
    drop(pages);
    let drains = || {
        let drains = [(0, "running".into()), (1, "draining".into())];
        Ok((states(&scene.lab, "client") == drains).then_some(()))
    };
    scene.lab.until("client", "worker that drains", PATIENCE, drains).unwrap();
    assert!(slow.is_under_way(), "the page must be longer for this to say anything");
    slow.finish().unwrap();
    count(1);
    assert_eq!(states(&scene.lab, "client"), [(0, "running".into())]);
    fetch::page(&scene.door, "h3", scene.origin.address(), MB).unwrap();
    assert_eq!(scene.restarts("client"), 0);
}

#[test]
fn workers_pass_on_to_each_other_what_no_kernel_steers() {
    let set = [("workers.count", "2".to_owned()), ("tunnel.steering", "false".to_owned())];
    let scene = Scene::with(2, 1, &set);
    for user in 0..4 {
        let user = format!("h3-unsteered-{user}");
        Page::open(&scene.door, &user, scene.origin.address(), 5 * MB).unwrap().finish().unwrap();
    }
    let nodes = scene.lab.nodes().iter();
    let passed_on: u64 = nodes.map(|node| node.status().unwrap().handed_over).sum();
    assert!(passed_on > 1000, "{passed_on}");
}

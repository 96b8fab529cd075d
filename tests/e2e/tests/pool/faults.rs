//! Workers that really fail while somebody downloads: traps, endless loops, floods and greed inside the
//! guest, not orders from outside.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use warren_bench::{Stopwatch, content};
use warren_e2e::lab::{self, Lab};
use warren_e2e::not_run;
use warren_e2e::operator::words;
use warren_e2e::swarm::{self, is, text};

use crate::scene::{MB, PATIENCE, Scene, id, places, worker_of};

/// Answers of a shadow: fewer than what a canary of the fixtures gives before it fails.
const CANARY: [&str; 2] = ["--canary", "8"];

#[test]
fn a_canary_that_fails_after_its_commit_costs_its_own_circuits_only() {
    let scene = Scene::new(3, 2, 2);
    scene.settled();
    let (page, other) = (scene.page_on(0, 20 * MB), scene.page_on(1, MB / 100));
    let plugin = scene.lab.workers("client").unwrap()[0]["plugin"].clone();
    let canaries = [
        ("frail.wasm", ["stopped in data", "limit of 50 ms"]),
        ("boastful.wasm", ["bad answer in SYNC", "more than 131072"]),
    ];
    for (failures, (name, fault)) in (1..).zip(canaries) {
        // The canary has much to do.
        let from = page.at();
        let flows = || Ok((page.at() > from + 5 * MB).then_some(()));
        scene.lab.until("client", "page that flows", PATIENCE, flows).unwrap();
        let module = scene.signer.signed(name).unwrap();
        let (mut others, told) = (scene.ids(), scene.lab.audit("client").unwrap().len());
        others.retain(|id| worker_of(id) != 0);
        assert!(!others.is_empty());
        let swap = ["worker", "swap", "tunnel", module.to_str().unwrap(), CANARY[0], CANARY[1]];
        let refused = scene.lab.order("client", &swap).unwrap();
        let said = words(&refused);
        assert_eq!(refused.status.code(), Some(1), "{said}");
        let old = format!("once, and {} (", plugin.as_str().unwrap());
        for part in [&old, ") has its place again: tunnel 1 ("].into_iter().chain(fault) {
            assert!(said.contains(part), "{part} in {said}");
        }
        let steps = scene.lab.audit("client").unwrap().split_off(told);
        let expected = [
            "verified",
            "self-tested 0",
            "shadowing 0",
            "agreed 0",
            "committed 0",
            "rolled-back 0",
            "rolled-back",
        ];
        assert_eq!(places(&steps), expected, "{steps:#?}");
        assert!(steps[5].detail.ends_with(") has its place again"), "{steps:#?}");
        assert!(fault.iter().all(|part| steps[6].detail.contains(part)), "{steps:#?}");
        let workers = scene.lab.workers("client").unwrap();
        for (index, restarts) in [(0, failures), (1, 0)] {
            let worker = &workers[index];
            assert_eq!((&worker["plugin"], &worker["state"]), (&plugin, &Value::from("running")));
            assert_eq!(worker["restarts"], restarts, "{worker}");
        }
        let carries = scene.carried_by(0);
        assert_eq!(worker_of(id(&carries)), 0, "the page goes on, by a new circuit of the old module");
        assert!(scene.ids().is_superset(&others), "{others:?} {:#?}", scene.circuits());
        assert!(
            page.is_under_way() && other.is_under_way(),
            "the pages must be longer for this to say anything"
        );
    }
    page.finish().unwrap();
    other.finish().unwrap();
}

#[test]
fn a_worker_that_fails_every_two_seconds_costs_its_own_circuits_only() {
    let module = format!("{:?}", lab::plugin("mortal.wasm").unwrap());
    let scene = Scene::with(2, 2, &[("workers.count", "2".to_owned()), ("workers.plugin", module)]);
    let calm = scene.long_page_on(1, MB / 10, 15 * MB);
    let (carrier, before) = (scene.carried_by(1), scene.ids());
    let restarts = || {
        let workers = scene.lab.workers("client").unwrap();
        [0, 1].map(|index: usize| workers[index]["restarts"].as_u64().unwrap())
    };
    let first = restarts();

    // Whenever all pages have come to rest on the other worker, the failing one gets one more.
    let (started, mut pages, mut carriers) = (Stopwatch::start(), Vec::new(), BTreeSet::new());
    while started.elapsed() < MINUTE {
        let circuits = scene.circuits();
        let busy = circuits.iter().filter(|circuit| circuit["streams"].as_u64() > Some(0));
        let mine: Vec<_> = busy.map(id).filter(|id| worker_of(id) == 0).map(str::to_owned).collect();
        if mine.is_empty() {
            pages.push(scene.long_page_on(0, MB / 10, 6 * MB));
        }
        carriers.extend(mine);
        std::thread::sleep(Duration::from_millis(100));
    }

    let [failing, other] = restarts();
    assert!(failing >= first[0] + 25, "{} faults in a minute", failing - first[0]);
    assert_eq!(other, 0);
    let mut kept = before;
    kept.retain(|id| worker_of(id) == 1);
    assert!(kept.contains(id(&carrier)) && calm.is_under_way());
    assert!(scene.ids().is_superset(&kept), "{kept:?} {:#?}", scene.circuits());
    // Each died under a page.
    assert!(carriers.len() >= 20, "{carriers:?} carried {} pages", pages.len());
    pages.into_iter().for_each(|page| page.finish().unwrap());
    calm.finish().unwrap();
}

/// Bytes a second that the seeder gives: the download takes more than a minute.
const RATE: u64 = 1_000_000;
const MINUTE: Duration = Duration::from_secs(60);

/// What `warren get` said in its log of workers that it lost.
fn losses(log: &str, worker: u64) -> Vec<&str> {
    let lines = log.lines().filter(|line| line.contains("worker lost; its circuits are dead"));
    lines.filter(|line| line.contains(&format!("worker={worker} "))).collect()
}

#[test]
fn a_torrent_arrives_while_the_worker_with_its_stream_fails_again_and_again() {
    if not_run::lacks_libtorrent().unwrap() {
        return;
    }
    let lab = Lab::start(2, 2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("content.bin");
    content::write(&path, RATE * 66, 7).unwrap();
    let rate = RATE.to_string();
    let (_seeder, listening) = swarm::libtorrent(&["seed", path.to_str().unwrap(), "--rate", &rate]).unwrap();
    let (torrent, peer) = (text(&listening, "torrent").unwrap(), format!("127.0.0.1:{}", listening["port"]));
    let plugin = format!("workers.plugin={}", lab::plugin("frail.wasm").unwrap().display());
    let out = lab.dir().join("failing").join("out");
    let arguments = [
        &["get", torrent.as_str(), "--peer", &peer, "--hops", "2", "--out", out.to_str().unwrap()][..],
        &["--set", &plugin, "--set", "workers.count=2"],
    ];
    let started = Stopwatch::start();
    let mut download = swarm::warren(&lab, "failing", &arguments.concat()).unwrap();
    let done = download.wait_for("done", 4 * MINUTE, |event| is(event, "done")).unwrap();
    assert!(started.elapsed() > MINUTE, "it must take longer for this to say anything: {done}");
    let arrived = text(&done, "path").unwrap();
    assert_eq!(content::sha256(Path::new(&arrived)).unwrap(), content::sha256(&path).unwrap());

    // The worker with the stream failed again and again, in more than one way.
    let log = fs::read_to_string(out.with_file_name("log.txt")).unwrap();
    let losses = [0, 1].map(|worker| losses(&log, worker));
    let all = losses.concat();
    assert!(all.len() >= 15, "{} faults: {log}", all.len());
    let ways = ["trapped in data", "stopped in data after its limit", "data for more than its memory limit"];
    let by = |way: &str| all.iter().filter(|line| line.contains("tunnel 1 (") && line.contains(way)).count();
    let counts = ways.map(by);
    assert!(counts.iter().filter(|count| **count > 0).count() >= 2, "{counts:?}: {log}");
    // No more circuits were made than faults can have taken: two are kept for one torrent.
    let circuits = download.seen().iter().filter(|event| is(event, "circuit")).count();
    assert!(circuits <= 3 * (all.len() + 1), "{circuits} circuits, {} faults: {log}", all.len());
}

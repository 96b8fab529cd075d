//! Bytes arrive, over 1, 2 and 3 hops, whatever dies on the way.

use std::collections::HashSet;
use std::time::Duration;

use warren_e2e::fetch::{self, Page};
use warren_e2e::network::{Network, Role, ready_paths};
use warren_e2e::origin::Origin;

const MB: u64 = 1_000_000;

#[test]
fn pages_arrive_over_one_two_and_three_hops() {
    let network = Network::start(3, 2).unwrap();
    let (origin, socks) = (Origin::start().unwrap(), network.socks().unwrap());
    for hops in 1..=3 {
        fetch::page(socks, &format!("h{hops}"), origin.address(), 100 * MB).unwrap();
    }
    let status = network.status().unwrap();
    let exits = network.alive(Role::Exit);
    for path in ready_paths(&status) {
        let distinct: HashSet<_> = path.iter().collect();
        assert_eq!(distinct.len(), path.len(), "a relay twice: {path:?}");
        assert!(exits.contains(path.last().unwrap()), "the last hop is no exit: {path:?}");
        assert!(!path.contains(&status["peer_id"].as_str().unwrap().to_owned()));
    }
}

#[test]
fn many_pages_at_once_share_a_circuit() {
    let network = Network::start(3, 2).unwrap();
    let (origin, socks) = (Origin::start().unwrap(), network.socks().unwrap());
    std::thread::scope(|scope| {
        let fetches: Vec<_> =
            (0..20).map(|_| scope.spawn(|| fetch::page(socks, "h3", origin.address(), MB))).collect();
        for fetch in fetches {
            fetch.join().unwrap().unwrap();
        }
    });
    assert_eq!(origin.requests(), 20);
}

#[test]
fn a_closed_port_is_refused_with_its_reply_code() {
    let network = Network::start(3, 2).unwrap();
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    let refused = fetch::connect(network.socks().unwrap(), "h2", address).unwrap_err();
    assert_eq!(refused.to_string(), "SOCKS reply 5");
}

#[test]
fn after_a_relay_or_an_exit_died_new_pages_arrive() {
    let mut network = Network::start(4, 2).unwrap();
    let (origin, socks) = (Origin::start().unwrap(), network.socks().unwrap());
    let mut page = Page::open(socks, "h3", origin.address(), 100 * MB).unwrap();
    page.read_to(10 * MB).unwrap();
    let used = ready_paths(&network.status().unwrap());
    let path = used.iter().find(|path| path.len() == 3).unwrap().clone();
    network.kill(&path[0]).unwrap();
    // The stream may live on over another circuit with the same last hop, or end; it must not lie.
    let _ = page.finish();
    fetch::page(socks, "h3", origin.address(), MB).unwrap();
    let exit = network.alive(Role::Exit)[0].clone();
    network.kill(&exit).unwrap();
    fetch::page(socks, "h3", origin.address(), MB).unwrap();
    let status = network.status().unwrap();
    assert!(ready_paths(&status).iter().all(|path| !path.contains(&exit)), "{status:#}");
}

#[test]
fn without_relays_nothing_moves_and_it_says_why() {
    let mut network = Network::start(3, 2).unwrap();
    let (origin, socks) = (Origin::start().unwrap(), network.socks().unwrap());
    fetch::page(socks, "h3", origin.address(), MB).unwrap();
    let before = origin.requests();
    network.kill_all();
    let waiting = std::thread::scope(|scope| {
        let page = scope.spawn(|| fetch::page(socks, "h3-again", origin.address(), MB));
        let patience = Duration::from_secs(60);
        let status = network.wait_for("reason for waiting", patience, |status| {
            ready_paths(status).is_empty() && !status["waiting"].as_array().unwrap().is_empty()
        });
        assert_eq!(origin.requests(), before, "something left without a circuit");
        assert!(page.join().unwrap().is_err());
        status.unwrap()["waiting"].clone()
    });
    assert!(waiting[0].as_str().unwrap().contains("relay") || waiting[0].as_str().unwrap().contains("exit"));
    assert_eq!(origin.requests(), before, "something left without a circuit");
    network.revive().unwrap();
    let patience = Duration::from_secs(120);
    network.wait_for("circuits again", patience, |status| !ready_paths(status).is_empty()).unwrap();
    fetch::page(socks, "h3", origin.address(), MB).unwrap();
}

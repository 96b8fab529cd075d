//! Bytes arrive, over 1, 2 and 3 hops, whatever dies on the way.

#![expect(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use warren_bench::network::{Node, Role};
use warren_e2e::fetch::{self, Association, Door, Page, Steady, Target};
use warren_e2e::lab::{Lab, ready_paths};
use warren_e2e::origin::Origin;
use warren_e2e::trace::{self, Watch};
use warren_e2e::{namespace, not_run};

const MB: u64 = 1_000_000;

#[test]
fn pages_arrive_over_one_two_and_three_hops() {
    let lab = Lab::start(3, 2).unwrap();
    let (origin, door) = (Origin::start().unwrap(), lab.door().unwrap());
    for hops in 1..=3 {
        fetch::page(&door, &format!("h{hops}"), origin.address(), 100 * MB).unwrap();
    }
    let status = lab.status().unwrap();
    let exits = lab.alive(Role::Exit);
    for path in ready_paths(&status) {
        let distinct: HashSet<_> = path.iter().collect();
        assert_eq!(distinct.len(), path.len(), "a relay twice: {path:?}");
        assert!(exits.contains(&path[path.len() - 1]), "the last hop is no exit: {path:?}");
        assert!(!path.contains(&status.peer_id), "the originator itself: {path:?}");
    }
}

#[test]
fn many_pages_at_once_share_the_circuits() {
    let lab = Lab::start(3, 2).unwrap();
    let (origin, door) = (Origin::start().unwrap(), lab.door().unwrap());
    std::thread::scope(|scope| {
        let fetches: Vec<_> =
            (0..20).map(|_| scope.spawn(|| fetch::page(&door, "h3", origin.address(), MB))).collect();
        for fetch in fetches {
            fetch.join().unwrap().unwrap();
        }
    });
    assert_eq!(origin.requests(), 20);
}

/// Gives each connection to `serve`, until the process ends.
fn serve(serve: fn(TcpStream) -> io::Result<u64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

#[test]
fn talk_goes_on_beside_downloads_uploads_and_a_client_that_does_not_read() {
    let lab = Lab::start(3, 1).unwrap();
    let (origin, door) = (Origin::start().unwrap(), lab.door().unwrap());
    let echo = serve(|stream| io::copy(&mut &stream, &mut &stream));
    let sink = serve(|stream| io::copy(&mut &stream, &mut io::sink()));
    let page = || Page::open(&door, "h3", origin.address(), 10_000 * MB).unwrap();
    let downloads: Vec<Steady> = (0..4).map(|_| Steady::read(page(), 5 * MB)).collect();
    let _unread = page();
    for _ in 0..4 {
        let mut upload = fetch::connect(&door, "h3", sink).unwrap();
        // Ends with the lab.
        std::thread::spawn(move || while upload.write_all(&[7; 1 << 16]).is_ok() {});
    }
    let before: Vec<u64> = downloads.iter().map(Steady::at).collect();
    let mut talk = fetch::connect(&door, "h3", echo).unwrap();
    for round in 0..50_usize {
        let said = vec![round as u8; 1 + round * 400];
        talk.write_all(&said).unwrap();
        let mut heard = vec![0; said.len()];
        talk.read_exact(&mut heard).unwrap();
        assert_eq!(heard, said);
    }
    talk.shutdown(Shutdown::Write).unwrap();
    assert_eq!(talk.read(&mut [0]).unwrap(), 0, "the end arrives");
    assert!(downloads.iter().zip(before).all(|(download, before)| download.at() > before));
}

#[test]
fn pages_arrive_beside_clients_that_do_not_read() {
    let lab = Lab::start(3, 1).unwrap();
    let (origin, door) = (Origin::start().unwrap(), lab.door().unwrap());
    let page = || Page::open(&door, "h3", origin.address(), 10_000 * MB).unwrap();
    // Two fill what QUIC gives the first streams of a circuit, of which there are two.
    let _unread: Vec<Page> = (0..8).map(|_| page()).collect();
    for _ in 0..5 {
        fetch::page(&door, "h3", origin.address(), 20 * MB).unwrap();
    }
}

/// Sends every datagram back, until the process ends.
fn echo(address: &str) -> SocketAddr {
    let echo = UdpSocket::bind(address).unwrap();
    let address = echo.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = echo.recv_from(&mut buffer) {
            let _ = echo.send_to(&buffer[..length], from);
        }
    });
    address
}

#[test]
fn names_are_resolved_at_the_exit_and_udp_goes_both_ways() {
    let lab = Lab::start(3, 2).unwrap();
    let (origin, door) = (Origin::start().unwrap(), lab.door().unwrap());
    let name = Target::Name("localhost".into(), origin.address().port());
    let at = Target::Address(echo("127.0.0.1:0"));
    for hops in 1..=3 {
        let user = format!("h{hops}");
        drop(fetch::connect(&door, &user, name.clone()).unwrap());
        let association = Association::open(&door, &user).unwrap();
        for length in [1, 1000, 1500] {
            let payload: Vec<u8> = (0..length).map(warren_e2e::origin::byte_at).collect();
            assert_eq!(association.ask(&at, &payload).unwrap(), payload, "{hops} hops, {length} bytes");
        }
    }
}

#[test]
fn a_closed_port_is_refused_with_its_reply_code() {
    let lab = Lab::start(3, 2).unwrap();
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    let refused = fetch::connect(&lab.door().unwrap(), "h2", address).unwrap_err();
    assert_eq!(refused.to_string(), "SOCKS reply 5");
}

/// Fetches a page, again when the circuit it was on turns out to be dead.
#[track_caller]
fn fetch_soon(door: &Door, origin: &Origin) {
    let outcomes = (0..4).map(|_| fetch::page(door, "h3", origin.address(), MB));
    let mut errors = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(()) => return,
            Err(error) => errors.push(error.to_string()),
        }
    }
    panic!("no page arrived: {errors:?}");
}

#[test]
fn after_a_relay_or_an_exit_died_new_pages_arrive() {
    let mut lab = Lab::start(4, 2).unwrap();
    let (origin, door) = (Origin::start().unwrap(), lab.door().unwrap());
    let (page, path) = page_under_way(&lab, &door, &origin);
    lab.kill(&path[0]).unwrap();
    // The stream may live on over another circuit with the same last hop, or end; what it gives
    // must be right, which reading checks.
    if let Err(error) = page.finish() {
        assert!(!error.to_string().contains("is wrong"), "{error}");
    }
    fetch_soon(&door, &origin);
    let exit = lab.alive(Role::Exit)[0].clone();
    lab.kill(&exit).unwrap();
    fetch_soon(&door, &origin);
    lab.wait_for("circuits without the dead exit", Duration::from_secs(90), |status| {
        ready_paths(status).iter().all(|path| !path.contains(&exit))
    })
    .unwrap();
}

/// Opens a page on a circuit of three hops, reads some of it, and gives that circuit's path too.
#[track_caller]
fn page_under_way(lab: &Lab, door: &Door, origin: &Origin) -> (Page, Vec<String>) {
    let mut page = Page::open(door, "h3", origin.address(), 100 * MB).unwrap();
    // What is not read is not sent: nearly all of it is still at the origin.
    page.read_to(10 * MB).unwrap();
    let status = lab.status().unwrap();
    let busy = status.ready_circuits().find(|circuit| circuit.path.len() == 3 && circuit.streams > 0);
    let path = busy.unwrap_or_else(|| panic!("no circuit carries the page: {status:#?}")).path.clone();
    (page, path)
}

#[test]
fn a_stream_survives_the_death_of_a_relay() {
    let mut lab = Lab::with_workers(4, 2, 2).unwrap();
    let (origin, door) = (Origin::start().unwrap(), lab.door().unwrap());
    let (page, path) = page_under_way(&lab, &door, &origin);
    lab.kill(&path[0]).unwrap();
    page.finish().unwrap();
    assert_eq!(origin.requests(), 1, "it is the same stream");
}

#[test]
fn ipv6_is_reached_over_tcp_and_udp() {
    let lab = Lab::start(3, 2).unwrap();
    let (origin, door) = (Origin::start_v6().unwrap(), lab.door().unwrap());
    let at = Target::Address(echo("[::1]:0"));
    for hops in 1..=3 {
        let user = format!("h{hops}");
        fetch::page(&door, &user, origin.address(), MB).unwrap();
        let association = Association::open(&door, &user).unwrap();
        for length in [1, 1000, 1500] {
            let payload: Vec<u8> = (0..length).map(warren_e2e::origin::byte_at).collect();
            assert_eq!(association.ask(&at, &payload).unwrap(), payload, "{hops} hops, {length} bytes");
        }
    }
    assert_eq!(origin.requests(), 3);
}

#[test]
fn without_relays_nothing_moves_and_it_says_why() {
    const NAME: &str = "without_relays_nothing_moves_and_it_says_why";
    if !namespace::is_inside() && namespace::is_possible() {
        return namespace::run_inside(NAME).unwrap();
    }
    let mut lab = Lab::start(3, 2).unwrap();
    let (origin, door) = (Origin::start().unwrap(), lab.door().unwrap());
    fetch::page(&door, "h3", origin.address(), MB).unwrap();
    let before = (origin.requests(), namespace::without_route().unwrap());
    let known = lab.server_addresses().unwrap();
    let client = lab.client().and_then(Node::pid).unwrap();
    let watch = trace::is_possible().then(|| Watch::start(client, &lab.dir().join("trace.txt")).unwrap());
    if watch.is_none() && !namespace::is_inside() {
        not_run::note("where the client sent without relays: neither namespace nor strace").unwrap();
    }
    lab.kill_all();
    let waiting = std::thread::scope(|scope| {
        let page = scope.spawn(|| fetch::page(&door, "h3-again", origin.address(), MB));
        let status = lab.wait_for("reason for waiting", Duration::from_secs(90), |status| {
            ready_paths(status).is_empty() && !status.waiting.is_empty()
        });
        assert!(page.join().unwrap().is_err(), "a page came from nowhere");
        status.unwrap().waiting
    });
    assert!(!waiting[0].is_empty());
    let after = (origin.requests(), namespace::without_route().unwrap());
    assert_eq!(after, before, "something left without a circuit");
    if let Some(watch) = watch {
        let trace = watch.end().unwrap();
        assert!(trace.refused.is_empty(), "sent past the circuits: {:#?}", trace.refused);
        assert!(!trace.addresses.is_empty(), "it asked after the relays that were gone");
        let strangers: Vec<_> = trace.addresses.difference(&known).collect();
        assert!(strangers.is_empty(), "neither tunnel nor overlay of a relay: {strangers:?}");
    }
    lab.revive().unwrap();
    let patience = Duration::from_secs(120);
    lab.wait_for("circuits again", patience, |status| ready_paths(status).iter().any(|path| path.len() == 3))
        .unwrap();
    fetch::page(&door, "h3", origin.address(), MB).unwrap();
}

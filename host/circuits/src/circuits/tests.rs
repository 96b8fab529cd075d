use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use warren_schemas::descriptor::MAX_LIFETIME;

use super::*;
use crate::{Waiting, Weighting};

mod guards;
mod suites;

const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

const PATIENT: Duration = Duration::from_secs(3600);

fn peer(number: u16) -> PeerId {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&number.to_be_bytes());
    PeerId(id)
}

fn relay(number: u16, address: &str, exit: bool) -> Descriptor {
    Descriptor {
        peer_id: peer(number),
        published: START,
        expires: START.after(MAX_LIFETIME),
        onion_epoch: 1,
        onion_key: [1; 32],
        stream_key: [2; 32],
        addresses: vec![address.parse().unwrap()],
        relay: true,
        exit,
        suites: vec![1],
        bytes_per_second: 0,
        circuits: 0,
        operator: None,
    }
}

/// `count` relays in as many networks; the first `exits` of them are exits.
fn network(count: u16, exits: u16) -> Vec<Descriptor> {
    (1..=count).map(|n| relay(n, &format!("10.{n}.0.1:9000"), n <= exits)).collect()
}

/// The policy never looks into the signed form: what identifies it will do.
fn signed(descriptor: &Descriptor) -> SignedDescriptor {
    SignedDescriptor::from_bytes(descriptor.peer_id.0.to_vec())
}

fn rules() -> Rules {
    Rules { own_peer: peer(999), spare: 0, ..Rules::default() }
}

fn want(hops: u8) -> Isolation {
    Isolation { hops, key: "one".into() }
}

struct Bench {
    policy: Circuits,
    now: Timestamp,
    handles: u32,
}

struct Asked {
    request: RequestId,
    worker: u8,
    path: Vec<PeerId>,
    suites: Vec<u8>,
}

impl Bench {
    fn new(rules: Rules, relays: &[Descriptor]) -> Self {
        Self::of(Circuits::new(rules, 7), START, relays)
    }

    /// It heard of these relays, and long enough ago.
    fn of(policy: Circuits, now: Timestamp, relays: &[Descriptor]) -> Self {
        let before = Timestamp::from_micros(now.as_micros() - 1_000_000);
        let mut bench = Self { policy, now: before, handles: 0 };
        relays.iter().for_each(|relay| bench.tell(relay));
        bench.now = now;
        bench.policy.handle_timeout(now);
        bench
    }

    fn tell(&mut self, descriptor: &Descriptor) {
        self.policy.handle_relay(self.now, descriptor.clone(), signed(descriptor));
    }

    fn want(&mut self, isolation: &Isolation) {
        self.policy.want(self.now, isolation);
    }

    /// What is asked for now, with what is to be closed.
    fn drain(&mut self) -> (Vec<Asked>, Vec<(u8, CircuitHandle)>) {
        let (mut asked, mut closed) = (Vec::new(), Vec::new());
        while let Some(command) = self.policy.poll_command() {
            match command {
                Command::Build { request, worker, hops, suites, .. } => {
                    let path = hops.iter().map(|hop| PeerId(hop.as_bytes().try_into().unwrap())).collect();
                    asked.push(Asked { request, worker, path, suites });
                }
                Command::Close { worker, handle, .. } => closed.push((worker, handle)),
            }
        }
        (asked, closed)
    }

    fn ready(&mut self, asked: &Asked) -> CircuitHandle {
        self.handles += 1;
        let handle = CircuitHandle(self.handles);
        self.policy.handle_ready(self.now, asked.request, asked.worker, handle);
        handle
    }

    /// Builds whatever is asked for until nothing more is.
    fn settle(&mut self) -> Vec<Vec<PeerId>> {
        let mut paths = Vec::new();
        loop {
            let (asked, _) = self.drain();
            if asked.is_empty() {
                return paths;
            }
            for one in asked {
                self.ready(&one);
                paths.push(one.path);
            }
        }
    }

    fn after(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.policy.handle_timeout(self.now);
    }

    fn reason(&self) -> String {
        let waiting = self.policy.waiting(self.now);
        waiting.first().map(|(_, reason)| reason.to_string()).unwrap_or_default()
    }
}

#[test]
fn two_circuits_through_different_exits_and_guards() {
    let mut bench = Bench::new(rules(), &network(9, 3));
    bench.want(&want(3));
    let paths = bench.settle();
    assert_eq!(paths.len(), 2);
    assert_ne!(paths[0][0], paths[1][0], "one dead guard must not take both");
    assert_ne!(paths[0][2], paths[1][2], "one dead exit must not take both");
    assert!(bench.policy.select(&want(3)).is_some());
    assert_eq!(bench.policy.select(&want(2)), None);
    assert!(bench.policy.waiting(bench.now).is_empty());
}

#[test]
fn isolations_never_share_a_circuit() {
    let mut bench = Bench::new(rules(), &network(9, 3));
    let other = Isolation { hops: 3, key: "two".into() };
    bench.want(&want(3));
    bench.want(&other);
    bench.settle();
    let (a, b) = (bench.policy.select(&want(3)).unwrap(), bench.policy.select(&other).unwrap());
    assert_ne!((a.worker, a.handle), (b.worker, b.handle));
}

#[test]
fn least_loaded_is_selected() {
    let mut bench = Bench::new(rules(), &network(9, 3));
    bench.want(&want(2));
    bench.settle();
    let first = bench.policy.select(&want(2)).unwrap();
    bench.policy.streams_changed(first.worker, first.handle, 1);
    let second = bench.policy.select(&want(2)).unwrap();
    assert_ne!(first.handle, second.handle);
    bench.policy.streams_changed(second.worker, second.handle, 2);
    assert_eq!(bench.policy.select(&want(2)).unwrap().handle, first.handle);
}

/// Opens a stream on whatever circuit is least loaded; answers its handle.
fn open(bench: &mut Bench) -> Option<CircuitHandle> {
    let circuit = bench.policy.select(&want(2))?;
    bench.policy.streams_changed(circuit.worker, circuit.handle, 1);
    Some(circuit.handle)
}

#[test]
fn many_streams_at_once_do_not_all_go_by_the_circuit_that_stands_first() {
    let mut bench = Bench::new(rules(), &network(9, 3));
    bench.want(&want(2));
    let (asked, _) = bench.drain();
    bench.ready(&asked[0]);
    let first: Vec<_> = (0..10).map_while(|_| open(&mut bench)).collect();
    assert_eq!(first.len(), 4);
    bench.ready(&asked[1]);
    let second: Vec<_> = (0..4).filter_map(|_| open(&mut bench)).collect();
    assert_eq!(second.len(), 4);
    assert!(second.iter().all(|handle| *handle != first[0]), "{first:?} {second:?}");
    let rest: BTreeSet<_> = (0..2).filter_map(|_| open(&mut bench)).collect();
    assert_eq!(rest.len(), 2, "both have as many");
}

#[test]
fn streams_wait_for_a_second_circuit_only_for_a_moment_and_only_when_one_comes() {
    let mut bench = Bench::new(rules(), &network(9, 3));
    bench.want(&want(2));
    let (asked, _) = bench.drain();
    bench.ready(&asked[0]);
    while open(&mut bench).is_some() {}
    assert!(!bench.policy.poll_released());
    assert_eq!(bench.policy.poll_timeout(), Some(bench.now.after(Duration::from_secs(1))));
    bench.after(1);
    assert!(bench.policy.poll_released() && !bench.policy.poll_released());
    assert_eq!((0..50).filter_map(|_| open(&mut bench)).count(), 50);
    // One that has no company to come waits for none.
    let mut bench = Bench::new(Rules { per_isolation: 1, ..rules() }, &network(9, 3));
    bench.want(&want(2));
    bench.settle();
    assert_eq!((0..50).filter_map(|_| open(&mut bench)).count(), 50);
}

#[test]
fn workers_take_turns() {
    let mut bench = Bench::new(Rules { workers: 2, per_isolation: 4, ..rules() }, &network(12, 6));
    bench.want(&want(1));
    let workers: Vec<u8> = bench.drain().0.iter().map(|asked| asked.worker).collect();
    assert_eq!(workers, [0, 1, 0, 1]);
}

#[test]
fn dead_circuit_is_rebuilt_to_the_exit_its_streams_use() {
    let mut bench = Bench::new(rules(), &network(12, 5));
    bench.want(&want(3));
    bench.settle();
    let used = bench.policy.select(&want(3)).unwrap();
    bench.policy.streams_changed(used.worker, used.handle, 3);
    bench.policy.handle_dead(bench.now, used.worker, used.handle, CloseReason::Link);
    let exit = used.exit.peer_id;
    assert!(bench.policy.rebuilding(&want(3), exit));
    assert_eq!(bench.policy.same_last_hop(&want(3), exit), None);
    let paths = bench.settle();
    assert_eq!(paths.len(), 1);
    assert_eq!(paths[0][2], exit);
    assert!(!used.path[..2].iter().any(|suspect| paths[0].contains(suspect)), "the others are suspects");
    assert_eq!(bench.policy.same_last_hop(&want(3), exit).unwrap().exit.peer_id, exit);
    assert!(!bench.policy.rebuilding(&want(3), exit));
}

#[test]
fn a_pinned_exit_that_is_dead_is_given_up() {
    let mut bench = Bench::new(rules(), &network(12, 3));
    bench.want(&want(3));
    bench.settle();
    let used = bench.policy.select(&want(3)).unwrap();
    let exit = used.exit.peer_id;
    bench.policy.streams_changed(used.worker, used.handle, 1);
    bench.policy.handle_dead(bench.now, used.worker, used.handle, CloseReason::Link);
    let (asked, _) = bench.drain();
    bench.policy.handle_failed(bench.now, asked[0].request, CloseReason::Timeout, 2);
    assert!(bench.policy.rebuilding(&want(3), exit), "the middle failed, not the exit");
    let (asked, _) = bench.drain();
    assert_eq!(asked[0].path[2], exit);
    bench.policy.handle_failed(bench.now, asked[0].request, CloseReason::Timeout, 3);
    assert!(!bench.policy.rebuilding(&want(3), exit));
    assert!(bench.settle().iter().all(|path| !path.contains(&exit)));
}

#[test]
fn what_saves_streams_is_built_by_their_worker() {
    let mut bench = Bench::new(Rules { workers: 3, per_isolation: 3, ..rules() }, &network(12, 6));
    bench.want(&want(3));
    bench.settle();
    for _ in 0..9 {
        let used = bench.policy.select(&want(3)).unwrap();
        let exit = used.exit.peer_id;
        bench.policy.streams_changed(used.worker, used.handle, 1);
        bench.policy.handle_dead(bench.now, used.worker, used.handle, CloseReason::Link);
        bench.settle();
        assert!(bench.policy.same_last_hop_on(used.worker, &want(3), exit).is_some());
    }
}

#[test]
fn a_slow_build_is_joined_by_another_through_others() {
    let mut bench = Bench::new(Rules { per_isolation: 1, ..rules() }, &network(12, 6));
    bench.want(&want(3));
    let (first, _) = bench.drain();
    assert_eq!(bench.policy.poll_timeout(), Some(START.after(Duration::from_secs(3))));
    bench.after(3);
    let (second, _) = bench.drain();
    assert_eq!((first.len(), second.len()), (1, 1));
    assert!(second[0].path.iter().all(|peer| !first[0].path.contains(peer)));
    bench.ready(&second[0]);
    bench.after(3);
    assert!(bench.drain().0.is_empty());
    bench.ready(&first[0]);
    assert!(bench.drain().1.is_empty(), "both are of use");
}

#[test]
fn failed_relay_rests_longer_each_time() {
    let mut bench = Bench::new(Rules { per_isolation: 1, ..rules() }, &network(1, 1));
    bench.want(&want(1));
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let (asked, _) = bench.drain();
        bench.policy.handle_failed(bench.now, asked[0].request, CloseReason::Timeout, 1);
        assert!(bench.drain().0.is_empty());
        assert!(
            bench.reason().starts_with("1 relays failed; the next is tried again in"),
            "{}",
            bench.reason()
        );
        let due = bench.policy.poll_timeout().unwrap();
        pauses.push(due.since(bench.now));
        bench.now = due;
        bench.policy.handle_timeout(due);
    }
    assert!(pauses.windows(2).all(|pair| pair[1] > pair[0]), "{pauses:?}");
    assert_eq!(bench.drain().0.len(), 1);
}

#[test]
fn a_newer_descriptor_ends_the_rest() {
    let mut bench = Bench::new(Rules { per_isolation: 1, ..rules() }, &network(1, 1));
    bench.want(&want(1));
    let (asked, _) = bench.drain();
    bench.policy.handle_failed(bench.now, asked[0].request, CloseReason::Descriptor, 1);
    let known = network(1, 1).remove(0);
    bench.tell(&known);
    assert!(bench.drain().0.is_empty(), "it is no newer");
    bench.tell(&Descriptor { published: START.after(Duration::from_secs(1)), ..known });
    assert_eq!(bench.drain().0.len(), 1);
}

#[test]
fn own_fault_blames_no_relay() {
    let mut bench = Bench::new(Rules { per_isolation: 1, ..rules() }, &network(1, 1));
    bench.want(&want(1));
    let (asked, _) = bench.drain();
    bench.policy.handle_failed(bench.now, asked[0].request, CloseReason::Limit, 0);
    assert!(bench.reason().starts_with("circuits could not be built here"), "{}", bench.reason());
    bench.now = bench.policy.poll_timeout().unwrap();
    bench.policy.handle_timeout(bench.now);
    assert_eq!(bench.drain().0.len(), 1);
}

#[test]
fn a_lost_worker_takes_only_its_own() {
    let mut bench = Bench::new(Rules { workers: 2, ..rules() }, &network(9, 3));
    bench.want(&want(3));
    bench.settle();
    bench.policy.handle_worker_lost(bench.now, 0);
    let left = bench.policy.statuses(bench.now);
    assert!(left.iter().all(|report| report.worker == 1 || report.state == CircuitState::Building));
    assert_eq!(bench.settle().len(), 1);
}

#[test]
fn given_up_build_is_closed_when_it_comes_after_all() {
    let mut bench = Bench::new(Rules { slow_build: PATIENT, ..rules() }, &network(9, 3));
    bench.want(&want(3));
    let (asked, _) = bench.drain();
    bench.after(61);
    let (again, _) = bench.drain();
    assert_eq!(again.len(), 2);
    let late = bench.ready(&asked[0]);
    assert_eq!(bench.drain().1, [(asked[0].worker, late)]);
}

#[test]
fn unwanted_circuits_close_after_their_last_stream() {
    let mut bench = Bench::new(rules(), &network(9, 3));
    bench.want(&want(3));
    bench.settle();
    let used = bench.policy.select(&want(3)).unwrap();
    bench.policy.streams_changed(used.worker, used.handle, 1);
    bench.policy.unwant(&want(3));
    assert_eq!(bench.drain().1.len(), 1);
    assert_eq!(bench.policy.statuses(bench.now)[0].state, CircuitState::Closing);
    bench.policy.streams_changed(used.worker, used.handle, -1);
    assert_eq!(bench.drain().1, [(used.worker, used.handle)]);
    assert!(bench.policy.statuses(bench.now).is_empty());
}

#[test]
fn wanted_lapses_unless_streams_are_open() {
    let mut bench = Bench::new(rules(), &network(9, 3));
    bench.want(&want(3));
    bench.settle();
    let used = bench.policy.select(&want(3)).unwrap();
    bench.policy.streams_changed(used.worker, used.handle, 1);
    for _ in 0..3 {
        bench.after(500);
    }
    assert!(bench.drain().1.is_empty());
    bench.policy.streams_changed(used.worker, used.handle, -1);
    bench.after(601);
    assert_eq!(bench.drain().1.len(), 2);
    assert!(bench.drain().0.is_empty(), "nobody wants it");
}

#[test]
fn a_spare_is_ready_before_it_is_wanted() {
    let mut bench = Bench::new(Rules { spare: 1, ..rules() }, &network(9, 3));
    assert_eq!(bench.settle().len(), 1);
    assert_eq!(bench.policy.select(&want(3)), None);
    bench.want(&want(3));
    assert!(bench.policy.select(&want(3)).is_some(), "at once");
    assert_eq!(bench.settle().len(), 2, "its second circuit and the next spare");
}

#[test]
fn old_circuits_are_replaced() {
    let mut bench = Bench::new(Rules { retire_after: Duration::from_secs(300), ..rules() }, &network(9, 3));
    bench.want(&want(3));
    bench.settle();
    let used = bench.policy.select(&want(3)).unwrap();
    bench.policy.streams_changed(used.worker, used.handle, 1);
    bench.after(300);
    assert_eq!(bench.settle().len(), 2);
    assert_ne!(bench.policy.select(&want(3)).unwrap().handle, used.handle);
    let closing: Vec<_> =
        bench.policy.statuses(bench.now).into_iter().filter(|r| r.state == CircuitState::Closing).collect();
    assert_eq!(closing.len(), 1, "the one with a stream");
}

#[test]
fn expired_relays_are_forgotten() {
    let mut bench = Bench::new(rules(), &network(4, 1));
    assert_eq!(bench.policy.relays(), (4, 1));
    bench.after(MAX_LIFETIME.as_secs());
    assert_eq!(bench.policy.relays(), (0, 0));
}

#[test]
fn own_descriptor_is_no_relay() {
    let mut bench = Bench::new(rules(), &[relay(999, "10.9.0.1:1", true)]);
    bench.want(&want(1));
    assert_eq!(bench.policy.relays(), (0, 0));
    assert!(bench.drain().0.is_empty());
}

#[test]
fn waiting_names_the_rule() {
    let case = |relays: &[Descriptor], hops| {
        let mut bench = Bench::new(rules(), relays);
        bench.want(&want(hops));
        assert!(bench.drain().0.is_empty());
        bench.reason()
    };
    assert_eq!(case(&[], 3), "needs relays; none is known yet");
    assert_eq!(case(&network(5, 0), 3), "needs an exit; none is known");
    assert_eq!(case(&network(2, 1), 3), "needs 3 relays, an exit among them; 2 known");
    assert_eq!(case(&network(5, 1), 4), "circuits have 1 to 3 hops, not 4");
    let one_operator: Vec<_> =
        network(5, 1).into_iter().map(|r| Descriptor { operator: Some([4; 32]), ..r }).collect();
    assert_eq!(case(&one_operator, 3), "needs 3 relays of different operators; 1 known");
    let one_network: Vec<_> = (1..6).map(|n| relay(n, &format!("10.1.{n}.1:9000"), n == 1)).collect();
    assert_eq!(case(&one_network, 2), "needs 2 relays in different networks (IPv4 /16, IPv6 /32); 1 known");
    let other_suite: Vec<_> =
        network(5, 1).into_iter().map(|r| Descriptor { suites: vec![9], ..r }).collect();
    assert_eq!(case(&other_suite, 1), "needs relays that speak handshake suite 1; 0 known");
}

#[test]
fn building_is_said_too() {
    let mut bench = Bench::new(rules(), &network(5, 1));
    bench.want(&want(3));
    assert_eq!(bench.policy.waiting(bench.now), [(want(3), Waiting::Building)]);
}

#[test]
fn waits_and_goes_on_when_the_missing_relay_appears() {
    let all = network(3, 1);
    let mut bench = Bench::new(rules(), &all[..2]);
    bench.want(&want(3));
    assert!(bench.drain().0.is_empty());
    bench.tell(&all[2]);
    assert_eq!(bench.settle().len(), 2);
}

#[test]
fn laboratory_relaxes_addresses_and_nothing_else() {
    let relaxed = Rules { relax_same_network: true, ..rules() };
    let here: Vec<_> = (1..4).map(|n| relay(n, &format!("127.0.0.1:{n}"), n == 1)).collect();
    let mut bench = Bench::new(relaxed.clone(), &here);
    bench.want(&want(3));
    assert_eq!(bench.settle().len(), 2);
    let owned: Vec<_> = here.into_iter().map(|r| Descriptor { operator: Some([1; 32]), ..r }).collect();
    let mut bench = Bench::new(relaxed, &owned);
    bench.want(&want(3));
    assert!(bench.drain().0.is_empty());
}

#[test]
fn stated_rates_draw_but_boasts_do_not() {
    let share = |rate: u64| {
        let mut relays = network(2, 2);
        relays[0].bytes_per_second = 1_024_000;
        relays[1].bytes_per_second = rate;
        let rules = Rules { per_isolation: 1, weighting: Weighting::Stated, ..rules() };
        let mut bench = Bench::new(rules, &relays);
        let paths = (0..1000).flat_map(|n| {
            bench.want(&Isolation { hops: 1, key: format!("{n}").into() });
            bench.settle()
        });
        paths.filter(|path| path[0] == peer(2)).count()
    };
    let (equal, boast) = (share(1_024_000), share(u64::MAX));
    assert!((400..600).contains(&equal), "{equal}");
    assert!((900..990).contains(&boast), "16 to 1, not {boast}");
}

fn any_relay(number: u16) -> impl Strategy<Value = Descriptor> {
    let address = prop_oneof![
        (0_u8..6, 0_u8..3).prop_map(|(net, host)| IpAddr::from([10, net, 0, host])),
        (0_u16..3, 1_u16..3).prop_map(|(net, host)| IpAddr::from([0x2001, net, 0, 0, 0, 0, 0, host])),
        (0_u8..6).prop_map(|net| IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00 | u16::from(net), 1])),
    ];
    let addresses = prop::collection::vec((address, 1_u16..9), 1..4);
    let operator = prop::option::weighted(0.4, (0_u8..5).prop_map(|n| [n; 32]));
    let suites = prop_oneof![4 => Just(vec![1]), 1 => Just(vec![2]), 1 => Just(vec![2, 1])];
    (addresses, operator, suites, any::<bool>(), prop::bool::weighted(0.8)).prop_map(
        move |(addresses, operator, suites, exit, carries)| Descriptor {
            addresses: addresses.into_iter().map(SocketAddr::from).collect(),
            operator,
            suites,
            relay: carries,
            exit,
            ..relay(number, "10.0.0.1:1", exit)
        },
    )
}

fn networks(descriptor: &Descriptor) -> BTreeSet<String> {
    let network = |address: &SocketAddr| match address.ip().to_canonical() {
        IpAddr::V4(ip) => format!("{}.{}", ip.octets()[0], ip.octets()[1]),
        IpAddr::V6(ip) => format!("{:x}:{:x}", ip.segments()[0], ip.segments()[1]),
    };
    descriptor.addresses.iter().map(network).collect()
}

/// Written apart from the search, and slowly: every rule for every pair.
fn broken(path: &[&Descriptor], hops: u8, relaxed: bool, ours: &[u8]) -> Option<&'static str> {
    if path.len() != usize::from(hops) {
        return Some("length");
    }
    if !path[path.len() - 1].exit || path[..path.len() - 1].iter().any(|r| !r.relay) {
        return Some("roles");
    }
    if path.iter().any(|r| r.suites.iter().all(|s| !ours.contains(s)) || r.peer_id == peer(999)) {
        return Some("suite or itself");
    }
    for (at, a) in path.iter().enumerate() {
        for b in &path[at + 1..] {
            if a.peer_id == b.peer_id {
                return Some("one relay twice");
            }
            if a.operator.is_some() && a.operator == b.operator {
                return Some("one operator");
            }
            if !relaxed && !networks(a).is_disjoint(&networks(b)) {
                return Some("one network");
            }
        }
    }
    None
}

fn any_path(relays: &[Descriptor], hops: u8, relaxed: bool, ours: &[u8]) -> bool {
    let all: Vec<&Descriptor> = relays.iter().collect();
    let mut paths: Vec<Vec<&Descriptor>> = vec![Vec::new()];
    for _ in 0..hops {
        paths = paths.iter().flat_map(|p| all.iter().map(|r| [p.as_slice(), &[*r]].concat())).collect();
    }
    paths.iter().any(|path| broken(path, hops, relaxed, ours).is_none())
}

fn any_relays() -> impl Strategy<Value = Vec<Descriptor>> {
    (0_u16..12).prop_flat_map(|count| (0..count).map(any_relay).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever relays there are and whatever fails: no path breaks a rule, first hops are guards,
    /// and a path is found exactly when there is one.
    #[test]
    fn every_path_keeps_every_rule(
        relays in any_relays(),
        seed: u64,
        hops in 1_u8..=3,
        relaxed: bool,
        ours in prop_oneof![2 => Just(vec![1]), 1 => Just(vec![2, 1]), 1 => Just(vec![2])],
        faults in prop::collection::vec((0_u8..4, 0_u8..4), 0..24),
    ) {
        let rules = Rules { relax_same_network: relaxed, suites: ours.clone(), ..rules() };
        let mut bench = Bench::of(Circuits::new(rules, seed), START, &relays);
        bench.tell(&relay(999, "10.200.0.1:1", true));
        bench.want(&want(hops));
        let possible = any_path(&relays, hops, relaxed, &ours);
        let mut asked = bench.drain().0;
        prop_assert_eq!(!asked.is_empty(), possible);
        prop_assert_eq!(bench.policy.diagnose(hops).is_none(), possible);
        let mut faults = faults.into_iter();
        while let Some(one) = asked.pop() {
            let path: Vec<_> = one.path.iter().map(|id| relays.iter().find(|r| r.peer_id == *id).unwrap()).collect();
            prop_assert_eq!(broken(&path, hops, relaxed, &ours), None);
            let agreed = path.iter().filter_map(|r| ours.iter().find(|suite| r.suites.contains(suite)));
            prop_assert_eq!(&agreed.copied().collect::<Vec<_>>(), &one.suites);
            let guarded = bench.policy.guards().iter().any(|guard| guard.peer == one.path[0]);
            prop_assert!(hops == 1 || guarded);
            match faults.next() {
                Some((0, hop)) => bench.policy.handle_failed(bench.now, one.request, CloseReason::Timeout, hop),
                Some((1, _)) => {
                    let handle = bench.ready(&one);
                    bench.policy.streams_changed(one.worker, handle, 1);
                    bench.policy.handle_dead(bench.now, one.worker, handle, CloseReason::Link);
                }
                Some((2, _)) => bench.policy.handle_worker_lost(bench.now, one.worker),
                Some(_) => bench.after(30),
                None => { bench.ready(&one); }
            }
            asked.extend(bench.drain().0);
            prop_assert!(bench.policy.statuses(bench.now).len() <= 2 + 4 + 2, "wanted, slow and pinned");
        }
    }

    /// After any run of faults, once relays may be tried again circuits come back.
    #[test]
    fn circuits_come_back(seed: u64, faults in prop::collection::vec(1_u8..=3, 1..30)) {
        let mut bench = Bench::of(Circuits::new(rules(), seed), START, &network(8, 3));
        bench.want(&want(3));
        for hop in faults {
            for one in bench.drain().0 {
                bench.policy.handle_failed(bench.now, one.request, CloseReason::Timeout, hop);
            }
        }
        for _ in 0..40 {
            bench.settle();
            if bench.policy.select(&want(3)).is_some() {
                return Ok(());
            }
            bench.now = bench.policy.poll_timeout().unwrap();
            bench.policy.handle_timeout(bench.now);
            bench.want(&want(3));
        }
        prop_assert!(false, "{}", bench.reason());
    }
}

#[test]
fn circuits_of_a_worker_that_drains_end_when_their_streams_do() {
    let mut bench = Bench::new(Rules { workers: 2, per_isolation: 4, ..rules() }, &network(9, 3));
    bench.want(&want(3));
    let (asked, _) = bench.drain();
    assert_eq!(asked.iter().filter(|asked| asked.worker == 1).count(), 2);
    let ready: Vec<_> = asked.iter().map(|asked| (asked.worker, bench.ready(asked))).collect();
    let drained: Vec<_> = ready.iter().copied().filter(|id| id.0 == 1).collect();
    bench.policy.streams_changed(1, drained[0].1, 1);
    bench.now = bench.now.after(ADOPTION);
    bench.policy.set_workers(bench.now, 0..1);
    let (asked, closed) = bench.drain();
    assert_eq!(closed, [drained[1]], "one has a stream");
    assert!(asked.len() == 2 && asked.iter().all(|asked| asked.worker == 0), "others take their place");
    assert_eq!(bench.policy.select(&want(3)).unwrap().worker, 0);
    bench.policy.handle_dead(bench.now, 1, drained[0].1, CloseReason::Link);
    let (asked, _) = bench.drain();
    let pinned: Vec<_> = asked.iter().filter(|asked| asked.worker == 1).collect();
    assert_eq!(pinned.len(), 1, "its connection lives there");
    bench.ready(pinned[0]);
    assert_eq!(bench.drain().1, [], "the connection is about to move to it");
    bench.now = bench.now.after(ADOPTION);
    bench.policy.handle_timeout(bench.now);
    assert_eq!(bench.drain().1.len(), 1, "it did not");
    bench.policy.set_workers(bench.now, 0..0);
    bench.policy.set_workers(bench.now, 0..2);
}

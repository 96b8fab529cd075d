//! Which suite a hop has, and how much a better one counts.

use super::*;

const OLD: &[u8] = &[1];
const NEW: &[u8] = &[2, 1];

/// A network in which the relays of these numbers speak both suites, the others the first only.
fn mixed(count: u16, exits: u16, new: &[u16]) -> Vec<Descriptor> {
    let mut relays = network(count, exits);
    for number in new {
        relays[usize::from(*number) - 1].suites = NEW.to_vec();
    }
    relays
}

fn speaking(ours: &[u8]) -> Rules {
    Rules { suites: ours.to_vec(), per_isolation: 1, ..rules() }
}

#[test]
fn each_hop_has_the_best_suite_that_both_speak() {
    for (ours, new, expected) in [
        (OLD, &[1, 2, 3][..], [1, 1, 1]),
        (NEW, &[], [1, 1, 1]),
        (NEW, &[1, 2, 3], [2, 2, 2]),
        (&[1, 2], &[1, 2, 3], [1, 1, 1]),
    ] {
        let mut bench = Bench::new(speaking(ours), &mixed(3, 1, new));
        bench.want(&want(3));
        let asked = bench.drain().0.remove(0);
        assert_eq!(asked.suites, expected);
    }
    // Only relay 1 is an exit, so it is the last hop.
    let mut bench = Bench::new(speaking(NEW), &mixed(3, 1, &[1]));
    bench.want(&want(3));
    let asked = bench.drain().0.remove(0);
    assert_eq!(asked.suites, [1, 1, 2]);
    bench.ready(&asked);
    assert_eq!(bench.policy.statuses(bench.now)[0].suites, [1, 1, 2], "and it is told");
}

#[test]
fn relays_that_share_no_suite_are_not_used() {
    let mut relays = network(4, 2);
    relays[0].suites = vec![2];
    let mut bench = Bench::new(speaking(OLD), &relays);
    for n in 0..50 {
        bench.want(&Isolation { hops: 2, key: format!("{n}").into() });
        assert!(bench.settle().iter().all(|path| !path.contains(&peer(1))));
    }
    let two: Vec<Descriptor> =
        network(5, 1).into_iter().map(|r| Descriptor { suites: vec![9], ..r }).collect();
    let mut bench = Bench::new(speaking(NEW), &two);
    bench.want(&want(1));
    assert!(bench.drain().0.is_empty());
    assert_eq!(bench.reason(), "needs relays that speak handshake suite 2 or 1; 0 known");
}

#[test]
fn suites_change_while_it_runs() {
    let mut relays = network(4, 2);
    for relay in &mut relays {
        relay.suites = vec![2];
    }
    let mut bench = Bench::new(speaking(OLD), &relays);
    bench.want(&want(3));
    assert!(bench.drain().0.is_empty());
    bench.policy.set_suites(bench.now, NEW.to_vec());
    let asked = bench.drain().0;
    assert_eq!(asked.iter().map(|one| one.suites.clone()).collect::<Vec<_>>(), [[2, 2, 2]], "at once");
    let handle = bench.ready(&asked[0]);
    bench.policy.set_suites(bench.now, OLD.to_vec());
    assert!(bench.drain().1.is_empty(), "what stands stays");
    bench.policy.handle_dead(bench.now, asked[0].worker, handle, CloseReason::Link);
    assert!(bench.drain().0.is_empty(), "but nothing takes its place");
}

/// How often of a thousand circuits one of the relays `new` is the hop `at`.
fn share(count: u16, new: &[u16], ours: &[u8], at: usize, hops: u8) -> usize {
    let relays = mixed(count, count, new);
    let mut taken = 0;
    for seed in 0..1000 {
        let mut bench = Bench::of(Circuits::new(speaking(ours), seed), START, &relays);
        bench.want(&want(hops));
        let path = bench.settle().remove(0);
        taken += usize::from(new.iter().any(|number| peer(*number) == path[at]));
    }
    taken
}

/// Twice the share, in every position: preferred, but nobody gets the traffic of all.
#[test]
fn the_best_suite_is_preferred_and_does_not_draw_everything() {
    let new = [1, 2, 3, 4, 5];
    for (at, hops) in [(0, 1), (1, 2), (1, 3)] {
        let preferred = share(10, &new, NEW, at, hops);
        assert!((600..740).contains(&preferred), "2 of 3, not {preferred} (hop {at} of {hops})");
    }
    let indifferent = share(10, &new, OLD, 0, 1);
    assert!((430..570).contains(&indifferent), "{indifferent}");
    let first = share(20, &[7], NEW, 0, 1);
    assert!((50..150).contains(&first), "2 of 21, not {first}");
}

/// It decides among equals only: a suspect that speaks it comes after one that does not.
#[test]
fn the_best_suite_outranks_nothing_else() {
    let relays = mixed(2, 2, &[1]);
    for n in 0..40 {
        let mut bench = Bench { policy: Circuits::new(speaking(NEW), n), now: START, handles: 0 };
        bench.tell(&relays[0]);
        bench.want(&want(1));
        let asked = bench.drain().0.remove(0);
        let handle = bench.ready(&asked);
        bench.tell(&relays[1]);
        bench.policy.handle_dead(bench.now, asked.worker, handle, CloseReason::Link);
        let path = bench.drain().0.remove(0).path;
        assert_eq!(path, [peer(2)]);
    }
}

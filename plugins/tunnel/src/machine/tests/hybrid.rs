//! Networks in which some speak suite 2 and some do not.

use std::time::Duration;

use warren_schemas::control::{CircuitEnd, CloseReason, Event, Request};
use warren_schemas::suites::{X25519, common};

use super::{SECOND, arrived, datagrams, dropped, works};
use crate::circuit::Circuit;
use crate::drop_reason::DropReason;
use crate::ntor::suites;
use crate::testing::{Net, Seeded, Swaps};

const OLD: &[u8] = &[X25519];

/// A network in which node `n` is of the old build when bit `n` is set.
fn mixed(seed: u64, relays: usize, old: u32) -> Net {
    let mut net = Net::with_relays(seed, relays);
    for node in (0..=relays).filter(|node| old & (1 << node) != 0) {
        net.speak(node, OLD);
    }
    net
}

/// Suites of the hops of the originator's only circuit, as its layers have them.
fn hops(net: &Net) -> Vec<u8> {
    let Some(Circuit::Origin(origin)) = net.nodes[0].tunnel.circuits.values().next() else { panic!("none") };
    assert_eq!(origin.hops.len(), origin.path.len());
    origin.path.iter().map(|planned| planned.suite as u8).collect()
}

/// The suite of the link that a node opened.
fn link(net: &Net, node: usize) -> Option<u8> {
    let mut links = net.nodes[node].tunnel.links.values().filter(|link| !link.is_theirs());
    links.next().map(|link| link.sealer.state().suite)
}

#[test]
fn old_and_new_builds_make_circuits_in_every_position() {
    for length in 1..=3 {
        for old in 0..1 << (length + 1) {
            let mut net = mixed(u64::from(old), length, old);
            let path: Vec<usize> = (1..=length).collect();
            let circuit = net.circuit(0, &path);
            assert!(works(&mut net, circuit, length, u64::from(old)), "{length} hops, {old:b}");
            let with = |a: usize, b: usize| common(net.nodes[a].suites, net.nodes[b].suites).unwrap();
            let expected: Vec<u8> = path.iter().map(|hop| with(0, *hop)).collect();
            assert_eq!(hops(&net), expected, "{length} hops, {old:b}");
            for node in 0..length {
                assert_eq!(link(&net, node), Some(with(node, node + 1)), "{length} hops, {old:b}");
            }
            assert_eq!(net.nodes.iter().map(|node| node.drops.len()).sum::<usize>(), 0);
        }
    }
}

#[test]
fn each_hop_has_the_suite_that_was_asked_for() {
    for suites in [[1, 1, 2], [2, 1, 1], [1, 2, 1]] {
        let mut net = Net::with_relays(1, 3);
        let id = net.create_in(0, &[1, 2, 3], suites.to_vec());
        net.run_for(SECOND);
        let Some(Event::CircuitReady { handle, .. }) = net.answer(0, id).cloned() else { panic!("none") };
        assert_eq!(hops(&net), suites);
        assert!(works(&mut net, handle, 3, 1));
    }
}

/// A relay whose module was taken back while its descriptor is still believed.
fn boastful(old: u32) -> Net {
    let mut net = mixed(3, 3, old);
    for node in 1..=3 {
        net.nodes[node].suites = suites();
    }
    net
}

#[test]
fn a_relay_that_does_not_speak_the_suite_refuses() {
    // Its neighbour is of the old build as well, so their link stands.
    let mut net = boastful(0b0110);
    net.nodes[1].suites = OLD;
    let id = net.create(0, &[1, 2, 3]);
    net.run_for(SECOND);
    let refused = Event::CircuitFailed { reason: CloseReason::Refused, hop: 2 };
    assert_eq!(net.answer(0, id), Some(&refused), "at once");
    assert_eq!(dropped(&net, 2, DropReason::Suite), 1);
    // A link in a suite that the other side does not speak has no answer.
    let mut net = boastful(0b0010);
    let id = net.create(0, &[1]);
    net.run_for(Duration::from_secs(11));
    let silent = Event::CircuitFailed { reason: CloseReason::Timeout, hop: 1 };
    assert_eq!(net.answer(0, id), Some(&silent));
    assert_eq!(dropped(&net, 1, DropReason::Suite), 4);
}

#[test]
fn what_we_do_not_speak_is_our_own_fault() {
    let mut net = mixed(4, 2, 0b001);
    for suites in [vec![1, 2], vec![2, 1], vec![3, 1]] {
        let hops = vec![net.signed(1), net.signed(2)];
        let id = net.request(0, &Request::Create { hops, suites });
        let own = Event::CircuitFailed { reason: CloseReason::Refused, hop: 0 };
        assert_eq!(net.answer(0, id), Some(&own));
    }
    assert_eq!(net.nodes[0].sent, 0);
}

/// All that can be seen from outside of a network of old and new builds with circuits under way.
fn script(seed: u64, swaps: Option<Swaps>) -> (Vec<Vec<u8>>, Vec<String>, usize, u64) {
    let mut dice = Seeded::new(seed ^ 0x5a5a);
    let mut net = mixed(seed, 4, dice.below(32) as u32);
    net.recording = true;
    net.swaps = swaps;
    (net.loss, net.jitter) = (dice.below(60), Duration::from_millis(dice.below(60)));
    for round in 0..6 {
        let first = 1 + dice.below(4) as usize;
        let path: Vec<usize> = (0..=dice.below(3) as usize).map(|hop| 1 + (first + hop) % 4).collect();
        let id = net.create(0, &path);
        net.run_for(Duration::from_millis(dice.below(600)));
        if let Some(Event::CircuitReady { handle, .. }) = net.answer(0, id).cloned() {
            net.send(0, handle, &datagrams(seed + round, 5));
        }
    }
    net.run_for(Duration::from_secs(20));
    let events = net.nodes.iter().flat_map(|node| node.events.iter().map(|event| format!("{event:?}")));
    let events: Vec<String> = events.collect();
    let delivered = (1..=4).map(|node| arrived(&net, node, CircuitEnd::LastHop).len()).sum();
    let done = net.swaps.as_ref().map_or(0, |swaps| swaps.done);
    (net.record.into_iter().map(|flight| flight.bytes).collect(), events, delivered, done)
}

#[test]
fn a_swap_in_the_middle_of_a_handshake_changes_no_byte() {
    let (mut swaps, mut cells) = (0, 0);
    for seed in 0..40 {
        let (sent, events, delivered, _) = script(seed, None);
        cells += delivered;
        for rate in [150, 1000] {
            let (again, told, came, done) = script(seed, Some(Swaps::new(seed + rate, rate)));
            swaps += done;
            assert!(events == told && delivered == came, "seed {seed}, rate {rate}");
            assert!(sent == again, "seed {seed}, rate {rate}");
        }
    }
    assert!(swaps > 3000 && cells > 200, "{swaps} swaps, {cells} cells");
}

/// Only one part of a CREATE has come when the relay is swapped.
#[test]
fn half_a_create_goes_over() {
    let mut net = Net::with_relays(5, 1);
    let first = net.circuit(0, &[1]);
    net.recording = true;
    net.create(0, &[1]);
    let record = std::mem::take(&mut net.record);
    let [half, other] = &record[..] else { panic!("{} parts", record.len()) };
    net.run_for(Duration::ZERO);
    net.inject(1, half.from, &half.bytes);
    assert_eq!(net.nodes[1].tunnel.incomplete.iter().len(), 1);
    net.swap(1);
    assert_eq!(net.nodes[1].tunnel.incomplete.iter().len(), 1);
    net.inject(1, other.from, &other.bytes);
    assert_eq!(net.nodes[1].tunnel.incomplete.iter().len(), 0);
    assert_eq!(net.nodes[1].tunnel.counts.relayed_circuits, 2);
    net.run_for(SECOND);
    assert!(works(&mut net, first, 1, 1));
}

#[test]
fn half_a_create_is_forgotten_with_its_originator() {
    let mut net = Net::with_relays(6, 1);
    net.circuit(0, &[1]);
    (net.recording, net.loss) = (true, 1000);
    net.create(0, &[1]);
    let half = net.record[0].clone();
    net.kill(0);
    net.inject(1, half.from, &half.bytes);
    net.run_for(Duration::from_secs(9));
    net.wake_now(1);
    assert_eq!(net.nodes[1].tunnel.incomplete.iter().len(), 1);
    net.run_for(SECOND);
    net.wake_now(1);
    assert_eq!(net.nodes[1].tunnel.incomplete.iter().len(), 0);
}

/// A circuit keeps of its handshake what names it; what was answered goes when it is not repeated
/// any more.
#[test]
fn long_handshakes_are_not_kept() {
    let mut net = Net::with_relays(7, 1);
    net.circuit(0, &[1]);
    let kept = |net: &Net| match net.nodes[1].tunnel.circuits.values().next() {
        Some(Circuit::Relay(relay)) => {
            relay.birth.as_ref().map_or((0, 0), |birth| (birth.share.len(), birth.created.len()))
        }
        _ => panic!("no circuit"),
    };
    assert_eq!(kept(&net), (32, 1168));
    net.run_for(Duration::from_secs(200));
    assert_eq!(kept(&net), (0, 0));
    let state = net.swap(1);
    assert!(state.len() < 4000, "{}", state.len());
}

//! Workers that take no new circuits, and neighbours that find another one.

use std::time::Duration;

use warren_schemas::RequestId;
use warren_schemas::cell::Kind;
use warren_schemas::control::{CloseReason, Event};

use super::{SECOND, dropped, works};
use crate::drop_reason::DropReason;
use crate::testing::{Net, Swaps};

const SHORT: Duration = Duration::from_millis(500);

fn drain(net: &mut Net, node: usize, draining: bool) {
    net.reconfigure(node, |config| config.draining = draining);
}

fn links_asked(net: &mut Net) -> usize {
    let record = std::mem::take(&mut net.record);
    record.iter().filter(|flight| flight.bytes[0] == Kind::Link as u8).count()
}

fn circuits(net: &Net, node: usize) -> usize {
    net.nodes[node].tunnel.circuits.len()
}

fn failed(net: &Net, id: RequestId) -> Option<(CloseReason, u8)> {
    match net.answer(0, id) {
        Some(Event::CircuitFailed { reason, hop }) => Some((*reason, *hop)),
        _ => None,
    }
}

fn is_ready(net: &Net, id: RequestId) -> bool {
    matches!(net.answer(0, id), Some(Event::CircuitReady { .. }))
}

/// A circuit through three relays, whose `hop` then drains beside another worker of its node.
fn leaves_for_another(hop: usize, suite: u8, swaps: Option<Swaps>) {
    let mut net = Net::with_relays(hop as u64, 3);
    net.swaps = swaps;
    let old = net.circuit(0, &[1, 2, 3]);
    let second = net.add_worker(hop);
    drain(&mut net, hop, true);
    net.recording = true;
    let ids: Vec<_> = (0..5).map(|_| net.create_in(0, &[1, 2, 3], vec![suite; 3])).collect();
    net.run_for(SHORT);
    assert!(ids.iter().all(|id| is_ready(&net, *id)), "hop {hop}: at once, and nobody is told");
    // They all asked on the old link before they knew, and share the new one.
    assert!(dropped(&net, hop, DropReason::Draining) >= 5);
    assert_eq!((circuits(&net, hop), circuits(&net, second)), (1, 5), "hop {hop}");
    let behind = usize::from(hop < 3);
    assert_eq!(links_asked(&mut net), 1 + behind, "hop {hop}: one to the other worker, one from it");
    let refused = dropped(&net, hop, DropReason::Draining);
    let new = net.circuit(0, &[1, 2, 3]);
    assert_eq!(dropped(&net, hop, DropReason::Draining), refused, "the old link is known not to be asked");
    assert!(works(&mut net, old, 3, 1));
    assert!(works(&mut net, new, if hop == 3 { second } else { 3 }, 2));
    net.close(0, old);
    net.run_for(Duration::from_secs(130));
    let left = &net.nodes[hop].tunnel;
    assert!(left.circuits.is_empty() && left.links.is_empty(), "hop {hop} has drained");
    assert_eq!(net.death(0, new), None);
}

#[test]
fn new_circuits_leave_a_draining_worker_and_old_ones_stay() {
    for hop in 1..=3 {
        for suite in crate::suites() {
            leaves_for_another(hop, *suite, None);
        }
    }
}

#[test]
fn they_do_so_when_neighbours_are_swapped_in_between() {
    for hop in 1..=3 {
        for suite in crate::suites() {
            leaves_for_another(hop, *suite, Some(Swaps::new(hop as u64, 1000)));
        }
    }
}

#[test]
fn a_second_refusal_fails_the_attempt_and_nothing_else() {
    for (hop, swapped) in [(1, 0), (2, 0), (3, 0), (1, 1000), (2, 1000), (3, 1000)] {
        let mut net = Net::with_relays(3, 3);
        net.swaps = Some(Swaps::new(hop as u64, swapped));
        let old = net.circuit(0, &[1, 2, 3]);
        drain(&mut net, hop, true);
        net.recording = true;
        for attempt in 0..3 {
            let id = net.create(0, &[1, 2, 3]);
            net.run_for(SHORT);
            assert_eq!(failed(&net, id), Some((CloseReason::Limit, hop as u8)));
            // The first attempt asks on the link that stands, the others have none to begin with.
            assert_eq!(links_asked(&mut net), if attempt == 0 { 1 } else { 2 }, "hop {hop}");
        }
        net.run_for(SECOND);
        let before = if hop == 1 { 0 } else { hop - 1 };
        let links = net.nodes[before].tunnel.links.values().filter(|link| !link.is_theirs()).count();
        assert_eq!(links, 1, "hop {hop}: links of no use are not kept");
        assert!(works(&mut net, old, 3, 1));
        drain(&mut net, hop, false);
        let new = net.circuit(0, &[1, 2, 3]);
        assert!(works(&mut net, new, 3, 2));
    }
}

#[test]
fn what_stands_on_a_draining_worker_is_made_longer_and_its_own_circuits_are_made() {
    let mut net = Net::with_relays(4, 3);
    let id = net.create(0, &[1, 2, 3]);
    assert!(net.run_until(SECOND, |net| circuits(net, 1) == 1));
    drain(&mut net, 1, true);
    net.run_for(SHORT);
    assert!(is_ready(&net, id));
    let own = net.create(1, &[2, 3]);
    net.run_for(SHORT);
    assert!(matches!(net.answer(1, own), Some(Event::CircuitReady { .. })));
    assert_eq!(dropped(&net, 1, DropReason::Draining), 0);
}

#[test]
fn a_create_that_was_answered_is_answered_again() {
    for suite in crate::suites() {
        let mut net = Net::with_relays(5, 1);
        net.circuit(0, &[1]);
        let id = net.create_in(0, &[1], vec![*suite]);
        net.loss = 1000;
        net.run_for(SHORT);
        assert_eq!(circuits(&net, 1), 2, "CREATED is lost");
        net.loss = 0;
        drain(&mut net, 1, true);
        net.run_for(SECOND);
        assert!(is_ready(&net, id));
        assert_eq!(dropped(&net, 1, DropReason::Draining), 0);
    }
}

#[test]
fn a_lost_refusal_is_said_again() {
    let mut net = Net::with_relays(6, 1);
    let old = net.circuit(0, &[1]);
    let second = net.add_worker(1);
    drain(&mut net, 1, true);
    let id = net.create(0, &[1]);
    net.loss = 1000;
    net.run_for(SHORT);
    assert!(dropped(&net, 1, DropReason::Draining) > 0 && !is_ready(&net, id));
    net.loss = 0;
    net.run_for(SECOND);
    assert!(is_ready(&net, id));
    assert_eq!((circuits(&net, 1), circuits(&net, second)), (1, 1));
    assert!(works(&mut net, old, 1, 1));
}

/// Nobody is there behind the other link: the attempt ends when it would have ended anyway.
#[test]
fn the_other_link_gets_no_time_of_its_own() {
    let mut net = Net::with_relays(7, 2);
    net.circuit(0, &[1, 2]);
    drain(&mut net, 2, true);
    net.create(0, &[1, 2]);
    assert!(net.run_until(SECOND, |net| !net.nodes[1].tunnel.pending.is_empty()));
    let waiting = |net: &Net| -> usize {
        net.nodes[1].tunnel.pending.values().map(|pending| pending.waiting.len()).sum()
    };
    assert_eq!(waiting(&net), 1);
    net.loss = 1000;
    assert!(net.run_until(Duration::from_secs(10), |net| waiting(net) == 0));
    assert!(!net.nodes[1].tunnel.pending.is_empty(), "the link itself is still tried");
    assert_eq!(circuits(&net, 1), 2, "the circuit is as long as it was");
}

/// What drains may be an older build than its successor.
#[cfg(feature = "hybrid")]
#[test]
fn a_suite_that_only_the_successor_speaks_is_no_ground_to_refuse() {
    let mut net = Net::with_relays(8, 1);
    net.speak(1, &[1]);
    net.circuit(0, &[1]);
    let second = net.add_worker(1);
    net.speak(second, &[2, 1]);
    drain(&mut net, 1, true);
    let id = net.create(0, &[second]);
    net.run_for(SHORT);
    assert!(is_ready(&net, id));
    assert_eq!(circuits(&net, second), 1);
    assert_eq!(dropped(&net, 1, DropReason::Suite), 0);
}

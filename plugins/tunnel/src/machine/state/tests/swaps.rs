use std::time::Duration;

use warren_schemas::control::{CircuitEnd, CloseReason, Event, Sync};
use warren_schemas::{CircuitHandle, RequestId};

use crate::drop_reason::DropReason;
use crate::machine::tests::{SECOND, arrived, counted, datagrams, dropped, last_hop_handle, sync, works};
use crate::testing::{Flight, Net, Seeded, Swaps, nonces};
use crate::{ConfigError, StateError, Tunnel};

/// All that can be seen of a network from outside.
#[derive(PartialEq, Eq)]
struct Seen {
    sent: Vec<(std::net::SocketAddr, std::net::SocketAddr, Vec<u8>)>,
    delivered: Vec<Vec<(u8, CircuitHandle, Vec<u8>)>>,
    events: Vec<Vec<String>>,
    drops: Vec<Vec<u8>>,
}

impl Seen {
    fn of(net: &mut Net) -> Self {
        let record = std::mem::take(&mut net.record);
        let of = |Flight { from, to, bytes }| (from, to, bytes);
        Self {
            sent: record.into_iter().map(of).collect(),
            delivered: net.nodes.iter().map(|node| node.delivered.clone()).collect(),
            events: net
                .nodes
                .iter()
                .map(|node| {
                    // What frames told already does not travel: a successor tells it anew.
                    let told = node.events.iter().filter(|(_, event)| !matches!(event, Event::Sync(_)));
                    told.map(|e| format!("{e:?}")).collect()
                })
                .collect(),
            drops: net.nodes.iter().map(|node| node.drops.clone()).collect(),
        }
    }
}

/// Circuits of every length that come and go, traffic both ways, a rate limit, loss, reordering,
/// reports, and hours of keys.
fn script(seed: u64, swaps: Option<Swaps>) -> (Seen, u64, usize) {
    nonces::watch();
    let mut dice = Seeded::new(seed ^ 0xabcd);
    let mut net = Net::with_relays(seed, 4);
    net.recording = true;
    net.swaps = swaps;
    (net.loss, net.jitter) = (dice.below(80), Duration::from_millis(dice.below(40)));
    for node in 0..=4 {
        net.reconfigure(node, |config| {
            config.sync_period = 3_000_000;
            config.limits.bytes_per_second = if seed.is_multiple_of(3) { 300_000 } else { 0 };
            config.limits.link_handshakes_per_second = if seed.is_multiple_of(4) { 1 } else { 0 };
        });
    }
    for round in 0..12 {
        let mut path: Vec<usize> = (1..=4).collect();
        for index in (1..4).rev() {
            path.swap(index, dice.below(index as u64 + 1) as usize);
        }
        path.truncate(1 + dice.below(3) as usize);
        net.create(0, &path);
        net.run_for(Duration::from_millis(dice.below(3000)));
        for handle in standing(&net) {
            net.send(0, handle, &datagrams(seed * 1000 + round, 1 + dice.below(20) as usize));
        }
        net.run_for(Duration::from_millis(dice.below(60)));
        answer(&mut net, &mut dice);
        if round == 8 {
            // Idle enough for new keys, then traffic in the new phase.
            net.run_for(Duration::from_secs(3700));
        }
        if let Some(handle) = standing(&net).into_iter().next().filter(|_| dice.below(3) == 0) {
            net.close(0, handle);
        }
    }
    net.loss = 0;
    net.run_for(Duration::from_secs(60));
    let done = net.swaps.as_ref().map_or(0, |swaps| swaps.done);
    (Seen::of(&mut net), done, nonces::count())
}

fn standing(net: &Net) -> Vec<CircuitHandle> {
    let ready = net.nodes[0].events.iter().filter_map(|(_, event)| match event {
        Event::CircuitReady { handle, .. } => Some(*handle),
        _ => None,
    });
    ready.filter(|handle| net.death(0, *handle).is_none()).collect()
}

/// Last hops send something back.
fn answer(net: &mut Net, dice: &mut Seeded) {
    for node in 1..=4 {
        let last = net.nodes[node].delivered.last().map(|(_, handle, _)| *handle);
        if let Some(handle) = last.filter(|handle| net.death(node, *handle).is_none()) {
            let count = 1 + dice.below(20) as usize;
            net.send(node, handle, &datagrams(dice.word(), count));
        }
    }
}

#[test]
fn a_swap_at_any_moment_changes_no_byte() {
    let mut swaps = 0;
    for seed in 0..24 {
        let (without, _, counters) = script(seed, None);
        assert!(
            counters > 100 && without.delivered.iter().any(|delivered| !delivered.is_empty()),
            "seed {seed}"
        );
        for rate in [20, 150, 1000] {
            let (with, done, _) = script(seed, Some(Swaps::new(seed + rate, rate)));
            swaps += done;
            for node in 0..=4 {
                assert!(
                    with.events[node] == without.events[node],
                    "seed {seed}, rate {rate}: events of {node}"
                );
                assert!(with.drops[node] == without.drops[node], "seed {seed}, rate {rate}: drops of {node}");
            }
            assert!(with == without, "seed {seed}, rate {rate}");
        }
    }
    assert!(swaps > 5000, "{swaps}");
}

#[test]
fn replays_from_before_the_swap_are_refused_after_it() {
    let mut net = Net::with_relays(1, 3);
    let circuit = net.circuit(0, &[1, 2, 3]);
    assert!(works(&mut net, circuit, 3, 1));
    net.recording = true;
    net.send(0, circuit, &datagrams(2, 50));
    net.run_for(SECOND);
    let handle = last_hop_handle(&net, 3);
    net.send(3, handle, &datagrams(3, 50));
    net.run_for(SECOND);
    let record = std::mem::take(&mut net.record);
    let cells = record.len();
    for node in 0..=3 {
        net.swap(node);
    }
    let delivered: Vec<usize> = net.nodes.iter().map(|node| node.delivered.len()).collect();
    for flight in record {
        let to = net.nodes.iter().position(|node| node.address == flight.to).unwrap();
        net.inject(to, flight.from, &flight.bytes);
    }
    net.run_for(SECOND);
    assert_eq!(net.nodes.iter().map(|node| node.delivered.len()).collect::<Vec<_>>(), delivered);
    let refused: usize = (0..=3).map(|node| dropped(&net, node, DropReason::LinkReplay)).sum();
    assert_eq!(refused, cells);
    assert!(works(&mut net, circuit, 3, 4));
}

#[test]
fn a_cell_whose_link_forgot_it_is_refused_by_its_layer_after_a_swap() {
    let mut net = Net::with_relays(2, 1);
    let circuit = net.circuit(0, &[1]);
    assert!(works(&mut net, circuit, 1, 1));
    net.swap(1);
    let (handle, relay) = net.nodes[1].tunnel.circuits.iter_mut().next().unwrap();
    let crate::circuit::Circuit::Relay(relay) = relay else { panic!("{handle:?} is no relay's") };
    // What the originator sent as its first cell carries counter 0.
    let mut layer = vec![0; 40];
    assert_eq!(relay.opener.open(&mut layer), Err(DropReason::LayerReplay));
}

#[test]
fn builds_under_way_go_on() {
    for seed in 0..40 {
        let mut net = Net::with_relays(seed, 3);
        let id = net.create(0, &[1, 2, 3]);
        // At every stage: LINK, CREATE, EXTEND out or answered.
        net.run_for(Duration::from_millis(4 * seed));
        for node in 0..=3 {
            net.swap(node);
        }
        net.run_for(SECOND);
        let Some(Event::CircuitReady { handle, .. }) = net.answer(0, id).cloned() else {
            panic!("seed {seed}: no circuit");
        };
        assert!(works(&mut net, handle, 3, seed), "seed {seed}");
        assert_eq!(net.nodes.iter().map(|node| node.env.dh_calls).sum::<u64>(), 6, "nothing is asked twice");
    }
}

#[test]
fn retries_go_on_on_their_schedule() {
    let mut net = Net::with_relays(3, 2);
    net.kill(2);
    let id = net.create(0, &[1, 2]);
    for _ in 0..200 {
        net.run_for(Duration::from_millis(60));
        net.swap(0);
        net.swap(1);
    }
    net.run_for(SECOND);
    assert!(matches!(net.answer(0, id), Some(Event::CircuitFailed { reason: CloseReason::Timeout, hop: 2 })));
    // LINK was sent four times to the relay that is gone, by one handshake.
    assert_eq!(net.nodes[1].tunnel.pending.len(), 0);
}

#[test]
fn what_waits_for_the_rate_waits_on() {
    let mut net = Net::with_relays(4, 2);
    let circuit = net.circuit(0, &[1, 2]);
    net.reconfigure(1, |config| config.limits.bytes_per_second = 100_000);
    net.run_for(SECOND);
    let there = datagrams(1, 60);
    net.send(0, circuit, &there);
    net.run_for(Duration::from_millis(30));
    let waiting = net.nodes[1].tunnel.shaper.parts().1.size();
    assert!(waiting.1 > 10, "{waiting:?}");
    net.swap(1);
    assert_eq!(net.nodes[1].tunnel.shaper.parts().1.size().1, waiting.1);
    net.run_for(Duration::from_secs(5));
    let came = arrived(&net, 2, CircuitEnd::LastHop);
    let late = counted(&sync(&mut net, 1), DropReason::QueueDelay);
    assert_eq!(came.len() as u64 + late, 60, "sent or counted");
}

#[test]
fn answers_that_did_not_fit_into_a_batch_go_over() {
    let mut net = Net::with_relays(5, 1);
    net.reconfigure(1, |config| config.limits.creates_per_second_per_link = 5000);
    let requests: Vec<RequestId> = (0..400).map(|_| net.create(0, &[1])).collect();
    net.swaps = Some(Swaps::new(1, 500));
    net.run_for(SECOND);
    let stands = |id: &RequestId| matches!(net.answer(0, *id), Some(Event::CircuitReady { .. }));
    assert!(requests.iter().all(stands));
    assert!(net.swaps.as_ref().unwrap().done > 2);
}

#[test]
fn a_machine_exports_once_and_is_nothing_afterwards() {
    let mut net = Net::with_relays(6, 1);
    let circuit = net.circuit(0, &[1]);
    assert!(works(&mut net, circuit, 1, 1));
    let state = net.nodes[0].tunnel.export_state().unwrap();
    let config = net.nodes[0].config.clone();
    assert_eq!(net.nodes[0].tunnel.export_state(), Err(StateError::Gone));
    assert_eq!(net.nodes[0].tunnel.import_state(net.now, &state), Err(StateError::Gone));
    assert_eq!(net.nodes[0].tunnel.configure(net.now, config), Err(ConfigError::Gone));
    let sent = net.nodes[0].sent;
    net.send(0, circuit, &datagrams(1, 3));
    net.create(0, &[1]);
    net.shutdown(0);
    assert_eq!(net.nodes[0].sent, sent);
    assert_eq!(dropped(&net, 0, DropReason::NotRunning), 3);
    assert!(net.nodes[0].env.lines.iter().any(|line| line.contains("successor")));
    assert_eq!(net.nodes[0].tunnel.export_state(), Err(StateError::Gone), "after its shutdown too");
}

#[test]
fn a_snapshot_is_what_would_be_exported_and_changes_nothing() {
    assert_eq!(Tunnel::new().snapshot(), Err(StateError::NotConfigured));
    let mut net = Net::with_relays(12, 2);
    let circuit = net.circuit(0, &[1, 2]);
    net.reconfigure(1, |config| config.limits.bytes_per_second = 60_000);
    net.send(0, circuit, &datagrams(1, 60));
    net.create(0, &[1, 2]);
    net.run_for(Duration::from_millis(30));
    assert!(net.nodes[1].tunnel.shaper.parts().1.size().1 > 10);
    for node in 0..=2 {
        let tunnel = &mut net.nodes[node].tunnel;
        let (first, second) = (tunnel.snapshot().unwrap(), tunnel.snapshot().unwrap());
        assert!(first == second && first == net.swap(node), "node {node}");
    }
    let mut shadow = Tunnel::new();
    shadow.configure(net.now, net.nodes[1].config.clone()).unwrap();
    shadow.import_state(net.now, &net.nodes[1].tunnel.snapshot().unwrap()).unwrap();
    net.run_for(Duration::from_secs(5));
    assert!(works(&mut net, circuit, 2, 7), "the machine itself goes on");
    assert!(net.nodes[1].tunnel.export_state().is_ok());
    assert_eq!(net.nodes[1].tunnel.snapshot(), Err(StateError::Gone));
}

#[test]
fn idle_circuits_go_over_as_they_are() {
    let mut net = Net::with_idle_circuits(13, 40);
    let circuits = standing(&net);
    // Windows of one word, of some, and full.
    for (circuit, count) in circuits.iter().zip([0, 5, 90, 4200]) {
        for part in 0..count / 50 {
            net.send(0, *circuit, &datagrams(part, 50));
            net.run_for(Duration::from_millis(20));
        }
        net.send(0, *circuit, &datagrams(1, count as usize % 50));
    }
    net.run_for(SECOND);
    let windows = |net: &Net| -> Vec<Vec<u64>> {
        let mut circuits: Vec<_> = net.nodes[1].tunnel.circuits.iter().collect();
        circuits.sort_unstable_by_key(|(handle, _)| **handle);
        let relay = |(_, circuit): (_, &crate::circuit::Circuit)| match circuit {
            crate::circuit::Circuit::Relay(relay) => {
                crate::layer::state::of(&relay.sealer, &relay.opener).1.to_vec()
            }
            crate::circuit::Circuit::Origin(_) => panic!("not ours"),
        };
        circuits.into_iter().map(relay).collect()
    };
    let before = windows(&net);
    assert_eq!(before.iter().map(Vec::len).max(), Some(64));
    let state = net.swap(1);
    let read = warren_schemas::state::read(&state).unwrap();
    assert_eq!(read.relays().len(), 0, "none needs a table");
    assert!(state.len() < 40 * 170 + 64 * 8 + 64 * 8 + 6000, "{} bytes", state.len());
    assert!(windows(&net) == before);
    for circuit in circuits.into_iter().take(5) {
        assert!(works(&mut net, circuit, 2, u64::from(circuit.0)));
    }
}

#[test]
fn only_a_fresh_machine_that_is_configured_takes_a_state() {
    let mut net = Net::with_relays(7, 1);
    let circuit = net.circuit(0, &[1]);
    let state = net.nodes[0].tunnel.export_state().unwrap();
    let config = net.nodes[0].config.clone();
    assert_eq!(Tunnel::new().export_state(), Err(StateError::NotConfigured));
    assert_eq!(Tunnel::new().import_state(net.now, &state), Err(StateError::NotConfigured));
    let now = net.now;
    assert_eq!(net.nodes[1].tunnel.import_state(now, &state), Err(StateError::NotFresh));
    let mut stranger = Tunnel::new();
    stranger.configure(now, net.nodes[1].config.clone()).unwrap();
    assert_eq!(stranger.import_state(now, &state), Err(StateError::Impossible("link of another worker")));
    let mut heir = Tunnel::new();
    heir.configure(now, config).unwrap();
    heir.import_state(now, &state).unwrap();
    net.nodes[0].tunnel = heir;
    assert!(works(&mut net, circuit, 1, 1));
}

#[test]
fn handles_are_not_used_again_after_a_swap() {
    let mut net = Net::with_relays(8, 1);
    let first = net.circuit(0, &[1]);
    net.close(0, first);
    net.swap(0);
    assert_eq!(net.circuit(0, &[1]), CircuitHandle(first.0 + 1));
}

#[test]
fn the_same_state_gives_the_same_bytes() {
    let state = || {
        let mut net = Net::with_relays(9, 3);
        for _ in 0..20 {
            net.create(0, &[1, 2, 3]);
        }
        net.run_for(SECOND);
        let first = net.swap(1);
        // In other tables, made in another order.
        assert!(first == net.swap(1));
        first
    };
    assert!(state() == state());
}

#[test]
fn counts_go_on() {
    let mut net = Net::with_relays(10, 2);
    let circuit = net.circuit(0, &[1, 2]);
    net.send(0, circuit, &datagrams(1, 50));
    net.run_for(SECOND);
    // Which circuits were active between two frames is not counted on.
    let counts = |net: &mut Net, node| Sync { active: 0, ..sync(net, node) };
    let before: Vec<_> = (0..=2).map(|node| counts(&mut net, node)).collect();
    for node in 0..=2 {
        net.swap(node);
    }
    let after: Vec<_> = (0..=2).map(|node| counts(&mut net, node)).collect();
    assert_eq!(before, after);
}

#[test]
fn four_thousand_idle_circuits_go_over() {
    let mut net = Net::with_relays(11, 1);
    net.reconfigure(1, |config| config.limits.creates_per_second_per_link = 10_000);
    for _ in 0..40 {
        for _ in 0..100 {
            net.create(0, &[1]);
        }
        net.run_for(Duration::from_millis(50));
    }
    net.run_for(Duration::from_secs(40));
    assert_eq!(sync(&mut net, 1).relayed_circuits, 4000);
    let circuits = standing(&net);
    for node in [0, 1] {
        let bytes = net.swap(node).len();
        assert!(bytes < 8_000_000, "{bytes}");
    }
    for handle in [circuits[0], circuits[3999]] {
        assert!(works(&mut net, handle, 1, u64::from(handle.0)));
    }
}

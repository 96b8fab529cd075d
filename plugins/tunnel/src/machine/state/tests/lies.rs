use std::time::Duration;

use warren_schemas::Timestamp;
use warren_schemas::control::TunnelConfig;
use warren_schemas::state::ReadError;

use crate::machine::tests::{SECOND, datagrams};
use crate::testing::{Net, Seeded, TestEnv};
use crate::{StateError, Tunnel};

/// A relay in the middle of everything: circuits that stand, one being extended, cells that wait.
fn busy() -> Net {
    let mut net = Net::with_relays(1, 3);
    let circuit = net.circuit(0, &[2, 1, 3]);
    net.reconfigure(2, |config| config.limits.bytes_per_second = 60_000);
    net.kill(3);
    net.send(0, circuit, &datagrams(1, 60));
    net.create(0, &[2, 3]);
    net.create(0, &[3, 2]);
    net.run_for(Duration::from_millis(120));
    net
}

fn heir(config: &TunnelConfig, now: Timestamp) -> Tunnel {
    let mut heir = Tunnel::new();
    heir.configure(now, config.clone()).unwrap();
    heir
}

/// Whatever was taken must at least not panic: time passes, reports are made, it goes over again.
fn live_on(mut tunnel: Tunnel, config: &TunnelConfig, env: &mut TestEnv, mut now: Timestamp) {
    for step in 0..6 {
        let wake = tunnel.handle_timeout(env, now).wake_at();
        now = wake.unwrap_or(now).max(now.after(SECOND)).min(now.after(Duration::from_secs(3600 << step)));
    }
    let monitor = warren_schemas::control::Request::Monitor.encode(warren_schemas::RequestId(9));
    tunnel.handle_control(env, now, &monitor);
    let state = tunnel.export_state().unwrap();
    heir(config, now).import_state(now, &state).unwrap();
}

#[test]
fn cut_states_are_refused_and_leave_the_machine_fresh() {
    let mut net = busy();
    let now = net.now;
    for node in [0, 2] {
        let config = net.nodes[node].config.clone();
        let state = net.nodes[node].tunnel.export_state().unwrap();
        let mut heir = heir(&config, now);
        for length in (0..state.len()).step_by(7).chain(state.len() - 8..state.len()) {
            assert!(heir.import_state(now, &state[..length]).is_err(), "{length} of {}", state.len());
        }
        heir.import_state(now, &state).unwrap();
    }
}

#[test]
fn flipped_bits_are_refused_or_harmless() {
    let mut net = busy();
    let now = net.now;
    let mut dice = Seeded::new(3);
    let (mut refused, mut taken) = (0, 0);
    for node in [0, 2] {
        let config = net.nodes[node].config.clone();
        let state = net.nodes[node].tunnel.export_state().unwrap();
        for _ in 0..6000 {
            let mut lie = state.clone();
            for _ in 0..=dice.below(3) {
                let at = dice.below(lie.len() as u64) as usize;
                lie[at] ^= 1 << dice.below(8);
            }
            let mut heir = heir(&config, now);
            match heir.import_state(now, &lie) {
                Ok(()) => {
                    taken += 1;
                    live_on(heir, &config, &mut net.nodes[node].env, now);
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 500 && taken > 500, "{refused} refused, {taken} taken");
}

#[test]
fn words_of_all_ones_and_zeros_are_refused_or_harmless() {
    let mut net = busy();
    let now = net.now;
    for node in [0, 2] {
        let config = net.nodes[node].config.clone();
        let state = net.nodes[node].tunnel.export_state().unwrap();
        for at in (0..state.len() - 8).step_by(12) {
            for value in [0, u8::MAX] {
                for width in [1, 4, 8] {
                    let mut lie = state.clone();
                    lie[at..at + width].fill(value);
                    let mut heir = heir(&config, now);
                    if heir.import_state(now, &lie).is_ok() {
                        live_on(heir, &config, &mut net.nodes[node].env, now);
                    }
                }
            }
        }
    }
}

/// A relay of circuits that are idle; they go on over a link of its own.
fn quiet() -> Net {
    let mut net = Net::with_idle_circuits(3, 6);
    let circuit = net.nodes[0].tunnel.circuits.keys().copied().min().unwrap();
    // So that one replay window has more than a word.
    net.send(0, circuit, &datagrams(1, 90));
    net.run_for(SECOND);
    net
}

#[test]
fn flipped_bits_in_idle_circuits_are_refused_or_harmless() {
    let mut net = quiet();
    let now = net.now;
    let config = net.nodes[1].config.clone();
    let state = net.nodes[1].tunnel.export_state().unwrap();
    let (mut refused, mut taken) = (0, 0);
    for at in 0..state.len() {
        for bit in [0, 3, 7] {
            let mut lie = state.clone();
            lie[at] ^= 1 << bit;
            let mut heir = heir(&config, now);
            match heir.import_state(now, &lie) {
                Ok(()) => {
                    taken += 1;
                    live_on(heir, &config, &mut net.nodes[1].env, now);
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 500 && taken > 500, "{refused} refused, {taken} taken");
}

/// What the bytes of a `u32` become where they stand for the first time.
fn with(state: &[u8], old: u32, new: u32) -> Vec<u8> {
    let (old, mut state) = (old.to_le_bytes(), state.to_vec());
    let at = (0..state.len() - 3).find(|at| state[*at..at + 4] == old).unwrap();
    state[at..at + 4].copy_from_slice(&new.to_le_bytes());
    state
}

#[test]
fn idle_circuits_that_cannot_be_are_refused_by_name() {
    let mut net = quiet();
    let now = net.now;
    let config = net.nodes[1].config.clone();
    let state = net.nodes[1].tunnel.export_state().unwrap();
    let read = warren_schemas::state::read(&state).unwrap();
    let theirs = read.links().iter().find(|link| link.idle().is_some()).unwrap();
    let ours = read.links().iter().find(|link| link.relay().is_some()).unwrap();
    let (first, second) = (theirs.idle().unwrap().get(0), theirs.idle().unwrap().get(1));
    let next = (first.next().link(), first.next().circuit());
    assert_eq!(next.0, ours.own());
    let ids = (first.circuit(), second.circuit());
    let cases = [
        (with(&state, first.handle(), second.handle()), "handle"),
        (with(&state, first.handle(), u32::MAX), "handle"),
        (with(&state, first.handle(), 0), "handle"),
        (with(&state, ids.0, ids.1), "leg"),
        (with(&state, ids.0, 0), "leg"),
        (with(&state, ids.1, 1), "leg"),
        (with(&state, next.1, 0), "leg"),
        (with(&state, next.1, second.next().circuit()), "leg"),
        (with(&state, first.next().circuit(), second.next().circuit()), "leg"),
    ];
    for (number, (lie, what)) in cases.iter().enumerate() {
        let refused = heir(&config, now).import_state(now, lie);
        assert_eq!(refused, Err(StateError::Impossible(what)), "case {number}");
    }
    heir(&config, now).import_state(now, &state).unwrap();
}

#[test]
fn garbage_is_refused() {
    let net = Net::with_relays(1, 1);
    let mut dice = Seeded::new(5);
    for _ in 0..2000 {
        let mut bytes = vec![0; dice.below(2000) as usize];
        dice.fill(&mut bytes);
        if let Some(identifier) = bytes.get_mut(4..8) {
            identifier.copy_from_slice(b"WTST");
        }
        let refused = heir(&net.nodes[1].config, net.now).import_state(net.now, &bytes);
        assert!(matches!(refused, Err(StateError::Read(_))), "{refused:?}");
    }
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let mut net = Net::with_relays(1, 1);
    let mut state = net.nodes[1].tunnel.export_state().unwrap();
    // The root table's version is found through the reader, then changed in place.
    let version = warren_schemas::state::read(&state).unwrap().version();
    let at = (0..state.len() - 1).find(|at| {
        let mut other = state.clone();
        other[*at] = 7;
        matches!(warren_schemas::state::read(&other), Err(ReadError::Version(7)))
    });
    state[at.unwrap()] = 7;
    let refused = heir(&net.nodes[1].config, net.now).import_state(net.now, &state).unwrap_err();
    assert_eq!(version, 2);
    assert_eq!(refused.to_string(), "a state of version 7; this module reads 1 to 2");
}

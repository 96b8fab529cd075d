//! States of every version as they were written then: every later version reads them and goes on.

use std::path::PathBuf;
use std::time::Duration;

use warren_schemas::control::{CircuitEnd, Event};
use warren_schemas::{CircuitHandle, Timestamp};

use crate::Tunnel;
use crate::machine::tests::{arrived, datagrams, works};
use crate::testing::{Net, START};

const SEED: u64 = 2024;
/// Originator, relay and last hop of one circuit.
const NAMES: [&str; 3] = ["originator", "relay", "last-hop"];
/// The version that is written now.
const CURRENT: u16 = warren_schemas::state::VERSION;

fn path(version: u16, name: &str) -> PathBuf {
    let file = format!("{}/../../schemas/vectors/state-{version}-{name}.bin", env!("CARGO_MANIFEST_DIR"));
    PathBuf::from(file)
}

/// From version 2 on late enough for a circuit that is idle.
fn written_at(version: u16) -> Timestamp {
    START.after(Duration::from_millis(if version == 1 { 1200 } else { 41_200 }))
}

/// A circuit of two hops, cells that wait for the relay's rate, and a circuit that is being built.
fn network() -> Net {
    let mut net = Net::with_relays(SEED, 3);
    let circuit = net.circuit(0, &[1, 2]);
    net.reconfigure(1, |config| config.limits.bytes_per_second = 30_000);
    net.run_for(written_at(CURRENT).since(net.now) - Duration::from_millis(45));
    net.send(0, circuit, &datagrams(1, 60));
    net.create(0, &[1, 3]);
    net.run_for(written_at(CURRENT).since(net.now));
    net
}

/// `WARREN_WRITE_VECTORS=1 cargo test -p warren-tunnel writes_the_states` makes the files, once: they
/// are never renewed, a new version gets files of its own.
#[test]
fn writes_the_states_when_asked() {
    if std::env::var_os("WARREN_WRITE_VECTORS").is_none_or(|value| value != "1") {
        return;
    }
    let mut net = network();
    for (node, name) in NAMES.iter().enumerate().filter(|(_, name)| !path(CURRENT, name).exists()) {
        std::fs::write(path(CURRENT, name), net.nodes[node].tunnel.export_state().unwrap()).unwrap();
    }
}

#[test]
fn states_of_every_version_are_read_and_go_on() {
    for version in 1..=CURRENT {
        goes_on(version);
    }
}

fn goes_on(version: u16) {
    // Identities and addresses of that day follow from the seed; links and circuits are in the files.
    let mut net = Net::with_relays(SEED, 3);
    net.now = written_at(version);
    for (node, name) in NAMES.iter().enumerate() {
        let state = std::fs::read(path(version, name)).unwrap();
        let read = warren_schemas::state::read(&state).unwrap();
        assert_eq!(read.version(), version);
        let idle: usize = read.links().iter().filter_map(|link| link.idle()).map(|idle| idle.len()).sum();
        assert_eq!(idle, usize::from(version > 1 && node > 0));
        let mut heir = Tunnel::new();
        heir.configure(net.now, net.nodes[node].config.clone()).unwrap();
        heir.import_state(net.now, &state).unwrap();
        net.nodes[node].tunnel = heir;
    }
    let relay = &mut net.nodes[1].tunnel;
    assert_eq!((relay.links.len(), relay.pending.len(), relay.circuits.len()), (2, 1, 2));
    let waiting = relay.shaper.parts().1.size().1;
    assert!(waiting > 10, "{waiting} cells wait");
    assert!(relay.counts.cells_relayed > 10);
    // The younger circuit's CREATE; the other's while it is remembered.
    assert_eq!(relay.created.iter().len(), if version == 1 { 2 } else { 1 });

    let circuit = net.nodes[0].tunnel.circuits.keys().copied().min().unwrap();
    net.send(0, circuit, &datagrams(2, 1));
    for node in 0..=2 {
        net.wake_now(node);
    }
    net.run_for(Duration::from_secs(10));
    assert!(arrived(&net, 2, CircuitEnd::LastHop).len() > waiting / 2, "what waited arrives");
    assert!(works(&mut net, circuit, 2, 3));
    let ready = |handle: CircuitHandle| {
        net.nodes[0].events.iter().any(
            |(_, event)| matches!(event, Event::CircuitReady { handle: other, hops: 2 } if *other == handle),
        )
    };
    assert!(ready(CircuitHandle(circuit.0 + 1)), "the circuit that was being built stands");
}

//! States of version 1 as they were written then: every later version reads them and goes on.

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

fn path(name: &str) -> PathBuf {
    let file = format!("{}/../../schemas/vectors/state-1-{name}.bin", env!("CARGO_MANIFEST_DIR"));
    PathBuf::from(file)
}

fn written_at() -> Timestamp {
    START.after(Duration::from_millis(1200))
}

/// A circuit of two hops, cells that wait for the relay's rate, and a circuit that is being built.
fn network() -> Net {
    let mut net = Net::with_relays(SEED, 3);
    let circuit = net.circuit(0, &[1, 2]);
    net.reconfigure(1, |config| config.limits.bytes_per_second = 30_000);
    net.run_for(written_at().since(net.now) - Duration::from_millis(45));
    net.send(0, circuit, &datagrams(1, 60));
    net.create(0, &[1, 3]);
    net.run_for(written_at().since(net.now));
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
    for (node, name) in NAMES.iter().enumerate().filter(|(_, name)| !path(name).exists()) {
        std::fs::write(path(name), net.nodes[node].tunnel.export_state().unwrap()).unwrap();
    }
}

#[test]
fn states_of_version_1_are_read_and_go_on() {
    // Identities and addresses of that day follow from the seed; links and circuits are in the files.
    let mut net = Net::with_relays(SEED, 3);
    net.now = written_at();
    for (node, name) in NAMES.iter().enumerate() {
        let state = std::fs::read(path(name)).unwrap();
        let mut heir = Tunnel::new();
        heir.configure(net.now, net.nodes[node].config.clone()).unwrap();
        heir.import_state(net.now, &state).unwrap();
        net.nodes[node].tunnel = heir;
    }
    let relay = &mut net.nodes[1].tunnel;
    assert_eq!((relay.links.len(), relay.pending.len(), relay.circuits.len()), (2, 1, 2));
    let waiting = relay.shaper.parts().1.size().1;
    assert!(waiting > 10, "{waiting} cells wait");
    assert!(relay.counts.cells_relayed > 10 && relay.created.iter().len() == 2);

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

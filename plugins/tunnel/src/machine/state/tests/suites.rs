//! A state of suite 2: whoever speaks it goes on, everybody else refuses it.

use std::path::PathBuf;
use std::time::Duration;

use warren_schemas::Timestamp;

use crate::Tunnel;
use crate::testing::{Net, START};

const SEED: u64 = 2025;
/// Both ends of a link in suite 2. A circuit of one hop stands on it; of the CREATE of another one
/// half has come; and a LINK to a second relay has no answer yet.
const NAMES: [&str; 2] = ["originator", "relay"];

fn path(name: &str) -> PathBuf {
    PathBuf::from(format!("{}/../../schemas/vectors/state-hybrid-{name}.bin", env!("CARGO_MANIFEST_DIR")))
}

fn written_at() -> Timestamp {
    START.after(Duration::from_millis(200))
}

/// Identities and addresses follow from the seed.
fn strangers() -> Net {
    let mut net = Net::with_relays(SEED, 2);
    net.now = written_at();
    net
}

fn heir(net: &Net, node: usize) -> Tunnel {
    let mut heir = Tunnel::new();
    heir.configure(net.now, net.nodes[node].config.clone()).unwrap();
    heir
}

#[cfg(feature = "hybrid")]
mod spoken {
    use warren_schemas::CircuitHandle;
    use warren_schemas::control::Event;

    use super::*;
    use crate::machine::tests::works;

    /// `WARREN_WRITE_VECTORS=1 cargo test -p warren-tunnel --features hybrid writes_the_states` makes
    /// the files, once.
    #[test]
    fn writes_the_states_when_asked() {
        if std::env::var_os("WARREN_WRITE_VECTORS").is_none_or(|value| value != "1") {
            return;
        }
        let mut net = Net::with_relays(SEED, 2);
        net.circuit(0, &[1]);
        net.run_for(written_at().since(net.now));
        (net.recording, net.loss) = (true, 1000);
        net.create(0, &[1]);
        let half = net.record[0].clone();
        net.inject(1, half.from, &half.bytes);
        net.create(0, &[2]);
        for (node, name) in NAMES.iter().enumerate().filter(|(_, name)| !path(name).exists()) {
            std::fs::write(path(name), net.nodes[node].tunnel.export_state().unwrap()).unwrap();
        }
    }

    #[test]
    fn states_of_suite_2_are_read_and_go_on() {
        let mut net = strangers();
        for (node, name) in NAMES.iter().enumerate() {
            let mut heir = heir(&net, node);
            heir.import_state(net.now, &std::fs::read(path(name)).unwrap()).unwrap();
            net.nodes[node].tunnel = heir;
        }
        assert_eq!(net.nodes[0].tunnel.pending.len(), 1);
        assert_eq!(net.nodes[1].tunnel.incomplete.iter().len(), 1);
        let first = net.nodes[0].tunnel.circuits.keys().copied().min().unwrap();
        for node in 0..=1 {
            net.wake_now(node);
        }
        net.run_for(Duration::from_secs(3));
        for (handle, last) in [(first, 1), (CircuitHandle(first.0 + 1), 1), (CircuitHandle(first.0 + 2), 2)] {
            let ready =
                |event: &Event| matches!(event, Event::CircuitReady { handle: of, .. } if *of == handle);
            let told = net.nodes[0].events.iter().any(|(_, event)| ready(event));
            assert!(told || handle == first, "{handle:?} stands");
            assert!(works(&mut net, handle, last, u64::from(handle.0)), "{handle:?}");
        }
    }
}

#[cfg(not(feature = "hybrid"))]
#[test]
fn states_of_suite_2_are_refused_where_it_is_not_spoken() {
    let net = strangers();
    for (node, name) in NAMES.iter().enumerate() {
        let refused = heir(&net, node).import_state(net.now, &std::fs::read(path(name)).unwrap());
        assert_eq!(refused, Err(crate::StateError::Impossible("suite")), "{name}");
    }
}

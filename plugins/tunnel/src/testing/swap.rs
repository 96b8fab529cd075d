//! Hot swap in the test network: a machine's state goes through bytes to a fresh machine.

use std::time::Duration;

use super::{Net, Seeded};
use crate::Tunnel;

/// How often machines are swapped between two calls, and how often they were.
pub struct Swaps {
    dice: Seeded,
    per_thousand: u64,
    /// Swaps so far.
    pub done: u64,
}

impl Swaps {
    /// Before so many calls of a thousand the machine that is called is swapped first. The dice are
    /// its own, so that a network goes the same way with and without it.
    #[must_use]
    pub const fn new(seed: u64, per_thousand: u64) -> Self {
        Self { dice: Seeded::new(seed), per_thousand, done: 0 }
    }

    pub(super) fn is_due(&mut self) -> bool {
        let due = self.dice.below(1000) < self.per_thousand;
        self.done += u64::from(due);
        due
    }
}

impl Net {
    /// Circuits of two hops on which nothing happens any more, so many; node 1 is their first hop.
    #[must_use]
    pub fn with_idle_circuits(seed: u64, count: usize) -> Self {
        let mut net = Self::with_relays(seed, 2);
        for node in [1, 2] {
            net.reconfigure(node, |config| config.limits.creates_per_second_per_link = 10_000);
        }
        for made in (0..count).step_by(100) {
            for _ in made..count.min(made + 100) {
                net.create(0, &[1, 2]);
            }
            net.run_for(Duration::from_millis(100));
        }
        // Longer than answers to handshakes are repeated.
        net.run_for(Duration::from_secs(40));
        net
    }

    /// Calls a machine as if the time that it asked for had come.
    pub fn wake_now(&mut self, node: usize) {
        self.call(node, |now, node| node.tunnel.handle_timeout(&mut node.env, now));
    }

    /// Replaces a machine by a fresh one with its state, as a host would; gives the bytes that went over.
    ///
    /// # Panics
    /// When the state is not given or not taken.
    pub fn swap(&mut self, node: usize) -> Vec<u8> {
        let now = self.now;
        let node = &mut self.nodes[node];
        let state = node.tunnel.export_state().unwrap();
        let mut heir = Tunnel::speaking(node.suites);
        heir.configure(now, node.config.clone()).unwrap();
        heir.import_state(now, &state).unwrap();
        node.tunnel = heir;
        state
    }
}

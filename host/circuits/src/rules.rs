//! What the caller sets.

use std::time::Duration;

use warren_schemas::{PeerId, suites};

/// How relays are weighted against each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Weighting {
    /// All the same.
    #[default]
    Uniform,
    /// By the bytes a second they say they relay, between 64 kB/s and 16 MB/s. Nobody checks
    /// what a relay says; the bounds keep a boast from drawing more than 256 shares.
    Stated,
}

/// What circuits are wanted and what their paths must keep to.
#[derive(Clone, PartialEq, Debug)]
pub struct Rules {
    /// This node: never on its own paths.
    pub own_peer: PeerId,
    /// Handshake suites that all of our workers speak, best first. Each hop of a circuit has the first
    /// of them that its relay speaks; a relay that speaks none is not used.
    pub suites: Vec<u8>,
    /// How many workers circuits are spread over, at least 1.
    pub workers: u8,
    /// Drops the rules about addresses (one address, one /16, one IPv6 /32). For a laboratory on
    /// one machine only; every other rule stays.
    pub relax_same_network: bool,
    /// Guards in use at a time.
    pub guards: usize,
    /// Circuits kept ready for traffic that has not come yet. Each serves one isolation once it does.
    pub spare: usize,
    /// Hops of those.
    pub spare_hops: u8,
    /// Circuits kept ready for an isolation in use; through different exits where there are such.
    pub per_isolation: usize,
    /// Most circuits being built at a time.
    pub max_parallel_builds: usize,
    /// After this long without an answer of the worker a build is given up. Longer than what the
    /// worker itself waits, which knows the hop that failed.
    pub build_timeout: Duration,
    /// A build that takes longer than this is joined by another one, through others.
    pub slow_build: Duration,
    /// How long circuits of an isolation are kept after its last use.
    pub linger: Duration,
    /// From this age on a circuit takes no new streams while there is another.
    pub retire_after: Duration,
    /// How relays are weighted.
    pub weighting: Weighting,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            own_peer: PeerId([0; 32]),
            suites: vec![suites::X25519],
            workers: 1,
            relax_same_network: false,
            guards: 3,
            spare: 0,
            spare_hops: 3,
            per_isolation: 2,
            max_parallel_builds: 8,
            build_timeout: Duration::from_secs(60),
            slow_build: Duration::from_secs(3),
            linger: Duration::from_secs(600),
            retire_after: Duration::from_secs(20 * 3600),
            weighting: Weighting::Uniform,
        }
    }
}

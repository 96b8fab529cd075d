//! Why there is no circuit, in words for a person.

use std::fmt;
use std::time::Duration;

/// The rule that is not met, or what is being waited for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Waiting {
    /// A circuit is being built.
    Building,
    /// A circuit will be built as soon as others are.
    Turn,
    /// Circuits have 1 to 3 hops.
    Hops(u8),
    /// Nothing is known of anybody.
    NoRelays,
    /// No exit is known.
    NoExit,
    /// Relays are known, but too few speak our handshake.
    Suite {
        /// Those that we speak, best first.
        suites: Vec<u8>,
        /// Known relays that speak one of them.
        speaking: usize,
    },
    /// Fewer relays than hops.
    TooFew {
        /// Hops.
        needed: u8,
        /// Relays known, exits among them.
        known: usize,
    },
    /// Too many of them are run by one operator.
    Operators {
        /// Hops.
        needed: u8,
        /// Different operators known; a relay that names none counts as one.
        known: usize,
    },
    /// Too many of them are in one network.
    Networks {
        /// Hops.
        needed: u8,
        /// Different networks known.
        known: usize,
    },
    /// What is known would do, but failed a moment ago.
    Resting {
        /// Relays that failed.
        relays: usize,
        /// When the next of them is tried again.
        retry_in: Duration,
    },
    /// The first relays became known a moment ago; guards are chosen when the others have, too.
    Settling,
    /// As many guards as a node may have were chosen and none of them serves.
    Guards(usize),
    /// This node could not build circuits a moment ago.
    Own {
        /// When it tries again.
        retry_in: Duration,
    },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Building => f.write_str("a circuit is being built"),
            Self::Turn => f.write_str("other circuits are being built first"),
            Self::Hops(hops) => write!(f, "circuits have 1 to 3 hops, not {hops}"),
            Self::NoRelays => f.write_str("needs relays; none is known yet"),
            Self::NoExit => f.write_str("needs an exit; none is known"),
            Self::Suite { suites, speaking } => {
                let suites: Vec<String> = suites.iter().map(u8::to_string).collect();
                write!(f, "needs relays that speak handshake suite {}; {speaking} known", suites.join(" or "))
            }
            Self::TooFew { needed, known } => {
                write!(f, "needs {needed} relays, an exit among them; {known} known")
            }
            Self::Operators { needed, known } => {
                write!(f, "needs {needed} relays of different operators; {known} known")
            }
            Self::Networks { needed, known } => {
                write!(f, "needs {needed} relays in different networks (IPv4 /16, IPv6 /32); {known} known")
            }
            Self::Resting { relays, retry_in } => {
                write!(f, "{relays} relays failed; the next is tried again in {} s", seconds(*retry_in))
            }
            Self::Settling => f.write_str("relays are becoming known; guards are chosen in a moment"),
            Self::Guards(count) => write!(f, "none of the {count} guards answers"),
            Self::Own { retry_in } => {
                write!(f, "circuits could not be built here; tried again in {} s", seconds(*retry_in))
            }
        }
    }
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

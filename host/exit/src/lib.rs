//! The exit's end of the world: which destinations it serves, and the TCP and UDP sockets it opens
//! to them.
//!
//! [`Policy`] decides, as pure functions over rules, before any socket is opened and again on every
//! address a name resolves to; a connection goes to the very address that was checked. [`Exit`] is
//! the node's, an [`ExitCircuit`] one circuit's share of it, with that circuit's limits.
//! Not here: what asks (`host/streams`, `host/core`), nor any way around the policy.
//! I/O: name resolution, outgoing TCP, UDP. Time comes from a [`Clock`].

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warren_ports::{Clock, DialError, Target};

mod counters;
mod dial;
pub mod policy;
mod resolve;
mod silence;
mod udp;

pub use counters::{Counters, DropReason};
pub use dial::Outbound;
pub use policy::{Denied, Policy, Rule};
use resolve::Names;
use silence::Silence;
pub use silence::{FORGET, MAX_NEW_SILENT, MAX_UNANSWERED, WINDOW};
pub use udp::{MAX_PAYLOAD, UdpFlow};

/// Bounds on what circuits may make an exit open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Sockets open at once, all circuits together.
    pub sockets: usize,
    /// Sockets open at once for one circuit.
    pub sockets_per_circuit: usize,
    /// Names being resolved at once, all circuits together. A resolver that hangs keeps its place.
    pub lookups: usize,
    /// Names being resolved at once for one circuit.
    pub lookups_per_circuit: usize,
    /// How long a name may take to resolve.
    pub resolve: Duration,
    /// How long a TCP connection may take to stand, resolution not counted.
    pub connect: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sockets: 8192,
            sockets_per_circuit: 512,
            lookups: 64,
            lookups_per_circuit: 8,
            resolve: Duration::from_secs(5),
            connect: Duration::from_secs(10),
        }
    }
}

/// A node's exit side. Share it between threads in an [`Arc`].
pub struct Exit {
    policy: RwLock<Arc<Policy>>,
    limits: Limits,
    clock: Arc<dyn Clock>,
    sockets: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    counters: Counters,
}

impl Exit {
    /// An exit that serves what `policy` allows, within `limits`.
    #[must_use]
    pub fn new(policy: Policy, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let policy = RwLock::new(Arc::new(policy));
        let (sockets, lookups) = (Semaphore::new(limits.sockets), Semaphore::new(limits.lookups));
        Self {
            policy,
            limits,
            clock,
            sockets: Arc::new(sockets),
            lookups: Arc::new(lookups),
            counters: Counters::default(),
        }
    }

    /// Replaces the tunnel addresses that are denied: those of every relay known, and one's own.
    pub fn set_relays(&self, relays: impl IntoIterator<Item = SocketAddr>) {
        let mut policy = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        *policy = Arc::new(Policy::clone(&policy).with_relays(relays));
    }

    /// The policy now in force.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was dropped so far, and why.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The share of a new circuit.
    #[must_use]
    pub fn circuit(self: &Arc<Self>) -> ExitCircuit {
        ExitCircuit(Arc::new(Share {
            exit: self.clone(),
            sockets: Arc::new(Semaphore::new(self.limits.sockets_per_circuit)),
            lookups: Arc::new(Semaphore::new(self.limits.lookups_per_circuit)),
            silence: Mutex::new(Silence::default()),
            names: Mutex::new(Names::default()),
        }))
    }

    /// The address to use for `address`, or why it is denied: the policy's word, and that of the
    /// routing table about the exit's own addresses.
    fn check(&self, address: SocketAddr) -> Result<SocketAddr, Denied> {
        let policy = self.policy();
        let address = policy.check(address)?;
        if !policy.allow_private && dial::is_own(address) {
            return Err(Denied::Own);
        }
        Ok(address)
    }
}

/// One circuit's share of an [`Exit`]: its sockets and its account of silent destinations. Cloning
/// gives another handle of the same share.
#[derive(Clone)]
pub struct ExitCircuit(Arc<Share>);

impl ExitCircuit {
    /// Connects to `target`, resolving its name here, and says which address it took. Of a name's
    /// addresses those that are allowed are tried, at most four, a new one every 250 ms.
    ///
    /// # Errors
    /// What goes into the reply: denied, a limit reached, unreachable, refused, timed out.
    pub async fn connect(&self, target: &Target) -> Result<(Outbound, SocketAddr), DialError> {
        dial::connect(&self.0, target).await
    }

    /// A new UDP flow; it opens its sockets when it first sends.
    #[must_use]
    pub fn udp_flow(&self) -> UdpFlow {
        UdpFlow::new(self.0.clone())
    }
}

struct Share {
    exit: Arc<Exit>,
    sockets: Arc<Semaphore>,
    lookups: Arc<Semaphore>,
    silence: Mutex<Silence>,
    names: Mutex<Names>,
}

impl Share {
    fn socket(&self) -> Option<Permit> {
        Permit::take(&self.sockets, &self.exit.sockets)
    }

    fn lookup(&self) -> Option<Permit> {
        Permit::take(&self.lookups, &self.exit.lookups)
    }

    fn count(&self, reason: DropReason) {
        self.exit.counters.add(reason);
    }
}

/// A place taken in the circuit's and in the exit's bound, given back on drop.
struct Permit {
    _circuit: OwnedSemaphorePermit,
    _exit: OwnedSemaphorePermit,
}

impl Permit {
    fn take(circuit: &Arc<Semaphore>, exit: &Arc<Semaphore>) -> Option<Self> {
        let circuit = circuit.clone().try_acquire_owned().ok()?;
        let exit = exit.clone().try_acquire_owned().ok()?;
        Some(Self { _circuit: circuit, _exit: exit })
    }
}

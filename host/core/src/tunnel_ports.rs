//! Which destinations an exit denies because a relay's tunnel listens there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use warren_exit::Exit;
use warren_schemas::Timestamp;

/// Descriptors come in crowds; the exit is told of them together.
const GATHER: Duration = Duration::from_secs(1);
/// Relays that said nothing new for long are forgotten, and their ports with them.
const REFRESH: Duration = Duration::from_secs(60);

/// Tells the exit, if this node is one. As many ports as there are relays: those that are known now.
pub(crate) struct TunnelPorts {
    exit: Option<Arc<Exit>>,
    own: Vec<SocketAddr>,
    changed: bool,
    told: Timestamp,
}

impl TunnelPorts {
    pub(crate) fn new(exit: Option<Arc<Exit>>, own: Vec<SocketAddr>) -> Self {
        Self { exit, own, changed: true, told: Timestamp::default() }
    }

    /// A relay is new, or moved.
    pub(crate) fn handle_change(&mut self) {
        self.changed = true;
    }

    /// Tells the exit when it is due.
    pub(crate) fn tell(&mut self, now: Timestamp, relays: impl Iterator<Item = SocketAddr>) {
        let pause = if self.changed { GATHER } else { REFRESH };
        let Some(exit) = self.exit.as_ref().filter(|_| now.since(self.told) >= pause) else { return };
        exit.set_relays(relays.chain(self.own.iter().copied()));
        (self.changed, self.told) = (false, now);
    }
}

#[cfg(test)]
mod tests {
    use warren_exit::{Limits, Policy};
    use warren_ports::Clock;

    use super::*;
    use crate::SystemClock;

    #[test]
    fn ports_of_relays_come_and_go_and_ones_own_stays() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
        let exit = Arc::new(Exit::new(Policy::default(), Limits::default(), Arc::clone(&clock)));
        let [own, relay]: [SocketAddr; 2] = ["9.9.9.9:1", "9.9.9.8:1"].map(|text| text.parse().unwrap());
        let denies = |address| exit.policy().check(address).is_err();
        let mut ports = TunnelPorts::new(Some(Arc::clone(&exit)), vec![own]);
        let mut now = clock.now();
        ports.tell(now, [relay].into_iter());
        assert!(denies(own) && denies(relay));
        ports.handle_change();
        ports.tell(now, std::iter::empty());
        assert!(denies(relay), "not told again within the same second");
        now = now.after(GATHER);
        ports.tell(now, std::iter::empty());
        assert!(denies(own) && !denies(relay));
    }
}

//! CPU time of processes, and what it comes to for each gigabyte.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::network::{Network, Role};

/// CPU seconds, user and system, that process `pid` has used; none when there is no such process.
/// A child that ended and was not waited for still has its total (proc(5), `/proc/pid/stat`).
#[must_use]
pub fn seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(ticks(&stat)? as f64 / ticks_per_second())
}

/// CPU seconds, user and system, that the calling thread has used.
#[must_use]
pub fn thread_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec to write to; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Fields 14 and 15; the second field may hold spaces and parentheses.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

fn ticks_per_second() -> f64 {
    // SAFETY: sysconf has no preconditions.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    if ticks > 0 { ticks as f64 } else { 100.0 }
}

/// CPU seconds of each role.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PerRole(BTreeMap<Role, f64>);

impl PerRole {
    /// What each role of `network` has used until now, its own clients included.
    #[must_use]
    pub fn of(network: &Network) -> Self {
        let mut all = Self::default();
        for node in network.nodes() {
            all.add(node.role(), node.pid().and_then(seconds).unwrap_or_default());
        }
        all
    }

    /// Adds to a role.
    pub fn add(&mut self, role: Role, seconds: f64) {
        *self.0.entry(role).or_default() += seconds;
    }

    /// What was used since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let spent = |(role, now): (&Role, &f64)| (*role, now - earlier.get(*role));
        Self(self.0.iter().map(spent).collect())
    }

    /// Of one role; 0 when there is none.
    #[must_use]
    pub fn get(&self, role: Role) -> f64 {
        self.0.get(&role).copied().unwrap_or_default()
    }

    /// For each 10^9 bytes that went over `hops` hops.
    #[must_use]
    pub fn per_gb(&self, hops: u8, bytes: u64) -> CpuPerGb {
        let gb = bytes as f64 / 1e9;
        let per = |role, traversals: u8| {
            let value = self.get(role) / f64::from(traversals) / gb;
            (traversals > 0 && gb > 0.0).then_some((value * 1000.0).round() / 1000.0)
        };
        let relays = hops.saturating_sub(1);
        let originator = per(Role::Originator, 1);
        let (relay, exit) = (per(Role::Relay, relays), per(Role::Exit, hops.min(1)));
        let total = originator.map(|own| {
            let sum = own + relay.unwrap_or_default() * f64::from(relays) + exit.unwrap_or_default();
            (sum * 1000.0).round() / 1000.0
        });
        CpuPerGb { originator, relay, exit, total }
    }
}

/// CPU seconds for each 10^9 payload bytes; none where it has no meaning.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct CpuPerGb {
    /// The node that asked.
    pub originator: Option<f64>,
    /// Each time the bytes crossed a relay.
    pub relay: Option<f64>,
    /// The last hop.
    pub exit: Option<f64>,
    /// originator + (hops − 1) · relay + exit.
    pub total: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_cannot_confuse() {
        let stat = "77 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 120 34 0 0 20 0";
        assert_eq!(ticks(stat), Some(154));
        assert_eq!(ticks("77 (a"), None);
    }

    #[test]
    fn this_process_has_used_some_and_there_is_no_process_zero() {
        assert!(seconds(std::process::id()).is_some());
        assert_eq!(seconds(0), None);
    }

    #[test]
    fn a_relay_counts_once_for_each_traversal() {
        let mut spent = PerRole::default();
        for (role, seconds) in
            [(Role::Originator, 2.0), (Role::Relay, 3.0), (Role::Relay, 1.0), (Role::Exit, 1.5)]
        {
            spent.add(role, seconds);
        }
        let three = spent.per_gb(3, 500_000_000);
        assert_eq!((three.originator, three.relay, three.exit), (Some(4.0), Some(4.0), Some(3.0)));
        assert_eq!(three.total, Some(4.0 + 2.0 * 4.0 + 3.0));
        let one = spent.per_gb(1, 1_000_000_000);
        assert_eq!((one.relay, one.total), (None, Some(3.5)));
        let direct = spent.per_gb(0, 1_000_000_000);
        assert_eq!((direct.relay, direct.exit, direct.total), (None, None, Some(2.0)));
        assert_eq!(spent.per_gb(3, 0).total, None);
    }
}

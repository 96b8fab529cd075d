//! Which destinations an exit serves: pure functions over addresses and rules.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use warren_schemas::stream::{Host, Target};

mod range;
mod rule;
#[cfg(test)]
mod tests;

pub use range::Range;
pub use rule::{Action, Network, ParseRuleError, Rule};

/// Why a destination is denied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Denied {
    /// Its address lies in a range that is not the public Internet.
    #[error("{0} addresses are denied")]
    Range(Range),
    /// It is one of the exit's own addresses.
    #[error("the exit's own address is denied")]
    Own,
    /// A relay listens there; an exit that sends to relays would let circuits chain without end.
    #[error("a relay's tunnel port is denied")]
    Relay,
    /// A rule of the operator denies it.
    #[error("denied by the operator's rules")]
    Rule,
    /// Port zero.
    #[error("port 0 is denied")]
    Port,
    /// The name is empty, too long, or has characters that no host name has.
    #[error("not a host name")]
    Name,
}

/// What an exit allows. The default serves the public Internet and nothing else.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    /// Serves loopback, private and unique-local addresses too, and its own: for labs only.
    pub allow_private: bool,
    /// The operator's rules; the first that matches decides. They can only deny more: an address
    /// outside the public Internet stays denied whatever they say.
    pub rules: Vec<Rule>,
    /// The exit's own addresses, as far as the configuration names them.
    pub own: HashSet<IpAddr>,
    /// Tunnel addresses of relays, this node's included.
    pub relays: HashSet<SocketAddr>,
}

impl Policy {
    /// What can be said of `target` before its name is resolved.
    ///
    /// # Errors
    /// When no resolution could make it allowed.
    pub fn check_target(&self, target: &Target) -> Result<(), Denied> {
        match &target.host {
            Host::Ip(ip) => self.check(SocketAddr::new(*ip, target.port)).map(|_| ()),
            Host::Name(_) if target.port == 0 => Err(Denied::Port),
            Host::Name(name) if !is_host_name(name) => Err(Denied::Name),
            Host::Name(_) if self.denies_port_everywhere(target.port) => Err(Denied::Rule),
            Host::Name(_) => Ok(()),
        }
    }

    /// Whether `address` may be sent to; the address to use is the one returned, in which an
    /// IPv4-mapped address has become IPv4.
    ///
    /// # Errors
    /// When it may not.
    pub fn check(&self, address: SocketAddr) -> Result<SocketAddr, Denied> {
        let address = canonical(address);
        if address.port() == 0 {
            return Err(Denied::Port);
        }
        if let Some(range) = Range::of(address.ip())
            && !(self.allow_private && range.is_private())
        {
            return Err(Denied::Range(range));
        }
        if self.relays.contains(&address) {
            return Err(Denied::Relay);
        }
        if !self.allow_private && self.own.contains(&address.ip()) {
            return Err(Denied::Own);
        }
        match self.rules.iter().find(|rule| rule.matches(address)) {
            Some(Rule { action: Action::Deny, .. }) => Err(Denied::Rule),
            _ => Ok(address),
        }
    }

    /// The same policy with these tunnel addresses of relays, canonical.
    #[must_use]
    pub fn with_relays(mut self, relays: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.relays = relays.into_iter().map(canonical).collect();
        self
    }

    /// An address family counts as denied when its first rule for the port that covers every
    /// address denies and no rule before it allows a part.
    fn denies_port_everywhere(&self, port: u16) -> bool {
        let denies = |any: IpAddr| {
            let mut relevant = self.rules.iter().filter(|rule| rule.touches(any, port));
            matches!(relevant.next(), Some(Rule { action: Action::Deny, network: None, .. }))
        };
        denies(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) && denies(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    }
}

/// The address without disguise: IPv4-mapped becomes IPv4, flow label and scope are dropped.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A name that may be given to the resolver: 1 to 253 bytes, letters, digits, `-`, `_` and dots.
/// A `%` (scope), a space or a colon (an IPv6 literal) belongs to no name.
fn is_host_name(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

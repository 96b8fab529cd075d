//! The operator's own rules.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// What a rule does with what it matches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Leaves it allowed.
    Allow,
    /// Denies it.
    Deny,
}

/// An address prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether `ip` has this prefix. An address of the other family never has.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix)).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// One rule, as text: `deny 203.0.113.0/24`, `allow *:80-443`, `deny [2001:db8::/32]:25`, `deny *`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// Which addresses it matches; none matches all.
    pub network: Option<Network>,
    /// Which ports it matches.
    pub ports: RangeInclusive<u16>,
}

impl Rule {
    /// Whether it is about `address`.
    #[must_use]
    pub fn matches(&self, address: SocketAddr) -> bool {
        self.ports.contains(&address.port()) && self.network.is_none_or(|net| net.contains(address.ip()))
    }

    /// Whether it may be about an address of the family of `any` at `port`.
    pub(super) fn touches(&self, any: IpAddr, port: u16) -> bool {
        self.ports.contains(&port) && self.network.is_none_or(|net| net.address.is_ipv4() == any.is_ipv4())
    }
}

/// Text that is not a [`Rule`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "not an exit rule: {text:?}: {why} (a rule is like \"deny 203.0.113.0/24:25\" or \"allow *:80-443\")"
)]
pub struct ParseRuleError {
    text: String,
    why: &'static str,
}

impl FromStr for Rule {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|why| ParseRuleError { text: text.to_owned(), why })
    }
}

impl FromStr for Network {
    type Err = ParseRuleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        network(text).map_err(|why| ParseRuleError { text: text.to_owned(), why })
    }
}

fn parse(text: &str) -> Result<Rule, &'static str> {
    let (action, rest) = text.trim().split_once(' ').ok_or("it needs an action and a destination")?;
    let action = match action {
        "allow" => Action::Allow,
        "deny" => Action::Deny,
        _ => return Err("the action is neither allow nor deny"),
    };
    let (host, ports) = split(rest.trim())?;
    let network = if host == "*" { None } else { Some(network(host)?) };
    Ok(Rule { action, network, ports: ports.map_or(Ok(0..=u16::MAX), port_range)? })
}

/// `host`, `host:ports` or `[host]:ports`; a bare IPv6 prefix has no ports.
fn split(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("a bracket is not closed")?;
        return match rest.strip_prefix(':') {
            Some(ports) => Ok((host, Some(ports))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("something follows the bracket"),
        };
    }
    match text.split_once(':') {
        Some((host, ports)) if !ports.contains(':') => Ok((host, Some(ports))),
        _ => Ok((text, None)),
    }
}

fn network(text: &str) -> Result<Network, &'static str> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| "the address is none")?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map_or(Ok(longest), str::parse).map_err(|_| "the prefix length is no number")?;
    if prefix > longest {
        return Err("the prefix is longer than the address");
    }
    Ok(Network { address, prefix })
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, &'static str> {
    if text == "*" {
        return Ok(0..=u16::MAX);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first: u16 = first.parse().map_err(|_| "a port is no number from 0 to 65535")?;
    let last: u16 = last.parse().map_err(|_| "a port is no number from 0 to 65535")?;
    if first > last {
        return Err("the ports run backwards");
    }
    Ok(first..=last)
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.action {
            Action::Allow => "allow ",
            Action::Deny => "deny ",
        })?;
        match self.network {
            None => f.write_str("*")?,
            Some(Network { address, prefix }) => write!(f, "[{address}/{prefix}]")?,
        }
        write!(f, ":{}-{}", self.ports.start(), self.ports.end())
    }
}

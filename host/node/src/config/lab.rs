//! Where the lab's relaxed rules may hold: on loopback, or in a network namespace that leads nowhere.

use std::net::IpAddr;

use super::{Config, ConfigError};

/// Whether this network namespace has a way out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Routes {
    default_route: Option<String>,
}

impl Routes {
    /// Asks the kernel. What cannot be read counts as a way out.
    #[must_use]
    pub fn of_this_process() -> Self {
        let four = std::fs::read_to_string("/proc/net/route");
        let six = std::fs::read_to_string("/proc/net/ipv6_route");
        let default_route = match (four, six) {
            (Ok(four), six) => default_of_v4(&four).or_else(|| default_of_v6(&six.unwrap_or_default())),
            (Err(_), _) => Some("unknown (/proc/net/route cannot be read)".into()),
        };
        Self { default_route }
    }

    /// Read from these texts, for tests.
    #[cfg(test)]
    pub(super) fn of(four: &str, six: &str) -> Self {
        Self { default_route: default_of_v4(four).or_else(|| default_of_v6(six)) }
    }
}

/// Interface of the IPv4 default route: destination and mask are zero (proc(5), /proc/net/route).
fn default_of_v4(table: &str) -> Option<String> {
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace();
        let (interface, destination) = (words.next()?, words.next()?);
        let mask = words.nth(5)?;
        (destination == "00000000" && mask == "00000000").then(|| interface.to_owned())
    })
}

/// Interface of the IPv6 default route. The kernel lists an unreachable `::/0` on `lo` in every
/// namespace; it leads nowhere.
fn default_of_v6(table: &str) -> Option<String> {
    table.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (destination, length, interface) = (words.first()?, words.get(1)?, words.last()?);
        let everything = destination.bytes().all(|digit| digit == b'0') && *length == "00";
        (everything && *interface != "lo").then(|| (*interface).to_owned())
    })
}

/// Refuses `[lab]` where other machines could be reached.
///
/// # Errors
/// Names the listener that is not on loopback, and the route.
pub fn check(config: &Config, routes: &Routes) -> Result<(), ConfigError> {
    if !config.lab.enabled() {
        return Ok(());
    }
    let Some(route) = &routes.default_route else { return Ok(()) };
    let outside = outside_loopback(config);
    if outside.is_empty() {
        return Ok(());
    }
    Err(ConfigError::Lab(format!(
        "{} not on loopback, and this machine has a default route ({route}). \
         Put every listener on 127.0.0.1 or [::1], or run in a network namespace without a default route",
        match outside.as_slice() {
            [one] => format!("{one} is"),
            many => format!("{} are", many.join(", ")),
        }
    )))
}

fn outside_loopback(config: &Config) -> Vec<String> {
    let mut outside = Vec::new();
    let mut note = |key: &str, value: String, ip: Option<IpAddr>| {
        if !ip.is_some_and(|ip| ip.is_loopback()) {
            outside.push(format!("{key} {value}"));
        }
    };
    let tunnel = std::iter::once(("tunnel.listen", config.tunnel.listen))
        .chain(config.tunnel.advertise.iter().map(|address| ("tunnel.advertise", *address)))
        .chain(config.socks.listen().map(|address| ("socks.listen", address)));
    for (key, address) in tunnel {
        note(key, address.to_string(), Some(address.ip()));
    }
    for address in &config.overlay.listen {
        note("overlay.listen", address.clone(), multiaddr_ip(address));
    }
    outside
}

/// The address of `/ip4/…` or `/ip6/…`; none for any other start.
fn multiaddr_ip(text: &str) -> Option<IpAddr> {
    let mut parts = text.split('/').skip(1);
    matches!(parts.next()?, "ip4" | "ip6").then_some(())?;
    parts.next()?.parse().ok()
}

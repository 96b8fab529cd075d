//! What a key may be: reading it from text, checking it, saying what was expected.

use std::net::{IpAddr, SocketAddr};

use toml::Value;

use crate::signature::PublicKey;

/// The type of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number within bounds.
    Integer {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A path; empty for the default place.
    Path,
    /// A password that is not shown, of characters that need no escaping in a URL.
    Secret,
    /// A log filter as `tracing_subscriber` reads it.
    Filter,
    /// An IP address and port.
    Address,
    /// An IP address and port, or empty.
    AddressOrOff,
    /// At most four addresses and ports.
    Addresses,
    /// A list of multiaddrs; the overlay reads them.
    Multiaddrs,
    /// A list of IP networks.
    Networks,
    /// A list of ports and port ranges.
    Ports,
    /// A list of circuit lengths.
    Hops,
    /// 32 bytes in hex, or empty.
    HexKey,
    /// A list of minisign public keys.
    MinisignKeys,
}

impl Kind {
    /// What may stand there, for people.
    #[must_use]
    pub fn expected(self) -> String {
        match self {
            Self::Bool => "true or false".into(),
            Self::Integer { min: 0, max: i64::MAX } => "a whole number, 0 or more".into(),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Choice(words) => {
                words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ")
            }
            Self::Path => "a path".into(),
            Self::Secret => "at most 255 letters, digits, '-', '.', '_' and '~'".into(),
            Self::Filter => {
                "a level (error, warn, info, debug, trace) or a list like \"info,warren_core=debug\"".into()
            }
            Self::Address => "an address and port, like \"127.0.0.1:7411\" or \"[::1]:7411\"".into(),
            Self::AddressOrOff => "an address and port, like \"127.0.0.1:1080\", or \"\" for off".into(),
            Self::Addresses => "a list of at most 4 addresses and ports, like [\"192.0.2.1:7411\"]".into(),
            Self::Multiaddrs => "a list of multiaddrs, like [\"/ip4/192.0.2.1/udp/4001/quic-v1\"]".into(),
            Self::Networks => "a list of networks, like [\"203.0.113.0/24\", \"2001:db8::/32\"]".into(),
            Self::Ports => "a list of ports and ranges, like [443, \"8000-8999\"]".into(),
            Self::Hops => "a list of circuit lengths from 1 to 3, like [1, 3]".into(),
            Self::HexKey => "64 hex digits, or \"\" for none".into(),
            Self::MinisignKeys => {
                "a list of minisign public keys, 56 characters each, like [\"RWQ…\"]".into()
            }
        }
    }

    /// Whether it is a list.
    #[must_use]
    pub const fn is_list(self) -> bool {
        matches!(
            self,
            Self::Addresses
                | Self::Multiaddrs
                | Self::Networks
                | Self::Ports
                | Self::Hops
                | Self::MinisignKeys
        )
    }

    /// Reads it as it stands in an environment variable or on the command line: text bare, lists as
    /// TOML or separated by commas.
    ///
    /// # Errors
    /// With what is wrong, for people.
    pub fn read(self, text: &str) -> Result<Value, String> {
        let value = match self {
            Self::Bool => text.parse().map(Value::Boolean).unwrap_or_else(|_| Value::String(text.into())),
            Self::Integer { .. } => {
                text.parse().map(Value::Integer).unwrap_or_else(|_| Value::String(text.into()))
            }
            kind if kind.is_list() => list(text)?,
            _ => Value::String(text.into()),
        };
        self.check(&value)?;
        Ok(value)
    }

    /// Checks type and range.
    ///
    /// # Errors
    /// With what was expected and what stands there, for people.
    pub fn check(self, value: &Value) -> Result<(), String> {
        if self.admits(value) {
            return Ok(());
        }
        let found = match value {
            Value::String(_) if self == Self::Secret => "something else".to_owned(),
            other => other.to_string(),
        };
        Err(format!("expected {}, found {found}", self.expected()))
    }

    fn admits(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Bool, Value::Boolean(_)) | (Self::Path, Value::String(_)) => true,
            (Self::Secret, Value::String(text)) => {
                let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
                text.len() <= 255 && text.bytes().all(plain)
            }
            (Self::Integer { min, max }, Value::Integer(number)) => (min..=max).contains(number),
            (Self::Choice(words), Value::String(text)) => words.contains(&text.as_str()),
            (Self::Filter, Value::String(text)) => {
                tracing_subscriber::EnvFilter::builder().parse(text).is_ok() && !text.trim().is_empty()
            }
            (Self::Address, Value::String(text)) => text.parse::<SocketAddr>().is_ok(),
            (Self::AddressOrOff, Value::String(text)) => {
                text.is_empty() || text.parse::<SocketAddr>().is_ok()
            }
            (Self::HexKey, Value::String(text)) => text.is_empty() || super::hex_key(text).is_some(),
            (Self::Addresses, Value::Array(items)) => items.len() <= 4 && items.iter().all(is_address),
            (Self::Multiaddrs, Value::Array(items)) => {
                items.iter().all(|item| item.as_str().is_some_and(|text| text.starts_with('/')))
            }
            (Self::Networks, Value::Array(items)) => {
                items.iter().all(|item| item.as_str().is_some_and(|text| network(text).is_some()))
            }
            (Self::Ports, Value::Array(items)) => items.iter().all(|item| ports(item).is_some()),
            (Self::Hops, Value::Array(items)) => {
                items.iter().all(|item| item.as_integer().is_some_and(|hops| (1..=3).contains(&hops)))
            }
            (Self::MinisignKeys, Value::Array(items)) => {
                items.iter().all(|item| item.as_str().is_some_and(|text| PublicKey::read(text).is_some()))
            }
            _ => false,
        }
    }
}

fn is_address(item: &Value) -> bool {
    item.as_str().and_then(|text| text.parse::<SocketAddr>().ok()).is_some_and(|address| address.port() != 0)
}

/// `203.0.113.0/24`, or one address.
pub(super) fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
    let address: IpAddr = address.parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Some(longest), |text| text.parse().ok())?;
    (length <= longest).then_some((address, length))
}

/// `443` or `"8000-8999"`.
pub(super) fn ports(item: &Value) -> Option<(u16, u16)> {
    match item {
        Value::Integer(number) => {
            let port = u16::try_from(*number).ok().filter(|port| *port != 0)?;
            Some((port, port))
        }
        Value::String(text) => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (first != 0 && first <= last).then_some((first, last))
        }
        _ => None,
    }
}

fn list(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('[') {
        let table: toml::Table = format!("list = {text}")
            .parse()
            .map_err(|_| format!("expected a list as in TOML, or items separated by commas, found {text}"))?;
        return Ok(table.get("list").cloned().unwrap_or(Value::Array(Vec::new())));
    }
    let item = |word: &str| word.parse().map_or_else(|_| Value::String(word.into()), Value::Integer);
    Ok(Value::Array(text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(item).collect()))
}

//! What a user name says.

use std::fmt;
use std::sync::Arc;

use warren_ports::Isolation;

/// Who a client says it is: how many hops it wants, and what it may share a circuit with.
///
/// | user name | meaning |
/// | --- | --- |
/// | none, or empty | the node's default hops, the common isolation |
/// | `h0` … `h3` | so many hops, the common isolation; `h0` connects directly, without a circuit |
/// | `h2-KEY` | so many hops, sharing circuits only with the same KEY |
/// | `t-…` | one of the node's own torrents |
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum User {
    /// Nothing was said.
    Default,
    /// Hops, and the isolation key if there is one.
    Hops {
        /// 0 to 3.
        hops: u8,
        /// 1 to 252 printable ASCII characters.
        isolation: Option<String>,
    },
    /// A torrent of this node; the whole name, `t-` included.
    Torrent(String),
}

/// A user name that says nothing known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the user name is not h0 to h3, h<hops>-<isolation> or t-<torrent>")]
pub struct UserError;

impl User {
    /// Reads a user name.
    ///
    /// # Errors
    /// When it has none of the forms above.
    pub fn parse(name: &str) -> Result<Self, UserError> {
        if name.is_empty() {
            return Ok(Self::Default);
        }
        if name.len() > 255 || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(UserError);
        }
        if name.strip_prefix("t-").is_some_and(|rest| !rest.is_empty()) {
            return Ok(Self::Torrent(name.to_owned()));
        }
        let (hops, isolation) = match name.split_once('-') {
            Some((_, "")) => return Err(UserError),
            Some((hops, key)) => (hops, Some(key.to_owned())),
            None => (name, None),
        };
        let hops = match hops {
            "h0" => 0,
            "h1" => 1,
            "h2" => 2,
            "h3" => 3,
            _ => return Err(UserError),
        };
        Ok(Self::Hops { hops, isolation })
    }

    /// The user name.
    #[must_use]
    pub fn format(&self) -> String {
        self.to_string()
    }

    /// What its traffic may share a circuit with; none for a torrent, which has its own rules.
    #[must_use]
    pub fn isolation(&self, default_hops: u8) -> Option<Isolation> {
        match self {
            Self::Default => Some(Isolation { hops: default_hops, key: Arc::from("") }),
            Self::Hops { hops, isolation } => {
                Some(Isolation { hops: *hops, key: Arc::from(isolation.as_deref().unwrap_or_default()) })
            }
            Self::Torrent(_) => None,
        }
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => Ok(()),
            Self::Hops { hops, isolation: None } => write!(f, "h{hops}"),
            Self::Hops { hops, isolation: Some(key) } => write!(f, "h{hops}-{key}"),
            Self::Torrent(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_what_they_print() {
        for name in ["", "h0", "h1", "h2", "h3", "h3-a", "h1-t-x-y", "t-abc", "t-abc-d"] {
            assert_eq!(User::parse(name).unwrap().format(), name);
        }
        assert_eq!(User::parse("t-abc").unwrap(), User::Torrent("t-abc".to_owned()));
    }

    #[test]
    fn other_names_are_refused() {
        for name in
            ["h4", "h", "h-1", "h3-", "h33", "h03", "H3", "t-", "t", "root", "h3-a b", "h3-é", "-", "h3\0"]
        {
            assert_eq!(User::parse(name), Err(UserError), "{name:?}");
        }
        assert_eq!(User::parse(&format!("h3-{}", "x".repeat(253))), Err(UserError));
    }

    #[test]
    fn isolation_is_hops_and_key() {
        let isolation = |name: &str| User::parse(name).unwrap().isolation(3);
        assert_eq!(isolation(""), isolation("h3"));
        assert_ne!(isolation("h2"), isolation("h3"));
        assert_ne!(isolation("h3-a"), isolation("h3-b"));
        assert_eq!(isolation("h1-a").unwrap(), Isolation { hops: 1, key: Arc::from("a") });
        assert_eq!(isolation("t-a"), None);
    }
}

//! What can be wrong with a configuration, and where it stands.

use std::path::PathBuf;

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// This file.
    File(PathBuf),
    /// This environment variable.
    Variable(String),
    /// `--set` or a flag of its own.
    Flag(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}: {detail}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// The parser's words, with line and column.
        detail: String,
    },
    /// No such section.
    #[error("{origin}: unknown section [{section}]{}", suggestion(nearest.as_deref()))]
    UnknownSection {
        /// Where it stands.
        origin: Origin,
        /// Its name.
        section: String,
        /// The known one it looks like.
        nearest: Option<String>,
    },
    /// No such key.
    #[error("{origin}: unknown key {key}{}", suggestion(nearest.as_deref()))]
    UnknownKey {
        /// Where it stands.
        origin: Origin,
        /// `section.name`.
        key: String,
        /// The known one it looks like.
        nearest: Option<String>,
    },
    /// A value of the wrong type or out of range.
    #[error("{origin}: {key}: {detail}")]
    Value {
        /// Where it stands.
        origin: Origin,
        /// `section.name`.
        key: String,
        /// What was expected and found.
        detail: String,
    },
    /// Two values that do not go together.
    #[error("{0}")]
    Conflict(String),
    /// The lab section was turned on where it may not be.
    #[error("lab.enabled is refused: {0}")]
    Lab(String),
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (did you mean {name}?)"))
}

//! Commands to a running node, and those that sign modules.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use crate::swap::PLUGINS;

/// `warren status`
#[derive(Args, Debug)]
pub struct Status {
    /// Show it again and again, every so many seconds, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = period)]
    pub watch: Option<Duration>,
}

/// `warren worker`
#[derive(Subcommand, Debug)]
pub enum Worker {
    /// Exchange the module behind a plugin's workers while the node runs
    ///
    /// The node reads FILE and the signature FILE.minisig beside it, which must be by one of plugins.keys.
    /// One worker goes first: a copy of it follows the live one's calls until it gave so many equal answers,
    /// then the state is handed over, worker by worker. Before that a failure costs nothing. Ctrl-C leaves;
    /// the node goes on with the swap. Every step is in audit.jsonl of the state folder.
    #[command(after_help = SWAP_EXAMPLES)]
    Swap(Swap),
    /// Go back to the module before the last swap
    Rollback {
        /// Whose module.
        #[arg(value_parser = PossibleValuesParser::new(PLUGINS))]
        plugin: String,
    },
    /// List the workers of the running node
    List,
    /// Drop a worker as if it had failed; its circuits die (labs only)
    Kill {
        /// Its index, as `warren worker list` shows it.
        index: u8,
    },
}

const SWAP_EXAMPLES: &str = "\
Examples:
  warren plugin sign tunnel.wasm
  warren worker swap tunnel tunnel.wasm
  warren worker swap tunnel other.wasm --drain    the state cannot be handed over: old circuits end by themselves";

/// `warren worker swap`
#[derive(Args, Debug)]
pub struct Swap {
    /// Whose module
    #[arg(value_parser = PossibleValuesParser::new(PLUGINS))]
    pub plugin: String,
    /// The new module
    #[arg(value_name = "FILE.wasm")]
    pub file: PathBuf,
    /// Hand no state over: the new module takes new circuits while the old one's end
    #[arg(long)]
    pub drain: bool,
    /// Equal answers that the first worker's copy must give before anything changes; 0 goes without
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub canary: u32,
}

/// `warren plugin`
#[derive(Subcommand, Debug)]
pub enum Plugin {
    /// Make a key pair to sign modules with
    ///
    /// The files are those of the minisign command line. Asks for a password unless told where one is.
    Keygen {
        /// Where the secret key goes; the public one goes beside it, as .pub [default:
        /// $XDG_CONFIG_HOME/warren/plugin.key]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Take the password from the first line of this file.
        #[arg(long, value_name = "FILE", conflicts_with = "no_password")]
        password_file: Option<PathBuf>,
        /// Keep the secret key readable for whoever can read its file.
        #[arg(long)]
        no_password: bool,
    },
    /// Sign a module; the signature goes beside it, as FILE.minisig
    Sign {
        /// The module.
        #[arg(value_name = "FILE.wasm")]
        file: PathBuf,
        /// The secret key [default: $XDG_CONFIG_HOME/warren/plugin.key]
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Take the password from the first line of this file.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Check the signature beside a module
    Verify {
        /// The module.
        #[arg(value_name = "FILE.wasm")]
        file: PathBuf,
        /// The public key, or its file, instead of those in plugins.keys; may be repeated.
        #[arg(long = "key", value_name = "KEY|FILE")]
        keys: Vec<String>,
    },
}

/// Seconds, as a whole or broken number.
fn period(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds from 0.1 to 3600".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_some_seconds() {
        assert_eq!(period("2"), Ok(Duration::from_secs(2)));
        assert_eq!(period("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "NaN", "inf", "3601", "soon", ""] {
            assert!(period(text).is_err(), "{text}");
        }
    }
}

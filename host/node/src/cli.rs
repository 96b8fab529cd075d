//! What may stand on the command line.

mod operate;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use warren_ports::{Host, Target};

pub use operate::{Plugin, Status, Swap, Worker};

const EXAMPLES: &str = "\
Examples:
  warren get 'magnet:?xt=urn:btih:…'             download through circuits of 3 hops
  warren get debian.torrent --hops 2 --out ~/iso
  warren seed ~/holiday-photos                   offer a file or folder, and print its magnet
  warren run                                     a node with a SOCKS5 server on 127.0.0.1:1080
  warren run --set relay.enabled=true --set tunnel.advertise=192.0.2.1:7411
  curl --socks5-hostname h3:@127.0.0.1:1080 https://example.org
  warren status --watch                          how the running node is, again and again
  warren circuits                                its circuits, hop by hop
  warren worker swap tunnel new.wasm             exchange the module behind its workers, under load

Exit status: 0 done, 1 failed, 2 wrong usage or configuration.";

/// Anonymous BitTorrent over onion circuits.
#[derive(Parser, Debug)]
#[command(name = "warren", version, about = "Anonymous BitTorrent over onion circuits", after_help = EXAMPLES)]
pub struct Cli {
    /// What applies to every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Configuration file [default: $XDG_CONFIG_HOME/warren/config.toml]
    #[arg(long, global = true, value_name = "FILE", env = "WARREN_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Folder for keys and state [default: $XDG_STATE_HOME/warren]
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Override a configuration key; may be repeated
    #[arg(long = "set", global = true, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
    /// Print JSON, one object per line
    #[arg(long, global = true)]
    pub json: bool,
    /// Least important level logged: error, warn, info, debug, trace
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run a node until it is told to stop
    ///
    /// Joins the overlay, listens for SOCKS5, and carries other people's circuits if relay.enabled
    /// is set. Prints a line when it is ready.
    Run,
    /// Download a torrent through circuits
    ///
    /// Starts a node of its own for as long as it takes. While no circuit stands the download waits;
    /// it never falls back to a direct connection. What was downloaded is kept when it is
    /// interrupted, and the next run goes on from there.
    #[command(after_help = GET_EXAMPLES)]
    Get(Get),
    /// Offer a file or folder through circuits
    ///
    /// PATH is a file or folder to make a torrent of, or a .torrent whose content lies beside it.
    /// Prints the magnet, and seeds until it is told to stop.
    Seed(Seed),
    /// Show how the running node is
    Status(Status),
    /// Show the running node's own circuits: hops, streams, bytes, ages
    Circuits,
    /// List the running node's workers, or exchange the module behind them
    #[command(subcommand)]
    Worker(Worker),
    /// Make keys, and sign and verify modules with them
    #[command(subcommand)]
    Plugin(Plugin),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print completions for a shell
    ///
    /// Example: warren completions bash > ~/.local/share/bash-completion/completions/warren
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

const GET_EXAMPLES: &str = "\
Examples:
  warren get 'magnet:?xt=urn:btih:…&tr=https://tracker.example/announce'
  warren get https://example.org/image.torrent --hops 1 --out /srv/images --seed
  warren get big.torrent --json | jq .event";

/// `warren get`
#[derive(Args, Debug)]
pub struct Get {
    /// A magnet link, a .torrent file, or the URL of one (fetched through a circuit too)
    #[arg(value_name = "MAGNET|FILE|URL", value_hint = ValueHint::FilePath)]
    pub source: String,
    /// Relays between you and the peers; 0 is a direct connection, without any anonymity
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=3))]
    pub hops: u8,
    /// Folder to put the files into
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// A peer to ask besides those that magnet and trackers name; may be repeated
    #[arg(long = "peer", value_name = "HOST:PORT", value_parser = target)]
    pub peers: Vec<Target>,
    /// With --hops 0: take peers on this address and port
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Go on seeding when it is complete, until told to stop
    #[arg(long)]
    pub seed: bool,
}

/// `warren seed`
#[derive(Args, Debug)]
pub struct Seed {
    /// A file, a folder, or a .torrent file
    pub path: PathBuf,
    /// Relays between you and the peers; 0 is a direct connection, without any anonymity
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=3))]
    pub hops: u8,
    /// A tracker to announce to, through the circuit; may be repeated
    #[arg(long = "tracker", value_name = "URL")]
    pub trackers: Vec<String>,
    /// A peer to connect to; may be repeated
    #[arg(long = "peer", value_name = "HOST:PORT", value_parser = target)]
    pub peers: Vec<Target>,
    /// With --hops 0: take peers on this address and port
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
}

/// `warren config`
#[derive(Subcommand, Debug)]
pub enum ConfigCommand {
    /// Check a configuration file and say what is wrong with it
    Check {
        /// The file; the one in use if none is given.
        file: Option<PathBuf>,
    },
    /// Print the configuration in effect, with a comment for every key
    Show,
}

/// `192.0.2.1:6881`, `[2001:db8::1]:6881` or `name:6881`.
fn target(text: &str) -> Result<Target, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Target::from(address));
    }
    let (name, port) = text.rsplit_once(':').ok_or("a port is missing: expected HOST:PORT")?;
    let port = port.parse::<u16>().map_err(|_| "the port is not a number from 1 to 65535")?;
    if name.is_empty() || name.contains(['[', ']', ':', '/', ' ']) {
        return Err("expected HOST:PORT, with an IPv6 address in brackets".into());
    }
    Ok(Target { host: Host::Name(name.to_owned()), port })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn peers_are_addresses_or_names_with_a_port() {
        assert_eq!(
            target("192.0.2.1:80").unwrap(),
            Target::from("192.0.2.1:80".parse::<SocketAddr>().unwrap())
        );
        assert_eq!(target("[::1]:80").unwrap().port, 80);
        assert_eq!(target("peer.example:6881").unwrap().host, Host::Name("peer.example".into()));
        for text in ["peer", "peer:", "peer:70000", ":80", "::1:80", "http://x:1"] {
            assert!(target(text).is_err(), "{text}");
        }
    }
}

//! The network that demo, net and bench run in: built, started, waited for.

use std::path::PathBuf;

use clap::Args;
use warren_bench::network::{Network, Plan};

use crate::program::Profile;
use crate::{interrupt, plugins, program};

/// How large the network is.
#[derive(Args, Clone)]
pub(crate) struct Size {
    /// Relays that are no exits.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) relays: u8,
    /// Exits.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) exits: u8,
    /// A setting of every node, as SECTION.KEY=VALUE; may be repeated.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE", value_parser = setting)]
    pub(crate) set: Vec<(String, String)>,
}

/// Reads SECTION.KEY=VALUE.
pub(crate) fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if key.contains('.') => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected SECTION.KEY=VALUE, such as workers.mode=native".to_owned()),
    }
}

/// Builds plugin and program, then starts a network. With `client_hops` there is a client in it, and
/// it has ready circuits of those lengths.
pub(crate) fn start(
    profile: Profile,
    size: &Size,
    client_hops: &[u8],
    dir: Option<PathBuf>,
) -> anyhow::Result<Network> {
    let plugins = plugins::find_or_build(&plugins::Wanted::default())?;
    let plan = Plan {
        program: program::build(profile)?,
        plugin: plugins.join("tunnel.wasm"),
        relays: size.relays,
        exits: size.exits,
        client_hops: client_hops.to_vec(),
        dir,
        set: size.set.clone(),
    };
    interrupt::listen();
    eprintln!("starting {} relays and {} exits on loopback", size.relays, size.exits);
    let mut network = Network::start(plan, &interrupt::go_on)?;
    if !client_hops.is_empty() {
        network.wait_for_circuits(&interrupt::go_on)?;
    }
    Ok(network)
}

/// The lengths of circuit that so many relays and exits allow, at most 3.
pub(crate) fn possible_hops(size: &Size) -> Vec<u8> {
    // Exits serve as relays when there is need, and the last hop is always one of them.
    let others = size.relays.saturating_add(size.exits).saturating_sub(1);
    (1..=3).filter(|hops| hops - 1 <= others).collect()
}

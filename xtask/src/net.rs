//! `net`: a network around a command.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use warren_bench::network::Network;
use warren_bench::process::Process;

use crate::interrupt;
use crate::network::{self, Size};
use crate::program::Profile;

/// `cargo xtask net`
#[derive(Args)]
pub(crate) struct Net {
    #[command(flatten)]
    size: Size,
    /// Where the nodes' files go, and stay; by default a temporary folder.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// What to run, and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// What the gate runs: every variable is there, and a fetch through 1 to 3 hops of what nobody
/// serves comes back as "connection refused", which only an exit that tried can say.
const SMOKE: &str = r#"
for user in "$WARREN_SOCKS_USER_1" "$WARREN_SOCKS_USER_2" "$WARREN_SOCKS_USER_3"; do
    curl --silent --socks5-hostname "$user:$WARREN_SOCKS_PASS@$WARREN_SOCKS" http://127.0.0.1:1/ -o /dev/null -v 2>&1 |
        grep -q "SOCKS5 connection to 127.0.0.1. (5)" || exit 1
done
test -n "$WARREN_BOOTSTRAP" && test -f "$WARREN_CONFIG" && test -n "$WARREN_PIDS" || exit 2
exit 7
"#;

/// A small network around a command, for the gate.
pub(crate) fn smoke() -> anyhow::Result<()> {
    let size = Size { relays: 2, exits: 1, set: Vec::new() };
    let command = ["sh", "-c", SMOKE].map(str::to_owned).to_vec();
    let code = run(&Net { size, dir: None, command })?;
    if code != ExitCode::from(7) {
        bail!("the command's status did not come back: {code:?}");
    }
    Ok(())
}

/// Runs the command and returns its status.
pub(crate) fn run(net: &Net) -> anyhow::Result<ExitCode> {
    let network =
        network::start(Profile::Release, &net.size, &network::possible_hops(&net.size), net.dir.clone())?;
    let (program, arguments) = net.command.split_first().context("no command was given")?;
    let mut command = Command::new(program);
    command.args(arguments).envs(environment(&network)?);
    let mut process = Process::start(&mut command)?;
    let status = process.wait(interrupt::go_on);
    let code = status
        .map_or(130, |status| status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1));
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn environment(network: &Network) -> anyhow::Result<Vec<(String, String)>> {
    let client = network.client().context("the network has no client")?;
    let socks = client.socks().context("the client has no SOCKS door")?;
    let mut pids = Vec::new();
    for node in network.nodes() {
        pids.extend(node.pid().map(|pid| format!("{}={pid}", node.role().name())));
    }
    let config = network.join_config("joiner")?;
    let mut variables = vec![
        ("WARREN_SOCKS".to_owned(), socks.to_owned()),
        ("WARREN_SOCKS_PASS".to_owned(), network.token().to_owned()),
        ("WARREN_BOOTSTRAP".to_owned(), network.bootstrap().join(",")),
        ("WARREN_CONFIG".to_owned(), config.display().to_string()),
        ("WARREN_PIDS".to_owned(), pids.join(",")),
    ];
    variables.extend((1..=3).map(|hops| (format!("WARREN_SOCKS_USER_{hops}"), format!("h{hops}"))));
    Ok(variables)
}

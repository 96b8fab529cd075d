//! C tor: a private network on loopback, made without chutney.
//!
//! One authority, which is a relay too, more relays, exits and a client, each a `tor` process with a
//! configuration of its own (tor(1), "TESTING NETWORK OPTIONS"). Every role has its own addresses in 127/8, and
//! the client takes exits for last hops only, so that each process is in one role.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

use super::{GoOn, Moved, Size, System, fetch_all};
use crate::Stopwatch;
use crate::cpu::{self, PerRole};
use crate::network::Role;
use crate::process::Process;
use crate::web::WebServer;

mod authority;
mod torrc;

use authority::Authority;
use torrc::Node;

/// How long until all relays are in the consensus, and then until the client has circuits.
const PATIENCE: Duration = Duration::from_secs(120);
const STEP: Duration = Duration::from_millis(50);

/// Where `tor` and `tor-gencert` are; none when they are not installed.
#[must_use]
pub fn programs() -> Option<(PathBuf, PathBuf)> {
    Some((find("tor")?, find("tor-gencert")?))
}

/// Looks where Debian puts it too, which is not in everybody's PATH.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// A running network of `tor` processes.
pub struct Tor {
    socks: SocketAddr,
    /// Ended before the folder goes: fields are dropped in order.
    running: Vec<(Role, Process)>,
    server: WebServer,
    downloads: u32,
    dir: tempfile::TempDir,
}

impl Tor {
    /// Starts a network and waits until its client has built a circuit. `lines` come on top of every node's
    /// configuration.
    ///
    /// # Errors
    /// When it does not come up; the end of a log is in the error.
    pub fn start(size: Size, lines: &[String], go_on: GoOn<'_>) -> anyhow::Result<Self> {
        let (tor, gencert) = programs().context("tor is not installed")?;
        let dir = tempfile::Builder::new().prefix("warren-tor-").tempdir()?;
        let authority = Authority::make(dir.path(), &tor, &gencert, lines)?;
        let socks = torrc::free([127, 0, 0, 1])?;
        let mut network = Self { socks, running: Vec::new(), server: WebServer::start()?, downloads: 0, dir };
        network.run(&tor, &Node::authority(&authority), &authority)?;
        for number in 2..=size.relays {
            network.run(&tor, &Node::relay(number)?, &authority)?;
        }
        for number in 1..=size.exits {
            network.run(&tor, &Node::exit(number)?, &authority)?;
        }
        network.wait("the consensus", "authority", go_on, |dir| {
            authority::relays_in_consensus(dir) >= usize::from(size.relays) + usize::from(size.exits)
        })?;
        network.run(&tor, &Node::client(socks), &authority)?;
        network.wait("circuits", "client", go_on, |dir| {
            log(dir, "client").lines().any(|line| line.contains("Bootstrapped 100%"))
        })?;
        Ok(network)
    }

    fn run(&mut self, tor: &Path, node: &Node, authority: &Authority) -> anyhow::Result<()> {
        let torrc = node.write(self.dir.path(), authority)?;
        let mut command = Command::new(tor);
        command.args(["--defaults-torrc", "/dev/null", "--quiet", "-f"]).arg(torrc);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.running.push((node.role, Process::start(&mut command)?));
        Ok(())
    }

    fn wait(
        &mut self,
        what: &str,
        node: &str,
        go_on: GoOn<'_>,
        is_done: impl Fn(&Path) -> bool,
    ) -> anyhow::Result<()> {
        let waited = Stopwatch::start();
        while !is_done(self.dir.path()) {
            let ended = self.running.iter_mut().find_map(|(_, process)| process.ended());
            if !go_on() {
                bail!("interrupted");
            }
            if ended.is_some() || waited.elapsed() > PATIENCE {
                let log = log(self.dir.path(), node);
                let lines: Vec<&str> = log.lines().collect();
                let tail = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n");
                bail!("tor: no {what} after {:.0} s ({ended:?})\n{tail}", waited.seconds());
            }
            std::thread::sleep(STEP);
        }
        Ok(())
    }
}

/// What a node logged.
fn log(dir: &Path, node: &str) -> String {
    fs::read_to_string(dir.join(node).join("log")).unwrap_or_default()
}

impl System for Tor {
    fn name(&self) -> &'static str {
        "tor"
    }

    fn cpu(&self) -> PerRole {
        let mut all = PerRole::default();
        for (role, process) in &self.running {
            all.add(*role, cpu::seconds(process.pid()).unwrap_or_default());
        }
        all
    }

    /// Each download has a login of its own, so that tor gives it a circuit of its own.
    fn download(&mut self, parallel: u8, bytes: u64, go_on: GoOn<'_>) -> anyhow::Result<Moved> {
        self.downloads += 1;
        let login = |index| format!("download-{}-{index}:x", self.downloads);
        fetch_all(&self.socks.to_string(), login, &self.server, (parallel, bytes), go_on)
    }
}

/// All are told to stop before the first is waited for. SIGKILL, because relays wait 30 s for their clients.
impl Drop for Tor {
    fn drop(&mut self) {
        self.running.iter_mut().for_each(|(_, process)| process.signal(libc::SIGKILL));
    }
}

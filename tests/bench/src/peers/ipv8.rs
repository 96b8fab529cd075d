//! IPv8 with ipv8-rust-tunnels: a community of nodes on loopback, each a Python process whose cells are handled by
//! that library's endpoint.
//!
//! It tunnels datagrams, not streams. A download here is datagrams pulled from a source behind the exit, through
//! the SOCKS5 door for UDP that the client's endpoint opens: what a torrent engine's uTP would do without its
//! congestion control and without its cost.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::{Map, Value};

use super::pull::Pull;
use super::socks_udp::Association;
use super::source::{Source, request};
use super::{GoOn, HOPS, MAX_PARALLEL, Moved, Size, System, median};
use crate::Stopwatch;
use crate::cpu::{self, PerRole};
use crate::network::Role;
use crate::process::Process;

/// How long a node may take to say what it is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a download may stand still.
const STALLED: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(20);
/// How long a download waits for a datagram before it looks at its clock.
const LOOK: Duration = Duration::from_millis(20);

/// How a node is run.
#[derive(Clone, Debug)]
pub struct Program {
    /// A Python that has pyipv8 and ipv8-rust-tunnels.
    pub python: PathBuf,
    /// `tests/bench/peers/ipv8_node.py`.
    pub script: PathBuf,
    /// Datagrams of a download that are on their way at once. A socket's buffer of Linux' default size holds about
    /// 90, and there is one at every hop; more get lost.
    pub window: u16,
}

/// One download's way: an association with a circuit of its own, and a source behind the exit.
struct Way {
    association: Association,
    source: Source,
}

/// A running community.
pub struct Ipv8 {
    nodes: Vec<Node>,
    ways: Vec<Way>,
    window: u16,
    _dir: tempfile::TempDir,
}

struct Node {
    role: Role,
    process: Process,
    said: Arc<Mutex<Map<String, Value>>>,
    log: PathBuf,
}

impl Ipv8 {
    /// Starts a community and waits until its client has [`MAX_PARALLEL`] circuits.
    ///
    /// # Errors
    /// When it does not come up; what a node wrote is in the error.
    pub fn start(size: Size, program: &Program, go_on: GoOn<'_>) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("warren-ipv8-").tempdir()?;
        let roles = std::iter::repeat_n(Role::Relay, size.relays.into())
            .chain(std::iter::repeat_n(Role::Exit, size.exits.into()))
            .chain([Role::Originator]);
        let (mut nodes, mut known) = (Vec::new(), Vec::new());
        for (number, role) in roles.enumerate() {
            let node = Node::start(program, role, &known, &dir.path().join(format!("{number}.log")))?;
            known.push(node.wait("address", go_on, |said| Some(said.get("address")?.as_str()?.to_owned()))?);
            nodes.push(node);
        }
        let client = nodes.last().context("there is no client")?;
        let socks = client.wait("circuits", go_on, |said| {
            let ready = said.get("ready")?.as_u64()? >= u64::from(MAX_PARALLEL);
            said.get("socks")?.as_str()?.parse::<SocketAddr>().ok().filter(|_| ready)
        })?;
        let way = |_| Ok(Way { association: Association::open(socks)?, source: Source::start()? });
        let ways = (0..MAX_PARALLEL).map(way).collect::<anyhow::Result<_>>()?;
        Ok(Self { nodes, ways, window: program.window, _dir: dir })
    }
}

impl Node {
    fn start(program: &Program, role: Role, known: &[String], log: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(&program.python);
        let role_name = if role == Role::Originator { "client" } else { role.name() };
        command.arg(&program.script).args(["--role", role_name, "--hops", &HOPS.to_string()]);
        command.args(["--circuits", &MAX_PARALLEL.to_string()]);
        command.args(known.iter().flat_map(|other| ["--other", other]));
        // Its stdin stays open as long as this process lives, and ends it then.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(log)?);
        let mut process = Process::start(&mut command)?;
        let output = process.child().stdout.take().context("a node without output")?;
        let said = Arc::new(Mutex::new(Map::new()));
        let heard = Arc::clone(&said);
        std::thread::spawn(move || listen(output, &heard));
        Ok(Self { role, process, said, log: log.to_owned() })
    }

    /// Waits until what it said holds what `find` looks for.
    fn wait<T>(
        &self,
        what: &str,
        go_on: GoOn<'_>,
        find: impl Fn(&Map<String, Value>) -> Option<T>,
    ) -> anyhow::Result<T> {
        let waited = Stopwatch::start();
        loop {
            if let Some(found) = find(&self.said.lock().unwrap_or_else(PoisonError::into_inner)) {
                return Ok(found);
            }
            if !go_on() {
                bail!("interrupted");
            }
            if waited.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("an IPv8 {} tells no {what}\n{log}", self.role.name());
            }
            std::thread::sleep(STEP);
        }
    }
}

/// Keeps the last value of every name in its lines of JSON.
fn listen(output: ChildStdout, said: &Mutex<Map<String, Value>>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if let Ok(Value::Object(event)) = serde_json::from_str(&line) {
            said.lock().unwrap_or_else(PoisonError::into_inner).extend(event);
        }
    }
}

impl System for Ipv8 {
    fn name(&self) -> &'static str {
        "ipv8-rust"
    }

    fn cpu(&self) -> PerRole {
        let mut all = PerRole::default();
        for node in &self.nodes {
            all.add(node.role, cpu::seconds(node.process.pid()).unwrap_or_default());
        }
        all
    }

    fn download(&mut self, parallel: u8, bytes: u64, go_on: GoOn<'_>) -> anyhow::Result<Moved> {
        let stopped = std::sync::atomic::AtomicBool::new(false);
        let window = usize::from(self.window);
        let may = || !stopped.load(std::sync::atomic::Ordering::Relaxed);
        let ways = self.ways.iter_mut().take(parallel.into());
        let outcomes: anyhow::Result<Vec<Moved>> = std::thread::scope(|scope| {
            let running: Vec<_> = ways.map(|way| scope.spawn(|| way.download(bytes, window, &may))).collect();
            while running.iter().any(|one| !one.is_finished()) {
                if !go_on() {
                    stopped.store(true, std::sync::atomic::Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            running.into_iter().map(|one| one.join().map_err(|_| anyhow!("a download panicked"))?).collect()
        });
        let moved = outcomes?;
        Ok(Moved {
            seconds: moved.iter().map(|one| one.seconds).fold(0.0, f64::max),
            first_byte_s: median(moved.iter().map(|one| one.first_byte_s).collect()),
        })
    }
}

impl Way {
    fn download(&mut self, bytes: u64, window: usize, go_on: &dyn Fn() -> bool) -> anyhow::Result<Moved> {
        self.association.set_patience(LOOK)?;
        let (clock, mut pull) = (Stopwatch::start(), Pull::new(bytes, window));
        let (mut first_byte, mut progress, mut received) = (None, Duration::ZERO, 0);
        while !pull.is_done() {
            let now = clock.elapsed();
            while let Some((first, count)) = pull.poll_request(now) {
                self.association.send(self.source.address(), &request(first, count))?;
            }
            if let Some(datagram) = self.association.receive()? {
                pull.handle_datagram(datagram);
            }
            if pull.received() > received {
                (received, progress) = (pull.received(), now);
                first_byte = first_byte.or_else(|| Some(clock.seconds()));
            }
            if !go_on() {
                bail!("interrupted");
            }
            if now.saturating_sub(progress) > STALLED {
                bail!("IPv8 stalled after {received} datagrams");
            }
        }
        Ok(Moved { seconds: clock.seconds(), first_byte_s: first_byte.unwrap_or_default() })
    }
}

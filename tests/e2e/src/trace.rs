//! Where the system calls of a process wanted to send, read from `strace`.
//!
//! Allowed are this machine's own sockets, `AF_UNIX` and `AF_NETLINK`, and loopback. Whatever is not
//! understood is not allowed. Not here: writes to connected sockets, whose address `connect` showed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use warren_bench::Stopwatch;
use warren_bench::process::Process;

/// How long the tracer may need for its last lines after the traced process ended.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// Whether there is an `strace` that may trace.
#[must_use]
pub fn is_possible() -> bool {
    let tried = Command::new("strace").args(["-f", "--seccomp-bpf", "-o", "/dev/null", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
}

/// The words to put before a command so that its sends are written to `file`. The command stays the
/// direct child, and signals reach it.
#[must_use]
pub fn wrapper(file: &Path) -> Vec<OsString> {
    // As many array elements are shown as there may be characters in a text: 1024 cells at once is
    // the most that the kernel takes from sendmmsg.
    let words = "strace -D -f -q --seccomp-bpf -s 1024 -e trace=connect,sendto,sendmsg,sendmmsg \
                 -e signal=none -o";
    words.split_whitespace().map(OsString::from).chain([PathBuf::from(file).into()]).collect()
}

/// A process that runs, under watch from now on.
pub struct Watch {
    tracer: Process,
    file: PathBuf,
}

impl Watch {
    /// Writes what process `pid` sends from now on to `file`. Gives back when it is watched.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn start(pid: u32, file: &Path) -> anyhow::Result<Self> {
        let mut words = wrapper(file).into_iter().filter(|word| word != "-D" && word != "--seccomp-bpf");
        let mut command = Command::new(words.next().context("no tracer")?);
        command.args(words).args(["-p", &pid.to_string()]).stderr(Stdio::null());
        let (mut tracer, waited) = (Process::start(&mut command)?, Stopwatch::start());
        while !is_watched(pid)? {
            ensure!(tracer.ended().is_none() && waited.elapsed() < PATIENCE, "{pid} cannot be traced");
            std::thread::sleep(LOOK);
        }
        Ok(Self { tracer, file: file.to_owned() })
    }

    /// Ends the watch and reads what it saw.
    ///
    /// # Errors
    /// When the tracer does not end, or wrote nothing that can be read.
    pub fn end(mut self) -> anyhow::Result<Trace> {
        self.tracer.signal(libc::SIGINT);
        let waited = Stopwatch::start();
        while self.tracer.ended().is_none() {
            ensure!(waited.elapsed() < PATIENCE, "the tracer does not end");
            std::thread::sleep(LOOK);
        }
        Ok(parse(&String::from_utf8(std::fs::read(&self.file)?)?))
    }
}

/// Whether every thread of a process has a tracer.
fn is_watched(pid: u32) -> anyhow::Result<bool> {
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // One that has just ended sends nothing.
        let Ok(status) = std::fs::read_to_string(thread?.path().join("status")) else { continue };
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        if tracer.context("no TracerPid")?.trim() == "0" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a trace shows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Addresses on loopback, as often as they were named.
    pub loopback: usize,
    /// Which those are.
    pub addresses: BTreeSet<SocketAddr>,
    /// Lines with an address elsewhere, or that are not understood.
    pub refused: Vec<String>,
}

/// Waits until the trace in `file` holds the end of process `pid`, and reads it.
///
/// # Errors
/// When the end does not come: what is there is not everything.
pub fn read(file: &Path, pid: u32) -> anyhow::Result<Trace> {
    let waited = Stopwatch::start();
    let is_end = |line: &str| {
        line.strip_prefix(&pid.to_string()).is_some_and(|rest| rest.trim_start().starts_with("+++ "))
    };
    loop {
        let text = String::from_utf8(std::fs::read(file)?)?;
        if text.lines().any(is_end) {
            return Ok(parse(&text));
        }
        ensure!(waited.elapsed() < PATIENCE, "the trace does not hold the end of {pid}");
        std::thread::sleep(LOOK);
    }
}

/// Judges every line.
#[must_use]
pub fn parse(text: &str) -> Trace {
    let mut trace = Trace::default();
    for line in text.lines() {
        match loopback_addresses(line) {
            Ok(found) => {
                trace.loopback += found.len();
                trace.addresses.extend(found);
            }
            Err(why) => trace.refused.push(format!("{why}: {line}")),
        }
    }
    trace
}

/// The loopback addresses that a line names; fails when it names another, or could.
fn loopback_addresses(line: &str) -> anyhow::Result<Vec<SocketAddr>> {
    let line = without_payloads(line);
    let call = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    let mut addresses = call.split("sa_family=");
    let before = addresses.next().unwrap_or_default();
    let (mut count, mut loopback) = (0, Vec::new());
    for address in addresses {
        count += 1;
        loopback.extend(loopback_address(address)?);
    }
    let unnamed = call.matches("msg_name=NULL").count();
    let named = call.matches("msg_name={sa_family=").count();
    let is_understood = match before.split(['(', ' ']).next().unwrap_or_default() {
        "connect" => count == 1,
        "sendto" => count == 1 || call.contains(", NULL, 0"),
        "sendmsg" => named + unnamed == 1,
        // Its arguments are printed when it returns, which may be on a line of its own.
        "sendmmsg" => {
            is_whole(call) && (named + unnamed > 0 || call.contains("<unfinished ...>") || has_failed(call))
        }
        "<..." => is_whole(call) && (!call.contains("sendmmsg") || named + unnamed > 0 || has_failed(call)),
        "+++" => true,
        _ => false,
    };
    ensure!(is_understood && named + unnamed == call.matches("msg_name=").count(), "not understood");
    Ok(loopback)
}

/// Whether no elements of an array were left out.
fn is_whole(call: &str) -> bool {
    !call.contains("...]")
}

fn has_failed(call: &str) -> bool {
    call.contains(") = -1 E") || call.contains(" = ? ")
}

/// The loopback address that follows `sa_family=`; none for what never leaves the machine's own
/// sockets.
fn loopback_address(address: &str) -> anyhow::Result<Option<SocketAddr>> {
    let address = address.split('}').next().unwrap_or_default();
    let (family, rest) = address.split_once(',').unwrap_or((address, ""));
    let quoted = |before: &str| rest.split_once(before)?.1.split('"').next();
    let ip: Option<IpAddr> = match family {
        "AF_UNIX" | "AF_NETLINK" => return Ok(None),
        "AF_INET" => quoted("inet_addr(\"").and_then(|text| text.parse::<Ipv4Addr>().ok()).map(IpAddr::V4),
        "AF_INET6" => {
            quoted("inet_pton(AF_INET6, \"").and_then(|text| text.parse::<Ipv6Addr>().ok()).map(IpAddr::V6)
        }
        _ => None,
    };
    match ip {
        Some(ip) if ip.to_canonical().is_loopback() => {
            let port = rest.split_once("_port=htons(").and_then(|(_, port)| port.split(')').next());
            let port = port.context("no port")?.parse()?;
            Ok(Some(SocketAddr::new(ip.to_canonical(), port)))
        }
        Some(ip) => bail!("{ip} is not loopback"),
        None => bail!("{family} is not allowed"),
    }
}

/// The line without texts, except those of addresses: a payload may look like an address.
fn without_payloads(line: &str) -> String {
    let mut kept = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('"') {
        kept.push_str(before);
        let mut is_escaped = false;
        let end = after.find(|c| {
            let is_end = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            is_end
        });
        let (text, next) = after.split_at(end.unwrap_or(after.len()));
        kept.push('"');
        if before.ends_with("inet_addr(") || before.ends_with("inet_pton(AF_INET6, ") {
            kept.push_str(text);
        }
        rest = next.strip_prefix('"').inspect(|_| kept.push('"')).unwrap_or_default();
    }
    kept + rest
}

#[cfg(test)]
mod tests;

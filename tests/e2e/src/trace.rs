//! Where the system calls of a process wanted to send, read from `strace`.
//!
//! Allowed are this machine's own sockets, `AF_UNIX` and `AF_NETLINK`, and loopback. Whatever is not
//! understood is not allowed. Not here: writes to connected sockets, whose address `connect` showed.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{bail, ensure};
use warren_bench::Stopwatch;

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

/// What a trace shows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Addresses on loopback.
    pub loopback: usize,
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
            Ok(count) => trace.loopback += count,
            Err(why) => trace.refused.push(format!("{why}: {line}")),
        }
    }
    trace
}

/// How many loopback addresses a line names; fails when it names another, or could.
fn loopback_addresses(line: &str) -> anyhow::Result<usize> {
    let line = without_payloads(line);
    let call = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    let mut addresses = call.split("sa_family=");
    let before = addresses.next().unwrap_or_default();
    let (mut count, mut loopback) = (0, 0);
    for address in addresses {
        count += 1;
        loopback += usize::from(is_loopback(address)?);
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

/// Whether what follows `sa_family=` is loopback; no for what never leaves the machine's own sockets.
fn is_loopback(address: &str) -> anyhow::Result<bool> {
    let address = address.split('}').next().unwrap_or_default();
    let (family, rest) = address.split_once(',').unwrap_or((address, ""));
    let quoted = |before: &str| rest.split_once(before)?.1.split('"').next();
    let ip: Option<IpAddr> = match family {
        "AF_UNIX" | "AF_NETLINK" => return Ok(false),
        "AF_INET" => quoted("inet_addr(\"").and_then(|text| text.parse::<Ipv4Addr>().ok()).map(IpAddr::V4),
        "AF_INET6" => {
            quoted("inet_pton(AF_INET6, \"").and_then(|text| text.parse::<Ipv6Addr>().ok()).map(IpAddr::V6)
        }
        _ => None,
    };
    match ip {
        Some(ip) if ip.to_canonical().is_loopback() => Ok(true),
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

//! Running a test again inside namespaces of its own.

use std::process::Command;

use anyhow::{Context, ensure};

const INSIDE: &str = "WARREN_E2E_INSIDE";
const APART: [&str; 3] = ["--map-root-user", "--net", "--mount"];

/// Whether this process is already inside.
#[must_use]
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Whether a process may have a network and mounts of its own here.
#[must_use]
pub fn is_possible() -> bool {
    let tried = || Command::new("unshare").args(APART).arg("true").output();
    std::env::var_os("WARREN_E2E_NO_NAMESPACE").is_none()
        && tried().is_ok_and(|output| output.status.success())
}

/// Runs the test called `test` again, alone, where there is no network but loopback and mounts are
/// its own.
///
/// # Errors
/// When there are no namespaces to be had, or the test fails there.
pub fn run_inside(test: &str) -> anyhow::Result<()> {
    let script = "ip link set lo up && exec \"$0\" --exact \"$1\" --nocapture";
    let mut command = Command::new("unshare");
    command.args(APART).args(["sh", "-c", script]);
    command.arg(std::env::current_exe()?).arg(test).env(INSIDE, "1");
    let status = command.status().context("unshare and ip are needed (Debian: util-linux, iproute2)")?;
    ensure!(status.success(), "inside the namespace: {status}");
    Ok(())
}

/// Datagrams and segments that this namespace could not send for want of a route, IPv4 and IPv6
/// (`OutNoRoutes`).
///
/// # Errors
/// When the kernel does not say.
pub fn without_route() -> anyhow::Result<u64> {
    let four = std::fs::read_to_string("/proc/net/snmp")?;
    let mut lines = four.lines().filter(|line| line.starts_with("Ip:")).map(|line| line.split(' '));
    let (mut names, mut counts) = (lines.next().context("no names")?, lines.next().context("no counts")?);
    let column = names.position(|name| name == "OutNoRoutes").context("no OutNoRoutes")?;
    let four: u64 = counts.nth(column).context("no count")?.parse()?;
    let six = std::fs::read_to_string("/proc/net/snmp6").unwrap_or_default();
    let six = six.lines().find_map(|line| line.strip_prefix("Ip6OutNoRoutes"));
    Ok(four + six.map_or(Ok(0), |count| count.trim().parse())?)
}

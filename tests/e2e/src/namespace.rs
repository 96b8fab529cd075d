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

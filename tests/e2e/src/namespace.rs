//! Running a test again inside namespaces of its own.

use std::process::Command;

use anyhow::{Context, ensure};

const INSIDE: &str = "WARREN_E2E_INSIDE";

/// Whether this process is already inside.
#[must_use]
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs the test called `test` again, alone, where there is no network but loopback and mounts are
/// its own.
///
/// # Errors
/// When there are no namespaces to be had, or the test fails there.
pub fn run_inside(test: &str) -> anyhow::Result<()> {
    let script = "ip link set lo up && exec \"$0\" --exact \"$1\" --nocapture";
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "--mount", "sh", "-c", script]);
    command.arg(std::env::current_exe()?).arg(test).env(INSIDE, "1");
    let status = command.status().context("unshare and ip are needed (Debian: util-linux, iproute2)")?;
    ensure!(status.success(), "inside the namespace: {status}");
    Ok(())
}

//! The `warren` program, and the cargo that builds things for these tools.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use crate::plugins::{cache_dir, workspace};

/// Where child cargos build: the surroundings' `CARGO_TARGET_DIR`, else the user's cache.
pub(crate) fn target_dir() -> anyhow::Result<PathBuf> {
    match env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => Ok(std::path::absolute(dir)?),
        None => Ok(cache_dir()?.join("target")),
    }
}

/// `cargo VERB` in the workspace, with [`target_dir`].
pub(crate) fn cargo(verb: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(verb).current_dir(workspace()).env("CARGO_TARGET_DIR", target_dir()?);
    Ok(command)
}

/// Builds `warren` and returns its path. The whole workspace is named, so that dependencies get the
/// same features as under `cargo test --workspace` and are built once.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let mut command = cargo("build")?;
    command.args(["--quiet", "--release", "--workspace", "--bin", "warren"]);
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("warren does not build ({status})");
    }
    Ok(target_dir()?.join("release").join("warren"))
}

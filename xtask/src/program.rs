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

/// Builds `warren` and returns its path.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    build_target("--bin", "warren")?;
    Ok(target_dir()?.join("release").join("warren"))
}

/// Builds the example of that name, of whichever crate, and returns its path.
pub(crate) fn build_example(name: &str) -> anyhow::Result<PathBuf> {
    build_target("--example", name)?;
    Ok(target_dir()?.join("release").join("examples").join(name))
}

/// The whole workspace is named, so that dependencies get the same features as under
/// `cargo test --workspace` and are built once.
fn build_target(kind: &str, name: &str) -> anyhow::Result<()> {
    let mut command = cargo("build")?;
    command.args(["--quiet", "--release", "--workspace", kind, name]);
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("{name} does not build ({status})");
    }
    Ok(())
}

//! The `warren` program, and the cargo that builds things for these tools.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
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

/// Cargo tells this project's crates by their names and judges them by the age of their files, so what
/// another checkout built into the same folder may pass for ours. What it built is then forgotten.
pub(crate) fn forget_other_checkout(target_dir: &Path) -> anyhow::Result<()> {
    let (mark, here) = (target_dir.join("checkout"), workspace());
    if fs::read_to_string(&mark).is_ok_and(|last| Path::new(last.as_str()) == here) {
        return Ok(());
    }
    // A folder for each profile, and one for each profile of each target that is not this machine.
    let inside =
        |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let folders: Vec<PathBuf> = inside(target_dir).collect();
    for profile in folders.iter().flat_map(|folder| inside(folder)).chain(folders.iter().cloned()) {
        for crates in inside(&profile.join(".fingerprint")) {
            let name = crates.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("warren-") || name.starts_with("xtask-") {
                fs::remove_dir_all(&crates)?;
            }
        }
    }
    fs::create_dir_all(target_dir)?;
    fs::write(&mark, here.to_string_lossy().as_bytes())?;
    Ok(())
}

/// `cargo VERB` in the workspace, with [`target_dir`].
///
/// What `cargo xtask` told this program of its own package is not passed on: build scripts that look at
/// such variables would run again, and crates with C be built again, at every other call from outside.
pub(crate) fn cargo(verb: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let target_dir = target_dir()?;
    forget_other_checkout(&target_dir)?;
    command.arg(verb).current_dir(workspace()).env("CARGO_TARGET_DIR", target_dir);
    let own = |name: &OsStr| {
        name.to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
    };
    for (name, _) in env::vars_os().filter(|(name, _)| own(name)) {
        command.env_remove(name);
    }
    Ok(command)
}

/// How `warren` is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Soon: for tests and tries.
    Release,
    /// As it is installed, which takes some ten minutes the first time: for what is measured.
    Dist,
}

impl Profile {
    const fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Dist => "dist",
        }
    }
}

/// Builds `warren` and returns its path.
pub(crate) fn build(profile: Profile) -> anyhow::Result<PathBuf> {
    let path = target_dir()?.join(profile.name()).join("warren");
    if profile == Profile::Dist && !path.exists() {
        eprintln!("building warren as it is installed: this takes some ten minutes, once");
    }
    build_target(profile, "--bin", "warren")?;
    Ok(path)
}

/// Builds the example of that name, of whichever crate, and returns its path.
pub(crate) fn build_example(name: &str) -> anyhow::Result<PathBuf> {
    build_target(Profile::Release, "--example", name)?;
    Ok(target_dir()?.join("release").join("examples").join(name))
}

/// The whole workspace is named, so that dependencies get the same features as under
/// `cargo test --workspace` and are built once.
fn build_target(profile: Profile, kind: &str, name: &str) -> anyhow::Result<()> {
    let mut command = cargo("build")?;
    command.args(["--quiet", "--profile", profile.name(), "--workspace", kind, name]);
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("{name} does not build ({status})");
    }
    Ok(())
}

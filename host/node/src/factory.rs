//! What makes the workers: the plugin in its sandbox, or the same code linked in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use warren_sandbox::Sandbox;
use warren_workers::WorkerFactory;

use crate::config::{Config, Mode};
use crate::folders;

const PLUGIN: &str = "tunnel.wasm";

/// What makes the workers of a node.
pub struct Workers {
    /// Makes the first ones.
    pub factory: Arc<dyn WorkerFactory>,
    /// Where other modules can be loaded; none for native workers.
    pub sandbox: Option<Sandbox>,
}

/// What `workers.mode` names.
///
/// # Errors
/// When the plugin is not found, is not one of this version, or native workers are not built in.
pub fn make(config: &Config) -> anyhow::Result<Workers> {
    match config.workers.mode {
        Mode::Wasm => sandboxed(&config.workers.plugin),
        Mode::Native => Ok(Workers { factory: native()?, sandbox: None }),
    }
}

fn sandboxed(plugin: &Path) -> anyhow::Result<Workers> {
    let path = find(plugin)?;
    let component = std::fs::read(&path).with_context(|| format!("reading the plugin {}", path.display()))?;
    let cache = folders::cache().join("compiled");
    let settings = warren_sandbox::Settings { cache: Some(cache), ..Default::default() };
    let sandbox = Sandbox::new(settings)?;
    let factory = sandbox
        .load("tunnel", &component)
        .with_context(|| format!("loading the plugin {}", path.display()))?;
    Ok(Workers { factory: Arc::new(factory), sandbox: Some(sandbox) })
}

/// Where the plugin lies: as configured, beside the program, or in the cache folder.
fn find(configured: &Path) -> anyhow::Result<PathBuf> {
    if !configured.as_os_str().is_empty() {
        return Ok(configured.to_owned());
    }
    let program = std::env::current_exe().ok();
    let beside = program.as_deref().and_then(Path::parent).map(|folder| folder.join(PLUGIN));
    let cached = folders::cache().join("plugins").join(PLUGIN);
    let places: Vec<PathBuf> = beside.into_iter().chain([cached]).collect();
    if let Some(found) = places.iter().find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    let tried: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
    bail!(
        "the tunnel plugin is not there (looked for {}); build it with `cargo xtask build-plugins`, name it with \
         workers.plugin, or run without the sandbox by workers.mode = \"native\"",
        tried.join(" and ")
    )
}

#[cfg(feature = "native-worker")]
#[expect(clippy::unnecessary_wraps, reason = "fails when the feature is off")]
fn native() -> anyhow::Result<Arc<dyn WorkerFactory>> {
    Ok(Arc::new(warren_native::NativeFactory))
}

#[cfg(not(feature = "native-worker"))]
fn native() -> anyhow::Result<Arc<dyn WorkerFactory>> {
    bail!("this program was built without native workers (cargo feature native-worker)")
}

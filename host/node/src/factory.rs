//! What makes the workers: the plugin in its sandbox, or the same code linked in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use warren_sandbox::Sandbox;
use warren_workers::WorkerFactory;

use crate::config::{Config, Mode, Plugins};
use crate::{folders, signature};

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
        Mode::Wasm => sandboxed(&config.workers.plugin, &config.plugins),
        Mode::Native => Ok(Workers { factory: native()?, sandbox: None }),
    }
}

fn sandboxed(plugin: &Path, plugins: &Plugins) -> anyhow::Result<Workers> {
    let path = find(plugin)?;
    let component = read(&path, plugins)?;
    let cache = folders::cache().join("compiled");
    let settings = warren_sandbox::Settings { cache: Some(cache), ..Default::default() };
    let sandbox = Sandbox::new(settings)?;
    let factory = sandbox
        .load("tunnel", &component)
        .with_context(|| format!("loading the plugin {}", path.display()))?;
    Ok(Workers { factory: Arc::new(factory), sandbox: Some(sandbox) })
}

/// The module, once somebody vouches for these very bytes, if somebody has to.
fn read(path: &Path, plugins: &Plugins) -> anyhow::Result<Vec<u8>> {
    let module =
        signature::read_module(path).with_context(|| format!("reading the plugin {}", path.display()))?;
    if plugins.require_signature_at_start {
        let verified = signature::verify(path, &module, &plugins.keys())
            .context("plugins.require_signature_at_start is on")?;
        tracing::info!(signer = verified.signer, comment = verified.comment, "the plugin is signed");
    }
    Ok(module)
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

#[cfg(test)]
mod tests {
    use warren_core::SystemClock;
    use warren_ports::Clock;

    use super::*;
    use crate::config::Sources;

    fn plugins(set: &[&str]) -> Plugins {
        let flags = set.iter().map(|text| ("--set".to_owned(), (*text).to_owned())).collect();
        let nothing = Path::new("/dev/null").to_owned();
        let sources = Sources { file: Some(nothing), environment: Vec::new(), flags };
        crate::config::load(&sources).unwrap().plugins
    }

    #[test]
    fn a_start_may_ask_for_a_signature_too() {
        const ASKED: &str = "plugins.require_signature_at_start=true";
        let folder = tempfile::tempdir().unwrap();
        let module = folder.path().join("tunnel.wasm");
        std::fs::write(&module, b"a module").unwrap();
        let made = signature::generate(&folder.path().join("k.key"), None).unwrap();
        let keys = format!("plugins.keys=[\"{}\"]", made.public);
        let refused = |set: &[&str]| format!("{:#}", read(&module, &plugins(set)).unwrap_err());

        assert_eq!(read(&module, &plugins(&[&keys])).unwrap(), b"a module", "nobody asked");
        let words = refused(&[&keys, ASKED]);
        assert!(words.contains("require_signature_at_start") && words.contains("is not signed"), "{words}");
        let secret = signature::SecretFile::open(&made.secret_file).unwrap();
        secret.sign(&module, None, SystemClock::start().now().as_micros() / 1_000_000).unwrap();
        assert_eq!(read(&module, &plugins(&[&keys, ASKED])).unwrap(), b"a module");
        assert!(refused(&[ASKED]).contains("no key is configured"));
        std::fs::write(&module, b"another module").unwrap();
        assert!(refused(&[&keys, ASKED]).contains("signature"));
    }
}

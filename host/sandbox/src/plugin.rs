//! A component whose world was checked, ready to be instantiated.

use warren_workers::{Description, Worker, WorkerFactory, WorkerFault, WorkerHost};
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre};

use crate::Error;
use crate::engine::Sandbox;
use crate::guest::Guest;
use crate::imports::ALLOWED;
use crate::worker::WasmWorker;

/// What a worker exports.
pub(crate) const MACHINE: &str = "warren:worker/machine@0.1.0";
const PACKAGE: &str = "warren:worker/";

/// Makes workers of one component.
#[derive(Clone)]
pub struct WasmFactory {
    sandbox: Sandbox,
    /// Name, version and the start of the digest: two builds of one version can be told apart.
    name: String,
    module: Description,
    sha256: [u8; 32],
    ready: InstancePre<Guest>,
}

impl WasmFactory {
    /// Checks names first, for words that help, then types: by linking and by looking at the
    /// exports of one instance, which describes itself and is thrown away.
    pub(crate) fn new(
        sandbox: Sandbox,
        name: &str,
        component: &Component,
        sha256: [u8; 32],
    ) -> Result<Self, Error> {
        check_names(&sandbox.shared.engine, name, component)?;
        let world = |detail: String| Error::World { plugin: name.to_owned(), detail };
        let ready = sandbox.shared.linker.instantiate_pre(component);
        let ready = ready.map_err(|error| world(format!("{error:#}")))?;
        let first = WasmWorker::new(&sandbox, name, &ready, Box::new(Nobody));
        let module = first.and_then(|mut worker| worker.describe());
        let module = module.map_err(|fault| world(fault.to_string()))?;
        let [a, b, c, d, ..] = sha256;
        let name = format!("{name} {} ({a:02x}{b:02x}{c:02x}{d:02x})", module.version);
        Ok(Self { sandbox, name, module, sha256, ready })
    }

    /// What the module says of itself.
    #[must_use]
    pub const fn module(&self) -> &Description {
        &self.module
    }

    /// SHA-256 of the component's bytes.
    #[must_use]
    pub const fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    fn instantiate(&self, host: Box<dyn WorkerHost>) -> Result<WasmWorker, WorkerFault> {
        WasmWorker::new(&self.sandbox, &self.name, &self.ready, host)
    }
}

impl WorkerFactory for WasmFactory {
    fn name(&self) -> &str {
        &self.name
    }

    fn spawn(&self, host: Box<dyn WorkerHost>) -> Result<Box<dyn Worker>, WorkerFault> {
        let worker = self.instantiate(host)?;
        Ok(Box::new(worker))
    }
}

fn check_names(engine: &Engine, plugin: &str, component: &Component) -> Result<(), Error> {
    let world = component.component_type();
    let other = |found: &str, spoken| Error::OtherVersion {
        plugin: plugin.to_owned(),
        found: found.to_owned(),
        spoken,
    };
    for (import, _) in world.imports(engine) {
        if ALLOWED.contains(&import) {
            continue;
        }
        let interface = import.split('@').next().unwrap_or_default();
        return Err(match ALLOWED.iter().find(|known| known.split('@').next() == Some(interface)) {
            Some(spoken) => other(import, spoken),
            None => Error::UndeclaredImport { plugin: plugin.to_owned(), import: import.to_owned() },
        });
    }
    let exports: Vec<&str> = world.exports(engine).map(|(name, _)| name).collect();
    if exports.contains(&MACHINE) {
        return Ok(());
    }
    Err(match exports.iter().find(|export| export.starts_with(PACKAGE)) {
        Some(found) => other(found, MACHINE),
        None => Error::World { plugin: plugin.to_owned(), detail: format!("it does not export {MACHINE}") },
    })
}

/// The host of the instance that only describes itself.
struct Nobody;

impl WorkerHost for Nobody {
    fn log(&mut self, _: warren_workers::LogLevel, _: &str) {}
    fn random(&mut self, _: &mut [u8]) {}
    fn onion_dh(&mut self, _: u32, _: &[u8]) -> Result<[u8; 32], warren_workers::DhRefusal> {
        Err(warren_workers::DhRefusal::UnknownEpoch)
    }
}

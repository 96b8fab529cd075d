//! The engine all workers of a process share.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use crate::cache::Cache;
use crate::guest::Guest;
use crate::plugin::WasmFactory;
use crate::ticker::Ticker;
use crate::{Error, Settings, imports};

/// A machine that does not give address space for so many workers has no room for any.
const FEWEST: u32 = 16;
/// Stack of a worker, in bytes.
const STACK: usize = 512 << 10;

/// The engine, its ticking thread and its cache of compiled code. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<Guest>,
    pub(crate) settings: Settings,
    pub(crate) ticker: Ticker,
    cache: Option<Cache>,
}

impl Sandbox {
    /// Sets the engine up and starts its thread. A cache folder that cannot be used is logged and
    /// done without.
    ///
    /// # Errors
    /// When the machine does not allow it: no room for the address space, no thread.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let engine = engine(&settings)?;
        let mut linker = Linker::new(&engine);
        imports::add(&mut linker).map_err(|error| Error::Engine(format!("{error:#}")))?;
        let ticker = Ticker::spawn(engine.weak(), settings.tick).map_err(Error::Ticker)?;
        let cache = settings.cache.as_deref().and_then(|folder| match Cache::open(folder) {
            Ok(cache) => Some(cache),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "compiled code is not kept");
                None
            }
        });
        Ok(Self { shared: Arc::new(Shared { engine, linker, settings, ticker, cache }) })
    }

    /// Takes a component as the plugin `name`: compiles it, or finds it compiled, checks that it
    /// imports and exports what a tunnel worker does, and has it describe itself. Its name for people
    /// is `name`, the version it says and the start of the bytes' SHA-256.
    ///
    /// # Errors
    /// Says what is wrong with the component.
    pub fn load(&self, name: &str, component: &[u8]) -> Result<WasmFactory, Error> {
        let compiled = self.compile(component);
        let compiled = compiled
            .map_err(|error| Error::Compile { plugin: name.to_owned(), detail: format!("{error:#}") })?;
        WasmFactory::new(self.clone(), name, &compiled, Sha256::digest(component).into())
    }

    fn compile(&self, component: &[u8]) -> wasmtime::Result<Component> {
        let engine = &self.shared.engine;
        match &self.shared.cache {
            Some(cache) => cache.component(engine, component),
            None => Component::from_binary(engine, component),
        }
    }
}

/// Bytes of an ended instance's memory that are zeroed and kept instead of being given back. Page faults are
/// two thirds of what a successor pays for the state of 4,000 circuits when its memory is fresh
/// (docs/benchmarks.md); this holds all of it.
const KEEP_RESIDENT: usize = 4 << 20;
/// Places that are kept so: a module that was loaded anew takes one of another module only when there
/// are no fewer.
const WARM: u32 = 1;

/// An engine with room for so many workers, or for half, or for half of that: limits on address space
/// differ from machine to machine, and a node needs few.
fn engine(settings: &Settings) -> Result<Engine, Error> {
    let mut instances = settings.instances;
    loop {
        match Engine::new(&config(settings, instances)) {
            Ok(engine) => return Ok(engine),
            Err(error) if instances / 2 >= FEWEST => {
                instances /= 2;
                tracing::warn!(instances, "no address space for more workers: {error:#}");
            }
            Err(error) => return Err(Error::Engine(format!("{error:#}"))),
        }
    }
}

fn config(settings: &Settings, instances: u32) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.max_memory_size(settings.memory)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .max_unused_warm_slots(WARM)
        .total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(4))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(2))
        .max_memories_per_component(1)
        .max_tables_per_component(2)
        .max_core_instances_per_component(4);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .cranelift_opt_level(OptLevel::Speed)
        .wasm_simd(true)
        .wasm_wide_arithmetic(true)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_component_model(true)
        .epoch_interruption(true)
        .max_wasm_stack(STACK);
    config
}

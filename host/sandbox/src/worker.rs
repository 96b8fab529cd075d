//! One running instance.

use std::sync::Arc;

use warren_schemas::Timestamp;
use warren_schemas::batch::{Batch, MAX_ANSWER};
use warren_schemas::state::MAX_STATE;
use warren_workers::{Worker, WorkerFault, WorkerHost, plain_line};
use wasmtime::component::{ComponentNamedList, Instance, InstancePre, Lift, Lower, TypedFunc};
use wasmtime::{Store, StoreContextMut};

use crate::engine::{Sandbox, Shared};
use crate::guest::{Budget, Guest, Stop};
use crate::plugin::MACHINE;

/// Bytes that may come out of an instance at once: the largest answer, and what the canonical ABI
/// counts beside it.
const OUT: usize = MAX_ANSWER + 4096;
/// The same for the call that gives the whole state.
const STATE_OUT: usize = MAX_STATE + 4096;

/// Bytes of a worker's own words that go into a fault, and from there into the log.
const WORDS: usize = 2048;

const EXPORT: &str = "export-state";
const IMPORT: &str = "import-state";

type Bytes = (Vec<u8>,);
type Done = (Result<(), String>,);

/// The exports of `warren:worker/machine`.
struct Exports {
    configure: TypedFunc<(u64, Vec<u8>), Done>,
    control: TypedFunc<(u64, Vec<u8>), Bytes>,
    data: TypedFunc<(u64, Vec<u8>), Bytes>,
    timeout: TypedFunc<(u64,), Bytes>,
    export_state: TypedFunc<(), (Result<Vec<u8>, String>,)>,
    import_state: TypedFunc<(u64, Vec<u8>), Done>,
    shutdown: TypedFunc<(u64, u8), Bytes>,
}

/// A Wasm instance as a worker. After a fault other than a refused configuration it is dead: its
/// memory may be in any state, so every further call answers with a fault and runs nothing.
pub struct WasmWorker {
    shared: Arc<Shared>,
    plugin: String,
    store: Store<Guest>,
    exports: Exports,
    died_in: Option<&'static str>,
    exported: bool,
}

impl WasmWorker {
    pub(crate) fn new(
        sandbox: &Sandbox,
        plugin: &str,
        ready: &InstancePre<Guest>,
        host: Box<dyn WorkerHost>,
    ) -> Result<Self, WorkerFault> {
        let shared = Arc::clone(&sandbox.shared);
        let settings = &shared.settings;
        let mut store = Store::new(&shared.engine, Guest::new(host, settings.memory));
        store.limiter(|guest| guest);
        store.set_hostcall_fuel(OUT);
        store.epoch_deadline_callback(|mut store: StoreContextMut<'_, Guest>| Ok(store.data_mut().tick()));
        let budget = Budget { cpu: settings.control_cpu, wall: settings.wall };
        store.data_mut().begin(Timestamp::default(), budget);
        store.set_epoch_deadline(1);
        let exports = {
            let _running = shared.ticker.enter();
            let instance = ready.instantiate(&mut store);
            instance.and_then(|instance| Exports::of(&instance, &mut store))
        };
        let exports = exports.map_err(|error| fault(plugin, "instantiate", store.data(), &error))?;
        Ok(Self { shared, plugin: plugin.to_owned(), store, exports, died_in: None, exported: false })
    }

    /// One call under its budget; whatever goes wrong is a fault and the end of this worker.
    fn call<P, R>(
        &mut self,
        call: &'static str,
        function: impl FnOnce(&Exports) -> &TypedFunc<P, R>,
        now: Timestamp,
        arguments: P,
    ) -> Result<R, WorkerFault>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        if let Some(died_in) = self.died_in {
            let detail = format!("it is not called again after its fault in {died_in}");
            return Err(WorkerFault::Trap { plugin: self.plugin.clone(), call, detail });
        }
        if self.exported {
            let detail = "its state has gone to a successor".to_owned();
            return Err(WorkerFault::Trap { plugin: self.plugin.clone(), call, detail });
        }
        let settings = &self.shared.settings;
        let cpu = if matches!(call, "data" | "timeout") { settings.data_cpu } else { settings.control_cpu };
        self.store.data_mut().begin(now, Budget { cpu, wall: settings.wall });
        self.store.set_epoch_deadline(1);
        let _running = self.shared.ticker.enter();
        let answer = function(&self.exports).call(&mut self.store, arguments);
        answer.map_err(|error| {
            self.died_in = Some(call);
            fault(&self.plugin, call, self.store.data(), &error)
        })
    }

    fn state_fault(&self, call: &'static str, mut detail: String) -> WorkerFault {
        detail.truncate(detail.floor_char_boundary(WORDS));
        WorkerFault::State { plugin: self.plugin.clone(), call, detail }
    }

    fn batch(
        &mut self,
        call: &'static str,
        answer: Result<Bytes, WorkerFault>,
    ) -> Result<Batch, WorkerFault> {
        let (bytes,) = answer?;
        Batch::from_worker(bytes).map_err(|error| {
            self.died_in = Some(call);
            WorkerFault::Answer { plugin: self.plugin.clone(), call, detail: error.to_string() }
        })
    }
}

impl Exports {
    fn of(instance: &Instance, store: &mut Store<Guest>) -> wasmtime::Result<Self> {
        let missing = |name: &str| wasmtime::Error::msg(format!("it does not export {name}"));
        let machine = instance.get_export_index(&mut *store, None, MACHINE);
        let machine = machine.ok_or_else(|| missing(MACHINE))?;
        let mut index = |name: &str| {
            instance.get_export_index(&mut *store, Some(&machine), name).ok_or_else(|| missing(name))
        };
        let (configure, control, data) = (index("configure")?, index("control")?, index("data")?);
        let (timeout, shutdown) = (index("timeout")?, index("shutdown")?);
        let (export_state, import_state) = (index("export-state")?, index("import-state")?);
        Ok(Self {
            configure: instance.get_typed_func(&mut *store, configure)?,
            control: instance.get_typed_func(&mut *store, control)?,
            data: instance.get_typed_func(&mut *store, data)?,
            timeout: instance.get_typed_func(&mut *store, timeout)?,
            export_state: instance.get_typed_func(&mut *store, export_state)?,
            import_state: instance.get_typed_func(&mut *store, import_state)?,
            shutdown: instance.get_typed_func(&mut *store, shutdown)?,
        })
    }
}

/// What an error of a call means.
fn fault(plugin: &str, call: &'static str, guest: &Guest, error: &wasmtime::Error) -> WorkerFault {
    let plugin = plugin.to_owned();
    match guest.stopped {
        Some(Stop::Deadline(limit_ms)) => WorkerFault::Deadline { plugin, call, limit_ms },
        Some(Stop::Memory) => WorkerFault::Memory { plugin, call, limit: guest.memory },
        None => {
            let cause = format!("{:#}", error.root_cause());
            if cause.contains("fuel allocated for hostcalls") {
                let most = if call == EXPORT { MAX_STATE } else { MAX_ANSWER };
                let detail = format!("more than {most} bytes at once");
                return WorkerFault::Answer { plugin, call, detail };
            }
            let mut detail = match &guest.last_words {
                Some(words) => format!("{cause}; its last words: {words}"),
                None => cause,
            };
            detail.truncate(detail.floor_char_boundary(WORDS));
            WorkerFault::Trap { plugin, call, detail }
        }
    }
}

impl Worker for WasmWorker {
    fn configure(&mut self, now: Timestamp, config: &[u8]) -> Result<(), WorkerFault> {
        let arguments = (now.as_micros(), config.to_vec());
        let (answer,) = self.call("configure", |exports| &exports.configure, now, arguments)?;
        answer.map_err(|detail| WorkerFault::Refused {
            plugin: self.plugin.clone(),
            detail: plain_line(&detail),
        })
    }

    fn control(&mut self, now: Timestamp, request: &[u8]) -> Result<Batch, WorkerFault> {
        let arguments = (now.as_micros(), request.to_vec());
        let answer = self.call("control", |exports| &exports.control, now, arguments);
        self.batch("control", answer)
    }

    fn data(&mut self, now: Timestamp, batch: Batch) -> Result<Batch, WorkerFault> {
        let arguments = (now.as_micros(), batch.into_bytes());
        let answer = self.call("data", |exports| &exports.data, now, arguments);
        self.batch("data", answer)
    }

    fn timeout(&mut self, now: Timestamp) -> Result<Batch, WorkerFault> {
        let answer = self.call("timeout", |exports| &exports.timeout, now, (now.as_micros(),));
        self.batch("timeout", answer)
    }

    fn export_state(&mut self) -> Result<Vec<u8>, WorkerFault> {
        self.store.set_hostcall_fuel(STATE_OUT);
        let now = self.store.data().now();
        let answer = self.call(EXPORT, |exports| &exports.export_state, now, ());
        self.store.set_hostcall_fuel(OUT);
        let (state,) = answer?;
        let state = state.map_err(|detail| self.state_fault(EXPORT, detail))?;
        if state.len() > MAX_STATE {
            self.died_in = Some(EXPORT);
            let detail = format!("a state of {} bytes, {MAX_STATE} allowed", state.len());
            return Err(WorkerFault::Answer { plugin: self.plugin.clone(), call: EXPORT, detail });
        }
        self.exported = true;
        Ok(state)
    }

    fn import_state(&mut self, now: Timestamp, state: &[u8]) -> Result<(), WorkerFault> {
        let arguments = (now.as_micros(), state.to_vec());
        let (answer,) = self.call(IMPORT, |exports| &exports.import_state, now, arguments)?;
        answer.map_err(|detail| self.state_fault(IMPORT, detail))
    }

    fn shutdown(&mut self, now: Timestamp, reason: u8) -> Result<Batch, WorkerFault> {
        let arguments = (now.as_micros(), reason);
        let answer = self.call("shutdown", |exports| &exports.shutdown, now, arguments);
        self.batch("shutdown", answer)
    }
}

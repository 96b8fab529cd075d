//! One running instance.

use std::sync::Arc;

use warren_schemas::Timestamp;
use warren_schemas::batch::{Batch, MAX_ANSWER};
use warren_schemas::state::MAX_STATE;
use warren_workers::{Description, Frames, Worker, WorkerFault, WorkerHost, plain_line};
use wasmtime::component::{ComponentNamedList, InstancePre, Lift, Lower, TypedFunc};
use wasmtime::{Store, StoreContextMut};

use crate::engine::{Sandbox, Shared};
use crate::exports::{Bytes, Exports, State};
use crate::fault;
use crate::guest::{Budget, Guest};

/// Bytes that may come out of an instance at once: the largest answer, and what the canonical ABI
/// counts beside it.
const OUT: usize = MAX_ANSWER + 4096;
/// The same for the call that gives the whole state.
const STATE_OUT: usize = MAX_STATE + 4096;

const EXPORT: &str = "export-state";
const SNAPSHOT: &str = "snapshot";
const IMPORT: &str = "import-state";

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
        let exports =
            exports.map_err(|error| fault::of_error(plugin, "instantiate", store.data(), &error))?;
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
        self.run(call, now, |exports, store| function(exports).call(store, arguments))
    }

    fn run<R>(
        &mut self,
        call: &'static str,
        now: Timestamp,
        function: impl FnOnce(&Exports, &mut Store<Guest>) -> wasmtime::Result<R>,
    ) -> Result<R, WorkerFault> {
        let over = match self.died_in {
            Some(died_in) => Some(format!("it is not called again after its fault in {died_in}")),
            None => self.exported.then(|| "its state has gone to a successor".to_owned()),
        };
        if let Some(detail) = over {
            let (plugin, frames) = (self.plugin.clone(), Frames::default());
            return Err(WorkerFault::Trap { plugin, call, detail, frames });
        }
        let settings = &self.shared.settings;
        let cpu = if matches!(call, "data" | "timeout" | "touch") {
            settings.data_cpu
        } else {
            settings.control_cpu
        };
        self.store.data_mut().begin(now, Budget { cpu, wall: settings.wall });
        self.store.set_epoch_deadline(1);
        let _running = self.shared.ticker.enter();
        function(&self.exports, &mut self.store).map_err(|error| {
            self.died_in = Some(call);
            fault::of_error(&self.plugin, call, self.store.data(), &error)
        })
    }

    /// `export-state` or `snapshot`.
    fn state(
        &mut self,
        call: &'static str,
        function: impl FnOnce(&Exports) -> &TypedFunc<(), State>,
    ) -> Result<Vec<u8>, WorkerFault> {
        self.store.set_hostcall_fuel(STATE_OUT);
        let now = self.store.data().now();
        let answer = self.call(call, function, now, ());
        self.store.set_hostcall_fuel(OUT);
        let (state,) = answer?;
        let state = state.map_err(|detail| self.state_fault(call, &detail))?;
        if state.len() > MAX_STATE {
            let detail = format!("a state of {} bytes, {MAX_STATE} allowed", state.len());
            return Err(self.bad_answer(call, detail));
        }
        Ok(state)
    }

    fn state_fault(&self, call: &'static str, detail: &str) -> WorkerFault {
        WorkerFault::State { plugin: self.plugin.clone(), call, detail: fault::words(detail) }
    }

    fn bad_answer(&mut self, call: &'static str, detail: String) -> WorkerFault {
        self.died_in = Some(call);
        WorkerFault::Answer { plugin: self.plugin.clone(), call, detail }
    }

    fn batch(
        &mut self,
        call: &'static str,
        answer: Result<Bytes, WorkerFault>,
    ) -> Result<Batch, WorkerFault> {
        let (bytes,) = answer?;
        let batch = Batch::from_worker(bytes).map_err(|error| error.to_string());
        let checked = batch.and_then(|batch| fault::check_actions(&batch).map(|()| batch));
        checked.map_err(|detail| self.bad_answer(call, detail))
    }
}

impl Worker for WasmWorker {
    fn describe(&mut self) -> Result<Description, WorkerFault> {
        let now = self.store.data().now();
        let (described,) = self.call("describe", |exports| &exports.describe, now, ())?;
        Description::from(described).from_worker().map_err(|detail| self.bad_answer("describe", detail))
    }

    fn self_test(&mut self) -> Result<(), WorkerFault> {
        let now = self.store.data().now();
        let (tested,) = self.call("self-test", |exports| &exports.self_test, now, ())?;
        tested.map_err(|detail| WorkerFault::SelfTest {
            plugin: self.plugin.clone(),
            detail: plain_line(&detail),
        })
    }

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
        let state = self.state(EXPORT, |exports| &exports.export_state)?;
        self.exported = true;
        Ok(state)
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, WorkerFault> {
        self.state(SNAPSHOT, |exports| &exports.snapshot)
    }

    fn import_state(&mut self, now: Timestamp, state: &[u8]) -> Result<(), WorkerFault> {
        // Lent, not copied: a copy on this side would be freed with its secrets in it.
        let (answer,) = self.run(IMPORT, now, |exports, store| {
            exports.import_state.typed(&*store)?.call(store, (now.as_micros(), state))
        })?;
        let answer: Result<(), String> = answer;
        answer.map_err(|detail| self.state_fault(IMPORT, &detail))
    }

    fn touch(&mut self, page: u32, least: u32) -> Result<u32, WorkerFault> {
        let now = self.store.data().now();
        let (pages,) = self.call("touch", |exports| &exports.touch, now, (page, least))?;
        // What it says is not more than what it has.
        Ok(pages.min(self.store.data().pages()))
    }

    fn shutdown(&mut self, now: Timestamp, reason: u8) -> Result<Batch, WorkerFault> {
        let arguments = (now.as_micros(), reason);
        let answer = self.call("shutdown", |exports| &exports.shutdown, now, arguments);
        self.batch("shutdown", answer)
    }
}

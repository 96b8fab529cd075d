//! The tunnel plugin linked as a library: the native twin of the Wasm worker.
//!
//! `workers.mode = "native"` runs it. Same trait, same actions (tests/conformance shows it), no
//! sandbox: a panic is caught and ends the worker, but memory and time have no limit of their own.
//! Does no I/O; what the tunnel asks of its host goes to the `WorkerHost` it is given.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use warren_schemas::Timestamp;
use warren_schemas::batch::Batch;
use warren_schemas::control::TunnelConfig;
use warren_tunnel::{Env, Level, StateError, Tunnel};
use warren_workers::{
    Description, Frames, LogLevel, Worker, WorkerFactory, WorkerFault, WorkerHost, plain_line,
};

const PLUGIN: &str = concat!("tunnel ", env!("CARGO_PKG_VERSION"), " (native)");

/// Makes native tunnel workers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NativeFactory;

/// The onion state machine in this process.
pub struct NativeWorker {
    tunnel: Tunnel,
    env: HostEnv,
    died_in: Option<&'static str>,
    exported: bool,
}

struct HostEnv(Box<dyn WorkerHost>);

impl Env for HostEnv {
    fn log(&mut self, level: Level, line: &str) {
        let level = match level {
            Level::Error => LogLevel::Error,
            Level::Warn => LogLevel::Warn,
            Level::Info => LogLevel::Info,
            Level::Debug => LogLevel::Debug,
        };
        self.0.log(level, &plain_line(line));
    }

    fn random(&mut self, bytes: &mut [u8]) {
        self.0.random(bytes);
    }

    fn onion_dh(&mut self, epoch: u32, point: &[u8; 32]) -> Option<[u8; 32]> {
        self.0.onion_dh(epoch, point).ok()
    }
}

impl WorkerFactory for NativeFactory {
    fn name(&self) -> &str {
        PLUGIN
    }

    fn spawn(&self, host: Box<dyn WorkerHost>) -> Result<Box<dyn Worker>, WorkerFault> {
        Ok(Box::new(NativeWorker {
            tunnel: Tunnel::new(),
            env: HostEnv(host),
            died_in: None,
            exported: false,
        }))
    }
}

impl NativeWorker {
    /// Runs one call; a panic leaves the state machine in an unknown state, so it is the last.
    fn call<T>(
        &mut self,
        call: &'static str,
        run: impl FnOnce(&mut Tunnel, &mut HostEnv) -> T,
    ) -> Result<T, WorkerFault> {
        let frames = Frames::default();
        let trap = |detail| WorkerFault::Trap { plugin: PLUGIN.to_owned(), call, detail, frames };
        if let Some(died_in) = self.died_in {
            return Err(trap(format!("it is not called again after its fault in {died_in}")));
        }
        if self.exported {
            return Err(trap("its state has gone to a successor".to_owned()));
        }
        catch_unwind(AssertUnwindSafe(|| run(&mut self.tunnel, &mut self.env))).map_err(|panic| {
            self.died_in = Some(call);
            trap(words(panic.as_ref()))
        })
    }
}

fn state_fault(call: &'static str, error: &StateError) -> WorkerFault {
    WorkerFault::State { plugin: PLUGIN.to_owned(), call, detail: error.to_string() }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned());
    let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
    words.unwrap_or_else(|| "a panic without words".to_owned())
}

impl Worker for NativeWorker {
    fn describe(&mut self) -> Result<Description, WorkerFault> {
        self.call("describe", |_, _| Description {
            name: warren_tunnel::NAME.to_owned(),
            version: warren_tunnel::VERSION.to_owned(),
            suites: warren_tunnel::suites().to_vec(),
            writes_state: warren_tunnel::writes_state(),
            reads_state: warren_tunnel::reads_state(),
        })
    }

    fn self_test(&mut self) -> Result<(), WorkerFault> {
        let tested = self.call("self-test", |_, _| Tunnel::self_test())?;
        tested.map_err(|error| WorkerFault::SelfTest { plugin: PLUGIN.to_owned(), detail: error.to_string() })
    }

    fn configure(&mut self, now: Timestamp, config: &[u8]) -> Result<(), WorkerFault> {
        let refused = |detail| WorkerFault::Refused { plugin: PLUGIN.to_owned(), detail };
        let config = TunnelConfig::decode(config).map_err(|error| refused(error.to_string()))?;
        let answer = self.call("configure", |tunnel, _| tunnel.configure(now, config))?;
        answer.map_err(|error| refused(error.to_string()))
    }

    fn control(&mut self, now: Timestamp, request: &[u8]) -> Result<Batch, WorkerFault> {
        self.call("control", |tunnel, env| tunnel.handle_control(env, now, request))
    }

    fn data(&mut self, now: Timestamp, batch: Batch) -> Result<Batch, WorkerFault> {
        self.call("data", |tunnel, env| tunnel.handle_data(env, now, batch))
    }

    fn timeout(&mut self, now: Timestamp) -> Result<Batch, WorkerFault> {
        self.call("timeout", |tunnel, env| tunnel.handle_timeout(env, now))
    }

    fn export_state(&mut self) -> Result<Vec<u8>, WorkerFault> {
        let call = "export-state";
        let state = self.call(call, |tunnel, _| tunnel.export_state())?;
        let state = state.map_err(|error| state_fault(call, &error))?;
        self.exported = true;
        Ok(state)
    }

    fn snapshot(&mut self) -> Result<Vec<u8>, WorkerFault> {
        let call = "snapshot";
        let state = self.call(call, |tunnel, _| tunnel.snapshot())?;
        state.map_err(|error| state_fault(call, &error))
    }

    fn import_state(&mut self, now: Timestamp, state: &[u8]) -> Result<(), WorkerFault> {
        let call = "import-state";
        let taken = self.call(call, |tunnel, _| tunnel.import_state(now, state))?;
        taken.map_err(|error| state_fault(call, &error))
    }

    fn shutdown(&mut self, now: Timestamp, reason: u8) -> Result<Batch, WorkerFault> {
        self.call("shutdown", |tunnel, env| tunnel.shutdown(env, now, reason))
    }
}

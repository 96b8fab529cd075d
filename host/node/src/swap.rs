//! An order to exchange a module: reads it, has it vouched for, loads it, hands it to the core, and notes
//! every step. What happens to the workers is decided in the core.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_blocking;
use warren_api::{Refused, SwapRequest};
use warren_ports::Clock;
use warren_ports::swap::{SwapReport, SwapStage, SwapStep};
use warren_sandbox::Sandbox;
use warren_workers::{WorkerFactory, plain_line};

use crate::audit::Audit;
use crate::config::Plugins;
use crate::exchange::{Exchange, Order};
use crate::signature::{self, SignatureError};

/// Plugins whose module can be exchanged.
pub(crate) const PLUGINS: [&str; 1] = ["tunnel"];
/// Steps on their way from the core to the audit, which empties it as fast as a disk writes lines; the
/// core waits when it is full.
const STEPS: usize = 64;

/// Takes orders, one at a time: the control socket sees to that.
pub(crate) struct Swaps {
    /// Who does it.
    pub(crate) exchange: Arc<dyn Exchange>,
    /// Where modules are loaded; none when workers are native.
    pub(crate) sandbox: Option<Sandbox>,
    /// Whose signatures count.
    pub(crate) plugins: Plugins,
    /// Whether workers may be killed by order.
    pub(crate) lab: bool,
    /// Where every step is noted.
    pub(crate) audit: Arc<Audit>,
    /// For the steps that are taken here.
    pub(crate) clock: Arc<dyn Clock>,
    /// Told when another module may be in use.
    pub(crate) changed: Arc<Notify>,
}

/// What a module was when it was taken.
struct Module {
    factory: Arc<dyn WorkerFactory>,
    /// Its file, hash, and who vouches for it.
    about: String,
}

impl Swaps {
    /// Exchanges the module, telling `steps`.
    pub(crate) async fn swap(
        &self,
        request: SwapRequest,
        steps: mpsc::Sender<SwapStep>,
    ) -> Result<SwapReport, Refused> {
        let plugin = known(&request.plugin)?;
        let taken = self.module(plugin, request.path).await;
        let module = taken.inspect_err(|refused| {
            self.note(plugin, &steps, SwapStage::RolledBack, &refused.0);
        })?;
        self.note(plugin, &steps, SwapStage::Verified, &module.about);
        let order = Order { factory: module.factory, drain: request.drain, canary: request.canary };
        let (audit, inbox) = mpsc::channel(STEPS);
        let swap = self.exchange.swap(order, audit);
        self.follow(plugin, swap, inbox, &steps).await
    }

    /// Goes back to the module before, telling `steps`.
    pub(crate) async fn rollback(
        &self,
        plugin: &str,
        steps: mpsc::Sender<SwapStep>,
    ) -> Result<SwapReport, Refused> {
        let plugin = known(plugin)?;
        self.sandbox(plugin)?;
        let (audit, inbox) = mpsc::channel(STEPS);
        let rollback = self.exchange.rollback(audit);
        self.follow(plugin, rollback, inbox, &steps).await
    }

    /// Drops a worker, in a lab.
    pub(crate) async fn kill(&self, index: u8) -> Result<(), Refused> {
        if !self.lab {
            return Err(Refused("workers are killed by order in labs only: lab.enabled is off".into()));
        }
        match self.exchange.kill(index).await {
            Ok(true) => {
                tracing::info!(target: "audit", worker = index, "killed by order");
                Ok(())
            }
            Ok(false) => Err(Refused(format!("there is no worker {index}"))),
            Err(reason) => Err(Refused(reason)),
        }
    }

    /// Notes and passes on what the core says until it is done.
    async fn follow(
        &self,
        plugin: &'static str,
        work: impl Future<Output = Result<SwapReport, String>>,
        mut inbox: mpsc::Receiver<SwapStep>,
        steps: &mpsc::Sender<SwapStep>,
    ) -> Result<SwapReport, Refused> {
        let mut work = pin!(work);
        let ended = loop {
            tokio::select! {
                biased;
                Some(step) = inbox.recv() => self.tell(plugin, steps, &step),
                ended = &mut work => break ended,
            }
        };
        while let Ok(step) = inbox.try_recv() {
            self.tell(plugin, steps, &step);
        }
        // What drains may tell of it long after the order was answered.
        let audit = Arc::clone(&self.audit);
        tokio::spawn(async move {
            while let Some(step) = inbox.recv().await {
                audit.note(plugin, &step);
            }
        });
        self.changed.notify_one();
        ended.map_err(|reason| {
            self.note(plugin, steps, SwapStage::RolledBack, &reason);
            Refused(plain_line(&reason))
        })
    }

    fn note(&self, plugin: &str, steps: &mpsc::Sender<SwapStep>, stage: SwapStage, detail: &str) {
        let step =
            SwapStep { at_us: self.clock.now().as_micros(), stage, worker: None, detail: plain_line(detail) };
        self.tell(plugin, steps, &step);
    }

    fn tell(&self, plugin: &str, steps: &mpsc::Sender<SwapStep>, step: &SwapStep) {
        self.audit.note(plugin, step);
        // The client may be gone or slow; the audit has it.
        let _ = steps.try_send(step.clone());
    }

    fn sandbox(&self, plugin: &str) -> Result<Sandbox, Refused> {
        self.sandbox.clone().ok_or_else(|| {
            Refused(format!(
                "workers.mode is \"native\": the plugin {plugin} is linked into this program and cannot be \
                 exchanged; run with workers.mode = \"wasm\""
            ))
        })
    }

    async fn module(&self, plugin: &'static str, path: PathBuf) -> Result<Module, Refused> {
        let sandbox = self.sandbox(plugin)?;
        if !path.is_absolute() {
            return Err(Refused(format!("{} is not an absolute path", path.display())));
        }
        let plugins = self.plugins.clone();
        let taken = spawn_blocking(move || take(&sandbox, plugin, &path, &plugins)).await;
        taken.unwrap_or_else(|error| Err(Refused(format!("loading the module broke off: {error}"))))
    }
}

/// The plugin of this name.
fn known(plugin: &str) -> Result<&'static str, Refused> {
    PLUGINS.into_iter().find(|known| *known == plugin).ok_or_else(|| {
        Refused(format!("there is no plugin {plugin:?} to exchange; known: {}", PLUGINS.join(", ")))
    })
}

/// Reads, verifies and loads; what was verified is what is loaded, whatever happens to the file meanwhile.
fn take(sandbox: &Sandbox, plugin: &str, path: &Path, plugins: &Plugins) -> Result<Module, Refused> {
    let refused = |error: SignatureError| Refused(plain_line(&error.to_string()));
    let bytes = signature::read_module(path).map_err(refused)?;
    let vouched = vouch(path, &bytes, plugins).map_err(refused)?;
    let about = format!("{} sha256 {}, {vouched}", path.display(), signature::sha256(&bytes));
    let loaded = sandbox.load(plugin, &bytes);
    let factory = loaded.map_err(|error| Refused(plain_line(&format!("{}: {error}", path.display()))))?;
    Ok(Module { factory: Arc::new(factory), about })
}

/// Who vouches for a module, in words.
fn vouch(path: &Path, bytes: &[u8], plugins: &Plugins) -> Result<String, SignatureError> {
    match signature::verify(path, bytes, &plugins.keys()) {
        Ok(verified) => Ok(format!("signed by {} ({})", verified.signer, verified.comment)),
        Err(SignatureError::Missing { .. } | SignatureError::NoKey(_)) if !plugins.require_signature => {
            Ok("not verified: plugins.require_signature is off".into())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;

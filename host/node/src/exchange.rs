//! What a change of modules asks of the core: the one place that knows how the core takes it.

use std::sync::Arc;

use tokio::sync::mpsc;
use warren_core::{Core, SwapOrder};
use warren_ports::BoxFuture;
use warren_ports::swap::{SwapReport, SwapStep};
use warren_workers::WorkerFactory;

/// A module to put in place of the one in use.
pub(crate) struct Order {
    /// Makes the workers of the new module.
    pub(crate) factory: Arc<dyn WorkerFactory>,
    /// The old module keeps its circuits until they end; no state is handed over.
    pub(crate) drain: bool,
    /// Answers the shadow must give; 0 for no shadow.
    pub(crate) canary: u32,
}

/// Who can exchange the workers of a running node. Steps go into a bounded queue that the caller empties.
pub(crate) trait Exchange: Send + Sync {
    /// Exchanges the module; says in the end why not.
    fn swap(&self, order: Order, audit: mpsc::Sender<SwapStep>) -> BoxFuture<'_, Result<SwapReport, String>>;
    /// Goes back to the module before.
    fn rollback(&self, audit: mpsc::Sender<SwapStep>) -> BoxFuture<'_, Result<SwapReport, String>>;
    /// Drops a worker; false when there is none of this index.
    fn kill(&self, index: u8) -> BoxFuture<'_, Result<bool, String>>;
}

impl Exchange for Core {
    fn swap(&self, order: Order, audit: mpsc::Sender<SwapStep>) -> BoxFuture<'_, Result<SwapReport, String>> {
        let Order { factory, drain, canary } = order;
        let order = SwapOrder { factory, drain, canary };
        Box::pin(async { Self::swap(self, order, audit).await.map_err(|error| error.to_string()) })
    }

    fn rollback(&self, audit: mpsc::Sender<SwapStep>) -> BoxFuture<'_, Result<SwapReport, String>> {
        Box::pin(async { Self::rollback(self, audit).await.map_err(|error| error.to_string()) })
    }

    fn kill(&self, index: u8) -> BoxFuture<'_, Result<bool, String>> {
        Box::pin(async move { Ok(self.kill_worker(index).await) })
    }
}

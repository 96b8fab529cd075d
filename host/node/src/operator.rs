//! What the control socket asks of the node: how it is, and to change its workers.

use std::sync::Arc;

use tokio::sync::mpsc;
use warren_api::{Refused, StatusSource, SwapRequest, WorkerControl};
use warren_ports::BoxFuture;
use warren_ports::status::Status;
use warren_ports::swap::{SwapReport, SwapStep};

use crate::health::Health;
use crate::swap::Swaps;

/// Answers the person who runs the node.
pub(crate) struct Operator {
    pub(crate) health: Arc<Health>,
    pub(crate) swaps: Swaps,
}

impl StatusSource for Operator {
    fn status(&self) -> BoxFuture<'_, Status> {
        self.health.status()
    }
}

impl WorkerControl for Operator {
    fn swap(
        &self,
        request: SwapRequest,
        steps: mpsc::Sender<SwapStep>,
    ) -> BoxFuture<'_, Result<SwapReport, Refused>> {
        Box::pin(self.swaps.swap(request, steps))
    }

    fn rollback(
        &self,
        plugin: String,
        steps: mpsc::Sender<SwapStep>,
    ) -> BoxFuture<'_, Result<SwapReport, Refused>> {
        Box::pin(async move { self.swaps.rollback(&plugin, steps).await })
    }

    fn kill_worker(&self, index: u8) -> BoxFuture<'_, Result<(), Refused>> {
        Box::pin(self.swaps.kill(index))
    }
}

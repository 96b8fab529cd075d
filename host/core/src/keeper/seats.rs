//! The keeper's part in the pool of workers.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use warren_ports::swap::SwapStep;
use warren_schemas::Timestamp;
use warren_schemas::control::CloseReason;
use warren_workers::WorkerFactory;

use super::Keeper;
use crate::messages::{Leave, SeatOrder, ToWorker};
use crate::pool::{Seen, Step};

impl Keeper {
    /// Starts and drains workers as the load asks for, and lets those go that have drained.
    pub(super) fn look_at_pool(&mut self, now: Timestamp) {
        let held: BTreeSet<u8> = self.circuits.statuses(now).iter().map(|circuit| circuit.worker).collect();
        let (gauges, view) = (&self.gauges, &self.view);
        let see = |worker: u8| Seen {
            cpu_s: gauges.get(usize::from(worker)).map_or(0.0, |gauge| gauge.cpu_s()),
            active: view.of(worker).map_or(0, |sync| sync.active),
            holds_circuits: held.contains(&worker) || view.serves_others(worker),
        };
        let steps = self.pool.look(now, see);
        let drained = self.pool.drained(see);
        for step in steps {
            match step {
                Step::Start(worker, factory) => {
                    // Its thread says which module it has when it has one.
                    let (answer, _) = oneshot::channel();
                    self.post(worker, ToWorker::Seat(SeatOrder::Start { factory, answer }));
                }
                Step::Retire(worker) => self.post(worker, ToWorker::Seat(SeatOrder::Retire)),
            }
            self.circuits.set_workers(now, self.pool.open());
        }
        for worker in drained {
            let (answer, _) = oneshot::channel();
            let leave = Leave { reason: CloseReason::Finished, end: false, answer };
            // It tells when it has left; one that has circuits after all is asked again.
            if let Some(way) = self.exits.get(usize::from(worker)) {
                drop(way.try_send(leave));
            }
        }
        self.carry_out();
    }

    /// Circuits are made with suites that all workers speak.
    pub(super) fn agree_on_suites(&mut self, now: Timestamp) {
        if let Some(suites) = self.pool.suites().filter(|suites| !suites.is_empty()) {
            self.suites.set(&suites);
            self.circuits.set_suites(now, suites);
        }
    }

    /// Workers of a new module take over what is new.
    pub(super) fn drain(
        &mut self,
        now: Timestamp,
        to: Range<u8>,
        factory: Arc<dyn WorkerFactory>,
        audit: mpsc::Sender<SwapStep>,
    ) {
        for worker in self.pool.drain(to, factory, audit) {
            self.post(worker, ToWorker::Seat(SeatOrder::Retire));
        }
        self.circuits.set_workers(now, self.pool.open());
        self.agree_on_suites(now);
    }
}

//! What the keeper knows, for people.

use warren_circuits::{CircuitReport, CircuitState};
use warren_ports::status::{CircuitStatus, Status, WorkerStatus};
use warren_schemas::{PeerId, Timestamp};

use super::Keeper;
use crate::thread::State;

impl Keeper {
    pub(super) fn status(&self, now: Timestamp) -> Status {
        let (relays_known, exits_known) = self.circuits.relays();
        let waiting = self.circuits.waiting(now);
        Status {
            relays_known,
            exits_known,
            waiting: waiting
                .iter()
                .map(|(isolation, why)| format!("{} hops: {why}", isolation.hops))
                .collect(),
            circuits: self
                .circuits
                .statuses(now)
                .into_iter()
                .map(|circuit| self.circuit_status(circuit))
                .collect(),
            workers: self.worker_statuses(now),
            // Also by threads that have no worker and no line of their own.
            handed_over: self.gauges.iter().map(|gauge| gauge.handed_over()).sum(),
            ..Status::default()
        }
    }

    fn worker_statuses(&self, now: Timestamp) -> Vec<WorkerStatus> {
        let circuits = self.circuits.statuses(now);
        let own = |index: u8| {
            let count = circuits.iter().filter(|circuit| circuit.worker == index).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        let acting = (0u8..).zip(&self.gauges).filter(|(_, gauge)| gauge.state() != State::Parked);
        let statuses = acting.map(|(index, gauge)| {
            let counts = self.view.of(index).cloned().unwrap_or_default();
            WorkerStatus {
                index,
                plugin: gauge.plugin(),
                restarts: gauge.restarts(),
                relayed_circuits: counts.relayed_circuits,
                cells_relayed: counts.cells_relayed,
                cells_originated: counts.cells_originated,
                bytes_relayed: counts.bytes_relayed,
                drops: counts.drops.iter().map(|(_, count)| count).sum::<u64>() + gauge.drops(),
                links: counts.links,
                cpu_s: gauge.cpu_s(),
                state: gauge.state().name().to_owned(),
                circuits: own(index),
                busy: self.pool.busy(index),
            }
        });
        statuses.collect()
    }

    fn circuit_status(&self, report: CircuitReport) -> CircuitStatus {
        let state = match report.state {
            CircuitState::Building => "building",
            CircuitState::Ready => "ready",
            CircuitState::Closing => "closing",
        };
        let handle = report.handle.map_or_else(|| "-".to_owned(), |handle| handle.0.to_string());
        let carried = report.handle.and_then(|handle| self.view.circuit(report.worker, handle));
        CircuitStatus {
            id: format!("{}.{handle}", report.worker),
            path: report.path.iter().map(PeerId::to_string).collect(),
            suites: report.suites,
            state: state.to_owned(),
            isolation: report.isolation.map_or_else(String::new, |isolation| isolation.key.to_string()),
            streams: usize::try_from(report.streams).unwrap_or(usize::MAX),
            age_s: report.age.as_secs(),
            bytes_out: carried.map_or(0, |circuit| circuit.bytes_out),
            bytes_in: carried.map_or(0, |circuit| circuit.bytes_in),
        }
    }
}

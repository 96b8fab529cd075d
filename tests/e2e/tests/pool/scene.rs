//! A network with workers to exchange and to lose, and somebody who downloads through it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use warren_e2e::fetch::{Door, Page, Steady};
use warren_e2e::lab::Lab;
use warren_e2e::operator::{Signer, Step};
use warren_e2e::origin::Origin;

pub(crate) const MB: u64 = 1_000_000;
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A network whose nodes take what `signer` signed, and somebody to fetch from.
pub(crate) struct Scene {
    pub(crate) lab: Lab,
    pub(crate) signer: Signer,
    pub(crate) origin: Origin,
    pub(crate) door: Door,
    /// How many pages were asked for on a worker of one's choice.
    pages: Cell<u32>,
}

impl Scene {
    pub(crate) fn new(relays: u8, exits: u8, workers: u8) -> Self {
        Self::with(relays, exits, &[("workers.count", workers.to_string())])
    }

    pub(crate) fn with(relays: u8, exits: u8, set: &[(&str, String)]) -> Self {
        let signer = Signer::new().unwrap();
        let set: Vec<_> = set.iter().cloned().chain([signer.trusted()]).collect();
        let lab = Lab::with(relays, exits, &set).unwrap();
        let (origin, door) = (Origin::start().unwrap(), lab.door().unwrap());
        Self { lab, signer, origin, door, pages: Cell::new(0) }
    }

    /// A page that goes on while other things happen, and the circuit that carries it.
    pub(crate) fn page(&self, user: &str, length: u64) -> (Steady, Value) {
        let mut page = Page::open(&self.door, user, self.origin.address(), length).unwrap();
        page.read_to(MB).unwrap();
        let carrier = self.carrier();
        (Steady::read(page, 5 * MB), carrier)
    }

    /// A page of about so many bytes a second, on a circuit of this worker.
    pub(crate) fn page_on(&self, worker: u64, rate: u64) -> Steady {
        self.long_page_on(worker, rate, (50 * MB).max(15 * rate))
    }

    /// The same, of a length. Each try has an isolation of its own, so that what was there before has no
    /// part in where it goes.
    pub(crate) fn long_page_on(&self, worker: u64, rate: u64, length: u64) -> Steady {
        let attempt = || {
            let isolation = format!("page-{}", self.pages.replace(self.pages.get() + 1));
            let page = Page::open(&self.door, &format!("h1-{isolation}"), self.origin.address(), length)?;
            let carries = |circuit: &Value| {
                circuit["isolation"] == isolation.as_str()
                    && circuit["streams"] == 1
                    && worker_of(id(circuit)) == worker
            };
            Ok(self.circuits().iter().any(carries).then(|| Steady::read(page, rate)))
        };
        self.lab.until("client", &format!("page on worker {worker}"), PATIENCE, attempt).unwrap()
    }

    /// The client's circuit that carries something.
    #[track_caller]
    pub(crate) fn carrier(&self) -> Value {
        let circuits = self.circuits();
        let busy = circuits.iter().find(|circuit| circuit["streams"].as_u64() > Some(0));
        busy.unwrap_or_else(|| panic!("no circuit carries the page: {circuits:#?}")).clone()
    }

    pub(crate) fn circuits(&self) -> Vec<Value> {
        self.lab.circuits("client").unwrap()
    }

    /// The client's circuits that can be used.
    pub(crate) fn ids(&self) -> BTreeSet<String> {
        ids(&self.circuits())
    }

    /// The same, when none is being built any more.
    pub(crate) fn settled(&self) -> BTreeSet<String> {
        let settled = || {
            let circuits = self.circuits();
            let all = circuits.len() >= 6 && circuits.iter().all(|circuit| circuit["state"] == "ready");
            Ok(all.then(|| ids(&circuits)))
        };
        self.lab.until("client", "rest", PATIENCE, settled).unwrap()
    }

    /// The circuit of this worker that carries a page, as soon as there is one.
    pub(crate) fn carried_by(&self, worker: u64) -> Value {
        let carries = |circuit: &Value| {
            worker_of(id(circuit)) == worker
                && circuit["state"] == "ready"
                && circuit["streams"].as_u64() > Some(0)
        };
        let found = || Ok(self.circuits().into_iter().find(carries));
        self.lab.until("client", "circuit that carries a page", PATIENCE, found).unwrap()
    }

    /// Waits until worker 0 of a node, which drains, is gone.
    pub(crate) fn drained(&self, node: &str) {
        let gone = || Ok((states(&self.lab, node) == [(1, "running".into())]).then_some(()));
        self.lab.until(node, "end of the old worker", PATIENCE, gone).unwrap();
        let last = self.lab.audit(node).unwrap().pop().unwrap();
        assert_eq!(last.place(), "drained 0", "{last:?}");
    }

    /// The node at this hop of a circuit, from 0.
    pub(crate) fn node_at(&self, circuit: &Value, hop: usize) -> String {
        self.lab.name_of(circuit["path"].get(hop).and_then(Value::as_str).unwrap()).unwrap()
    }

    /// How often workers of a node were replaced after a fault, all together.
    pub(crate) fn restarts(&self, node: &str) -> u64 {
        self.lab.workers(node).unwrap().iter().map(|worker| worker["restarts"].as_u64().unwrap()).sum()
    }
}

pub(crate) fn ids(circuits: &[Value]) -> BTreeSet<String> {
    let ready = circuits.iter().filter(|circuit| circuit["state"] == "ready");
    ready.map(|circuit| id(circuit).to_owned()).collect()
}

pub(crate) fn id(circuit: &Value) -> &str {
    circuit["id"].as_str().unwrap()
}

/// The worker of a circuit.
pub(crate) fn worker_of(id: &str) -> u64 {
    id.split_once('.').unwrap().0.parse().unwrap()
}

pub(crate) fn places(steps: &[Step]) -> Vec<String> {
    steps.iter().map(Step::place).collect()
}

/// The workers of a node and how they are.
pub(crate) fn states(lab: &Lab, node: &str) -> Vec<(u64, String)> {
    let workers = lab.workers(node).unwrap();
    let state =
        |worker: &Value| (worker["index"].as_u64().unwrap(), worker["state"].as_str().unwrap().to_owned());
    workers.iter().map(state).collect()
}

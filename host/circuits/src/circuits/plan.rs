//! What is missing, and what is no longer needed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use warren_ports::Isolation;
use warren_schemas::control::CloseReason;
use warren_schemas::{PeerId, RequestId};

use super::{Build, Circuit, Circuits, Command, MAX_HOPS, Owner, Pin, isolation};

impl Circuits {
    /// Starts as many builds as are missing and may run.
    pub(super) fn plan(&mut self) {
        self.adopt_spares();
        let mut hopeless: BTreeSet<Option<Owner>> = BTreeSet::new();
        while self.builds.len() < self.rules.max_parallel_builds && self.now >= self.own_retry_at {
            let Some(owner) = self.next_deficit(&hopeless) else { break };
            let pin = self.take_pin(owner.as_ref());
            match self.choose_path(owner.as_ref(), pin.map(|pin| pin.exit)) {
                Some(path) => self.start(owner, path, pin),
                None => {
                    if let Some(pin) = pin {
                        self.pin(owner.as_ref(), pin);
                    }
                    hopeless.insert(owner);
                }
            }
        }
    }

    /// A circuit that served nobody yet may serve anybody.
    fn adopt_spares(&mut self) {
        if self.circuits.values().all(|circuit| circuit.owner.is_some()) {
            return;
        }
        let wanted: Vec<Owner> = self.wants.keys().cloned().collect();
        for owner in wanted {
            let missing = self.rules.per_isolation.saturating_sub(self.count(Some(&owner)).0);
            let spares = self.circuits.values_mut().filter(|circuit| circuit.owner.is_none());
            let fitting = spares.filter(|circuit| circuit.path.len() == usize::from(owner.1));
            for circuit in fitting.take(missing) {
                circuit.owner = Some(owner.clone());
            }
        }
    }

    /// Whoever has the fewest circuits, of those who want more; spares come last.
    fn next_deficit(&self, hopeless: &BTreeSet<Option<Owner>>) -> Option<Option<Owner>> {
        let mut have: BTreeMap<Option<&Owner>, (usize, usize)> = BTreeMap::new();
        for circuit in self.circuits.values().filter(|circuit| !self.retiring(circuit)) {
            have.entry(circuit.owner.as_ref()).or_default().0 += 1;
        }
        for build in self.builds.values() {
            let (fresh, slow) = have.entry(build.owner.as_ref()).or_default();
            let is_slow = self.now.since(build.started) >= self.rules.slow_build;
            *if is_slow { slow } else { fresh } += 1;
        }
        let wants = self.wants.iter().map(|(owner, want)| (Some(owner), !want.pinned.is_empty()));
        let missing = wants.chain([(None, false)]).filter_map(|(owner, pinned)| {
            let (have, slow) = have.get(&owner).copied().unwrap_or_default();
            let target = self.target(owner);
            let short = (have < target && slow < 2 * target) || (pinned && target > 0);
            short.then_some((owner.is_none(), have, owner))
        });
        let least = missing.filter(|(.., owner)| !hopeless.contains(&owner.cloned())).min();
        least.map(|(.., owner)| owner.cloned())
    }

    pub(super) fn has_deficit(&self) -> bool {
        self.next_deficit(&BTreeSet::new()).is_some()
    }

    fn target(&self, owner: Option<&Owner>) -> usize {
        match owner {
            Some((_, hops)) if (1..=MAX_HOPS).contains(hops) => self.rules.per_isolation,
            Some(_) => 0,
            None => self.rules.spare,
        }
    }

    /// Circuits that stand and do not retire, and builds.
    pub(super) fn count(&self, owner: Option<&Owner>) -> (usize, usize) {
        let ready = self.circuits.values().filter(|c| c.owner.as_ref() == owner && !self.retiring(c)).count();
        let building = self.builds.values().filter(|build| build.owner.as_ref() == owner).count();
        (ready, building)
    }

    fn take_pin(&mut self, owner: Option<&Owner>) -> Option<Pin> {
        self.wants.get_mut(owner?)?.pinned.pop_front()
    }

    /// They take turns.
    fn next_worker(&mut self) -> u8 {
        let Range { start, end } = self.workers;
        let worker = if self.workers.contains(&self.next_worker) { self.next_worker } else { start };
        self.next_worker = if worker + 1 < end { worker + 1 } else { start };
        worker
    }

    fn start(&mut self, owner: Option<Owner>, path: Vec<PeerId>, pin: Option<Pin>) {
        let relays: Vec<_> = path.iter().filter_map(|peer| self.relays.get(peer)).collect();
        let Some(exit) = relays.last().map(|relay| relay.descriptor.clone()) else { return };
        let hops = relays.iter().map(|relay| relay.signed.clone()).collect();
        let suites: Vec<u8> = relays.iter().filter_map(|relay| self.suite_with(relay)).collect();
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let pin = pin.filter(|pin| pin.exit == exit.peer_id);
        let worker = pin.map_or_else(|| self.next_worker(), |pin| pin.worker);
        let spare = || Isolation { hops: self.rules.spare_hops, key: Arc::from("") };
        let isolation = owner.as_ref().map_or_else(spare, isolation);
        self.commands.push_back(Command::Build { request, worker, hops, suites: suites.clone(), isolation });
        self.builds.insert(request, Build { owner, worker, pin, exit, path, suites, started: self.now });
    }

    /// Closes circuits without streams that nobody wants, that retire, or that are one too many.
    pub(super) fn close_unwanted(&mut self) {
        let mut kept = 0;
        let (wants, spare) = (&self.wants, self.rules.spare);
        let (now, retire_after, workers) = (self.now, self.rules.retire_after, self.workers.clone());
        let is_wanted = |circuit: &Circuit| match &circuit.owner {
            Some(owner) => wants.contains_key(owner),
            None => spare > 0,
        };
        let surplus = self.circuits.extract_if(.., |_, circuit| {
            let retiring = circuit.retires(now, retire_after, &workers);
            let keep = circuit.streams > 0 || (is_wanted(circuit) && !retiring);
            if keep && circuit.owner.is_none() {
                kept += 1;
            }
            !keep || (circuit.owner.is_none() && kept > spare)
        });
        let closes = surplus.map(|((worker, handle), _)| Command::Close {
            worker,
            handle,
            reason: CloseReason::Finished,
        });
        self.commands.extend(closes);
    }
}

//! Through whom a circuit goes.

use warren_schemas::{PeerId, Timestamp, suites};

use super::{Circuits, MAX_HOPS, Owner};
use crate::guards::{Guard, MAX_GUARDS};
use crate::paths::Search;
use crate::random::Random;
use crate::relays::{Distinct, Relay};
use crate::rules::{Rules, Weighting};
use crate::waiting::Waiting;

/// How many shares a relay has that speaks our best suite, where another one has one. Both ends
/// decide what a handshake is worth, so such relays are preferred; but only among equals, and by no
/// more than this: the first few that speak a new suite must not get the traffic of all who do, be
/// it because it is too much for them, or because they said so early in order to get it.
const BEST_SUITE: f64 = 2.0;
/// Least and most bytes a second that count, see [`Weighting::Stated`].
const STATED: (u64, u64) = (64_000, 16_384_000);

impl Circuits {
    pub(super) fn distinct(&self) -> Distinct {
        Distinct { operators: true, networks: !self.rules.relax_same_network }
    }

    /// A path that keeps every rule, through relays that this owner's other circuits do not use
    /// where there are such; `pinned` is the exit to take if it can be had.
    pub(super) fn choose_path(
        &mut self,
        owner: Option<&Owner>,
        pinned: Option<PeerId>,
    ) -> Option<Vec<PeerId>> {
        let hops = owner.map_or(self.rules.spare_hops, |owner| owner.1);
        if !(1..=MAX_HOPS).contains(&hops) {
            return None;
        }
        if hops > 1 && self.settling.is_settled() {
            self.top_up_guards();
        }
        let used = self.used_by(owner);
        let order = Order { now: self.now, used: &used, rules: &self.rules };
        let usable: Vec<&Relay> =
            self.relays.iter().filter(|r| self.serves(r) && !r.rests(self.now)).collect();
        let exits = usable.iter().copied().filter(|r| r.descriptor.exit).collect();
        let lasts = order.lasts(exits, pinned, &mut self.random);
        let carriers: Vec<&Relay> = usable.iter().copied().filter(|r| r.descriptor.relay).collect();
        let middles = order.others(carriers, &mut self.random);
        let guards = self.guards_among(&middles);
        let primary: Vec<&Relay> = guards.iter().copied().take(self.rules.guards).collect();
        let mut search =
            Search { hops: hops.into(), distinct: self.distinct(), firsts: Vec::new(), middles, lasts };
        for firsts in [primary, guards] {
            search.firsts = order.others(firsts, &mut self.random);
            if let Some(path) = search.find() {
                return Some(path);
            }
        }
        let may_choose = hops == 1 || self.settling.is_settled();
        if self.guards.is_full() || !may_choose {
            return None;
        }
        search.firsts = search.middles.clone();
        let path = search.find()?;
        if let Some(first) = path.first() {
            self.guards.add(self.now, *first);
        }
        Some(path)
    }

    /// The guards that are in `relays`, in the order in which they are used.
    fn guards_among<'r>(&self, relays: &[&'r Relay]) -> Vec<&'r Relay> {
        let held = self.guards.list().iter();
        let find = |guard: &Guard| relays.iter().copied().find(|r| r.descriptor.peer_id == guard.peer);
        let mut guards: Vec<&Relay> = held.filter_map(find).collect();
        // An exit that became a guard because there was nobody else is replaced when enough others
        // have been chosen: it stays in the list, behind all of them. Were it struck out, blocking
        // the others for a moment would each time lead to an exit that was no guard before.
        guards.sort_by_key(|relay| relay.descriptor.exit);
        guards
    }

    /// Chooses guards until enough of them can be used. Only relays that are no exits: an exit
    /// becomes a guard when there is no path without it.
    fn top_up_guards(&mut self) {
        let order = Order { now: self.now, used: &[], rules: &self.rules };
        let usable: Vec<&Relay> = self
            .relays
            .iter()
            .filter(|r| self.serves(r) && !r.rests(self.now) && r.descriptor.relay && !r.descriptor.exit)
            .collect();
        let (held, free): (Vec<&Relay>, Vec<&Relay>) =
            usable.into_iter().partition(|relay| self.guards.contains(&relay.descriptor.peer_id));
        let missing = self.rules.guards.saturating_sub(held.len());
        if missing == 0 {
            return;
        }
        let mut chosen = held;
        for relay in order.others(free, &mut self.random) {
            let room = chosen.len() < self.rules.guards;
            // Guards in different hands and networks: so that one fault does not take all of them.
            if room && chosen.iter().all(|other| other.may_join(relay, self.distinct())) {
                self.guards.add(self.now, relay.descriptor.peer_id);
                chosen.push(relay);
            }
        }
    }

    fn serves(&self, relay: &Relay) -> bool {
        self.suite_with(relay).is_some() && relay.descriptor.expires > self.now
    }

    /// The suite of a handshake with that relay.
    pub(super) fn suite_with(&self, relay: &Relay) -> Option<u8> {
        suites::common(&self.rules.suites, &relay.descriptor.suites)
    }

    fn used_by(&self, owner: Option<&Owner>) -> Vec<PeerId> {
        let circuits = self.circuits.values().filter(|c| c.owner.as_ref() == owner).map(|c| &c.path);
        let builds = self.builds.values().filter(|b| b.owner.as_ref() == owner).map(|b| &b.path);
        circuits.chain(builds).flatten().copied().collect()
    }

    /// Which rule keeps a circuit of so many hops from being built; none when one can be.
    pub(super) fn diagnose(&self, hops: u8) -> Option<Waiting> {
        let all: Vec<&Relay> = self.relays.iter().filter(|r| r.descriptor.expires > self.now).collect();
        let serving: Vec<&Relay> = all.iter().copied().filter(|r| self.serves(r)).collect();
        let any = Distinct { operators: false, networks: false };
        let strict = self.distinct();
        if !(1..=MAX_HOPS).contains(&hops) {
            return Some(Waiting::Hops(hops));
        }
        if all.is_empty() {
            return Some(Waiting::NoRelays);
        }
        if !all.iter().any(|r| r.descriptor.exit) {
            return Some(Waiting::NoExit);
        }
        if !possible(&all, hops, any) {
            return Some(Waiting::TooFew { needed: hops, known: all.len() });
        }
        if !possible(&serving, hops, any) {
            return Some(Waiting::Suite { suites: self.rules.suites.clone(), speaking: serving.len() });
        }
        if !possible(&serving, hops, strict) {
            return Some(broken_rule(&serving, hops, strict));
        }
        self.diagnose_moment(&serving, hops)
    }

    /// The rules can be met; something else stands in the way for now.
    fn diagnose_moment(&self, serving: &[&Relay], hops: u8) -> Option<Waiting> {
        let awake: Vec<&Relay> = serving.iter().copied().filter(|r| !r.rests(self.now)).collect();
        if !possible(&awake, hops, self.distinct()) {
            let resting = serving.len() - awake.len();
            let retry_in = self.relays.next_retry(self.now).unwrap_or(self.now).since(self.now);
            return Some(Waiting::Resting { relays: resting, retry_in });
        }
        if self.now < self.own_retry_at {
            return Some(Waiting::Own { retry_in: self.own_retry_at.since(self.now) });
        }
        if hops > 1 && !self.settling.is_settled() {
            return Some(Waiting::Settling);
        }
        (self.guards.is_full() && hops > 1).then_some(Waiting::Guards(MAX_GUARDS))
    }
}

fn possible(relays: &[&Relay], hops: u8, distinct: Distinct) -> bool {
    let carriers: Vec<&Relay> = relays.iter().copied().filter(|r| r.descriptor.relay).collect();
    let lasts = relays.iter().copied().filter(|r| r.descriptor.exit).collect();
    Search { hops: hops.into(), distinct, firsts: carriers.clone(), middles: carriers, lasts }
        .find()
        .is_some()
}

fn broken_rule(relays: &[&Relay], needed: u8, strict: Distinct) -> Waiting {
    let mut operators: Vec<_> = relays.iter().filter_map(|r| r.descriptor.operator).collect();
    let unnamed = relays.len() - operators.len();
    operators.sort_unstable();
    operators.dedup();
    let mut networks: Vec<_> = relays.iter().flat_map(|r| r.networks.iter()).collect();
    networks.sort_unstable();
    networks.dedup();
    if possible(relays, needed, Distinct { operators: false, ..strict }) {
        Waiting::Operators { needed, known: operators.len() + unnamed }
    } else {
        Waiting::Networks { needed, known: networks.len() }
    }
}

/// In which order candidates are tried.
struct Order<'a> {
    now: Timestamp,
    used: &'a [PeerId],
    rules: &'a Rules,
}

impl Order<'_> {
    fn lasts<'r>(
        &self,
        mut relays: Vec<&'r Relay>,
        pinned: Option<PeerId>,
        random: &mut Random,
    ) -> Vec<&'r Relay> {
        relays.sort_by_cached_key(|relay| {
            let pinned = Some(relay.descriptor.peer_id) == pinned;
            (!pinned, self.uses(relay), relay.suspect(self.now), self.draw(relay, random))
        });
        relays
    }

    /// For every position but the last: exits are kept for it while there are enough others.
    fn others<'r>(&self, mut relays: Vec<&'r Relay>, random: &mut Random) -> Vec<&'r Relay> {
        relays.sort_by_cached_key(|relay| {
            (relay.descriptor.exit, relay.suspect(self.now), self.uses(relay), self.draw(relay, random))
        });
        relays
    }

    fn uses(&self, relay: &Relay) -> usize {
        self.used.iter().filter(|peer| **peer == relay.descriptor.peer_id).count()
    }

    /// Exponential with the weight as its rate: the smallest draw is each relay's with a
    /// probability proportional to its weight (Efraimidis and Spirakis 2006).
    fn draw(&self, relay: &Relay, random: &mut Random) -> u64 {
        let weight = match (self.rules.weighting, relay.descriptor.bytes_per_second) {
            (Weighting::Uniform, _) => 1.0,
            (Weighting::Stated, 0) => STATED.1 as f64,
            (Weighting::Stated, stated) => stated.clamp(STATED.0, STATED.1) as f64,
        };
        let best = self.rules.suites.first().is_some_and(|suite| relay.descriptor.suites.contains(suite));
        let weight = if best { BEST_SUITE * weight } else { weight };
        // Bits of a float that is not negative are in the order of the float.
        (-random.unit().ln() / weight).abs().to_bits()
    }
}

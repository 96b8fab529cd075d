use proptest::prelude::*;

use super::*;

const START: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
const PERIOD: Duration = Duration::from_secs(1);

fn workers(count: usize, busy: f64, active: u32) -> Vec<WorkerLoad> {
    vec![WorkerLoad { busy, active }; count]
}

/// A pool that does as it is told, looked at once a second.
struct Pool {
    scaler: Scaler,
    now: Timestamp,
    min: u8,
    max: u8,
    running: usize,
}

impl Pool {
    fn new(min: u8, max: u8, running: usize) -> Self {
        Self { scaler: Scaler::new(), now: START, min, max, running }
    }

    /// One look at workers that all have this load.
    fn look(&mut self, busy: f64, active: u32) -> Decision {
        let loads = workers(self.running, busy, active);
        self.look_at(&loads)
    }

    fn look_at(&mut self, loads: &[WorkerLoad]) -> Decision {
        self.now = self.now.after(PERIOD);
        let decision =
            self.scaler.decide(&Load { now: self.now, min: self.min, max: self.max, workers: loads });
        match decision {
            Decision::Stay => {}
            Decision::Grow { .. } => self.running += 1,
            Decision::Shrink { worker, .. } => {
                assert_eq!(usize::from(worker), self.running - 1, "the highest index goes");
                self.running -= 1;
            }
        }
        decision
    }
}

#[test]
fn a_burst_is_not_enough_and_two_busy_looks_are() {
    let mut pool = Pool::new(1, 4, 1);
    assert_eq!(pool.look(0.9, 1), Decision::Stay);
    assert_eq!(pool.look(0.75, 1), Decision::Stay, "at the threshold is not above it");
    assert_eq!(pool.look(0.9, 1), Decision::Stay);
    assert_eq!(pool.look(0.8, 1), Decision::Grow { reason: GrowReason::Busy { share: 0.8 } });
    assert_eq!(pool.look(0.9, 1), Decision::Stay, "counted anew for the larger pool");
}

#[test]
fn one_busy_worker_beside_an_idle_one_asks_for_no_third() {
    let mut pool = Pool::new(1, 4, 2);
    let loads = [WorkerLoad { busy: 1.0, active: 1 }, WorkerLoad::default()];
    for _ in 0..100 {
        assert_eq!(pool.look_at(&loads), Decision::Stay);
    }
}

#[test]
fn a_worker_holds_eight_circuits_and_the_ninth_brings_another() {
    let mut pool = Pool::new(1, 8, 1);
    assert_eq!(pool.look(0.5, 8), Decision::Stay);
    let reason = GrowReason::Circuits { active: 9, wanted: 3 };
    assert_eq!(pool.look(0.5, 9), Decision::Grow { reason });
    assert_eq!(pool.look_at(&workers(2, 0.3, 5)), Decision::Stay, "ten circuits, two workers");
}

#[test]
fn many_circuits_grow_it_step_by_step() {
    let mut pool = Pool::new(1, 8, 1);
    let mut sizes = Vec::new();
    for _ in 0..6 {
        let mut loads = workers(pool.running, 0.1, 0);
        loads[0].active = 33;
        pool.look_at(&loads);
        sizes.push(pool.running);
    }
    assert_eq!(sizes, [2, 3, 4, 5, 5, 5], "33 circuits need five workers of eight");
}

#[test]
fn it_shrinks_after_a_long_quiet_only_and_one_by_one() {
    let mut pool = Pool::new(1, 4, 3);
    let mut when = Vec::new();
    for second in 1..=120 {
        if let Decision::Shrink { worker, reason } = pool.look(0.1, 0) {
            assert!(matches!(reason, ShrinkReason::Quiet { .. }));
            when.push((second, worker));
        }
    }
    assert_eq!(when, [(31, 2), (62, 1)]);
}

#[test]
fn a_moment_of_work_starts_the_quiet_anew() {
    let mut pool = Pool::new(1, 4, 2);
    for _ in 0..29 {
        assert_eq!(pool.look(0.1, 0), Decision::Stay);
    }
    assert_eq!(pool.look(0.5, 0), Decision::Stay);
    for _ in 0..30 {
        assert_eq!(pool.look(0.1, 0), Decision::Stay);
    }
    assert!(matches!(pool.look(0.1, 0), Decision::Shrink { worker: 1, .. }));
}

#[test]
fn circuits_that_the_rest_is_not_meant_for_keep_a_worker() {
    let mut pool = Pool::new(1, 4, 2);
    for _ in 0..100 {
        assert_eq!(
            pool.look_at(&[WorkerLoad { busy: 0.0, active: 5 }, WorkerLoad::default()]),
            Decision::Stay
        );
    }
    let loads = [WorkerLoad { busy: 0.0, active: 4 }, WorkerLoad::default()];
    let decisions: Vec<_> = (0..31).map(|_| pool.look_at(&loads)).collect();
    assert!(matches!(decisions[30], Decision::Shrink { worker: 1, .. }), "{decisions:?}");
}

#[test]
fn bounds_that_moved_are_followed_at_once() {
    let mut pool = Pool::new(3, 4, 1);
    let reason = GrowReason::BelowMin { running: 1, min: 3 };
    assert_eq!(pool.look(0.0, 0), Decision::Grow { reason });
    (pool.min, pool.max) = (1, 1);
    let reason = ShrinkReason::AboveMax { running: 2, max: 1 };
    assert_eq!(pool.look(1.0, 50), Decision::Shrink { worker: 1, reason });
    assert_eq!(pool.look(1.0, 50), Decision::Stay);
    (pool.min, pool.max) = (0, 0);
    assert_eq!(pool.look(0.0, 0), Decision::Stay, "0 is taken as 1");
}

#[test]
fn figures_that_are_no_share_do_no_harm() {
    let mut pool = Pool::new(1, 4, 2);
    for busy in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -5.0, 7.0] {
        pool.look(busy, u32::MAX);
        assert!((1..=4).contains(&pool.running));
    }
    let mut pool = Pool::new(1, 4, 2);
    let loads = [WorkerLoad { busy: f64::NAN, active: 0 }, WorkerLoad { busy: 1.0, active: 0 }];
    (0..100).for_each(|_| assert_eq!(pool.look_at(&loads), Decision::Stay));
}

#[test]
fn reasons_read_as_sentences() {
    let reason = GrowReason::Circuits { active: 9, wanted: 3 };
    assert_eq!(reason.to_string(), "9 active circuits want 3 workers");
    assert_eq!(GrowReason::Busy { share: 0.812 }.to_string(), "the workers are 81 % busy");
    assert_eq!(
        ShrinkReason::Quiet { share: 0.2, active: 3 }.to_string(),
        "quiet for 30 s: the rest would be 20 % busy with 3 active circuits"
    );
}

/// Less is less: the order in which more load never moves a decision down.
fn rank(decision: Decision) -> i8 {
    match decision {
        Decision::Shrink { .. } => -1,
        Decision::Stay => 0,
        Decision::Grow { .. } => 1,
    }
}

fn total(loads: &[WorkerLoad]) -> (f64, u32) {
    (loads.iter().map(|load| load.busy).sum(), loads.iter().map(|load| load.active).sum())
}

fn load() -> impl Strategy<Value = WorkerLoad> {
    // Near the thresholds as often as anywhere.
    let busy = prop_oneof![0.0..1.0_f64, 0.35..0.45_f64, 0.7..0.8_f64];
    let active = prop_oneof![0..3_u32, 3..6_u32, 7..10_u32];
    (busy, active).prop_map(|(busy, active)| WorkerLoad { busy, active })
}

/// Stretches of seconds, each with one load for every worker there may be.
fn story() -> impl Strategy<Value = Vec<(usize, Vec<WorkerLoad>)>> {
    prop::collection::vec((1..50_usize, prop::collection::vec(load(), 8)), 1..12)
}

proptest! {
    #[test]
    fn it_stays_within_its_bounds_and_never_flaps(
        (min, max) in (1..5_u8).prop_flat_map(|min| (Just(min), min..=8_u8)),
        story in story(),
    ) {
        let mut pool = Pool::new(min, max, usize::from(min));
        let mut shrunk: Option<(Timestamp, (f64, u32))> = None;
        let mut grown: Option<Timestamp> = None;
        for (seconds, loads) in &story {
            for _ in 0..*seconds {
                let loads = &loads[..pool.running];
                let decision = pool.look_at(loads);
                prop_assert!((usize::from(min)..=usize::from(max)).contains(&pool.running));
                match decision {
                    Decision::Grow { .. } => {
                        if let Some((at, (busy, active))) = shrunk
                            && pool.now.since(at) < QUIET
                        {
                            let now = total(loads);
                            prop_assert!(now.0 > busy || now.1 > active, "grew again under less load");
                        }
                        grown = Some(pool.now);
                    }
                    Decision::Shrink { .. } => {
                        let late = grown.is_none_or(|at| pool.now.since(at) >= QUIET);
                        prop_assert!(late, "shrank {:?} after it grew", grown);
                        let again = shrunk.is_none_or(|(at, _)| pool.now.since(at) >= QUIET);
                        prop_assert!(again, "two steps within one quiet");
                        shrunk = Some((pool.now, total(loads)));
                    }
                    Decision::Stay => {}
                }
            }
        }
    }

    #[test]
    fn an_even_load_comes_to_rest(
        min in 1..4_u8,
        more in 0..5_u8,
        running in 1..9_usize,
        busy in 0.0..6.0_f64,
        active in 0..60_u32,
    ) {
        let max = min + more;
        let mut pool = Pool::new(min, max, running);
        let mut last_change = 0;
        for second in 0..1000 {
            let count = pool.running as f64;
            let mut loads = workers(pool.running, busy / count, 0);
            loads[0].active = active;
            if pool.look_at(&loads) != Decision::Stay {
                last_change = second;
            }
        }
        prop_assert!(last_change <= 8 * 32, "still changing at {last_change} s");
        prop_assert!((usize::from(min)..=usize::from(max)).contains(&pool.running));
    }

    #[test]
    fn more_load_never_means_fewer_workers(
        history in prop::collection::vec(prop::collection::vec(load(), 3), 0..40),
        last in prop::collection::vec((load(), 0.0..1.0_f64, 0..10_u32), 3),
        (min, max) in (1..4_u8).prop_flat_map(|min| (Just(min), min..=5_u8)),
    ) {
        let mut scaler = Scaler::new();
        let mut now = START;
        for loads in &history {
            now = now.after(PERIOD);
            scaler.decide(&Load { now, min, max, workers: loads });
        }
        now = now.after(PERIOD);
        let less: Vec<_> = last.iter().map(|(load, _, _)| *load).collect();
        let more: Vec<_> = last
            .iter()
            .map(|(load, busy, active)| WorkerLoad { busy: load.busy + busy, active: load.active + active })
            .collect();
        let of_less = scaler.clone().decide(&Load { now, min, max, workers: &less });
        let of_more = scaler.decide(&Load { now, min, max, workers: &more });
        prop_assert!(rank(of_more) >= rank(of_less), "{of_less:?} with less, {of_more:?} with more");
    }
}

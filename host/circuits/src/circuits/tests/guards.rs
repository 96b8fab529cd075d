use super::*;

#[test]
fn guards_stay_over_time_and_restarts() {
    let relays = network(40, 10);
    let mut bench = Bench::new(rules(), &relays);
    for hours in 0..10 {
        bench.want(&Isolation { hops: 3, key: format!("{hours}").into() });
        bench.settle();
        bench.after(3600);
    }
    let guards = bench.policy.guards();
    assert_eq!(guards.len(), 3);
    let mut again = Bench::of(Circuits::new(rules(), 12345), bench.now, &[]);
    again.policy.set_guards(guards.clone());
    relays.iter().for_each(|relay| again.tell(relay));
    again.want(&want(3));
    let firsts: Vec<PeerId> = again.settle().iter().map(|path| path[0]).collect();
    assert!(firsts.iter().all(|first| guards.iter().any(|guard| guard.peer == *first)));
}

/// Nobody is known yet; relays are told one by one, exits first.
fn newborn() -> (Bench, Vec<Descriptor>) {
    (Bench { policy: Circuits::new(rules(), 7), now: START, handles: 0 }, network(9, 3))
}

fn exits_among_guards(bench: &Bench, relays: &[Descriptor]) -> usize {
    let exit = |guard: &Guard| relays.iter().any(|relay| relay.exit && relay.peer_id == guard.peer);
    bench.policy.guards().iter().filter(|guard| exit(guard)).count()
}

#[test]
fn no_guard_is_chosen_while_relays_arrive() {
    let (mut bench, relays) = newborn();
    bench.want(&want(3));
    for relay in &relays {
        bench.tell(relay);
        assert!(bench.drain().0.is_empty());
        bench.now = bench.now.after(Duration::from_millis(100));
    }
    assert_eq!(bench.reason(), "relays are becoming known; guards are chosen in a moment");
    assert_eq!(bench.policy.guards(), []);
    let due = bench.policy.poll_timeout().unwrap();
    assert_eq!(due, START.after(Duration::from_secs(1)), "however many still come");
    bench.now = due;
    bench.policy.handle_timeout(due);
    assert_eq!(bench.settle().len(), 2);
    assert_eq!(bench.policy.guards().len(), 3);
    assert_eq!(exits_among_guards(&bench, &relays), 0);
}

#[test]
fn quiet_is_enough_and_what_is_newer_of_a_known_relay_is_no_noise() {
    let (mut bench, relays) = newborn();
    bench.want(&want(3));
    relays.iter().for_each(|relay| bench.tell(relay));
    let due = START.after(Duration::from_millis(300));
    assert_eq!(bench.policy.poll_timeout(), Some(due));
    bench.now = START.after(Duration::from_millis(200));
    bench.tell(&Descriptor { published: START.after(Duration::from_secs(1)), ..relays[0].clone() });
    assert_eq!(bench.policy.poll_timeout(), Some(due));
    bench.now = due;
    bench.policy.handle_timeout(due);
    assert_eq!(bench.settle().len(), 2);
    // For good: one that comes later starts no new wait.
    bench.tell(&relay(50, "10.50.0.1:9000", false));
    bench.want(&Isolation { hops: 3, key: "two".into() });
    assert_eq!(bench.settle().len(), 2);
}

#[test]
fn single_hops_and_saved_guards_do_not_wait() {
    let (mut bench, relays) = newborn();
    bench.want(&want(1));
    bench.tell(&relays[0]);
    assert!(!bench.settle().is_empty());
    assert_eq!(bench.policy.guards(), []);
    let (mut bench, relays) = newborn();
    bench.policy.set_guards(vec![Guard { peer: relays[8].peer_id, since: START }]);
    bench.want(&want(3));
    relays[..8].iter().for_each(|relay| bench.tell(relay));
    assert!(bench.drain().0.is_empty(), "the guard is not there yet");
    bench.tell(&relays[8]);
    assert!(bench.settle().iter().all(|path| path[0] == relays[8].peer_id));
    assert_eq!(bench.policy.guards().len(), 1, "and no other is chosen yet");
}

#[test]
fn an_exit_that_is_guard_for_want_of_others_is_replaced_once() {
    let exits = network(4, 4);
    let mut bench = Bench::new(rules(), &exits);
    bench.want(&want(3));
    bench.settle();
    let makeshift = bench.policy.guards();
    assert!(!makeshift.is_empty());
    let plain: Vec<_> = (10..16).map(|n| relay(n, &format!("10.{n}.0.1:9000"), false)).collect();
    plain.iter().for_each(|relay| bench.tell(relay));
    assert!(bench.drain().1.is_empty(), "circuits that stand are left alone");
    for round in 0..20 {
        bench.want(&Isolation { hops: 3, key: format!("{round}").into() });
        for path in bench.settle() {
            assert!(plain.iter().any(|relay| relay.peer_id == path[0]), "round {round}: {path:?}");
        }
    }
    let guards = bench.policy.guards();
    assert_eq!(guards.len(), makeshift.len() + 3);
    assert_eq!(guards[..makeshift.len()], makeshift, "they are kept for the day the others fail");
}

#[test]
fn blocking_guards_does_not_lead_to_any_relay() {
    let mut bench = Bench::new(Rules { per_isolation: 1, ..rules() }, &network(200, 20));
    bench.want(&want(3));
    let mut firsts = BTreeSet::new();
    for _ in 0..400 {
        let (asked, _) = bench.drain();
        for one in asked {
            firsts.insert(one.path[0]);
            bench.policy.handle_failed(bench.now, one.request, CloseReason::Timeout, 1);
        }
        bench.after(10);
    }
    assert!(firsts.len() <= crate::guards::MAX_GUARDS, "{} first hops", firsts.len());
}

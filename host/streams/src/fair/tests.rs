use std::pin::Pin;

use super::*;

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// A stream of `queue` that has said so much already.
fn after(queue: &FairQueue, bytes: usize) -> Flow {
    let mut flow = Flow::new(queue.clone());
    flow.add(bytes);
    flow
}

/// Whether it is its turn.
fn turn(flow: &mut Flow) -> bool {
    flow.poll_turn(&context()).is_ready()
}

/// Tries to write and finds no room; answers with what QUIC wakes when there is some.
fn finds_no_room(flow: &mut Flow) -> Waker {
    let mut told = None;
    let full = flow.poll(&context(), |context, _| {
        told = Some(context.waker().clone());
        Poll::<()>::Pending
    });
    assert!(full.is_pending());
    told.unwrap()
}

/// Writes, if it is its turn and there is room.
fn writes(flow: &mut Flow) -> bool {
    let written = flow.poll(&context(), |_, _| Poll::Ready(())).is_ready();
    if written {
        flow.finish();
    }
    written
}

/// What ends turns, as a connection runs it.
fn watched(queue: &FairQueue) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let queue = queue.clone();
    Box::pin(async move { queue.watch().await })
}

const LONG: usize = 1 << 20;

#[tokio::test(start_paused = true)]
async fn who_said_little_goes_first_and_the_others_as_they_came() {
    let queue = FairQueue::default();
    let [mut now, mut one, mut gone, mut two] = std::array::from_fn(|_| after(&queue, LONG));
    let mut little = after(&queue, 1000);
    assert!(turn(&mut now));
    for flow in [&mut one, &mut gone, &mut two, &mut little] {
        assert!(!turn(flow));
    }
    drop(gone);
    now.finish();
    assert!(!turn(&mut one) && turn(&mut little));
    assert_eq!(little.seat.priority(), AHEAD);
    little.finish();
    assert!(turn(&mut one) && !turn(&mut two));
    one.finish();
    assert!(turn(&mut two));
    assert!(two.seat.priority() < one.seat.priority() && one.seat.priority() < AHEAD);
}

#[tokio::test(start_paused = true)]
async fn silence_makes_a_stream_little_again() {
    let queue = FairQueue::default();
    let mut flow = Flow::new(queue);
    for (bytes, silence_ms, is_ahead) in [
        (65_535, 0, true),
        (1, 0, true),
        (LONG, 0, false),
        (1000, 900, false),
        (65_536, 1200, true),
        (1, 0, false),
    ] {
        sleep(Duration::from_millis(silence_ms)).await;
        assert!(turn(&mut flow));
        assert_eq!(flow.seat.priority() == AHEAD, is_ahead, "{bytes} after {silence_ms} ms");
        flow.add(bytes);
        flow.finish();
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_without_room_is_ended_and_goes_on_when_there_is_some() {
    let queue = FairQueue::default();
    tokio::spawn(watched(&queue));
    let (mut one, mut two, mut three) = (after(&queue, LONG), after(&queue, LONG), after(&queue, LONG));
    let room = finds_no_room(&mut one);
    sleep(2 * PATIENCE).await;
    assert!(one.seat.state() == HAS_TURN, "nobody waits for it");
    assert!(!turn(&mut two) && !turn(&mut three));
    sleep(2 * PATIENCE).await;
    for _ in 0..3 {
        // Woken for another reason, it does not ask again.
        assert!(!turn(&mut one));
    }
    let priority = one.seat.priority();
    assert!(turn(&mut two));
    room.wake();
    two.finish();
    // Before those in line although nobody asked it since, and as what it was.
    assert!(!turn(&mut three) && writes(&mut one));
    assert_eq!(one.seat.priority(), priority);
    assert!(turn(&mut three));
}

#[tokio::test(start_paused = true)]
async fn who_writes_keeps_the_turn_however_long_it_takes() {
    let queue = FairQueue::default();
    tokio::spawn(watched(&queue));
    let (mut one, mut two) = (after(&queue, LONG), after(&queue, LONG));
    for _ in 0..20 {
        assert!(one.poll(&context(), |_, _| Poll::Ready(())).is_ready());
        assert!(!turn(&mut two));
        sleep(PATIENCE / 2).await;
        assert!(one.seat.state() == HAS_TURN);
    }
}

#[tokio::test(start_paused = true)]
async fn who_never_goes_on_holds_nobody_up() {
    let queue = FairQueue::default();
    tokio::spawn(watched(&queue));
    let mut flows: Vec<Flow> = (0..4).map(|_| after(&queue, LONG)).collect();
    // The first has found no room, the others are to have their turns, and nobody asks them again.
    let _room = finds_no_room(&mut flows[0]);
    for flow in &mut flows[1..] {
        assert!(!turn(flow));
    }
    let mut last = after(&queue, LONG);
    assert!(!turn(&mut last));
    sleep(4 * 2 * PATIENCE).await;
    assert!(turn(&mut last));
    // One whose turn was over before it began is late, and need not wait once more.
    assert!(writes(&mut flows[2]) && writes(&mut last));
}

#[tokio::test(start_paused = true)]
async fn who_is_late_twice_goes_on() {
    let queue = FairQueue::default();
    tokio::spawn(watched(&queue));
    let (mut one, mut two, mut three) = (after(&queue, LONG), after(&queue, LONG), after(&queue, LONG));
    let room = finds_no_room(&mut one);
    assert!(!turn(&mut two) && !turn(&mut three));
    sleep(2 * PATIENCE).await;
    room.wake();
    // Its turn comes and goes, and comes and goes again, before it is asked.
    for other in [&mut two, &mut three] {
        assert!(writes(other));
        assert!(!turn(other), "it is the first one's turn");
        sleep(2 * PATIENCE).await;
        let _ = turn(&mut one);
    }
    assert!(writes(&mut one));
}

#[tokio::test(start_paused = true)]
async fn when_the_connection_is_over_everybody_learns_it() {
    let queue = FairQueue::default();
    let watch = tokio::spawn(watched(&queue));
    let (mut one, mut two) = (after(&queue, LONG), after(&queue, LONG));
    assert!(turn(&mut one) && !turn(&mut two));
    tokio::task::yield_now().await;
    watch.abort();
    assert!(watch.await.unwrap_err().is_cancelled());
    assert!(writes(&mut two) && turn(&mut after(&queue, LONG)));
}

#[tokio::test(start_paused = true)]
async fn what_stood_in_no_line_counts_for_nothing_later() {
    let queue = FairQueue::default();
    let (mut one, mut two) = (Flow::new(queue.clone()), after(&queue, LONG));
    for _ in 0..100 {
        assert!(turn(&mut one));
        one.add(FIRST as usize - 1);
        one.finish();
        sleep(SILENCE).await;
    }
    one.add(LONG);
    assert!(turn(&mut two) && !turn(&mut one));
    let mut three = after(&queue, LONG);
    assert!(!turn(&mut three));
    two.finish();
    assert!(turn(&mut one));
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_interrupted_only_by_who_stands_in_no_line() {
    let queue = FairQueue::default();
    let (mut one, mut two, mut page) = (after(&queue, LONG), after(&queue, LONG), after(&queue, 10));
    assert!(turn(&mut one) && !turn(&mut two));
    one.let_pass();
    assert!(turn(&mut one), "only one in line waits");
    assert!(!turn(&mut page));
    one.let_pass();
    assert!(!turn(&mut one) && writes(&mut page));
    assert!(!turn(&mut two) && turn(&mut one));
}

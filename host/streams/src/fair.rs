//! Which of a connection's streams gives it more to send next: fair queueing of what a last hop's targets send.
//!
//! QUIC has one send window for all streams. Whoever finds it full is told when there is room, and so is everybody else: of a
//! thousand a few find any, and the last that came are told first, so that some never find any. So a stream writes only when it is its
//! turn: first come, first served, one write each.
//!
//! What was written is sent about in the order of the turns: with each its stream's priority becomes one less than that of the
//! turn before. (By itself QUIC takes a datagram of each stream, round after round. An originator with a thousand streams then
//! wakes a reader and writes to a client for each datagram, instead of once for some thirty.)
//!
//! A stream that has little to say stands in no line and is sent before all others. That is each at its beginning, and
//! again as its target is silent: a page comes at once, however many downloads it shares a circuit with.
//!
//! QUIC does not tell a stream that waits for room in the connection from one whose own reader is slow. Whoever finds none for a
//! while is taken for the second: others have their turns until it is told that there is room.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::lock;

/// How long a turn may wait for room.
const PATIENCE: Duration = Duration::from_millis(25);
/// Bytes of a stream that stand in no line.
const FIRST: u64 = 64 * 1024;
/// Silence of a target after which as many do not again; after less, fewer.
const SILENCE: Duration = Duration::from_secs(1);
/// The priority of what stood in no line, and of what is written without a turn. Those of turns are negative.
const AHEAD: i32 = 0;

/// The order of one connection. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct FairQueue(Arc<Mutex<Inner>>);

type Waiting = VecDeque<(i32, oneshot::Sender<Turn>)>;

#[derive(Debug, Default)]
struct Inner {
    /// Somebody has a turn.
    taken: bool,
    /// Who waits for the next, as [`Rank`] says.
    ahead: Waiting,
    again: Waiting,
    line: Waiting,
    /// The priority of the turn before. After 2^31 turns they are all equal, and QUIC takes a datagram of each.
    last: i32,
}

/// Who comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rank {
    /// Who stands in no line.
    Ahead,
    /// Whose turn was interrupted.
    Again,
    Line,
}

impl Rank {
    const ALL: [Self; 3] = [Self::Ahead, Self::Again, Self::Line];
}

impl Inner {
    fn waiting(&mut self, rank: Rank) -> &mut Waiting {
        match rank {
            Rank::Ahead => &mut self.ahead,
            Rank::Again => &mut self.again,
            Rank::Line => &mut self.line,
        }
    }
}

impl FairQueue {
    /// Those whose turn was interrupted have theirs in the order they had, by `priority`; others as they come.
    async fn turn(&self, rank: Rank, priority: i32) -> Turn {
        loop {
            let ours = {
                let mut inner = lock(&self.0);
                if !inner.taken {
                    inner.taken = true;
                    return Turn(Some(self.clone()));
                }
                let (sender, ours) = oneshot::channel();
                let waiting = inner.waiting(rank);
                let index = waiting.partition_point(|(other, _)| *other >= priority);
                waiting.insert(index, (priority, sender));
                ours
            };
            // Nobody drops the other end but with a turn.
            if let Ok(turn) = ours.await {
                return turn;
            }
        }
    }

    /// The priority of a new turn.
    fn priority(&self, rank: Rank) -> i32 {
        if rank == Rank::Ahead {
            return AHEAD;
        }
        let mut inner = lock(&self.0);
        inner.last = inner.last.saturating_sub(1);
        inner.last
    }
}

/// Only one exists at a time; dropped, it is the next one's.
#[derive(Debug)]
struct Turn(Option<FairQueue>);

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(queue) = self.0.take() else { return };
        loop {
            let mut inner = lock(&queue.0);
            let Some(next) = Rank::ALL.iter().find_map(|rank| inner.waiting(*rank).pop_front()) else {
                inner.taken = false;
                return;
            };
            drop(inner);
            match next.1.send(Turn(Some(queue.clone()))) {
                Ok(()) => return,
                // Whoever waited has gone.
                Err(mut turn) => drop(turn.0.take()),
            }
        }
    }
}

/// A stream's turn.
#[derive(Debug)]
pub(crate) struct Place {
    queue: FairQueue,
    rank: Rank,
    turn: Option<Turn>,
    /// It found no room.
    late: bool,
    told: Arc<Told>,
    pub(crate) priority: i32,
}

impl Place {
    /// Runs `write` in this turn, as long as that may wait for room.
    pub(crate) async fn run<T>(&mut self, write: impl Future<Output = T>) -> Option<T> {
        let mut write = pin!(write);
        let told = Arc::clone(&self.told);
        let waker = Waker::from(Arc::clone(&told));
        let write = poll_fn(|context| {
            told.tell(context);
            // What it is woken for from now on is news.
            told.room.store(false, Ordering::Release);
            write.as_mut().poll(&mut Context::from_waker(&waker))
        });
        let written = timeout(PATIENCE, write).await.ok();
        self.late = written.is_none();
        written
    }

    /// For what is left: when those who stand in no line had their turns and, if there was no room, when there is some.
    pub(crate) async fn again(&mut self) {
        let rank = if self.rank == Rank::Ahead { Rank::Ahead } else { Rank::Again };
        if !self.late && (rank == Rank::Ahead || lock(&self.queue.0).ahead.is_empty()) {
            return;
        }
        self.turn = None;
        if self.late {
            self.told.wait().await;
        }
        self.turn = Some(self.queue.turn(rank, self.priority).await);
    }
}

/// What QUIC is to wake when there is room. A stream's task is woken for other reasons too.
#[derive(Debug, Default)]
struct Told {
    room: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Told {
    /// From now on whoever runs in `context` is woken.
    fn tell(&self, context: &Context<'_>) {
        *lock(&self.task) = Some(context.waker().clone());
    }

    /// Waits until there is room.
    async fn wait(&self) {
        poll_fn(|context| {
            self.tell(context);
            if self.room.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        self.room.store(true, Ordering::Release);
        let task = lock(&self.task).take();
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// What a stream did that decides whether it stands in line.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Bytes that count against [`FIRST`].
    sent: u64,
    /// When it had last written all there was.
    done: Instant,
}

impl Flow {
    pub(crate) fn new() -> Self {
        Self { sent: 0, done: Instant::now() }
    }

    /// Waits for its turn. Called when its target has sent something.
    pub(crate) async fn turn(&mut self, queue: &FairQueue) -> Place {
        let silences = self.done.elapsed().div_duration_f64(SILENCE);
        self.sent = self.sent.saturating_sub((FIRST as f64 * silences) as u64);
        let rank = if self.sent < FIRST { Rank::Ahead } else { Rank::Line };
        let turn = queue.turn(rank, AHEAD).await;
        let priority = queue.priority(rank);
        Place { queue: queue.clone(), rank, turn: Some(turn), late: false, told: Arc::default(), priority }
    }

    /// So many bytes are written.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.sent = (self.sent + bytes as u64).min(2 * FIRST);
    }

    /// All of them were.
    pub(crate) fn wrote(&mut self) {
        self.done = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;

    type Asking<'a> = Pin<Box<dyn Future<Output = Place> + 'a>>;

    /// Asks for a turn; it is not its turn yet.
    fn ask<'a>(flow: &'a mut Flow, queue: &'a FairQueue) -> Asking<'a> {
        let mut asking: Asking<'_> = Box::pin(flow.turn(queue));
        assert!(asking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        asking
    }

    fn after(bytes: usize) -> Flow {
        let mut flow = Flow::new();
        flow.add(bytes);
        flow.wrote();
        flow
    }

    const LONG: usize = 1 << 20;

    #[tokio::test(start_paused = true)]
    async fn who_said_little_goes_first_and_the_others_as_they_came() {
        let queue = FairQueue::default();
        let (mut now, mut one, mut two, mut gone, mut little) =
            (after(LONG), after(LONG), after(LONG), after(LONG), after(1000));
        let first = now.turn(&queue).await;
        let one = ask(&mut one, &queue);
        let leaves = ask(&mut gone, &queue);
        let two = ask(&mut two, &queue);
        let little = ask(&mut little, &queue);
        drop((first, leaves));
        let place = little.await;
        assert_eq!((place.rank, place.priority), (Rank::Ahead, AHEAD));
        drop(place);
        let one = one.await.priority;
        let two = two.await.priority;
        assert!(two < one && one < AHEAD);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_makes_a_stream_little_again() {
        let queue = FairQueue::default();
        let mut flow = Flow::new();
        for (bytes, silence_ms, rank) in [
            (65_535, 0, Rank::Ahead),
            (1, 0, Rank::Ahead),
            (LONG, 0, Rank::Line),
            (1000, 900, Rank::Line),
            (65_536, 1200, Rank::Ahead),
            (1, 0, Rank::Line),
        ] {
            tokio::time::sleep(Duration::from_millis(silence_ms)).await;
            assert_eq!(flow.turn(&queue).await.rank, rank, "{bytes} after {silence_ms} ms");
            flow.add(bytes);
            flow.wrote();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_without_room_is_over_and_goes_on_when_there_is_some() {
        let queue = FairQueue::default();
        let (mut one, mut two) = (after(LONG), after(LONG));
        let mut place = one.turn(&queue).await;
        let mut room = None;
        let full = poll_fn(|context: &mut Context<'_>| {
            room = Some(context.waker().clone());
            Poll::<()>::Pending
        });
        assert_eq!(place.run(full).await, None);
        let mut again: Pin<Box<dyn Future<Output = ()>>> = Box::pin(place.again());
        for _ in 0..3 {
            // Woken for another reason, it does not take a turn.
            assert!(again.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        let other = two.turn(&queue).await;
        room.unwrap().wake();
        assert!(
            again.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(),
            "it is the other's turn"
        );
        drop(other);
        again.await;
        assert_eq!(place.run(async { 7 }).await, Some(7));
    }
}

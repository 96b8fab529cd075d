//! Which of a connection's streams gives it more to send next: fair queueing of what is written at either end.
//!
//! QUIC has one send window for all streams. Whoever finds it full is told when there is room, and so is everybody else: of a
//! thousand a few find any, and the last that came are told first, so that some never find any. So a stream writes only when it is its
//! turn, one write each: whoever has written less goes first (start-time fair queueing, Goyal, Vin and Cheng 1996).
//!
//! What was written is sent about in the order of the turns: with each its stream's priority becomes one less than that of the
//! turn before. (By itself QUIC takes a datagram of each stream, round after round. An originator with a thousand streams then
//! wakes a reader and writes to a client for each datagram, instead of once for some thirty.)
//!
//! A stream that has little to say stands in no line and is sent before all others. That is each at its beginning, and
//! again as its writer is silent: a page comes at once, however many downloads it shares a circuit with.
//!
//! QUIC does not tell a stream that waits for room in the connection from one whose own reader is slow, and whoever began to write
//! may never go on. Whose turn brings nothing for a while is taken for one of those: the turn is the next one's, and who found no
//! room is among those who wait again as soon as QUIC tells that there is some.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::lock;

/// How long a turn may bring nothing while others wait; up to twice as long when it began in between.
const PATIENCE: Duration = Duration::from_millis(25);
/// Bytes of a stream that stand in no line.
const FIRST: u64 = 64 * 1024;
/// Silence of a writer after which as many do not again; after less, fewer.
const SILENCE: Duration = Duration::from_secs(1);
/// The priority of what stood in no line. Those of turns are negative.
const AHEAD: i32 = 0;

/// The order of one connection. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct FairQueue(Arc<Order>);

#[derive(Debug, Default)]
struct Order {
    inner: Mutex<Inner>,
    /// Somebody waits for a turn, and nobody did before.
    waits: Notify,
}

/// In order of the first of each pair, and those of the same as they came.
type Waiting = VecDeque<(u64, Arc<Seat>)>;

#[derive(Debug, Default)]
struct Inner {
    /// Whose turn it is. While it is nobody's, nobody waits.
    holder: Option<Arc<Seat>>,
    /// The connection is over: whoever asks may find that out at once.
    over: bool,
    /// Counts the turns.
    turns: u64,
    /// Bytes that whoever stands in line has written, and who comes is taken to have: where the turn began.
    written: u64,
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

    fn is_contended(&self) -> bool {
        !(self.ahead.is_empty() && self.again.is_empty() && self.line.is_empty())
    }

    /// Takes the turn, or waits for it.
    fn ask(&mut self, seat: &Arc<Seat>, rank: Rank, waits: &Notify) {
        if self.over {
            return seat.set(HAS_TURN);
        }
        seat.set(WAITS);
        let first = !self.is_contended();
        let key = match rank {
            Rank::Ahead => 0,
            // In the order that their turns had.
            Rank::Again => seat.priority().unsigned_abs().into(),
            Rank::Line => seat.start(self.written),
        };
        let waiting = self.waiting(rank);
        let index = waiting.partition_point(|(other, _)| *other <= key);
        waiting.insert(index, (key, Arc::clone(seat)));
        if self.holder.is_none() {
            // It is itself, and looks at once.
            self.pass();
        } else if first {
            waits.notify_one();
        }
    }

    /// It is the next one's turn; answers whom to tell.
    fn pass(&mut self) -> Option<Arc<Seat>> {
        self.turns += 1;
        let next =
            Rank::ALL.iter().find_map(|rank| self.waiting(*rank).pop_front().map(|next| (*rank, next)));
        self.holder = next.as_ref().map(|(_, (_, seat))| Arc::clone(seat));
        let (rank, (key, holder)) = next?;
        if rank == Rank::Line {
            self.written = key;
        }
        holder.set(HAS_TURN);
        Some(holder)
    }
}

impl FairQueue {
    /// `seat` waits for a turn, if it is in this state: it may have left, or asked already.
    fn ask(&self, seat: &Arc<Seat>, state: u8, rank: Rank) {
        let mut inner = lock(&self.0.inner);
        if seat.state() == state {
            inner.ask(seat, rank, &self.0.waits);
        }
    }

    /// `seat` neither waits nor has a turn from now on.
    fn leave(&self, seat: &Arc<Seat>) {
        let mut inner = lock(&self.0.inner);
        let next = match seat.state.swap(NOTHING, Ordering::AcqRel) {
            HAS_TURN => inner.pass(),
            WAITS => {
                for rank in Rank::ALL {
                    inner.waiting(rank).retain(|(_, other)| !Arc::ptr_eq(other, seat));
                }
                None
            }
            _ => None,
        };
        drop(inner);
        next.inspect(|next| next.wake_task());
    }

    /// Ends turns that bring nothing while others wait; never returns. It has to run beside a connection, and is dropped when
    /// that is over.
    pub(crate) async fn watch(&self) {
        let _over = Over(self);
        loop {
            self.0.waits.notified().await;
            while let Some(turn) = self.look() {
                sleep(PATIENCE).await;
                self.end(turn);
            }
        }
    }

    /// Everybody has a turn from now on.
    fn close(&self) {
        let mut inner = lock(&self.0.inner);
        inner.over = true;
        let waiting: Vec<_> =
            Rank::ALL.iter().flat_map(|rank| std::mem::take(inner.waiting(*rank))).collect();
        waiting.iter().for_each(|(_, seat)| seat.set(HAS_TURN));
        drop(inner);
        waiting.iter().for_each(|(_, seat)| seat.wake_task());
    }

    /// Which turn it is, when others wait. What it brings from now on counts.
    fn look(&self) -> Option<u64> {
        let inner = lock(&self.0.inner);
        let holder = inner.holder.as_ref().filter(|_| inner.is_contended())?;
        holder.wrote.store(false, Ordering::Relaxed);
        Some(inner.turns)
    }

    /// Ends this turn if it brought nothing.
    fn end(&self, turn: u64) {
        let mut inner = lock(&self.0.inner);
        let stands = |holder: &&Arc<Seat>| inner.turns == turn && !holder.wrote.load(Ordering::Relaxed);
        let Some(late) = inner.holder.as_ref().filter(stands).cloned() else { return };
        late.set(LOST_TURN);
        let next = inner.pass();
        drop(inner);
        late.wake_task();
        next.inspect(|next| next.wake_task());
    }

    /// Whether somebody waits who stands in no line.
    fn is_passed(&self) -> bool {
        !lock(&self.0.inner).ahead.is_empty()
    }

    /// The priority of a new turn of one in line.
    fn next_priority(&self) -> i32 {
        let mut inner = lock(&self.0.inner);
        inner.last = inner.last.saturating_sub(1);
        inner.last
    }
}

/// Closes the queue when it is dropped.
struct Over<'a>(&'a FairQueue);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// States of a [`Seat`], changed under the queue's lock.
const NOTHING: u8 = 0;
const WAITS: u8 = 1;
const HAS_TURN: u8 = 2;
const LOST_TURN: u8 = 3;

/// A stream, as its queue and QUIC know it. As a waker it is what QUIC wakes when there is room: a stream's task is
/// woken for other reasons too.
#[derive(Debug)]
struct Seat {
    queue: FairQueue,
    state: AtomicU8,
    /// Since the queue looked at its turn.
    wrote: AtomicBool,
    /// QUIC said so.
    room: AtomicBool,
    /// It stands in no line.
    is_ahead: AtomicBool,
    /// Of its turn.
    priority: AtomicI32,
    /// What it has written, as [`Inner::written`] counts.
    written: AtomicU64,
    task: Mutex<Option<Waker>>,
}

impl Seat {
    fn new(queue: FairQueue) -> Arc<Self> {
        Arc::new(Self {
            queue,
            state: AtomicU8::new(NOTHING),
            wrote: AtomicBool::new(false),
            room: AtomicBool::new(false),
            is_ahead: AtomicBool::new(true),
            priority: AtomicI32::new(AHEAD),
            written: AtomicU64::new(0),
            task: Mutex::new(None),
        })
    }

    fn is_ahead(&self) -> bool {
        self.is_ahead.load(Ordering::Relaxed)
    }

    fn priority(&self) -> i32 {
        self.priority.load(Ordering::Relaxed)
    }

    fn begin_turn(&self) {
        let priority = if self.is_ahead() { AHEAD } else { self.queue.next_priority() };
        self.priority.store(priority, Ordering::Relaxed);
    }

    /// Where its next turn begins when the one that stands begins at `now`.
    fn start(&self, now: u64) -> u64 {
        self.written.fetch_max(now, Ordering::Relaxed).max(now)
    }

    /// Waits for another turn after one was ended.
    fn ask_again(self: &Arc<Self>) {
        let rank = if self.is_ahead() { Rank::Ahead } else { Rank::Again };
        self.queue.ask(self, LOST_TURN, rank);
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::Release);
    }

    fn state(&self) -> u8 {
        self.state.load(Ordering::Acquire)
    }

    /// From now on whoever runs in `context` is woken.
    fn tell(&self, context: &Context<'_>) {
        let mut task = lock(&self.task);
        if !task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
            *task = Some(context.waker().clone());
        }
    }

    fn wake_task(&self) {
        let task = lock(&self.task).clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Wake for Seat {
    fn wake(self: Arc<Self>) {
        self.room.store(true, Ordering::Release);
        if self.state() == LOST_TURN {
            // At once: the first that is woken would find that nobody else waits, and take all the room.
            self.ask_again();
        }
        self.wake_task();
    }
}

/// Where a stream is on its way to have written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// It has nothing to write.
    Silent,
    /// It asked for a turn.
    Asked,
    /// It had one, in which it may have found no room.
    Turn { full: bool },
}

/// What a stream writes, and its place among the others.
#[derive(Debug)]
pub(crate) struct Flow {
    seat: Arc<Seat>,
    step: Step,
    /// The priority is a new one.
    is_new: bool,
    /// Bytes that count against [`FIRST`].
    sent: u64,
    /// Up to when silence has been taken off them.
    silent_since: Instant,
}

impl Flow {
    pub(crate) fn new(queue: FairQueue) -> Self {
        let seat = Seat::new(queue);
        Self { seat, step: Step::Silent, is_new: false, sent: 0, silent_since: Instant::now() }
    }

    /// Ready when it is this stream's turn. To be called when there is something to write.
    pub(crate) fn poll_turn(&mut self, context: &Context<'_>) -> Poll<()> {
        self.seat.tell(context);
        loop {
            match (self.step, self.seat.state()) {
                (Step::Silent, _) => {
                    let rank = self.next_rank();
                    self.seat.queue.ask(&self.seat, NOTHING, rank);
                    self.step = Step::Asked;
                }
                (_, WAITS) => return Poll::Pending,
                (Step::Asked, _) => {
                    self.seat.begin_turn();
                    (self.is_new, self.step) = (true, Step::Turn { full: false });
                }
                (Step::Turn { full: true }, LOST_TURN) => {
                    // QUIC tells it once when there is some.
                    if !self.seat.room.swap(false, Ordering::AcqRel) {
                        return Poll::Pending;
                    }
                    self.step = Step::Turn { full: false };
                    self.seat.ask_again();
                }
                // Also one that was ended before it began: who is late on a busy machine need not wait once more.
                (Step::Turn { .. }, _) => return Poll::Ready(()),
            }
        }
    }

    /// Runs `write` when it is this stream's turn, with the priority that the stream is to have if that is a new one, as often as
    /// it takes. The turn goes on afterwards.
    pub(crate) fn poll<T>(
        &mut self,
        context: &Context<'_>,
        mut write: impl FnMut(&mut Context<'_>, Option<i32>) -> Poll<T>,
    ) -> Poll<T> {
        let waker = Waker::from(Arc::clone(&self.seat));
        loop {
            ready!(self.poll_turn(context));
            // What it is woken for from now on is news.
            self.seat.room.store(false, Ordering::Release);
            let priority = std::mem::take(&mut self.is_new).then(|| self.seat.priority());
            if let Poll::Ready(written) = write(&mut Context::from_waker(&waker), priority) {
                self.seat.wrote.store(true, Ordering::Relaxed);
                self.step = Step::Turn { full: false };
                return Poll::Ready(written);
            }
            self.step = Step::Turn { full: true };
            if self.seat.state() == HAS_TURN {
                return Poll::Pending;
            }
        }
    }

    /// Between two writes of a turn: those who stand in no line have theirs first.
    pub(crate) fn let_pass(&mut self) {
        let queue = &self.seat.queue;
        if !self.seat.is_ahead() && queue.is_passed() {
            queue.leave(&self.seat);
            queue.ask(&self.seat, NOTHING, Rank::Again);
        }
    }

    /// So many bytes are written.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.sent = (self.sent + bytes as u64).min(2 * FIRST);
        if !self.seat.is_ahead() {
            self.seat.written.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// All of them were: it is the next one's turn.
    pub(crate) fn finish(&mut self) {
        self.silent_since = Instant::now();
        self.give_up();
    }

    /// It is the next one's turn, whatever was written.
    pub(crate) fn give_up(&mut self) {
        if self.step != Step::Silent {
            self.seat.queue.leave(&self.seat);
            self.step = Step::Silent;
        }
    }

    fn next_rank(&mut self) -> Rank {
        let silences = self.silent_since.elapsed().div_duration_f64(SILENCE);
        self.silent_since = Instant::now();
        self.sent = self.sent.saturating_sub((FIRST as f64 * silences) as u64);
        let is_ahead = self.sent < FIRST;
        self.seat.is_ahead.store(is_ahead, Ordering::Relaxed);
        if is_ahead { Rank::Ahead } else { Rank::Line }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(test)]
mod tests;

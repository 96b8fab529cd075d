//! Our own controller: a window that grows by its root, and shrinks when a queue has grown.
//!
//! Over the length of a circuit a lost cell says little: any of several links may have lost it. Cubic takes each
//! for a full queue, and at 200 ms with one loss in a hundred uses a hundredth of a line; BBR as quinn has
//! it takes none for one, and loses a third of what it sends where the queue is short. What a full queue does and chance
//! does not is to make everything wait before anything is lost. So:
//!
//! * The window shrinks when round trips have grown, once a round trip, to what they leave room for without the queue.
//! * A loss counts only while there is such a queue, or when so many are lost that the reason does not matter.
//! * Whoever has less of a line waits longer until it shrinks: twice as long with a quarter of the rate. The one with
//!   more gives way first, so that one that comes later gets its part, although it has never seen the line without
//!   a queue. (With one bound for all, the queue of the first keeps the second small.)
//! * Where shrinking does not end the queue, others fill it. Then waiting counts no more, until it ends, and losses do.
//!   Where nothing is lost either, it was no queue: the path has become longer, and all begins again.
//! * The window grows by √window (in datagrams) each 100 ms: one that shrank to 0.8 is back after a second or two at any
//!   distance, where Cubic takes 12 s at 200 ms and 100 Mbit/s. At first it doubles each round trip; each time it
//!   shrinks halves that.
//!
//! What was acknowledged lets as much go at once, and as the window may double twice as much, but never more than the
//! first window holds: the bound of RFC 9002 (7.7) for a burst, though its first window is 10 datagrams and ours more. quinn paces
//! what is beyond that: 1.25 windows a round trip, ten datagrams at a time. With its pacing alone a last hop with 64 connections of
//! 2 MB/s sent eight in a turn.
//!
//! What was measured is in docs/benchmarks.md; `tests/lab` holds it to that on virtual time.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory, ControllerMetrics};

use crate::queue::SEGMENTS;

/// Waiting that tells of a queue which is ours to end, and at how many bytes a second; see [`Steady::patience`].
/// About what CoDel in a relay's queue lets pass (20 ms).
const QUEUE: (Duration, f64) = (Duration::from_millis(25), 12.5e6);
/// Its bounds. Less may be timers, batches, acknowledgements that are held back, and a machine whose cores are all busy.
const WAITS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));
/// The part of a [`SAMPLE`] whose loss counts in any case, at the same rate, and its bounds.
const TOO_MANY: f64 = 0.03;
const TOO_MANY_BOUNDS: (f64, f64) = (0.02, 0.05);
/// Datagrams of which it is judged how many were lost.
const SAMPLE: u64 = 256;
/// Datagrams in a row that must all have waited: those of more than one acknowledgement.
const ALL_WAITED: u32 = 32;
/// Times in a row that the window shrinks for a queue which stays; then it is not ours.
const IN_VAIN: u32 = 6;
/// Round trips without a loss after which such a queue is none.
const NO_LOSS: u32 = 10;
/// What the window shrinks to, at least and at most.
const SHRINK: (f64, f64) = (0.7, 0.9);
/// The window grows by its root each time this has passed, but within bounds of how often that is in a round trip.
const PACE: Duration = Duration::from_millis(100);
const PACES: (f64, f64) = (0.125, 2.0);
/// The least window, in datagrams.
const LEAST: u64 = 4;
/// A window of which quinn paces nothing: it does not above 4 GB.
const UNPACED: u64 = u64::MAX / 2;

/// See the module's first lines.
#[derive(Debug, Clone)]
pub(super) struct Steady {
    initial: u64,
    mtu: u64,
    window: f64,
    /// What the window grows by in a round trip as a part of itself, unless its root is more.
    eager: f64,
    /// What was sent before then was sent before the window last shrank.
    shrunk: Option<Instant>,
    /// Datagrams in a row that waited.
    waited: u32,
    /// How often in a row the window shrank for a queue that is still there.
    in_vain: u32,
    /// The waiting that the first of these times was for. Those that follow are for more, as the rate is less.
    first_limit: Duration,
    /// The least that a round trip took, and since the window last shrank.
    base: Duration,
    recent: Duration,
    /// When something was lost or the window shrank for a queue.
    trouble: Option<Instant>,
    /// As it is now, on average.
    round_trip: Duration,
    /// Bytes of this sample.
    acked: u64,
    lost: u64,
    /// Bytes that may still go at once.
    burst: u64,
    /// Bytes on their way, or a few more: acknowledgements that were sent count until some come.
    in_flight: u64,
}

impl Steady {
    fn new(initial: u64, mtu: u16) -> Self {
        Self {
            initial,
            mtu: mtu.into(),
            window: initial as f64,
            eager: 1.0,
            shrunk: None,
            waited: 0,
            in_vain: 0,
            first_limit: Duration::ZERO,
            base: Duration::MAX,
            recent: Duration::MAX,
            trouble: None,
            round_trip: PACE,
            acked: 0,
            lost: 0,
            burst: initial,
            in_flight: 0,
        }
    }

    /// 1 at the rate of [`QUEUE`], 2 at a quarter of it.
    fn patience(&self) -> f64 {
        let rate = self.window / self.round_trip.as_secs_f64().max(1e-6);
        (QUEUE.1 / rate.max(1.0)).sqrt()
    }

    /// Looks at how long it took until one that was sent at `sent` was acknowledged.
    fn look_at_delay(&mut self, now: Instant, sent: Instant) {
        if self.is_before_shrinking(sent) {
            return;
        }
        let took = now.saturating_duration_since(sent);
        (self.base, self.recent) = (self.base.min(took), self.recent.min(took));
        let waiting = took - self.base;
        if waiting <= self.first_limit {
            self.in_vain = 0;
        }
        // The bound that no rate changes first: nearly none waits longer.
        if waiting <= WAITS.0 {
            self.waited = 0;
            return;
        }
        let limit = QUEUE.0.mul_f64(self.patience()).clamp(WAITS.0, WAITS.1);
        if waiting <= limit {
            self.waited = 0;
            return;
        }
        self.waited = self.waited.saturating_add(1);
        if self.waited < ALL_WAITED {
            return;
        }
        if self.in_vain >= IN_VAIN {
            return self.doubt_queue(now);
        }
        if self.in_vain == 0 {
            self.first_limit = limit;
        }
        self.in_vain += 1;
        self.trouble = Some(now);
        let part = (self.base.as_secs_f64() / took.as_secs_f64()).clamp(SHRINK.0, SHRINK.1);
        // What comes back left when the window was smaller by what it has grown since.
        self.shrink(now, part / (1.0 + self.growth()));
    }

    /// A queue that does not end and loses nothing is none.
    fn doubt_queue(&mut self, now: Instant) {
        let quiet = self.trouble.map_or(Duration::MAX, |trouble| now.saturating_duration_since(trouble));
        if quiet > self.round_trip * NO_LOSS {
            (self.base, self.waited, self.in_vain, self.eager) = (self.recent, 0, 0, 1.0);
        }
    }

    /// What the window grows by in a round trip, as a part of itself.
    fn growth(&self) -> f64 {
        let pace = (self.round_trip.as_secs_f64() / PACE.as_secs_f64()).clamp(PACES.0, PACES.1);
        self.eager.max((self.mtu as f64 / self.window).sqrt() * pace)
    }

    fn shrink(&mut self, now: Instant, part: f64) {
        self.window = (self.window * part).max((LEAST * self.mtu) as f64);
        self.eager /= 2.0;
        self.shrunk = Some(now);
        (self.waited, self.recent) = (0, Duration::MAX);
    }

    fn is_before_shrinking(&self, sent: Instant) -> bool {
        self.shrunk.is_some_and(|shrunk| sent <= shrunk)
    }

    /// What was lost of this sample is more than chance.
    fn is_too_many(&self) -> bool {
        let part = (TOO_MANY * self.patience()).clamp(TOO_MANY_BOUNDS.0, TOO_MANY_BOUNDS.1);
        let sent = (self.acked + self.lost).max(SAMPLE * self.mtu);
        self.lost as f64 > part * sent as f64
    }

    /// Whether datagrams wait in a queue now.
    fn is_queue(&self) -> bool {
        self.waited >= ALL_WAITED
    }

    /// Whether the next datagrams may go at once.
    fn is_burst(&self) -> bool {
        // quinn makes so many before it says that they are sent.
        let batch = SEGMENTS as u64 * self.mtu;
        self.burst >= batch && self.in_flight + batch <= self.window as u64
    }

    /// So many bytes were acknowledged.
    fn allow_burst(&mut self, bytes: u64) {
        self.burst = (self.burst + 2 * bytes).min(self.initial);
    }

    fn take_acked(&mut self, bytes: u64) {
        if self.acked + self.lost > SAMPLE * self.mtu {
            (self.acked, self.lost) = (0, 0);
        }
        self.acked += bytes;
    }
}

impl Controller for Steady {
    fn on_sent(&mut self, _: Instant, bytes: u64, _: u64) {
        self.in_flight += bytes;
        self.burst = self.burst.saturating_sub(bytes);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.round_trip = rtt.get();
        self.take_acked(bytes);
        self.allow_burst(bytes);
        self.look_at_delay(now, sent);
        if !app_limited && !self.is_before_shrinking(sent) {
            self.window += bytes as f64 * self.growth();
        }
    }

    fn on_end_acks(&mut self, _: Instant, in_flight: u64, _: bool, _: Option<u64>) {
        self.in_flight = in_flight;
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost: u64) {
        self.lost += lost;
        self.trouble = Some(now);
        if persistent {
            // It was not a queue that held all of it up: from the least window it doubles again.
            self.shrink(now, 0.0);
            self.eager = 1.0;
        } else if !self.is_before_shrinking(sent) && (lost == 0 || self.is_queue() || self.is_too_many()) {
            // Without lost bytes it is a router's mark, not a loss.
            self.shrink(now, SHRINK.0);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu.into();
    }

    /// What quinn goes by: not the window while there may be a burst.
    fn window(&self) -> u64 {
        if self.is_burst() { UNPACED } else { self.window as u64 }
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window as u64;
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.initial
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Makes them.
#[derive(Debug)]
pub(super) struct SteadyConfig {
    /// The window before the first acknowledgement.
    pub(super) initial_window: u64,
}

impl ControllerFactory for SteadyConfig {
    fn build(self: Arc<Self>, _: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Steady::new(self.initial_window, mtu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u64 = 1240;
    const BASE: Duration = Duration::from_millis(200);

    /// One of 2,000 datagrams over [`BASE`], and a time to begin with.
    fn steady() -> (Steady, Instant) {
        let mut steady = Steady::new(2000 * MTU, MTU as u16);
        (steady.round_trip, steady.base) = (BASE, BASE);
        (steady, tokio::time::Instant::now().into_std())
    }

    /// So many datagrams that were sent after `at`, each acknowledged after `took`. Answers the time after them.
    fn acknowledge(steady: &mut Steady, at: Instant, count: u32, took: Duration) -> Instant {
        let mut now = at;
        for _ in 0..count {
            now += Duration::from_micros(100);
            steady.look_at_delay(now + took, now);
        }
        now + took
    }

    #[test]
    fn it_shrinks_once_for_a_queue_and_not_for_a_few_that_waited() {
        let (mut steady, start) = steady();
        let queued = BASE + Duration::from_millis(40);
        let now = acknowledge(&mut steady, start, ALL_WAITED - 1, queued);
        let now = acknowledge(&mut steady, now, 1, BASE);
        let now = acknowledge(&mut steady, now, ALL_WAITED - 1, queued);
        assert_eq!(steady.metrics().congestion_window, 2000 * MTU);
        acknowledge(&mut steady, now, 1, queued);
        // 200 of 240 ms, and half of it because the window doubled meanwhile.
        let expected = (2000 * MTU) as f64 * 200.0 / 240.0 / 2.0;
        assert!((steady.window - expected).abs() < 1.0, "{}", steady.window);
        // What comes now left before it shrank.
        acknowledge(&mut steady, start, 100, queued);
        assert!((steady.window - expected).abs() < 1.0, "{}", steady.window);
    }

    #[test]
    fn a_queue_that_stays_is_not_its_own_and_one_that_ended_is_again() {
        let (mut steady, mut now) = steady();
        let queued = BASE + Duration::from_millis(200);
        for _ in 0..IN_VAIN {
            now = acknowledge(&mut steady, now, ALL_WAITED, queued);
        }
        assert_eq!(steady.in_vain, IN_VAIN);
        let window = steady.metrics().congestion_window;
        now = acknowledge(&mut steady, now, 100, queued);
        assert_eq!(steady.metrics().congestion_window, window);
        // A loss counts, because there is a queue.
        steady.on_congestion_event(now, now - Duration::from_millis(1), false, MTU);
        assert!(steady.metrics().congestion_window < window);
        now = acknowledge(&mut steady, now, 1, BASE);
        let window = steady.metrics().congestion_window;
        acknowledge(&mut steady, now, ALL_WAITED, BASE + WAITS.1 + WAITS.0);
        assert!(steady.metrics().congestion_window < window);
    }

    #[test]
    fn a_path_that_has_become_longer_is_begun_again() {
        let (mut steady, mut now) = steady();
        let longer = BASE + Duration::from_millis(300);
        for _ in 0..IN_VAIN {
            now = acknowledge(&mut steady, now, ALL_WAITED, longer);
        }
        let window = steady.metrics().congestion_window;
        assert!(window < 100 * MTU && steady.eager < 0.1);
        now = acknowledge(&mut steady, now + BASE * (NO_LOSS + 1), ALL_WAITED, longer);
        assert!((steady.eager - 1.0).abs() < 1e-9);
        acknowledge(&mut steady, now, 1000, longer);
        assert_eq!(steady.metrics().congestion_window, window);
        // Something was lost: it is a queue.
        let (mut steady, mut now) = self::steady();
        for _ in 0..IN_VAIN {
            now = acknowledge(&mut steady, now, ALL_WAITED, longer);
        }
        now += BASE * (NO_LOSS + 1);
        steady.on_congestion_event(now, now - BASE * 30, false, MTU);
        acknowledge(&mut steady, now, ALL_WAITED, longer);
        assert!(steady.eager < 0.1);
    }

    #[test]
    fn a_small_window_waits_for_a_larger_one_to_give_way() {
        let (mut small, start) = steady();
        small.window /= 16.0;
        let queued = BASE + Duration::from_millis(80);
        acknowledge(&mut small, start, 100, queued);
        assert_eq!(small.metrics().congestion_window, 125 * MTU);
        let (mut large, start) = steady();
        acknowledge(&mut large, start, 100, queued);
        assert!(large.metrics().congestion_window < 2000 * MTU);
    }

    #[test]
    fn losses_count_when_they_are_many_or_there_is_a_queue() {
        let (mut steady, now) = steady();
        for _ in 0..100 {
            (0..99).for_each(|_| steady.take_acked(MTU));
            steady.on_congestion_event(now, now, false, MTU);
        }
        assert_eq!(steady.metrics().congestion_window, 2000 * MTU);
        for _ in 0..20 {
            (0..19).for_each(|_| steady.take_acked(MTU));
            steady.on_congestion_event(now, now, false, MTU);
        }
        // Once: all of them left before it shrank.
        assert_eq!(steady.metrics().congestion_window, 1400 * MTU);
        let later = acknowledge(&mut steady, now, ALL_WAITED - 1, BASE + Duration::from_millis(100));
        (steady.acked, steady.lost, steady.waited) = (0, 0, ALL_WAITED);
        steady.on_congestion_event(later, later, false, MTU);
        assert_eq!(steady.metrics().congestion_window, 980 * MTU);
    }

    #[test]
    fn nothing_acknowledged_for_long_leaves_the_least() {
        let (mut steady, now) = steady();
        steady.on_congestion_event(now, now, true, MTU);
        assert_eq!(steady.metrics().congestion_window, LEAST * MTU);
    }

    #[test]
    fn it_doubles_at_first_and_then_grows_by_its_root() {
        let (mut steady, now) = steady();
        assert!((steady.growth() - 1.0).abs() < 1e-9);
        for _ in 0..20 {
            steady.shrink(now, 1.0);
        }
        let datagrams = steady.growth() * 2000.0;
        assert!((datagrams - 2.0 * 2000.0_f64.sqrt()).abs() < 1e-6, "{datagrams}");
        // Half as much in half the time, which is as much a second.
        steady.round_trip /= 2;
        assert!((steady.growth() * 4000.0 - datagrams).abs() < 1e-6);
    }

    #[test]
    fn what_was_acknowledged_goes_at_once_within_the_window() {
        let (mut steady, now) = steady();
        // The first window, then as quinn paces it.
        assert_eq!(steady.window(), UNPACED);
        let mut sent = 0;
        while steady.window() == UNPACED {
            steady.on_sent(now, SEGMENTS as u64 * MTU, 0);
            sent += SEGMENTS;
        }
        assert_eq!((sent, steady.window()), (2000, 2000 * MTU));
        // Nothing more is on its way than the window allows.
        assert_eq!(steady.in_flight, 2000 * MTU);
        steady.allow_burst(20 * MTU);
        steady.on_end_acks(now + BASE, 1980 * MTU, false, None);
        assert_eq!((steady.window(), steady.burst), (UNPACED, 40 * MTU));
        // A large part of the window free, and nothing acknowledged: no burst.
        steady.on_sent(now, 35 * MTU, 0);
        steady.on_end_acks(now, 100 * MTU, false, None);
        assert!(steady.window() < UNPACED);
    }
}

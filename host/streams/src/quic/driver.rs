//! What gives a connection its turns: what it wants to send, its timer, and whom its events wake.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use quinn_proto::{ConnectionError, Event, StreamEvent};

use super::{News, Quic, Side, State, now};
use crate::Carrier;
use crate::port::Hub;
use crate::queue::SEGMENTS;

/// Datagrams of a turn, so that others have theirs.
const TURN: usize = 20;

/// Drives a connection until it is drained (RFC 9000 section 10.2).
pub(super) struct Driver {
    quic: Quic,
    drained: bool,
}

impl Driver {
    pub(super) fn new(quic: Quic) -> Self {
        Self { quic, drained: false }
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Self { quic, drained } = &mut *self;
        let mut state = quic.lock();
        let mut again = state.send(context);
        // What a timer does may have to be sent, and what is sent may set it.
        again |= state.keep_time(context);
        state.tell_router();
        state.tell_users(&quic.0.news);
        if state.proto.is_drained() {
            *drained = true;
            return Poll::Ready(());
        }
        if again {
            context.waker().wake_by_ref();
        } else {
            state.driver = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

/// Without its driver nobody would ever tell whoever waits for the connection.
impl Drop for Driver {
    fn drop(&mut self) {
        if self.drained {
            return;
        }
        let mut state = self.quic.lock();
        state.end(ConnectionError::LocallyClosed, &self.quic.0.news);
        if let Side::LastHop(listener) = &state.side {
            let (listener, handle) = (listener.clone(), state.handle);
            drop(state);
            listener.forget(handle);
        }
    }
}

impl State {
    /// Hands out what is to be sent; answers whether there may be more.
    fn send(&mut self, context: &Context<'_>) -> bool {
        let (now, mut made) = (now(), 0);
        while made < TURN {
            let Some(mut buffer) = self.hub.buffer(context.waker()) else { return false };
            let Some(transmit) = self.proto.poll_transmit(now, SEGMENTS, &mut buffer) else {
                self.hub.give_back(buffer);
                return false;
            };
            let carrier = self.carrier(transmit.destination);
            buffer.truncate(transmit.size);
            made += self.hub.send(carrier, transmit.segment_size, buffer);
        }
        true
    }

    /// Sets the timer, or lets it do what is due; answers whether it did.
    fn keep_time(&mut self, context: &mut Context<'_>) -> bool {
        let Some(at) = self.proto.poll_timeout() else {
            self.rings_at = None;
            return false;
        };
        if now() >= at {
            self.proto.handle_timeout(now());
            self.rings_at = None;
            return true;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into())));
        if self.rings_at != Some(at) {
            timer.as_mut().reset(at.into());
            self.rings_at = Some(at);
        }
        if timer.as_mut().poll(context).is_pending() {
            return false;
        }
        self.proto.handle_timeout(now());
        self.rings_at = None;
        true
    }

    /// Connection ids that come and go, and the end.
    fn tell_router(&mut self) {
        while let Some(event) = self.proto.poll_endpoint_events() {
            let answer = match &mut self.side {
                Side::Originator { router, .. } => router.handle_event(self.handle, event),
                Side::LastHop(listener) => listener.handle_event(self.handle, event),
            };
            if let Some(event) = answer {
                self.proto.handle_event(event);
            }
        }
    }

    fn tell_users(&mut self, news: &News) {
        while let Some(event) = self.proto.poll() {
            match event {
                Event::HandshakeDataReady => {}
                Event::Connected => {
                    self.connected = true;
                    news.turned.notify_waiters();
                }
                Event::ConnectionLost { reason } => self.end(reason, news),
                Event::DatagramReceived | Event::Stream(StreamEvent::Opened { .. }) => {
                    news.arrived.notify_waiters();
                }
                // Whoever sends lets the oldest go, and does not wait.
                Event::DatagramsUnblocked => {}
                Event::Stream(StreamEvent::Available { .. }) => news.available.notify_waiters(),
                Event::Stream(StreamEvent::Readable { id }) => {
                    self.readers.remove(&id).into_iter().for_each(Waker::wake);
                }
                Event::Stream(StreamEvent::Writable { id } | StreamEvent::Stopped { id, .. }) => {
                    self.writers.remove(&id).into_iter().for_each(Waker::wake);
                }
                Event::Stream(StreamEvent::Finished { .. }) => {}
            }
        }
    }
}

impl Hub {
    /// A buffer for what a connection sends next; none when as much waits as may, and then `waker` is woken when there
    /// is room.
    fn buffer(&self, waker: &Waker) -> Option<Vec<u8>> {
        self.with_out(|out| {
            if let Some(buffer) = out.queue.buffer() {
                return Some(buffer);
            }
            // Bounded: one for each connection, and `drain` takes them all.
            if !out.writers.iter().any(|known| known.will_wake(waker)) {
                out.writers.push(waker.clone());
            }
            None
        })
    }

    fn give_back(&self, buffer: Vec<u8>) {
        self.with_out(|out| out.queue.give_back(buffer));
    }

    /// Has datagrams wait for core, each of them a segment long but the last; answers how many.
    fn send(&self, carrier: Carrier, segment: Option<usize>, datagrams: Vec<u8>) -> usize {
        let segment = segment.unwrap_or(datagrams.len()).max(1);
        let count = datagrams.len().div_ceil(segment);
        self.with_out(|out| out.queue.push(carrier, segment, datagrams));
        count
    }
}

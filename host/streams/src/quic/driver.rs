//! What gives a connection its turns: what it wants to send, its timer, and whom its events wake.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use quinn_proto::{ConnectionError, Event, StreamEvent};

use super::{News, Quic, Side, State, now};
use crate::queue::{Run, SEGMENTS};

/// Datagrams of a turn, so that others have theirs.
const TURN: usize = 20;

/// Drives a connection until it is drained (RFC 9000 section 10.2).
pub(super) struct Driver(pub(super) Quic);

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.broken {
            return Poll::Ready(());
        }
        let mut again = state.send(context);
        // What a timer does may have to be sent, and what is sent may set it; so may what the router answers.
        again |= state.keep_time(context);
        again |= state.tell_router();
        state.tell_users(&self.0.0.news);
        if state.forgotten || state.proto.is_drained() {
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
        let mut state = self.0.lock();
        state.held = None;
        state.end(ConnectionError::LocallyClosed, &self.0.0.news);
        if state.forgotten {
            return;
        }
        state.broken = true;
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
            let next = self.held.take().or_else(|| {
                let mut buffer = self.hub.with_out(|out| out.queue.buffer());
                let Some(transmit) = self.proto.poll_transmit(now, SEGMENTS, &mut buffer) else {
                    self.hub.with_out(|out| out.queue.give_back(buffer));
                    return None;
                };
                buffer.truncate(transmit.size);
                let segment = transmit.segment_size.unwrap_or(transmit.size);
                Some(Run::new(self.carrier(transmit.destination), segment, buffer))
            });
            let Some(run) = next else { return false };
            made += run.datagrams();
            self.held = self.hub.send(run, context.waker());
            if self.held.is_some() {
                return false;
            }
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

    /// Connection ids that come and go, and the end. Answers whether there is something to send for it.
    fn tell_router(&mut self) -> bool {
        let mut answered = false;
        while !self.forgotten
            && let Some(event) = self.proto.poll_endpoint_events()
        {
            // The last that the router may hear of it, whatever comes for it before this turn.
            self.forgotten = event.is_drained();
            let answer = match &mut self.side {
                Side::Originator { router, .. } => router.handle_event(self.handle, event),
                Side::LastHop(listener) => listener.handle_event(self.handle, event),
            };
            if let Some(event) = answer {
                self.proto.handle_event(event);
                answered = true;
            }
        }
        answered
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

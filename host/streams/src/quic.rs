//! QUIC connections: quinn-proto, which does no I/O of its own, and what drives it.
//!
//! A circuit is no socket. Its datagrams come out of a worker's answer, and a connection takes them right there
//! ([`Quic::receive`], [`Listener::receive`]); what a connection wants to send is made in the buffer that waits for the
//! next batch ([`Queue`](crate::queue::Queue)). In between, a [driver](driver) for each connection has its turns among
//! [`Drivers`](crate::drivers::Drivers).
//!
//! Locks are taken in this order: a connection's, its listener's, the port's.

mod driver;
mod listener;
mod stream;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::{
    ClientConfig, ConnectionError, ConnectionEvent, ConnectionHandle, DatagramEvent, Dir, EndpointConfig,
    NoneTokenStore, StreamId, TransportConfig, VarInt,
};
use tokio::sync::Notify;
use tokio::time::Sleep;

use driver::Driver;
pub(crate) use listener::{Handshake, Listener};
pub(crate) use stream::{RecvStream, SendStream};

use crate::addresses::{LAST_HOP, TaggedIds, carrier_of};
use crate::drivers::Drivers;
use crate::port::{ClientEnd, Hub};
use crate::queue::Run;
use crate::settings::MTU;
use crate::{Carrier, Error, lock, tls};

/// Datagrams that share a block of memory until the last of them is read: one that stays holds so many.
const BLOCK: usize = 8;

/// A connection. Clones are the same; it is closed by [`close`](Self::close) only.
#[derive(Clone)]
pub(crate) struct Quic(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    news: News,
}

/// Whom to tell of what.
#[derive(Default)]
struct News {
    /// It stands, or is over.
    turned: Notify,
    /// The other side opened a stream or sent a datagram.
    arrived: Notify,
    /// More streams may be opened.
    available: Notify,
}

impl News {
    /// It is over: everybody is told.
    fn tell_all(&self) {
        self.turned.notify_waiters();
        self.arrived.notify_waiters();
        self.available.notify_waiters();
    }
}

struct State {
    proto: quinn_proto::Connection,
    handle: ConnectionHandle,
    side: Side,
    hub: Arc<Hub>,
    /// The driver, when it waits.
    driver: Option<Waker>,
    timer: Option<Pin<Box<Sleep>>>,
    /// When the timer rings; none when it is not set.
    rings_at: Option<Instant>,
    connected: bool,
    /// What found no room to wait for core.
    held: Option<Run>,
    /// Its state may be anything, or has no driver: nothing is done with it any more.
    broken: bool,
    /// The router has been told that it is drained.
    forgotten: bool,
    /// Why it is over.
    error: Option<ConnectionError>,
    readers: BTreeMap<StreamId, Waker>,
    writers: BTreeMap<StreamId, Waker>,
}

/// Which side of a connection this is, and what routes its datagrams.
enum Side {
    /// It has a router of its own: nothing of one connection is known to another.
    Originator {
        end: Arc<ClientEnd>,
        router: Box<quinn_proto::Endpoint>,
    },
    LastHop(Arc<Listener>),
}

/// Time as QUIC's timers have it, of the runtime: tests may stop it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Runs what takes a stranger's bytes apart, on the thread that carries everybody else's: a panic in there ends no more than
/// what it was about.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// Copies datagrams into memory that a connection may keep.
fn blocks<'a>(mut datagrams: impl Iterator<Item = &'a [u8]>, mut take: impl FnMut(BytesMut)) {
    loop {
        let mut some: [&[u8]; BLOCK] = [&[]; BLOCK];
        let count = some.iter_mut().zip(&mut datagrams).map(|(place, datagram)| *place = datagram).count();
        let mut block = BytesMut::with_capacity(some.iter().map(|datagram| datagram.len()).sum());
        for datagram in some.iter().take(count) {
            block.extend_from_slice(datagram);
            take(block.split());
        }
        if count < BLOCK {
            return;
        }
    }
}

impl Quic {
    /// Begins a handshake with the last hop behind `end`, which must prove that it holds `expected_key`.
    pub(crate) fn connect(
        end: &Arc<ClientEnd>,
        hub: &Arc<Hub>,
        drivers: &Drivers,
        transport: Arc<TransportConfig>,
        expected_key: &[u8; 32],
    ) -> Result<Opening, Error> {
        let tag = end.tag;
        let mut endpoint = EndpointConfig::default();
        endpoint.max_udp_payload_size(MTU).map_err(Error::setup)?;
        endpoint.cid_generator(move || Box::new(TaggedIds::new(tag)));
        let mut client = ClientConfig::new(tls::client(expected_key)?);
        client.transport_config(transport).token_store(Arc::new(NoneTokenStore));
        let mut router = Box::new(quinn_proto::Endpoint::new(Arc::new(endpoint), None, true, None));
        let (handle, proto) =
            router.connect(now(), client, LAST_HOP, tls::SERVER_NAME).map_err(Error::setup)?;
        let quic = Self::new(proto, handle, Side::Originator { end: end.clone(), router }, hub);
        end.serve(&quic);
        drivers.add(Driver(quic.clone()));
        Ok(Opening(Some(quic)))
    }

    /// One that its driver has yet to be added for.
    fn new(proto: quinn_proto::Connection, handle: ConnectionHandle, side: Side, hub: &Arc<Hub>) -> Self {
        let state = State {
            proto,
            handle,
            side,
            hub: hub.clone(),
            driver: None,
            timer: None,
            rings_at: None,
            connected: false,
            held: None,
            broken: false,
            forgotten: false,
            error: None,
            readers: BTreeMap::new(),
            writers: BTreeMap::new(),
        };
        Self(Arc::new(Inner { state: Mutex::new(state), news: News::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }

    /// What `look` finds, as soon as it finds something; it looks again whenever `news` comes.
    async fn wait<T>(&self, news: &Notify, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            // Made before the look: it misses nothing that comes after it.
            let notified = news.notified();
            if let Some(found) = look(&mut self.lock()) {
                return found;
            }
            notified.await;
        }
    }

    /// Waits until it is over.
    pub(crate) async fn closed(&self) {
        self.wait(&self.0.news.turned, |state| state.error.as_ref().map(drop)).await;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().error.is_some()
    }

    /// Closes it. Whoever waits for it is told at once, and the other side by what it sends next.
    pub(crate) fn close(&self, code: VarInt) {
        let mut state = self.lock();
        if state.error.is_some() {
            return;
        }
        state.proto.close(now(), code, Bytes::new());
        state.end(ConnectionError::LocallyClosed, &self.0.news);
        state.wake();
    }

    /// Opens a stream, when the other side lets it.
    pub(crate) async fn open(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        let id = self.wait(&self.0.news.available, |state| match &state.error {
            Some(error) => Some(Err(error.clone())),
            None => state.proto.streams().open(Dir::Bi).map(Ok),
        });
        Ok(stream::halves(self, id.await?))
    }

    /// The next stream of the other side's. Those that came before it closed are all given out.
    pub(crate) async fn accept(&self) -> Result<(SendStream, RecvStream), ConnectionError> {
        let id = self.wait(&self.0.news.arrived, |state| {
            let id = if state.broken { None } else { state.proto.streams().accept(Dir::Bi) };
            id.map(Ok).or_else(|| state.error.clone().map(Err))
        });
        Ok(stream::halves(self, id.await?))
    }

    /// The next datagram of the other side's.
    pub(crate) async fn read_datagram(&self) -> Result<Bytes, ConnectionError> {
        let look = |state: &mut State| {
            let datagram = if state.broken { None } else { state.proto.datagrams().recv() };
            datagram.map(Ok).or_else(|| state.error.clone().map(Err))
        };
        self.wait(&self.0.news.arrived, look).await
    }

    /// Sends a datagram; the oldest that wait make room for it. False when none of its length can be sent.
    pub(crate) fn send_datagram(&self, datagram: Bytes) -> Result<bool, ConnectionError> {
        let mut state = self.lock();
        if let Some(error) = &state.error {
            return Err(error.clone());
        }
        let sent = state.proto.datagrams().send(datagram, true).is_ok();
        state.wake();
        Ok(sent)
    }

    /// Bytes of the longest datagram; 0 when none can be sent.
    pub(crate) fn max_datagram(&self) -> usize {
        self.lock().proto.datagrams().max_size().unwrap_or(0)
    }

    /// The circuit by which the other side was heard last.
    pub(crate) fn carrier(&self) -> Carrier {
        let state = self.lock();
        state.carrier(state.proto.remote_address())
    }

    /// The path is another one now.
    pub(crate) fn path_changed(&self) {
        let mut state = self.lock();
        if state.error.is_some() || state.proto.is_closed() {
            return;
        }
        // It takes another connection id (RFC 9000 section 9.5), if the last hop gave one, and says something at once, which is
        // what tells the last hop.
        state.proto.local_address_changed();
        state.wake();
    }

    pub(crate) fn round_trip(&self) -> Duration {
        self.lock().proto.rtt()
    }

    /// The congestion window, and the stream frames that were sent.
    pub(crate) fn sending(&self) -> (u64, u64) {
        let state = self.lock();
        (state.proto.congestion_state().metrics().congestion_window, state.proto.stats().frame_tx.stream)
    }

    pub(crate) fn set_send_window(&self, bytes: u64) {
        self.take(|state| state.proto.set_send_window(bytes));
    }

    pub(crate) fn set_receive_window(&self, bytes: u64) {
        // Beyond what QUIC can say, no window has to go.
        let bytes = VarInt::from_u64(bytes).unwrap_or(VarInt::MAX);
        self.take(|state| state.proto.set_receive_window(bytes));
    }

    /// An originator's: takes datagrams of its circuit.
    pub(crate) fn receive<'a>(&self, datagrams: impl Iterator<Item = &'a [u8]>) {
        let (now, mut response) = (now(), Vec::new());
        self.take(|state| {
            let State { proto, side: Side::Originator { router, .. }, .. } = state else { return };
            blocks(datagrams, |datagram| {
                response.clear();
                // To what is not the connection's it has no answer.
                if let Some(DatagramEvent::ConnectionEvent(_, event)) =
                    router.handle(now, LAST_HOP, None, None, datagram, &mut response)
                {
                    proto.handle_event(event);
                }
            });
        });
    }

    /// A last hop's: takes what its listener found to be its own.
    fn handle(&self, event: ConnectionEvent) {
        self.take(|state| state.proto.handle_event(event));
    }

    fn take(&self, work: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        if state.broken {
            return;
        }
        if guarded(|| work(&mut state)).is_none() {
            state.broken = true;
            state.end(ConnectionError::LocallyClosed, &self.0.news);
        }
        state.wake();
    }

    /// Panics as QUIC might over a stranger's bytes.
    #[cfg(test)]
    pub(crate) fn panic(&self) {
        self.take(|_| panic!("a panic, as in the parser of a stranger's bytes"));
    }

    /// A handle by which it is found and not kept.
    pub(crate) fn downgrade(&self) -> WeakQuic {
        WeakQuic(Arc::downgrade(&self.0))
    }
}

impl fmt::Debug for Quic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Quic")
    }
}

/// A handshake that this side wants: dropped before it is over, the connection is closed.
pub(crate) struct Opening(Option<Quic>);

impl Opening {
    /// The connection, when it stands.
    pub(crate) async fn established(mut self) -> Result<Quic, ConnectionError> {
        let look = |state: &mut State| match &state.error {
            _ if state.connected => Some(Ok(())),
            Some(error) => Some(Err(error.clone())),
            None => None,
        };
        if let Some(quic) = &self.0 {
            quic.wait(&quic.0.news.turned, look).await?;
        }
        self.0.take().ok_or(ConnectionError::LocallyClosed)
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(quic) = &self.0 {
            quic.close(VarInt::from_u32(0));
        }
    }
}

/// See [`Quic::downgrade`].
pub(crate) struct WeakQuic(std::sync::Weak<Inner>);

impl WeakQuic {
    pub(crate) fn upgrade(&self) -> Option<Quic> {
        self.0.upgrade().map(Quic)
    }
}

impl fmt::Debug for WeakQuic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakQuic")
    }
}

impl State {
    /// There is something to do for the driver.
    fn wake(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// It is over, if it was not before.
    fn end(&mut self, error: ConnectionError, news: &News) {
        if self.error.is_some() {
            return;
        }
        self.error = Some(error);
        let (readers, writers) = (std::mem::take(&mut self.readers), std::mem::take(&mut self.writers));
        readers.into_values().chain(writers.into_values()).for_each(Waker::wake);
        news.tell_all();
    }

    /// The circuit that leads to `destination`.
    fn carrier(&self, destination: SocketAddr) -> Carrier {
        match &self.side {
            Side::Originator { end, .. } => self.hub.carrier(end.circuit()),
            Side::LastHop(_) => carrier_of(destination),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_datagrams_apart() {
        for count in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let sent: Vec<Vec<u8>> = (0..count).map(|index| vec![index as u8; 1 + index * 50]).collect();
            let mut taken = Vec::new();
            blocks(sent.iter().map(Vec::as_slice), |datagram| taken.push(datagram));
            assert_eq!(taken, sent, "{count}");
        }
    }
}

//! Where originators' connections come in: one for all of a worker thread's, as a connection may come by any circuit.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};

use quinn_proto::{
    ConnectionError, ConnectionEvent, ConnectionHandle, DatagramEvent, EndpointConfig, EndpointEvent,
    Incoming, ServerConfig, Transmit, VarInt,
};
use tokio::sync::Notify;

use super::driver::Driver;
use super::{Opening, Quic, Side, blocks, guarded, now};
use crate::addresses::{HomeIds, address_of, carrier_of};
use crate::drivers::Drivers;
use crate::port::Hub;
use crate::queue::Run;
use crate::settings::MTU;
use crate::{Carrier, Error, lock};

/// Takes connections.
pub(crate) struct Listener {
    hub: Arc<Hub>,
    drivers: Drivers,
    desk: Mutex<Desk>,
    /// Somebody waits, or it was closed.
    news: Notify,
}

struct Desk {
    router: quinn_proto::Endpoint,
    connections: HashMap<ConnectionHandle, Quic>,
    /// Handshakes that nobody took yet; quinn-proto bounds them.
    waiting: VecDeque<Incoming>,
    /// With which code, once it is.
    closed: Option<VarInt>,
}

impl Listener {
    pub(crate) fn new(
        hub: &Arc<Hub>,
        worker: u8,
        drivers: &Drivers,
        server: ServerConfig,
    ) -> Result<Arc<Self>, Error> {
        let mut endpoint = EndpointConfig::default();
        endpoint.max_udp_payload_size(MTU).map_err(Error::setup)?;
        endpoint.cid_generator(move || Box::new(HomeIds::new(worker)));
        let router = quinn_proto::Endpoint::new(Arc::new(endpoint), Some(Arc::new(server)), true, None);
        let desk = Desk { router, connections: HashMap::new(), waiting: VecDeque::new(), closed: None };
        let (hub, drivers, desk) = (hub.clone(), drivers.clone(), Mutex::new(desk));
        Ok(Arc::new(Self { hub, drivers, desk, news: Notify::new() }))
    }

    /// Takes datagrams that came by `carrier`.
    pub(crate) fn receive<'a>(&self, carrier: Carrier, datagrams: impl Iterator<Item = &'a [u8]>) {
        let (now, address, mut response) = (now(), address_of(carrier), Vec::new());
        blocks(datagrams, |datagram| {
            let mut desk = lock(&self.desk);
            response.clear();
            let event =
                guarded(|| desk.router.handle(now, address, None, None, datagram, &mut response)).flatten();
            match event {
                Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                    let quic = desk.connections.get(&handle).cloned();
                    drop(desk);
                    quic.inspect(|quic| quic.handle(event));
                }
                Some(DatagramEvent::NewConnection(incoming)) if desk.closed.is_none() => {
                    desk.waiting.push_back(incoming);
                    self.news.notify_waiters();
                }
                Some(DatagramEvent::NewConnection(incoming)) => {
                    let transmit = desk.router.refuse(incoming, &mut response);
                    self.respond(&transmit, &response);
                }
                Some(DatagramEvent::Response(transmit)) => self.respond(&transmit, &response),
                None => {}
            }
        });
    }

    /// Sends what belongs to no connection. Without room it is lost, and the other side asks again.
    fn respond(&self, transmit: &Transmit, response: &[u8]) {
        let Some(response) = response.get(..transmit.size) else { return };
        let carrier = carrier_of(transmit.destination);
        self.hub.with_out(|out| {
            if !out.queue.is_full() {
                out.queue.push(Run::new(carrier, response.len(), response.to_vec()));
            }
        });
    }

    /// Who comes next; none when it is closed.
    pub(crate) async fn accept(self: &Arc<Self>) -> Option<Handshake> {
        loop {
            let notified = self.news.notified();
            {
                let mut desk = lock(&self.desk);
                if let Some(incoming) = desk.waiting.pop_front() {
                    return Some(Handshake { listener: self.clone(), incoming: Some(incoming) });
                }
                if desk.closed.is_some() {
                    return None;
                }
            }
            notified.await;
        }
    }

    /// Closes every connection with `code`, and takes no more.
    pub(crate) fn close(&self, code: VarInt) {
        let mut desk = lock(&self.desk);
        desk.closed = Some(code);
        let waiting = std::mem::take(&mut desk.waiting);
        let connections: Vec<Quic> = desk.connections.values().cloned().collect();
        drop(desk);
        waiting.into_iter().for_each(|incoming| self.refuse(incoming));
        connections.iter().for_each(|quic| quic.close(code));
        self.news.notify_waiters();
    }

    fn refuse(&self, incoming: Incoming) {
        let mut response = Vec::new();
        let transmit = lock(&self.desk).router.refuse(incoming, &mut response);
        self.respond(&transmit, &response);
    }

    pub(super) fn handle_event(
        &self,
        handle: ConnectionHandle,
        event: EndpointEvent,
    ) -> Option<ConnectionEvent> {
        let mut desk = lock(&self.desk);
        if event.is_drained() {
            desk.connections.remove(&handle);
        }
        desk.router.handle_event(handle, event)
    }

    /// Connections that are known.
    #[cfg(test)]
    pub(crate) fn connections(&self) -> usize {
        lock(&self.desk).connections.len()
    }

    /// A connection is over before it was drained.
    pub(super) fn forget(&self, handle: ConnectionHandle) {
        if lock(&self.desk).connections.contains_key(&handle) {
            self.handle_event(handle, EndpointEvent::drained());
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

/// quinn-proto wants to be told what happens to each.
impl Drop for Desk {
    fn drop(&mut self) {
        for incoming in self.waiting.drain(..) {
            self.router.ignore(incoming);
        }
    }
}

/// Someone who began a handshake. Dropped, it is refused.
pub(crate) struct Handshake {
    listener: Arc<Listener>,
    /// None once it was accepted.
    incoming: Option<Incoming>,
}

impl Handshake {
    /// The circuit it came by.
    pub(crate) fn carrier(&self) -> Carrier {
        self.incoming.as_ref().map(|incoming| carrier_of(incoming.remote_address())).unwrap_or_default()
    }

    /// Goes on with it.
    pub(crate) fn accept(mut self) -> Result<Opening, ConnectionError> {
        let Some(incoming) = self.incoming.take() else { return Err(ConnectionError::LocallyClosed) };
        let Listener { hub, drivers, desk, .. } = &*self.listener;
        let mut response = Vec::new();
        let mut locked = lock(desk);
        match locked.router.accept(incoming, now(), &mut response, None) {
            Ok((handle, proto)) => {
                let quic = Quic::new(proto, handle, Side::LastHop(self.listener.clone()), hub);
                locked.connections.insert(handle, quic.clone());
                let closed = locked.closed;
                drop(locked);
                drivers.add(Driver(quic.clone()));
                closed.inspect(|code| quic.close(*code));
                Ok(Opening(Some(quic)))
            }
            Err(error) => {
                drop(locked);
                if let Some(transmit) = &error.response {
                    self.listener.respond(transmit, &response);
                }
                Err(error.cause)
            }
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take() {
            self.listener.refuse(incoming);
        }
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handshake")
    }
}

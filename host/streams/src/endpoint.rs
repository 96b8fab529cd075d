//! The endpoint of one worker thread: where connections are made and taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quinn_proto::{ServerConfig, TransportConfig, ValidationTokenConfig, crypto};
use tokio::time::timeout;
use warren_schemas::CircuitHandle;

use crate::association::Routes;
use crate::connection::{Connection, FINISHED, Place, Shared};
use crate::drivers::Drivers;
use crate::port::{CircuitPort, Hub, count};
use crate::quic::{Listener, Quic};
use crate::server::{Gate, Incoming};
use crate::settings::Settings;
use crate::windows::{LEAST, Purse, Windows};
use crate::{Error, tls};

/// Handshakes that nobody took yet.
const MAX_INCOMING: usize = 256;
/// Bytes kept of each, and of all.
const INCOMING_BUFFER: u64 = 16 * 1024;
const INCOMING_TOTAL: u64 = 1 << 20;

/// Where one worker thread's connections are made and taken.
#[derive(Debug)]
pub struct Endpoint {
    hub: Arc<Hub>,
    settings: Arc<Settings>,
    transport: Arc<TransportConfig>,
    /// Of what originators' connections may receive.
    receive: Arc<Purse>,
    drivers: Drivers,
    server: Option<Server>,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Server {
    listener: Arc<Listener>,
    gate: Arc<Gate>,
}

/// A new endpoint, and core's end of its circuits. Its tasks run on the tokio runtime in which
/// this is called.
///
/// # Errors
/// [`Error::Setup`] when the settings cannot be used.
///
/// # Panics
/// Outside a tokio runtime.
pub fn endpoint(settings: Settings) -> Result<(Endpoint, CircuitPort), Error> {
    let crypto = settings.stream_key.as_ref().map(tls::server).transpose()?;
    endpoint_with(settings, crypto.map(|crypto| crypto as Arc<dyn crypto::ServerConfig>))
}

pub(crate) fn endpoint_with(
    settings: Settings,
    crypto: Option<Arc<dyn crypto::ServerConfig>>,
) -> Result<(Endpoint, CircuitPort), Error> {
    let hub = Hub::new(settings.worker);
    let transport = settings.originator()?;
    let drivers = Drivers::start();
    let server = crypto.map(|crypto| Server::new(&hub, &settings, &drivers, crypto)).transpose()?;
    let port = CircuitPort::new(hub.clone());
    let receive = Purse::new(settings.originator_receive.total);
    let (settings, closed) = (Arc::new(settings), AtomicBool::new(false));
    Ok((Endpoint { hub, settings, transport, receive, drivers, server, closed }, port))
}

impl Server {
    fn new(
        hub: &Arc<Hub>,
        settings: &Settings,
        drivers: &Drivers,
        crypto: Arc<dyn crypto::ServerConfig>,
    ) -> Result<Self, Error> {
        let mut tokens = ValidationTokenConfig::default();
        tokens.sent(0);
        let mut config = ServerConfig::with_crypto(crypto);
        config
            .transport_config(settings.last_hop()?)
            .validation_token_config(tokens)
            .migration(true)
            .max_incoming(MAX_INCOMING)
            .incoming_buffer_size(INCOMING_BUFFER)
            .incoming_buffer_size_total(INCOMING_TOTAL);
        let listener = Listener::new(hub, settings.worker, drivers, config)?;
        hub.serve(&listener);
        Ok(Self { listener, gate: Gate::new(settings) })
    }
}

impl Endpoint {
    /// Connects to the last hop of `circuit`, which must prove that it holds `expected_key`
    /// (Ed25519, from its descriptor).
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] when it does not; [`Error::TimedOut`], [`Error::Lost`] or
    /// [`Error::Unavailable`] when it cannot be known.
    pub async fn connect(&self, circuit: CircuitHandle, expected_key: [u8; 32]) -> Result<Connection, Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Unavailable("the endpoint is closed"));
        }
        let registration = self.hub.register(circuit)?;
        let end = registration.end.clone();
        let opening = Quic::connect(&end, &self.hub, &self.drivers, self.transport.clone(), &expected_key)?;
        let quic = tokio::select! {
            result = timeout(self.settings.handshake_timeout, opening.established()) => result.map_err(|_| Error::TimedOut)??,
            () = end.lost() => return Err(Error::Lost("its circuit died".to_owned())),
        };
        let routes = Routes::new(self.hub.clone(), self.settings.associations);
        let shared = Shared::new(quic, routes, Place::Originator(registration));
        Ok(Connection::new(shared, end, self.windows(), self.settings.reply_timeout))
    }

    /// Those of an originator's connection.
    fn windows(&self) -> Windows {
        let most = self.settings.originator_send_window;
        Windows {
            send: Purse::new(most.saturating_sub(LEAST)).open(LEAST, most),
            gives_back: false,
            receive: self.settings.originator_receive.of(&self.receive),
            of_a_stream: self.settings.stream_receive_window,
        }
    }

    /// Runs `work`, which copies from streams of this endpoint's connections or into them, on the thread of this
    /// endpoint: right after the connection that woke it. It ends when it is done, when it panics, or with the runtime.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.drivers.add(work);
    }

    /// The next originator that comes; none when the endpoint is closed, or takes none. Those
    /// that come while too many are here are refused and counted.
    pub async fn accept(&self) -> Option<Incoming> {
        let Server { listener, gate } = self.server.as_ref()?;
        loop {
            let handshake = listener.accept().await?;
            let Some(admission) = gate.admit(handshake.carrier()) else {
                // Dropped, and so refused.
                count(&self.hub.tally.refused_connections);
                continue;
            };
            let (hub, settings) = (self.hub.clone(), self.settings.clone());
            return Some(Incoming { handshake, admission, hub, settings });
        }
    }

    /// Connections that were taken and are not over.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.server.as_ref().map_or(0, |server| server.listener.connections())
    }

    /// Closes every connection and takes no more. The other sides are told by what
    /// [`CircuitPort::drain`] gives after this.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.hub.close_clients();
        if let Some(server) = &self.server {
            server.listener.close(FINISHED);
        }
    }
}

//! Settings, and QUIC's transport parameters made of them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quinn_proto::{AckFrequencyConfig, IdleTimeout, TransportConfig, VarInt};
use warren_schemas::cell::MAX_INNER;

use crate::Error;
use crate::congestion::Congestion;
use crate::windows::{Purse, Window};

/// Bytes of a QUIC datagram, fixed: initial and minimum MTU, discovery off.
pub(crate) const MTU: u16 = MAX_INNER as u16;
/// Bytes of unsent or unread association datagrams of one connection.
const DATAGRAM_BUFFER: usize = 256 * 1024;

/// How much connections may have received and not read: more with each of their open streams, within these bounds.
#[derive(Clone, Copy, Debug)]
pub struct Receive {
    /// What one with a single stream may.
    pub least: u32,
    /// What one with many may: up to eight times as much, because QUIC tells of room when it has an eighth of the window, and
    /// `least` is what streams that nobody reads leave.
    pub most: u32,
    /// What all connections of an endpoint may together, beyond the least of each.
    pub total: u64,
}

impl Receive {
    /// A connection's window, paid from `purse`.
    pub(crate) fn of(&self, purse: &Arc<Purse>) -> Window {
        purse
            .open(self.least.into(), u64::from(self.most).clamp(self.least.into(), 8 * u64::from(self.least)))
    }
}

/// How an endpoint behaves. All sizes in bytes.
#[derive(Clone)]
pub struct Settings {
    /// Ed25519 secret with which this node proves, as a last hop, that it is the relay of its
    /// descriptor. None: it takes no connections.
    pub stream_key: Option<[u8; 32]>,
    /// Index of the worker thread: named in the connection ids of a last hop, so that a datagram which
    /// comes by a circuit of another thread is known to be this one's.
    pub worker: u8,
    /// A connection on which nothing was heard for this long is closed.
    pub idle: Duration,
    /// The originator says something at least this often.
    pub keepalive: Duration,
    /// How long a handshake may take, and a stream's request.
    pub handshake_timeout: Duration,
    /// How long the last hop may take to answer a request.
    pub reply_timeout: Duration,
    /// How long a last hop waits, after its circuit died, for the originator to come by another.
    pub migration_grace: Duration,
    /// Received and not read yet, of one stream of an originator's connection.
    pub stream_receive_window: u32,
    /// The same of a last hop's connection.
    pub last_hop_stream_receive_window: u32,
    /// Received and not read yet, of an originator's connection.
    pub originator_receive: Receive,
    /// Received and not read yet, of a last hop's connection.
    pub last_hop_receive: Receive,
    /// Sent and not acknowledged, of an originator's connection: at most so much, and no more than four congestion windows.
    pub originator_send_window: u64,
    /// Sent and not acknowledged, of a last hop's connection: at most so much, and no more than four
    /// congestion windows. 100 Mbit/s over 200 ms are 2.5 MB, and three times that where one datagram in a hundred
    /// gets lost.
    pub last_hop_send_window: u64,
    /// Sent and not acknowledged, of all last hop's connections of this endpoint together.
    pub last_hop_send_total: u64,
    /// What decides how much is on its way.
    pub congestion: Congestion,
    /// The window before the first acknowledgement. Below a relay's queue of a circuit.
    pub initial_window: u64,
    /// Datagrams that may arrive before they are acknowledged (draft-ietf-quic-ack-frequency):
    /// an acknowledgement costs every hop as much work as a cell of data.
    pub ack_threshold: u32,
    /// How long an acknowledgement may wait for that many: what a small window waits for.
    pub ack_delay: Duration,
    /// Streams of one connection at a time.
    pub streams: u32,
    /// Associations of one connection at a time.
    pub associations: usize,
    /// Connections that a last hop's endpoint keeps.
    pub connections: usize,
    /// Connections that arrive by one circuit at a time.
    pub connections_per_circuit: usize,
}

/// Without the key.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("takes_connections", &self.stream_key.is_some())
            .finish_non_exhaustive()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stream_key: None,
            worker: 0,
            idle: Duration::from_secs(60),
            keepalive: Duration::from_secs(15),
            handshake_timeout: Duration::from_secs(10),
            reply_timeout: Duration::from_secs(30),
            migration_grace: Duration::from_secs(15),
            stream_receive_window: 8 << 20,
            last_hop_stream_receive_window: 2 << 20,
            originator_receive: Receive { least: 16 << 20, most: 128 << 20, total: 1 << 30 },
            last_hop_receive: Receive { least: 4 << 20, most: 32 << 20, total: 256 << 20 },
            originator_send_window: 8 << 20,
            last_hop_send_window: 8 << 20,
            last_hop_send_total: 512 << 20,
            congestion: Congestion::default(),
            initial_window: 64 * u64::from(MTU),
            ack_threshold: 48,
            ack_delay: Duration::from_millis(10),
            streams: 1024,
            associations: 64,
            connections: 4096,
            connections_per_circuit: 8,
        }
    }
}

impl Settings {
    /// Transport parameters of connections that this node makes.
    pub(crate) fn originator(&self) -> Result<Arc<TransportConfig>, Error> {
        let mut transport = self.common()?;
        transport
            .keep_alive_interval(Some(self.keepalive))
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .stream_receive_window(VarInt::from_u32(self.stream_receive_window))
            .receive_window(VarInt::from_u32(self.originator_receive.least))
            .send_window(self.originator_send_window);
        Ok(Arc::new(transport))
    }

    /// Transport parameters of connections that this node takes.
    pub(crate) fn last_hop(&self) -> Result<Arc<TransportConfig>, Error> {
        let mut transport = self.common()?;
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(self.streams))
            .stream_receive_window(VarInt::from_u32(self.last_hop_stream_receive_window))
            .receive_window(VarInt::from_u32(self.last_hop_receive.least))
            .send_window(self.last_hop_send_window);
        Ok(Arc::new(transport))
    }

    fn common(&self) -> Result<TransportConfig, Error> {
        let idle =
            IdleTimeout::try_from(self.idle).map_err(|error| Error::Setup(format!("idle: {error}")))?;
        let mut acks = AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(VarInt::from_u32(self.ack_threshold))
            .max_ack_delay(Some(self.ack_delay));
        let mut transport = TransportConfig::default();
        transport
            .initial_mtu(MTU)
            .min_mtu(MTU)
            .mtu_discovery_config(None)
            .max_idle_timeout(Some(idle))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
            .datagram_send_buffer_size(DATAGRAM_BUFFER)
            .ack_frequency_config(Some(acks))
            .allow_spin(false)
            .congestion_controller_factory(self.congestion.factory(self.initial_window));
        Ok(transport)
    }
}

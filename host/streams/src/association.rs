//! UDP associations: which datagram belongs to which, and the two ends of one.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use warren_ports::{Association, BoxFuture};
use warren_schemas::stream::Target;

use crate::datagram::{Frame, Halves, frames, read_body};
use crate::lock;
use crate::port::{Hub, count};
use crate::quic::Quic;
use crate::tunnel_stream::TunnelStream;

/// Datagrams that wait for the reader of one association; what comes on top is dropped and counted.
const QUEUE: usize = 256;

/// Where the datagrams of one connection go.
#[derive(Debug)]
pub(crate) struct Routes {
    hub: Arc<Hub>,
    limit: usize,
    table: Mutex<HashMap<u32, Route>>,
}

#[derive(Debug)]
struct Route {
    queue: mpsc::Sender<(Target, Bytes)>,
    halves: Halves,
}

impl Routes {
    pub(crate) fn new(hub: Arc<Hub>, limit: usize) -> Arc<Self> {
        Arc::new(Self { hub, limit, table: Mutex::default() })
    }

    /// Takes a datagram of the connection. What fits no association is dropped and counted.
    pub(crate) fn handle_datagram(&self, bytes: Bytes) {
        let lost = &self.hub.tally.lost_datagrams;
        let Some(Frame { association, part }) = Frame::read(bytes) else { return count(lost) };
        let mut table = lock(&self.table);
        let Some(route) = table.get_mut(&association) else { return count(lost) };
        let Some(body) = route.halves.join(part) else { return };
        if read_body(body).is_none_or(|datagram| route.queue.try_send(datagram).is_err()) {
            count(lost);
        }
    }

    /// A queue for association `id`; none when there are too many already.
    pub(crate) fn open(self: &Arc<Self>, id: u32) -> Option<OpenRoute> {
        let mut table = lock(&self.table);
        if table.len() >= self.limit || table.contains_key(&id) {
            return None;
        }
        let (queue, receiver) = mpsc::channel(QUEUE);
        table.insert(id, Route { queue, halves: Halves::default() });
        Some(OpenRoute { routes: self.clone(), id, receiver })
    }

    /// The connection is gone: every reader is told.
    pub(crate) fn close(&self) {
        lock(&self.table).clear();
    }
}

/// An association's place among the routes.
#[derive(Debug)]
pub(crate) struct OpenRoute {
    routes: Arc<Routes>,
    id: u32,
    receiver: mpsc::Receiver<(Target, Bytes)>,
}

impl Drop for OpenRoute {
    fn drop(&mut self) {
        lock(&self.routes.table).remove(&self.id);
    }
}

/// One end of a UDP association. At the originator a datagram's target is where it is to go or
/// where it came from; at the last hop `recv` says where it is to go, and `send` where it came from.
///
/// It is over when the other end dropped its own, or the connection is gone.
#[derive(Debug)]
pub struct TunnelAssociation {
    routes: Arc<Routes>,
    quic: Quic,
    id: u32,
    sequence: AtomicU16,
    over: AtomicBool,
    incoming: tokio::sync::Mutex<(OpenRoute, TunnelStream)>,
}

impl TunnelAssociation {
    pub(crate) fn new(route: OpenRoute, stream: TunnelStream) -> Self {
        Self {
            routes: route.routes.clone(),
            quic: stream.shared.quic.clone(),
            id: route.id,
            sequence: AtomicU16::new(0),
            over: AtomicBool::new(false),
            incoming: tokio::sync::Mutex::new((route, stream)),
        }
    }

    fn send_frame(&self, frame: Bytes) -> io::Result<()> {
        match self.quic.send_datagram(frame) {
            Ok(sent) if !sent => count(&self.routes.hub.tally.lost_datagrams),
            Ok(_) => {}
            Err(_) => return Err(io::ErrorKind::NotConnected.into()),
        }
        Ok(())
    }

    async fn next(&self) -> io::Result<(Target, Bytes)> {
        let mut incoming = self.incoming.lock().await;
        let (route, stream) = &mut *incoming;
        let mut nothing = [0];
        tokio::select! {
            biased;
            datagram = route.receiver.recv() => match datagram {
                Some(datagram) => return Ok(datagram),
                None => self.over.store(true, Ordering::Relaxed),
            },
            // Whatever the stream says, it has nothing to say but that it is over.
            _ = stream.read(&mut nothing) => self.over.store(true, Ordering::Relaxed),
        }
        Err(io::ErrorKind::NotConnected.into())
    }
}

impl Association for TunnelAssociation {
    fn send(&self, target: &Target, payload: Bytes) -> io::Result<()> {
        if self.over.load(Ordering::Relaxed) || self.quic.is_closed() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let max = self.quic.max_datagram();
        let Some((first, second)) = frames(self.id, sequence, target, &payload, max) else {
            count(&self.routes.hub.tally.lost_datagrams);
            return Ok(());
        };
        self.send_frame(first)?;
        second.map_or(Ok(()), |second| self.send_frame(second))
    }

    fn recv(&self) -> BoxFuture<'_, io::Result<(Target, Bytes)>> {
        Box::pin(self.next())
    }
}

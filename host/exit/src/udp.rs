//! UDP to the world: one flow for each association.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use warren_ports::{Host, Target};
use warren_schemas::Timestamp;

use crate::policy::canonical;
use crate::silence::{FORGET, Refusal};
use crate::{DropReason, Permit, Share, resolve};

#[cfg(test)]
mod tests;

/// The most bytes of a datagram's payload, either way.
pub const MAX_PAYLOAD: usize = 1500;
/// Destinations whose answers a flow lets in; beyond them new ones are refused.
const MAX_DESTINATIONS: usize = 4096;
/// Names that a flow resolves at once.
const MAX_RESOLVING: usize = 8;
/// Datagrams that wait for one name; the next ones are dropped.
const MAX_WAITING: usize = 8;

/// The datagrams of one association. Dropping it closes its sockets.
pub struct UdpFlow(Arc<Flow>);

struct Flow {
    share: Arc<Share>,
    v4: OnceLock<Socket>,
    v6: OnceLock<Socket>,
    /// Signalled when a socket is bound, for a `recv` that waits for one.
    bound: Notify,
    /// When each destination was last sent to: only these may answer.
    sent: Mutex<HashMap<SocketAddr, Timestamp>>,
    /// What waits for a name.
    resolving: Mutex<HashMap<String, Vec<(u16, Bytes)>>>,
}

/// One socket under two handles: tokio's sends only after its reactor saw the socket writable,
/// which is too late for the first datagram of one just bound.
struct Socket {
    sends: std::net::UdpSocket,
    receives: UdpSocket,
    _permit: Permit,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl UdpFlow {
    pub(crate) fn new(share: Arc<Share>) -> Self {
        Self(Arc::new(Flow {
            share,
            v4: OnceLock::new(),
            v6: OnceLock::new(),
            bound: Notify::new(),
            sent: Mutex::default(),
            resolving: Mutex::default(),
        }))
    }

    /// Sends `payload` to `target`, or drops and counts it. Never waits: a name is resolved beside,
    /// and up to 8 datagrams wait for it. Call it inside a tokio runtime.
    pub fn send(&self, target: &Target, payload: Bytes) {
        let flow = &self.0;
        if payload.len() > MAX_PAYLOAD {
            return flow.share.count(DropReason::Oversized);
        }
        if flow.share.exit.policy().check_target(target).is_err() {
            return flow.share.count(DropReason::Denied);
        }
        match &target.host {
            Host::Ip(ip) => flow.send_to(SocketAddr::new(*ip, target.port), &payload),
            Host::Name(name) => match flow.known(name) {
                Some(ip) => flow.send_to(SocketAddr::new(ip, target.port), &payload),
                None => flow.resolve(name, target.port, payload),
            },
        }
    }

    /// The next datagram from a destination that this flow sent to. One task at a time may wait.
    ///
    /// # Errors
    /// When a socket fails for good.
    pub async fn recv(&self) -> io::Result<(Target, Bytes)> {
        let flow = &self.0;
        loop {
            let (from, payload) = tokio::select! {
                got = receive(flow.v4.get()) => got?,
                got = receive(flow.v6.get()) => got?,
                () = flow.bound.notified() => continue,
            };
            if flow.lets_in(from, payload.len()) {
                return Ok((from.into(), payload));
            }
        }
    }
}

impl Flow {
    fn known(&self, name: &str) -> Option<IpAddr> {
        lock(&self.share.names).get(&*self.share.exit.clock, name)
    }

    fn send_to(&self, address: SocketAddr, payload: &[u8]) {
        if let Err(reason) = self.try_send(address, payload) {
            self.share.count(reason);
        }
    }

    fn try_send(&self, address: SocketAddr, payload: &[u8]) -> Result<(), DropReason> {
        let now = self.share.exit.clock.now();
        let address = self.admit(now, address)?;
        let socket = self.socket(address)?;
        lock(&self.share.silence).handle_send(now, address).map_err(|refusal| match refusal {
            Refusal::Unanswered => DropReason::Unanswered,
            Refusal::TooMany => DropReason::TooManySilent,
        })?;
        lock(&self.sent).insert(address, now);
        match socket.send_to(payload, address) {
            Ok(_) => Ok(()),
            Err(_) => Err(DropReason::SendFailed),
        }
    }

    /// Checks a destination; the routing table is asked about new ones only.
    fn admit(&self, now: Timestamp, address: SocketAddr) -> Result<SocketAddr, DropReason> {
        let address = self.share.exit.policy().check(address).map_err(|_| DropReason::Denied)?;
        let mut sent = lock(&self.sent);
        if sent.contains_key(&address) {
            return Ok(address);
        }
        if sent.len() >= MAX_DESTINATIONS {
            sent.retain(|_, last| now.since(*last) < FORGET);
        }
        if sent.len() >= MAX_DESTINATIONS {
            return Err(DropReason::NoRoom);
        }
        drop(sent);
        self.share.exit.check(address).map_err(|_| DropReason::Denied)
    }

    fn socket(&self, to: SocketAddr) -> Result<&std::net::UdpSocket, DropReason> {
        let (slot, any): (_, SocketAddr) = match to {
            SocketAddr::V4(_) => (&self.v4, (Ipv4Addr::UNSPECIFIED, 0).into()),
            SocketAddr::V6(_) => (&self.v6, (Ipv6Addr::UNSPECIFIED, 0).into()),
        };
        if let Some(bound) = slot.get() {
            return Ok(&bound.sends);
        }
        let permit = self.share.socket().ok_or(DropReason::NoRoom)?;
        let bind = || {
            let sends = std::net::UdpSocket::bind(any)?;
            sends.set_nonblocking(true)?;
            let receives = UdpSocket::from_std(sends.try_clone()?)?;
            Ok::<_, io::Error>(Socket { sends, receives, _permit: permit })
        };
        let socket = bind().map_err(|_| DropReason::SendFailed)?;
        let bound = slot.get_or_init(|| socket);
        self.bound.notify_one();
        Ok(&bound.sends)
    }

    fn resolve(self: &Arc<Self>, name: &str, port: u16, payload: Bytes) {
        let mut resolving = lock(&self.resolving);
        if let Some(waiting) = resolving.get_mut(name) {
            if waiting.len() >= MAX_WAITING {
                return self.share.count(DropReason::NoRoom);
            }
            return waiting.push((port, payload));
        }
        if resolving.len() >= MAX_RESOLVING {
            return self.share.count(DropReason::NoRoom);
        }
        resolving.insert(name.to_owned(), vec![(port, payload)]);
        let (flow, share, name) = (Arc::downgrade(self), self.share.clone(), name.to_owned());
        tokio::spawn(async move {
            let found = resolve::lookup(&share, &name, port).await.unwrap_or_default();
            if let Some(flow) = flow.upgrade() {
                flow.handle_resolved(&name, &found);
            }
        });
    }

    /// Sends what waited to the first address that is allowed.
    fn handle_resolved(&self, name: &str, found: &[SocketAddr]) {
        let waiting = lock(&self.resolving).remove(name).unwrap_or_default();
        let allowed = found.iter().find_map(|address| self.share.exit.check(*address).ok());
        let Some(address) = allowed else {
            let reason = if found.is_empty() { DropReason::Unresolved } else { DropReason::Denied };
            waiting.iter().for_each(|_| self.share.count(reason));
            return;
        };
        lock(&self.share.names).insert(&*self.share.exit.clock, name, address.ip());
        for (port, payload) in waiting {
            self.send_to(SocketAddr::new(address.ip(), port), &payload);
        }
    }

    /// Whether a datagram from `from` passes; then it is no longer silent.
    fn lets_in(&self, from: SocketAddr, length: usize) -> bool {
        let from = canonical(from);
        if !lock(&self.sent).contains_key(&from) {
            self.share.count(DropReason::Unsolicited);
            return false;
        }
        let now = self.share.exit.clock.now();
        lock(&self.share.silence).handle_answer(now, from);
        if length > MAX_PAYLOAD {
            self.share.count(DropReason::Oversized);
            return false;
        }
        true
    }
}

/// The next datagram of `socket`; waits for ever when there is none.
async fn receive(socket: Option<&Socket>) -> io::Result<(SocketAddr, Bytes)> {
    let Some(bound) = socket else { return std::future::pending().await };
    let mut buffer = [0; MAX_PAYLOAD + 1];
    loop {
        match bound.receives.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                return Ok((from, Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default())));
            }
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Errors that a destination can cause; they are not the socket's.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::Interrupted
    )
}

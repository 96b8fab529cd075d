//! A bound UDP socket, and the group of them that shares a port.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};

use quinn_udp::{Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Type};
use tokio::io::Interest;
use warren_schemas::cell::MAX_DATAGRAM;

use crate::counters::{Counters, Tally, add};
use crate::outbox::Outbox;
use crate::receive::ReceiveBuffers;
use crate::{Error, steer};

/// Kernel buffers that are asked for; the system may give less (Linux: net.core.rmem_max).
const KERNEL_BUFFER: usize = 8 << 20;
/// Failed receive calls in a row before [`Socket::receive`] reports one.
const RECEIVE_TRIES: usize = 16;

/// A bound socket that belongs to no runtime yet.
#[derive(Debug)]
pub struct Bound {
    io: UdpSocket,
    local: SocketAddr,
}

/// Binds one socket for each of `workers` threads to the same address; port 0 is chosen once.
///
/// With more than one and `steering`, the kernel is asked to steer datagrams to the worker that their link
/// id names, worker 0 being the first socket; where it cannot, it spreads them by address.
///
/// # Errors
/// As [`Bound::bind`]; a port that other sockets share is in use as well.
pub fn bind_group(address: SocketAddr, workers: u8, steering: bool) -> Result<Vec<Bound>, Error> {
    if workers <= 1 {
        return Ok(vec![Bound::bind(address, false)?]);
    }
    if address.port() != 0 {
        // A shared port can be bound by any process of this user: only this finds another node.
        drop(Bound::bind(address, false)?);
    }
    let first = Bound::bind(address, true)?;
    let address = first.local;
    let mut group = vec![first];
    for _ in 1..workers {
        group.push(Bound::bind(address, true)?);
    }
    if let Some(first) = group.first().filter(|_| steering) {
        // Where the kernel cannot steer, core hands over what reaches the wrong worker.
        drop(steer::by_worker(&first.io));
    }
    Ok(group)
}

impl Bound {
    /// Binds `address`; `[::]` takes IPv4 as well where the system can. With `reuse_port`, other
    /// sockets of this user may bind it too.
    ///
    /// # Errors
    /// [`Error::InUse`] when the port is taken, [`Error::Bind`] for any other refusal.
    pub fn bind(address: SocketAddr, reuse_port: bool) -> Result<Self, Error> {
        let fault = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => Error::InUse(address),
            _ => Error::Bind { address, source },
        };
        let io = Self::open(address, reuse_port).map_err(fault)?;
        let local = io.local_addr().map_err(fault)?;
        Ok(Self { io, local })
    }

    fn open(address: SocketAddr, reuse_port: bool) -> io::Result<UdpSocket> {
        let io = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            io.set_only_v6(!address.ip().is_unspecified())?;
        }
        #[cfg(unix)]
        io.set_reuse_port(reuse_port)?;
        #[cfg(not(unix))]
        if reuse_port {
            return Err(io::ErrorKind::Unsupported.into());
        }
        io.set_nonblocking(true)?;
        // Best effort: a smaller buffer loses more in a burst and is no reason to stop.
        drop(io.set_recv_buffer_size(KERNEL_BUFFER));
        drop(io.set_send_buffer_size(KERNEL_BUFFER));
        io.bind(&address.into())?;
        Ok(io.into())
    }

    /// The address it is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Hands the socket to the tokio runtime that this is called in.
    ///
    /// # Errors
    /// [`Error::Setup`] when the system refuses an option, or the runtime the socket.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn start(self) -> Result<Socket, Error> {
        let Self { io, local } = self;
        let fault = |source| Error::Setup { address: local, source };
        let state = UdpSocketState::new((&io).into()).map_err(fault)?;
        let io = tokio::net::UdpSocket::from_std(io).map_err(fault)?;
        Ok(Socket { io, state, local, tally: Tally::default() })
    }
}

/// A UDP socket in a tokio runtime. One task receives and sends; counters may be read anywhere.
#[derive(Debug)]
pub struct Socket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    tally: Tally,
}

/// What became of the next piece of a run.
enum Sent {
    Bytes(usize),
    Blocked,
}

impl Socket {
    /// [`Bound::bind`] and [`Bound::start`].
    ///
    /// # Errors
    /// As those.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn bind(address: SocketAddr, reuse_port: bool) -> Result<Self, Error> {
        Bound::bind(address, reuse_port)?.start()
    }

    /// The address it is bound to.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What it has counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.tally.snapshot()
    }

    /// Waits until something may be received.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    /// Waits until something may be sent. Call it when an outbox is not empty after `send`.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }

    /// Calls `take(source, datagram)` for each datagram that waits, at most `max`, and answers how many.
    ///
    /// What the kernel coalesced is split. Datagrams longer than `MAX_DATAGRAM` are counted and
    /// skipped. When it answers `max`, more may wait, in `buffers` too: call it again before
    /// waiting for [`readable`](Self::readable).
    ///
    /// # Errors
    /// When receive calls keep failing for a reason that is not a single sender's.
    pub fn receive(
        &self,
        buffers: &mut ReceiveBuffers,
        max: usize,
        mut take: impl FnMut(SocketAddr, &[u8]),
    ) -> io::Result<usize> {
        let (mut count, mut bytes, mut failures) = (0, 0, 0);
        let result = loop {
            if count >= max {
                break Ok(());
            }
            if let Some((source, datagram)) = buffers.next() {
                if datagram.len() > MAX_DATAGRAM {
                    add(&self.tally.oversized, 1);
                    continue;
                }
                count += 1;
                bytes += datagram.len();
                take(source, datagram);
                continue;
            }
            match self.fill(buffers) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) => {
                    add(&self.tally.receive_errors, 1);
                    failures += 1;
                    if failures >= RECEIVE_TRIES {
                        break Err(error);
                    }
                }
            }
        };
        add(&self.tally.received, count);
        add(&self.tally.received_bytes, bytes);
        result.map(|()| count)
    }

    fn fill(&self, buffers: &mut ReceiveBuffers) -> io::Result<()> {
        buffers.fill(|slices, metas| {
            self.io.try_io(Interest::READABLE, || self.state.recv((&self.io).into(), slices, metas))
        })
    }

    /// Sends what waits in `outbox`, each run with one call where the kernel can, and answers how
    /// many datagrams left. Never waits: what the kernel does not take now stays in `outbox`.
    /// Datagrams that a destination or the path refuses are counted and gone.
    pub fn send(&self, outbox: &mut Outbox) -> usize {
        self.send_some(outbox, |_| Some(0))
    }

    /// The same, but a run that may still become longer is kept back, once. For a caller that has more to
    /// push right away, and sends again in any case.
    pub fn send_full(&self, outbox: &mut Outbox) -> usize {
        let mut from = 0;
        self.send_some(outbox, |outbox| {
            from = outbox.closed(from)?;
            Some(from)
        })
    }

    /// Sends the run that `next` names, again and again.
    fn send_some(&self, outbox: &mut Outbox, mut next: impl FnMut(&mut Outbox) -> Option<usize>) -> usize {
        let before = self.tally.snapshot().sent;
        while let Some(index) = next(outbox) {
            let Some(run) = outbox.run(index) else { break };
            let rest = run.bytes.get(run.sent..).unwrap_or_default();
            match self.send_piece(run.address.into(), run.segment, rest) {
                Sent::Bytes(bytes) => outbox.advance(index, bytes),
                Sent::Blocked => break,
            }
        }
        usize::try_from(self.tally.snapshot().sent - before).unwrap_or(usize::MAX)
    }

    /// Sends the first datagrams of `rest`, as many as one call may carry.
    fn send_piece(&self, address: SocketAddr, segment: usize, rest: &[u8]) -> Sent {
        let most = segment * self.state.max_gso_segments();
        let contents = rest.get(..most).unwrap_or(rest);
        let count = contents.len().div_ceil(segment.max(1));
        let Some(destination) = self.destination(address) else {
            add(&self.tally.unreachable, count);
            return Sent::Bytes(contents.len());
        };
        let segment_size = (count > 1).then_some(segment);
        let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
        match self.transmit(&transmit) {
            Ok(()) => {
                add(&self.tally.send_calls, 1);
                add(&self.tally.sent, count);
                add(&self.tally.sent_bytes, contents.len());
                Sent::Bytes(contents.len())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Blocked,
            // The device cannot segment: the state has noted it, and the same bytes go one by one.
            Err(_) if count > 1 && self.state.max_gso_segments() == 1 => Sent::Bytes(0),
            Err(error) => {
                self.count_loss(&error, count);
                Sent::Bytes(contents.len())
            }
        }
    }

    fn transmit(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let send = || self.state.try_send((&self.io).into(), transmit);
        match send() {
            // Once more under the runtime's eyes, so that `writable` waits.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.io.try_io(Interest::WRITABLE, send)
            }
            result => result,
        }
    }

    /// `address` in this socket's family; none when nothing can be sent there.
    ///
    /// The kernel would say EINVAL, which quinn-udp takes for a device that cannot segment.
    fn destination(&self, address: SocketAddr) -> Option<SocketAddr> {
        let beyond = self.local.ip().is_loopback() && !address.ip().is_loopback();
        if address.port() == 0 || address.ip().is_unspecified() || beyond {
            return None;
        }
        match (self.local, address.ip()) {
            (SocketAddr::V4(_), IpAddr::V4(_)) | (SocketAddr::V6(_), IpAddr::V6(_)) => Some(address),
            (SocketAddr::V6(local), IpAddr::V4(ip)) if local.ip().is_unspecified() => {
                Some(SocketAddrV6::new(ip.to_ipv6_mapped(), address.port(), 0, 0).into())
            }
            _ => None,
        }
    }

    fn count_loss(&self, error: &io::Error, count: usize) {
        use io::ErrorKind as Kind;
        let counter = match error.kind() {
            _ if quinn_udp::is_msg_size_err(error) => &self.tally.too_large,
            Kind::NetworkUnreachable
            | Kind::HostUnreachable
            | Kind::ConnectionRefused
            | Kind::AddrNotAvailable
            | Kind::NetworkDown
            | Kind::PermissionDenied
            | Kind::InvalidInput => &self.tally.unreachable,
            _ => &self.tally.send_errors,
        };
        add(counter, count);
    }
}

#[cfg(test)]
mod tests;

//! A lone cell: a circuit whose two ends are in this process and whose relay is another.
//!
//! The originator and the last hop are tunnel workers with a socket each. A cell leaves the one, crosses the
//! relay and is stamped when the other's socket has it, before it is opened. The receiving end sleeps until
//! the kernel wakes it: one that asked again and again would keep a core busy, and where there are two, the
//! scheduler puts the relay behind it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, bail};
use ed25519_dalek::SigningKey;
use warren_native::NativeFactory;
use warren_schemas::batch::{Batch, SlotKind};
use warren_schemas::cell::{HEADER_LEN, LAYER_LEN, MAX_INNER};
use warren_schemas::control::{Event, Limits, OnionKey, Request, SYNC_NEVER, TunnelConfig};
use warren_schemas::descriptor::{Descriptor, SignedDescriptor};
use warren_schemas::{CircuitHandle, PeerId, RequestId, Timestamp, suites};
use warren_workers::{Worker, WorkerFactory, WorkerFault};

use crate::Stopwatch;
use crate::clock::Clock;
use crate::host::{EPOCH, Host};

/// How long the circuit may take to stand, and a datagram to arrive.
const PATIENCE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(1);
/// The relay and the last hop.
const HOPS: usize = 2;
/// The longest datagram that is read.
const DATAGRAM: usize = 2048;
/// First byte of a datagram that is no cell.
const NO_KIND: u8 = 0;

/// Both ends of a circuit through one relay.
pub struct Lone {
    clock: Clock,
    originator: End,
    last_hop: End,
    circuit: CircuitHandle,
    count: u64,
}

impl Lone {
    /// Makes the circuit and waits until it stands.
    ///
    /// # Errors
    /// When it does not.
    pub fn through(relay: &SignedDescriptor) -> anyhow::Result<Self> {
        let clock = Clock::start();
        let (mut originator, _) = End::new(clock, false)?;
        let (mut last_hop, descriptor) = End::new(clock, true)?;
        let hops = vec![relay.clone(), descriptor];
        let request = Request::Create { suites: vec![suites::X25519; hops.len()], hops };
        let answer = originator.worker.control(clock.now(), &request.encode(RequestId(1)));
        originator.carry_out(answer)?;
        let waited = Stopwatch::start();
        let circuit = loop {
            originator.work(clock)?;
            last_hop.work(clock)?;
            match originator.circuit {
                Some(circuit) => break circuit,
                None if waited.elapsed() > PATIENCE => bail!("no circuit stands"),
                None => std::thread::sleep(STEP),
            }
        };
        Ok(Self { clock, originator, last_hop, circuit, count: 0 })
    }

    /// Where datagrams that cross nothing are to arrive.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.last_hop.address
    }

    /// Does what is due, and lets `pause` pass.
    ///
    /// # Errors
    /// When an end fails.
    pub fn rest(&mut self, pause: Duration) -> anyhow::Result<()> {
        self.originator.work(self.clock)?;
        self.last_hop.work(self.clock)?;
        std::thread::sleep(pause);
        Ok(())
    }

    /// Sends a full cell and waits for it: from the call that sends it to the end of the call that has it.
    ///
    /// # Errors
    /// When it does not arrive, or arrives changed.
    pub fn cell(&mut self) -> anyhow::Result<Duration> {
        self.count += 1;
        let inner = content(self.count, MAX_INNER);
        let mut batch = Batch::with_slots(1);
        batch.fill(0, SlotKind::Outgoing, self.originator.address, self.circuit, &inner);
        let sealed = self.originator.worker.data(self.clock.now(), batch)?;
        let watch = Stopwatch::start();
        self.originator.carry_out(Ok(sealed))?;
        self.arrival(watch, |end, now, from, datagram| end.takes(now, from, datagram, &inner))
    }

    /// The same for a datagram as long as that cell is, which `forwarder` sends on to [`address`](Self::address).
    ///
    /// # Errors
    /// As [`cell`](Self::cell).
    pub fn bare(&mut self, forwarder: SocketAddr) -> anyhow::Result<Duration> {
        self.count += 1;
        let mut datagram = content(self.count, HEADER_LEN + HOPS * LAYER_LEN + MAX_INNER);
        if let Some(kind) = datagram.first_mut() {
            *kind = NO_KIND;
        }
        let watch = Stopwatch::start();
        self.originator.socket.send_to(&datagram, forwarder)?;
        self.arrival(watch, |end, now, from, got| match got.first() {
            Some(&NO_KIND) => Ok(got == datagram),
            _ => end.takes(now, from, got, &[]),
        })
    }

    /// When the first datagram came that `is_it` takes for the one that is awaited.
    fn arrival(
        &mut self,
        watch: Stopwatch,
        mut is_it: impl FnMut(&mut End, Timestamp, SocketAddr, &[u8]) -> anyhow::Result<bool>,
    ) -> anyhow::Result<Duration> {
        let mut buffer = [0; DATAGRAM];
        loop {
            self.last_hop.sleep();
            let got = self.last_hop.receive(&mut buffer)?;
            let passed = watch.elapsed();
            if let Some((length, from)) = got {
                let datagram = buffer.get(..length).unwrap_or_default();
                if is_it(&mut self.last_hop, self.clock.now(), from, datagram)? {
                    return Ok(passed);
                }
            }
            if passed > PATIENCE {
                bail!("datagram {} did not arrive", self.count);
            }
        }
    }
}

/// Bytes that no other datagram of the measurement has.
fn content(number: u64, length: usize) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(length).collect()
}

/// A worker with a socket of its own.
struct End {
    socket: UdpSocket,
    address: SocketAddr,
    worker: Box<dyn Worker>,
    wake_at: Option<Timestamp>,
    circuit: Option<CircuitHandle>,
    /// The last inner datagram that came.
    delivered: Vec<u8>,
}

impl End {
    /// One that takes circuits is a last hop. Its descriptor is of use for that only.
    fn new(clock: Clock, takes: bool) -> anyhow::Result<(Self, SignedDescriptor)> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("a socket of the measurement")?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        let mut host = Host::open().context("no randomness")?;
        let key = SigningKey::from_bytes(&host.bytes()?);
        let onion = OnionKey {
            epoch: EPOCH,
            public: host.make_onion_key()?,
            accept_until: clock.now().after(LIFETIME),
        };
        let descriptor = descriptor(clock.now(), &key, &onion, address);
        let config = TunnelConfig {
            worker_index: 0,
            workers: 1,
            peer_id: PeerId(key.verifying_key().to_bytes()),
            onion_keys: takes.then_some(onion).into_iter().collect(),
            relay: takes,
            exit: takes,
            allow_private: true,
            own_addresses: vec![address],
            limits: Limits::default(),
            cookie_key: host.bytes()?,
            sync_period: SYNC_NEVER,
            draining: false,
        };
        let mut worker = NativeFactory.spawn(Box::new(host))?;
        worker.configure(clock.now(), &config.encode())?;
        let end = Self {
            socket,
            address,
            worker,
            wake_at: Some(clock.now()),
            circuit: None,
            delivered: Vec::new(),
        };
        Ok((end, descriptor))
    }

    /// Takes what came and keeps time.
    fn work(&mut self, clock: Clock) -> anyhow::Result<()> {
        let mut buffer = [0; DATAGRAM];
        while let Some((length, from)) = self.receive(&mut buffer)? {
            self.takes(clock.now(), from, buffer.get(..length).unwrap_or_default(), &[])?;
        }
        if self.wake_at.is_some_and(|at| at <= clock.now()) {
            let answer = self.worker.timeout(clock.now());
            self.carry_out(answer)?;
        }
        Ok(())
    }

    /// A datagram, if one waits.
    fn receive(&self, buffer: &mut [u8; DATAGRAM]) -> io::Result<Option<(usize, SocketAddr)>> {
        match self.socket.recv_from(buffer) {
            Ok(got) => Ok(Some(got)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Until a datagram waits, at most as long as anybody has patience.
    fn sleep(&self) {
        let mut socket = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let wait = i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one pollfd, exclusively borrowed.
        unsafe { libc::poll(&raw mut socket, 1, wait) };
    }

    /// Gives a datagram to the worker. Answers whether `inner` was in it.
    fn takes(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        datagram: &[u8],
        inner: &[u8],
    ) -> anyhow::Result<bool> {
        let mut batch = Batch::with_slots(1);
        batch.fill(0, SlotKind::Received, from, CircuitHandle(0), datagram);
        self.delivered.clear();
        let answer = self.worker.data(now, batch);
        self.carry_out(answer)?;
        Ok(!inner.is_empty() && self.delivered == inner)
    }

    fn carry_out(&mut self, answer: Result<Batch, WorkerFault>) -> anyhow::Result<()> {
        let answer = answer?;
        self.wake_at = answer.wake_at();
        for slot in answer.slots() {
            let bytes = answer.bytes_of(&slot);
            match slot.kind {
                SlotKind::Send => _ = self.socket.send_to(bytes, SocketAddr::from(slot.address))?,
                SlotKind::Deliver => bytes.clone_into(&mut self.delivered),
                SlotKind::Event => self.hear(bytes)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn hear(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match Event::decode(bytes)? {
            (_, Event::CircuitReady { handle, .. }) => self.circuit = Some(handle),
            (_, Event::CircuitFailed { reason, hop }) => bail!("the circuit failed at hop {hop}: {reason:?}"),
            (_, Event::CircuitDead { reason, .. }) => bail!("the circuit died: {reason:?}"),
            _ => {}
        }
        Ok(())
    }
}

/// How long the last hop's descriptor and key hold.
const LIFETIME: Duration = Duration::from_secs(3600);

fn descriptor(now: Timestamp, key: &SigningKey, onion: &OnionKey, address: SocketAddr) -> SignedDescriptor {
    let descriptor = Descriptor {
        peer_id: PeerId(key.verifying_key().to_bytes()),
        published: now,
        expires: now.after(LIFETIME),
        onion_epoch: onion.epoch,
        onion_key: onion.public,
        // Nobody asks it to prove itself in TLS: no QUIC is spoken here.
        stream_key: [1; 32],
        addresses: vec![address],
        relay: true,
        exit: true,
        suites: vec![suites::X25519],
        bytes_per_second: 0,
        circuits: 0,
        operator: None,
    };
    descriptor.sign(key)
}

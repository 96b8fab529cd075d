//! The box: sockets around a [`Fabric`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{LocalSet, spawn_local};
use warren_net::{Bound, Outbox, ReceiveBuffers, Socket};
use warren_schemas::Timestamp;

use crate::fabric::{Counters, Fabric, Line, Node};
use crate::timer::{Alarm, Clock};

/// Nodes of a laboratory: their addresses are numbered in one byte.
const MAX_NODES: usize = 100;
/// Pairs of a sender's address and a node; those of more senders are not carried.
const MAX_FLOWS: usize = 4096;
/// Bytes on their way: 10 Gbit/s for 200 ms.
const MAX_BYTES: usize = 256 << 20;
/// Datagrams taken from a socket before others have their turn.
const BATCH: usize = 1024;
/// The least time between two alarms. What is due within half of it leaves as well: time is kept on
/// average, and at 100 Mbit/s two datagrams leave with one call.
const TICK: Duration = Duration::from_micros(200);
/// Orders that wait for the box's thread; who gives more waits.
const ORDERS: usize = 16;

/// Where a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Where it listens, and sends from: `tunnel.listen`.
    pub listen: SocketAddr,
    /// Where others reach it, through the box: `tunnel.advertise`.
    pub reached_at: SocketAddr,
}

enum Order {
    Set(Node, Line),
    Count(oneshot::Sender<Counters>),
}

/// A running box. Dropping it ends it.
pub struct Lab {
    places: Vec<Place>,
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Lab {
    /// Starts a box for so many nodes, at most 100, at addresses of a loopback network of their own. No line
    /// has conditions yet; which datagrams get lost follows from `seed`.
    ///
    /// # Errors
    /// When its sockets or its thread cannot be made.
    pub fn start(nodes: usize, seed: u64) -> anyhow::Result<Self> {
        ensure!(nodes <= MAX_NODES, "a laboratory has at most {MAX_NODES} nodes");
        let (places, doors) = find_places(nodes)?;
        let (orders, inbox) = mpsc::channel(ORDERS);
        let told = places.clone();
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            LocalSet::new().block_on(&runtime, run(told, doors, inbox, seed))
        };
        let thread = std::thread::Builder::new().name("lab".to_owned()).spawn(body)?;
        Ok(Self { places, orders: Some(orders), thread: Some(thread) })
    }

    /// Where each node is.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Changes the line of a node, from the next datagram on.
    ///
    /// # Errors
    /// When the box has ended.
    pub fn set(&self, node: Node, line: Line) -> anyhow::Result<()> {
        self.order(Order::Set(node, line))
    }

    /// What became of datagrams so far.
    ///
    /// # Errors
    /// When the box has ended.
    pub fn counters(&self) -> anyhow::Result<Counters> {
        let (answer, counters) = oneshot::channel();
        self.order(Order::Count(answer))?;
        counters.blocking_recv().context("the box has ended")
    }

    fn order(&self, order: Order) -> anyhow::Result<()> {
        let orders = self.orders.as_ref().context("the box has ended")?;
        orders.blocking_send(order).ok().context("the box has ended")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Addresses that nobody uses, and the sockets at those of the box.
fn find_places(nodes: usize) -> anyhow::Result<(Vec<Place>, Vec<Bound>)> {
    let random = RandomState::new();
    let mut last = None;
    for attempt in 0..8_u64 {
        let [a, b, ..] = random.hash_one(attempt).to_be_bytes();
        let network = [127, a.max(1), b];
        match (0..nodes).map(|node| place(network, node)).collect::<Result<Vec<_>, _>>() {
            Ok(found) => return Ok(found.into_iter().unzip()),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("no address was tried")?.into())
}

fn place([a, b, c]: [u8; 3], node: usize) -> Result<(Place, Bound), warren_net::Error> {
    let ip = |last: usize| IpAddr::V4(Ipv4Addr::new(a, b, c, last as u8));
    let door = Bound::bind(SocketAddr::new(ip(1 + node), 0), false)?;
    let reached_at = door.local_addr();
    // A port that was free on an address that only this network uses.
    let listen = Bound::bind(SocketAddr::new(ip(101 + node), 0), false)?.local_addr();
    Ok((Place { listen, reached_at }, door))
}

/// What a socket of the box is for.
#[derive(Clone, Copy, Debug)]
enum Use {
    /// Others reach a node here.
    Door(Node),
    /// A node hears one sender from here.
    Flow { sender: SocketAddr, from: Node, to: Node },
}

/// Where a datagram leaves the box.
#[derive(Clone, Copy, Debug)]
struct Exit {
    socket: usize,
    to: SocketAddr,
}

struct End {
    socket: Rc<Socket>,
    what: Use,
    outbox: Outbox,
    waits: bool,
}

struct Inner {
    places: Vec<Place>,
    clock: Clock,
    alarm: Rc<Alarm>,
    rang: Timestamp,
    fabric: Fabric<Exit>,
    ends: Vec<End>,
    flows: HashMap<(SocketAddr, usize), usize>,
    buffers: ReceiveBuffers,
}

async fn run(
    places: Vec<Place>,
    doors: Vec<Bound>,
    mut inbox: mpsc::Receiver<Order>,
    seed: u64,
) -> anyhow::Result<()> {
    let mut fabric = Fabric::new(MAX_BYTES);
    for node in 0..places.len() as u64 {
        fabric.add(Line::default(), seed.wrapping_mul(0x9e37_79b9).wrapping_add(node));
    }
    let (alarm, clock) = (Rc::new(Alarm::new()?), Clock::start());
    let inner = Inner {
        places,
        clock,
        alarm: Rc::clone(&alarm),
        rang: clock.now(),
        fabric,
        ends: Vec::new(),
        flows: HashMap::new(),
        buffers: ReceiveBuffers::new(),
    };
    let inner = Rc::new(RefCell::new(inner));
    for (node, door) in doors.into_iter().enumerate() {
        let index = inner.borrow_mut().open(door, Use::Door(Node(node)))?;
        spawn_local(listen(Rc::clone(&inner), index));
    }
    loop {
        tokio::select! {
            order = inbox.recv() => match order {
                None => return Ok(()),
                Some(Order::Set(node, line)) => inner.borrow_mut().fabric.set(node, line),
                // Whoever asked may have gone.
                Some(Order::Count(answer)) => drop(answer.send(inner.borrow().fabric.counters())),
            },
            rings = alarm.rings() => {
                rings?;
                let mut inner = inner.borrow_mut();
                inner.rang = inner.clock.now();
                inner.deliver();
            }
        }
    }
}

/// Takes what comes to one socket.
async fn listen(inner: Rc<RefCell<Inner>>, index: usize) -> anyhow::Result<()> {
    let socket =
        inner.borrow().ends.get(index).map(|end| Rc::clone(&end.socket)).context("no such socket")?;
    loop {
        socket.readable().await?;
        for opened in inner.borrow_mut().receive(index)? {
            spawn_local(listen(Rc::clone(&inner), opened));
        }
        // Readiness may be there at once again; the others have their turn first.
        tokio::task::yield_now().await;
    }
}

impl Inner {
    fn open(&mut self, bound: Bound, what: Use) -> anyhow::Result<usize> {
        let outbox = Outbox::with_limit(MAX_BYTES);
        self.ends.push(End { socket: Rc::new(bound.start()?), what, outbox, waits: false });
        Ok(self.ends.len() - 1)
    }

    /// Takes what waits at a socket, and answers which sockets are new.
    fn receive(&mut self, index: usize) -> anyhow::Result<Vec<usize>> {
        let mut opened = Vec::new();
        let Some(end) = self.ends.get(index) else { return Ok(opened) };
        let (socket, what) = (Rc::clone(&end.socket), end.what);
        let mut buffers = std::mem::take(&mut self.buffers);
        let now = self.clock.now();
        let received = socket.receive(&mut buffers, BATCH, |source, datagram| {
            opened.extend(self.take(now, what, source, datagram));
        });
        self.buffers = buffers;
        received?;
        self.deliver();
        Ok(opened)
    }

    fn take(&mut self, now: Timestamp, what: Use, source: SocketAddr, datagram: &[u8]) -> Option<usize> {
        match what {
            Use::Flow { sender, from, to } => {
                let is_nodes = self.places.get(to.0).is_some_and(|place| place.listen == source);
                if is_nodes {
                    let exit = Exit { socket: to.0, to: sender };
                    self.fabric.handle_datagram(now, to, from, exit, datagram);
                }
                None
            }
            Use::Door(node) => {
                let known = self.flows.get(&(source, node.0)).copied();
                let socket = known.or_else(|| self.open_flow(source, node))?;
                let from = self.node_at(source);
                let exit = Exit { socket, to: self.places.get(node.0)?.listen };
                self.fabric.handle_datagram(now, from, node, exit, datagram);
                known.is_none().then_some(socket)
            }
        }
    }

    /// The socket from which `node` hears `sender`: at the sender's own address, if it has one.
    fn open_flow(&mut self, sender: SocketAddr, node: Node) -> Option<usize> {
        if self.flows.len() >= MAX_FLOWS {
            return None;
        }
        let from = self.node_at(sender);
        let place = self.places.get(from.0).or_else(|| self.places.get(node.0))?;
        let bound = Bound::bind(SocketAddr::new(place.reached_at.ip(), 0), false).ok()?;
        let socket = self.open(bound, Use::Flow { sender, from, to: node }).ok()?;
        self.flows.insert((sender, node.0), socket);
        Some(socket)
    }

    /// Whose address it is; one without a line when it is nobody's.
    fn node_at(&self, address: SocketAddr) -> Node {
        let known = self.places.iter().position(|place| place.listen == address);
        Node(known.unwrap_or(usize::MAX))
    }

    /// Sends what has arrived, and sets the alarm for what comes next.
    fn deliver(&mut self) {
        let now = self.clock.now();
        let mut used = Vec::new();
        let ends = &mut self.ends;
        self.fabric.handle_timeout(now.after(TICK / 2), |exit, datagram| {
            let Some(end) = ends.get_mut(exit.socket) else { return };
            end.outbox.push(exit.to, datagram);
            if !std::mem::replace(&mut end.waits, true) {
                used.push(exit.socket);
            }
        });
        for index in used {
            if let Some(end) = ends.get_mut(index) {
                // Loopback takes everything at once; what it does not, the next round sends.
                end.socket.send(&mut end.outbox);
                end.waits = false;
            }
        }
        if let Some(next) = self.fabric.poll_timeout() {
            let at = next.max(self.rang.after(TICK));
            self.alarm.set(at.since(now));
        }
    }
}

#[cfg(test)]
mod tests;

//! The task that owns libp2p's swarm.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use libp2p::core::transport::{ListenerId, TransportError};
use libp2p::gossipsub::{MessageAcceptance, PublishError};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Multiaddr, PeerId, Swarm, gossipsub, identify, kad, request_response};
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use warren_ports::Clock;
use warren_schemas::Timestamp;
use warren_schemas::descriptor::SignedDescriptor;

use crate::address;
use crate::behaviour::{self, Behaviour, BehaviourEvent, KAD, PROTOCOL_VERSION, WALK};
use crate::keeper::{Done, Job, Keeper};
use crate::neighbours::Neighbours;
use crate::pages::{Page, Request};
use crate::{Config, Error, Event};

/// How often timers are looked at.
const TICK: Duration = Duration::from_millis(250);
/// First and longest pause between attempts to reach the bootstrap nodes while alone.
const REDIAL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(60));
/// With fewer neighbours than this it looks for more.
const ENOUGH: usize = 8;
/// Pause between two walks.
const WALK_PAUSE: Duration = Duration::from_secs(30);
/// Most addresses taken from one peer.
const MAX_ADDRESSES: usize = 8;
/// Most bootstrap nodes.
const MAX_BOOTSTRAP: usize = 64;
/// How long connections may take to close.
const CLOSING: Duration = Duration::from_secs(1);

/// What a handle asks.
#[derive(Debug)]
pub(crate) enum Command {
    Publish(SignedDescriptor),
    Peers(oneshot::Sender<usize>),
    Addresses(oneshot::Sender<Vec<String>>),
    AddBootstrap(PeerId, Multiaddr),
    Shutdown(oneshot::Sender<()>),
}

pub(crate) struct Network {
    swarm: Swarm<Behaviour>,
    clock: Arc<dyn Clock>,
    keeper: Keeper,
    events: mpsc::Sender<Event>,
    neighbours: Neighbours,
    bootstrap: HashMap<PeerId, Vec<Multiaddr>>,
    allow_private: bool,
    /// This node's newest descriptor, until a neighbour took it.
    unsent: Option<SignedDescriptor>,
    redial_at: Timestamp,
    redials: u32,
    walk_at: Timestamp,
}

impl Network {
    pub(crate) fn new(
        config: &Config,
        clock: Arc<dyn Clock>,
        keeper: Keeper,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, Error> {
        let mut swarm = behaviour::swarm(config)?;
        for external in &config.external {
            swarm.add_external_address(address::read(external)?);
        }
        let now = clock.now();
        let mut network = Self {
            swarm,
            clock,
            keeper,
            events,
            neighbours: Neighbours::default(),
            bootstrap: HashMap::new(),
            allow_private: config.allow_private,
            unsent: None,
            redial_at: now,
            redials: 0,
            walk_at: now.after(WALK_PAUSE),
        };
        for bootstrap in &config.bootstrap {
            let (peer, address) = address::with_peer(bootstrap)?;
            network.add_bootstrap(peer, address);
        }
        Ok(network)
    }

    /// Listens, and waits until every listener has an address.
    pub(crate) async fn listen(&mut self, addresses: &[String]) -> Result<(), Error> {
        for text in addresses {
            // libp2p shares TCP ports with whoever else does, and wraps what QUIC says of a taken one.
            let taken = |source| Error::Listen { address: text.clone(), source };
            address::probe(&address::read(text)?).map_err(taken)?;
        }
        let mut waited: HashMap<ListenerId, &String> = HashMap::new();
        for text in addresses {
            let listener = self.swarm.listen_on(address::read(text)?).map_err(|error| match error {
                TransportError::MultiaddrNotSupported(_) => Error::Unsupported(text.clone()),
                TransportError::Other(source) => Error::Listen { address: text.clone(), source },
            })?;
            waited.insert(listener, text);
        }
        while !waited.is_empty() {
            let event = self.swarm.select_next_some().await;
            let closed = match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } => {
                    waited.remove(listener_id);
                    None
                }
                SwarmEvent::ListenerClosed { listener_id, .. } => waited.remove(listener_id),
                _ => None,
            };
            match (closed, event) {
                (Some(text), SwarmEvent::ListenerClosed { reason: Err(source), .. }) => {
                    return Err(Error::Listen { address: text.clone(), source });
                }
                (_, event) => self.handle_event(event),
            }
        }
        Ok(())
    }

    /// Runs until the last handle is gone or one says so.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ended = loop {
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    None => break None,
                    Some(Command::Shutdown(ended)) => break Some(ended),
                    Some(command) => self.handle_command(command),
                },
                Some(done) = self.keeper.done.recv() => self.handle_done(done),
                _ = tick.tick() => self.handle_tick(),
                event = self.swarm.select_next_some() => self.handle_event(event),
            }
        };
        self.close().await;
        drop(self);
        if let Some(ended) = ended {
            // Whoever asked may have stopped waiting.
            let _ = ended.send(());
        }
    }

    async fn close(&mut self) {
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        let mut open: HashSet<PeerId> = peers.into_iter().collect();
        for peer in &open {
            // Gone by itself meanwhile is as good.
            let _ = self.swarm.disconnect_peer_id(*peer);
        }
        let closing = async {
            while !open.is_empty() {
                if let SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } =
                    self.swarm.select_next_some().await
                {
                    open.remove(&peer_id);
                }
            }
        };
        if tokio::time::timeout(CLOSING, closing).await.is_err() {
            tracing::debug!("some connections of the overlay did not close in time");
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Publish(signed) => self.give(Job::Own(signed)),
            Command::Peers(answer) => drop(answer.send(self.neighbours.len())),
            Command::Addresses(answer) => drop(answer.send(self.addresses())),
            Command::AddBootstrap(peer, address) => {
                self.add_bootstrap(peer, address);
                (self.redials, self.redial_at) = (0, self.clock.now());
            }
            Command::Shutdown(ended) => drop(ended),
        }
    }

    fn addresses(&self) -> Vec<String> {
        let known = self.swarm.external_addresses().chain(self.swarm.listeners());
        let mut addresses: Vec<String> = known.map(|address| self.spelled(address.clone())).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    fn spelled(&self, address: Multiaddr) -> String {
        address.with(Protocol::P2p(*self.swarm.local_peer_id())).to_string()
    }

    fn add_bootstrap(&mut self, peer: PeerId, address: Multiaddr) {
        let room = self.bootstrap.len() < MAX_BOOTSTRAP;
        if peer != *self.swarm.local_peer_id() && (room || self.bootstrap.contains_key(&peer)) {
            let addresses = self.bootstrap.entry(peer).or_default();
            if !addresses.contains(&address) && addresses.len() < MAX_ADDRESSES {
                addresses.push(address);
            }
        }
    }

    fn handle_done(&mut self, done: Done) {
        match done {
            Done::Gossip { id, from, acceptance } => {
                self.swarm.behaviour_mut().gossip.report_message_validation_result(&id, &from, acceptance);
            }
            Done::Page { from, next, invalid } => self.handle_page(from, next, invalid),
            Done::Answer { page, channel } => {
                if self.swarm.behaviour_mut().pages.send_response(channel, page).is_err() {
                    tracing::debug!("who asked for descriptors is gone");
                }
            }
            Done::Own(signed) => {
                self.unsent = Some(signed);
                self.send_own();
            }
        }
    }

    fn handle_page(&mut self, from: PeerId, next: Option<[u8; 32]>, invalid: usize) {
        let now = self.clock.now();
        if invalid > 0 {
            tracing::debug!(peer = %from, invalid, "a neighbour holds wrong descriptors");
            self.neighbours.failed(now, &from);
        } else if self.neighbours.answered(now, &from, next.is_some())
            && let Some(after) = next
        {
            self.ask(&from, after);
        }
    }

    fn send_own(&mut self) {
        let Some(signed) = self.unsent.take() else { return };
        let sent = self.swarm.behaviour_mut().gossip.publish(behaviour::topic(), signed.as_bytes());
        match sent {
            Ok(_) | Err(PublishError::Duplicate) => {}
            Err(PublishError::NoPeersSubscribedToTopic) => self.unsent = Some(signed),
            Err(error) => {
                tracing::debug!(%error, "a descriptor was not gossiped; neighbours will ask for it")
            }
        }
    }

    fn ask(&mut self, peer: &PeerId, after: [u8; 32]) {
        let digest = self.keeper.digest.load(Ordering::Relaxed);
        self.swarm.behaviour_mut().pages.send_request(peer, Request { after, digest });
    }

    /// Hands work over; what finds no room is dropped, and comes again.
    fn give(&mut self, job: Job) {
        let Err(mpsc::error::TrySendError::Full(job)) = self.keeper.jobs.try_send(job) else { return };
        tracing::debug!("descriptors come faster than they are verified");
        match job {
            Job::Gossip { id, from, .. } => {
                self.handle_done(Done::Gossip { id, from, acceptance: MessageAcceptance::Ignore });
            }
            Job::Page { from, .. } => self.handle_page(from, None, 0),
            Job::Own(signed) => self.unsent = Some(signed),
            Job::Answer { .. } => {}
        }
    }

    fn handle_tick(&mut self) {
        let now = self.clock.now();
        for peer in self.neighbours.take_due(now) {
            self.ask(&peer, [0; 32]);
        }
        if self.unsent.is_some() {
            self.send_own();
        }
        if self.neighbours.len() == 0 && now >= self.redial_at {
            self.dial_bootstrap(now);
        }
        if self.neighbours.len() < ENOUGH && now >= self.walk_at {
            self.walk_at = now.after(WALK_PAUSE);
            self.swarm.behaviour_mut().kad.get_n_closest_peers(PeerId::random(), WALK);
        }
    }

    fn dial_bootstrap(&mut self, now: Timestamp) {
        self.redial_at = now.after(REDIAL.0.saturating_mul(1 << self.redials.min(16)).min(REDIAL.1));
        self.redials = self.redials.saturating_add(1);
        for (peer, addresses) in &self.bootstrap {
            let dial = DialOpts::peer_id(*peer).addresses(addresses.clone()).build();
            if let Err(error) = self.swarm.dial(dial) {
                tracing::debug!(%peer, %error, "a bootstrap node is not dialled");
            }
        }
    }

    fn handle_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => self.handle_gossip(event),
            SwarmEvent::Behaviour(BehaviourEvent::Pages(event)) => self.handle_pages(event),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.handle_identify(event),
            SwarmEvent::ConnectionEstablished { peer_id, .. } => self.handle_connected(peer_id),
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => self.handle_lost(peer_id),
            SwarmEvent::NewListenAddr { address, .. } => {
                let address = self.spelled(address);
                self.emit(Event::Listening(address));
            }
            SwarmEvent::ListenerClosed { reason: Err(error), .. }
            | SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener of the overlay failed");
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                tracing::debug!(?peer_id, %error, "a node was not reached");
            }
            _ => {}
        }
    }

    fn handle_connected(&mut self, peer: PeerId) {
        let now = self.clock.now();
        if self.neighbours.insert(now, peer) {
            self.redials = 0;
            if let Some(peer) = ours(&peer) {
                self.emit(Event::PeerConnected(peer));
            }
            for due in self.neighbours.take_due(now) {
                self.ask(&due, [0; 32]);
            }
        }
    }

    fn handle_lost(&mut self, peer: PeerId) {
        self.neighbours.remove(&peer);
        if let Some(peer) = ours(&peer) {
            self.emit(Event::PeerLost(peer));
        }
    }

    fn handle_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message_id, message } => {
                self.give(Job::Gossip { id: message_id, from: propagation_source, data: message.data });
            }
            gossipsub::Event::Subscribed { .. } => self.send_own(),
            _ => {}
        }
    }

    fn handle_pages(&mut self, event: request_response::Event<Request, Page>) {
        let now = self.clock.now();
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                request_response::Message::Request { request, channel, .. } => {
                    if self.neighbours.may_ask(now, &peer) {
                        self.give(Job::Answer { request, channel });
                    }
                }
                request_response::Message::Response { response, .. } => {
                    self.give(Job::Page { from: peer, page: response });
                }
            },
            request_response::Event::OutboundFailure { peer, error, .. } => {
                tracing::debug!(%peer, %error, "a neighbour did not tell its descriptors");
                self.neighbours.failed(now, &peer);
            }
            _ => {}
        }
    }

    fn handle_identify(&mut self, event: identify::Event) {
        let identify::Event::Received { peer_id, info, .. } = event else { return };
        if info.protocol_version != PROTOCOL_VERSION {
            tracing::debug!(peer = %peer_id, "a node of another network");
            // Gone by itself meanwhile is as good.
            let _ = self.swarm.disconnect_peer_id(peer_id);
            return;
        }
        if !info.protocols.contains(&KAD) {
            return;
        }
        let private = self.allow_private;
        let reachable = info.listen_addrs.into_iter().filter(|address| address::may_dial(address, private));
        let mut changed = false;
        for address in reachable.take(MAX_ADDRESSES) {
            let update = self.swarm.behaviour_mut().kad.add_address(&peer_id, address);
            changed |= matches!(update, kad::RoutingUpdate::Success);
        }
        if changed && self.neighbours.len() < ENOUGH {
            // Fails only when the table is empty, which it no longer is.
            let _ = self.swarm.behaviour_mut().kad.bootstrap();
        }
    }

    fn emit(&self, event: Event) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
            tracing::debug!("an event of the overlay was dropped: nobody took the ones before");
        }
    }
}

/// None for a key that is not Ed25519.
fn ours(peer: &PeerId) -> Option<warren_schemas::PeerId> {
    warren_schemas::PeerId::from_base58(&peer.to_base58())
}

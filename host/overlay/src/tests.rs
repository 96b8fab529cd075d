//! Real overlays on loopback.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use futures::StreamExt;
use libp2p::Swarm;
use libp2p::request_response::{Event as PageEvent, Message};
use libp2p::swarm::SwarmEvent;
use warren_schemas::Timestamp;
use warren_schemas::descriptor::MAX_LEN;

use super::*;
use crate::behaviour::{Behaviour, BehaviourEvent};
use crate::pages::Page;

pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
/// Far more than anything here takes; only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn key(number: u16) -> SigningKey {
    let mut seed = [5; 32];
    seed[..2].copy_from_slice(&number.to_be_bytes());
    SigningKey::from_bytes(&seed)
}

fn id(number: u16) -> PeerId {
    PeerId(key(number).verifying_key().to_bytes())
}

pub(crate) fn descriptor(number: u16) -> Descriptor {
    Descriptor {
        peer_id: id(number),
        published: NOW,
        expires: NOW.after(Duration::from_secs(3600)),
        onion_epoch: 1,
        onion_key: [1; 32],
        stream_key: [2; 32],
        addresses: vec!["127.0.0.1:9000".parse().unwrap()],
        relay: true,
        exit: false,
        suites: vec![1],
        bytes_per_second: 0,
        circuits: 0,
        operator: None,
    }
}

pub(crate) fn signed_by(number: u16) -> SignedDescriptor {
    descriptor(number).sign(&key(number))
}

struct TestClock(tokio::time::Instant);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        NOW.after(tokio::time::Instant::now().duration_since(self.0))
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(TestClock(tokio::time::Instant::now()))
}

struct Node {
    overlay: Overlay,
    events: mpsc::Receiver<Event>,
}

fn config(number: u16, bootstrap: &[String]) -> Config {
    Config {
        listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".into(), "/ip4/127.0.0.1/tcp/0".into()],
        bootstrap: bootstrap.to_vec(),
        server: true,
        allow_private: true,
        ..Config::new(key(number).to_bytes())
    }
}

async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen"),
    }
}

impl Node {
    async fn start(config: Config) -> Self {
        let (overlay, events) = spawn(config, clock()).await.unwrap();
        Self { overlay, events }
    }

    /// Its address over `quic-v1` or `tcp`.
    async fn address(&self, transport: &str) -> String {
        let addresses = self.overlay.addresses().await;
        addresses.into_iter().find(|address| address.contains(transport)).unwrap()
    }

    async fn event(&mut self) -> Event {
        patiently("an event", self.events.recv()).await.unwrap()
    }

    async fn descriptor(&mut self) -> Descriptor {
        loop {
            if let Event::Descriptor(signed, descriptor) = self.event().await {
                assert_eq!(signed.verify(NOW).unwrap(), descriptor);
                return descriptor;
            }
        }
    }

    /// Waits until it knows all of these; anything else fails.
    async fn learns(&mut self, expected: impl IntoIterator<Item = u16>) {
        let mut missing: BTreeSet<PeerId> = expected.into_iter().map(id).collect();
        while !missing.is_empty() {
            let learned = self.descriptor().await.peer_id;
            assert!(missing.remove(&learned), "{learned} was not expected, or came twice");
        }
    }

    async fn waits_for(&mut self, wanted: Event) {
        while self.event().await != wanted {}
    }
}

/// Five nodes with their own descriptors, then one that knows a single address.
async fn late_joiner(transports: [&str; 2]) {
    let mut boot = Node::start(config(0, &[])).await;
    boot.overlay.publish(signed_by(0)).await;
    let mut nodes = Vec::new();
    for number in 1..5 {
        let address = boot.address(transports[usize::from(number) % 2]).await;
        let node = Node::start(config(number, &[address])).await;
        node.overlay.publish(signed_by(number)).await;
        nodes.push(node);
    }
    boot.learns(1..5).await;
    for (number, node) in (1..).zip(&mut nodes) {
        node.learns((0..5).filter(|other| *other != number)).await;
    }
    let client =
        Config { server: false, listen: Vec::new(), ..config(9, &[boot.address(transports[0]).await]) };
    let mut late = Node::start(client).await;
    late.learns(0..5).await;
    assert!(late.overlay.peers().await >= 1);
    assert!(late.overlay.addresses().await.is_empty(), "it listens nowhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_joiner_learns_all_from_one_address_over_quic() {
    late_joiner(["quic-v1", "quic-v1"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_joiner_learns_all_from_one_address_over_both_transports() {
    late_joiner(["tcp", "quic-v1"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_later_reaches_everyone() {
    let boot = Node::start(config(0, &[])).await;
    let address = boot.address("quic-v1").await;
    let relay = Node::start(config(1, std::slice::from_ref(&address))).await;
    let client = Config { server: false, listen: Vec::new(), ..config(2, &[address]) };
    let mut client = Node::start(client).await;
    client.waits_for(Event::PeerConnected(id(0))).await;
    let first = descriptor(1);
    relay.overlay.publish(first.sign(&key(1))).await;
    assert_eq!(client.descriptor().await, first);
    let second = Descriptor { published: NOW.after(Duration::from_secs(1)), exit: true, ..first.clone() };
    relay.overlay.publish(second.sign(&key(1))).await;
    assert_eq!(client.descriptor().await, second);
    // The older one again, then another: the older one does not come out in between.
    relay.overlay.publish(first.sign(&key(1))).await;
    boot.overlay.publish(signed_by(0)).await;
    assert_eq!(client.descriptor().await, descriptor(0));
}

/// A node that says whatever it likes.
struct Liar {
    swarm: Swarm<Behaviour>,
    page: Vec<SignedDescriptor>,
}

impl Liar {
    fn new(number: u16, victim: &str, page: Vec<SignedDescriptor>) -> Self {
        let mut swarm = behaviour::swarm(&Config { server: false, ..config(number, &[]) }).unwrap();
        swarm.dial(address::read(victim).unwrap()).unwrap();
        Self { swarm, page }
    }

    /// Runs until the victim listens to its gossip, and answers what it is asked.
    async fn until_heard(&mut self) {
        loop {
            match self.swarm.select_next_some().await {
                SwarmEvent::Behaviour(BehaviourEvent::Gossip(libp2p::gossipsub::Event::Subscribed {
                    ..
                })) => return,
                event => self.answer(event),
            }
        }
    }

    fn answer(&mut self, event: SwarmEvent<BehaviourEvent>) {
        if let SwarmEvent::Behaviour(BehaviourEvent::Pages(PageEvent::Message {
            message: Message::Request { channel, .. },
            ..
        })) = event
        {
            let descriptors = self.page.iter().map(|signed| signed.as_bytes().to_vec()).collect();
            self.swarm
                .behaviour_mut()
                .pages
                .send_response(channel, Page { next: None, descriptors })
                .unwrap();
        }
    }

    fn gossip(&mut self, bytes: &[u8]) {
        self.swarm.behaviour_mut().gossip.publish(behaviour::topic(), bytes).unwrap();
    }

    async fn run(mut self) {
        loop {
            let event = self.swarm.select_next_some().await;
            self.answer(event);
        }
    }
}

fn expired(number: u16) -> SignedDescriptor {
    let published = Timestamp::from_micros(NOW.as_micros() - 7_200_000_000);
    Descriptor { published, expires: published.after(Duration::from_secs(60)), ..descriptor(number) }
        .sign(&key(number))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_expired_and_oversized_ones_go_nowhere() {
    let mut victim = Node::start(config(0, &[])).await;
    let address = victim.address("tcp").await;
    let mut behind = Node::start(config(1, std::slice::from_ref(&address))).await;
    behind.waits_for(Event::PeerConnected(id(0))).await;
    let forged = descriptor(50).sign(&key(51));
    let page = vec![signed_by(60), expired(61), forged.clone()];
    let mut liar = Liar::new(2, &address, page);
    patiently("a subscription", liar.until_heard()).await;
    liar.gossip(forged.as_bytes());
    liar.gossip(expired(52).as_bytes());
    liar.gossip(&vec![0; MAX_LEN + 1]);
    // Gossip keeps the order on one connection: once this one is out, the others were judged.
    liar.gossip(signed_by(53).as_bytes());
    let liar = tokio::spawn(liar.run());
    victim.learns([53, 60]).await;
    behind.learns([53, 60]).await;
    // A last one from an honest node flushes whatever might still be on its way.
    victim.overlay.publish(signed_by(0)).await;
    behind.learns([0]).await;
    liar.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_network_is_turned_away() {
    let mut node = Node::start(config(0, &[])).await;
    let address = node.address("quic-v1").await;
    let mut stranger = libp2p::SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_quic()
        .with_behaviour(|key| {
            libp2p::identify::Behaviour::new(libp2p::identify::Config::new(
                "/elsewhere/1".into(),
                key.public(),
            ))
        })
        .unwrap()
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(PATIENCE * 2))
        .build();
    stranger.dial(address::read(&address).unwrap()).unwrap();
    let run =
        async { while !matches!(stranger.select_next_some().await, SwarmEvent::ConnectionClosed { .. }) {} };
    patiently("being turned away", run).await;
    let lost = async { while !matches!(node.event().await, Event::PeerLost(_)) {} };
    patiently("the loss", lost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_named() {
    let first = Node::start(config(0, &[])).await;
    for transport in ["tcp", "quic-v1"] {
        let address = first.address(transport).await;
        let taken = address.split("/p2p/").next().unwrap().to_owned();
        let second = Config { listen: vec![taken.clone()], ..config(1, &[]) };
        let error = spawn(second, clock()).await.err().unwrap();
        assert!(error.is_port_in_use(), "{error:?}");
        assert!(error.to_string().contains(&taken), "{error}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let start = |change: fn(&mut Config)| async move {
        let mut config = config(0, &[]);
        change(&mut config);
        spawn(config, clock()).await.err().unwrap()
    };
    assert!(
        matches!(start(|c| c.listen = vec!["here".into()]).await, Error::Address(text) if text == "here")
    );
    assert!(matches!(
        start(|c| c.listen = vec!["/dns4/localhost/tcp/1".into()]).await,
        Error::Unsupported(_)
    ));
    assert!(matches!(start(|c| c.bootstrap = vec!["/ip4/127.0.0.1/tcp/1".into()]).await, Error::NoPeerId(_)));
    assert!(matches!(start(|c| c.external = vec!["1.2.3.4".into()]).await, Error::Address(_)));
    let node = Node::start(config(0, &[])).await;
    assert!(matches!(node.overlay.add_bootstrap("/ip4/127.0.0.1/tcp/1").await, Err(Error::NoPeerId(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alone_it_dials_its_bootstrap_nodes_until_one_is_there() {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".into()];
    let boot = Node::start(Config { listen, ..config(0, &[]) }).await;
    let address = boot.address("tcp").await;
    let mut node = Node::start(config(1, std::slice::from_ref(&address))).await;
    node.waits_for(Event::PeerConnected(id(0))).await;
    boot.overlay.shutdown().await;
    node.waits_for(Event::PeerLost(id(0))).await;
    let listen = vec![address.split("/p2p/").next().unwrap().to_owned()];
    let boot = Node::start(Config { listen, ..config(0, &[]) }).await;
    boot.overlay.publish(signed_by(0)).await;
    node.learns([0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bootstrap_node_may_be_added_later() {
    let boot = Node::start(config(0, &[])).await;
    boot.overlay.publish(signed_by(0)).await;
    let mut node = Node::start(config(1, &[])).await;
    node.overlay.add_bootstrap(&boot.address("tcp").await).await.unwrap();
    node.learns([0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_limited() {
    let boot = Node::start(Config { max_connections: 4, ..config(0, &[]) }).await;
    let address = boot.address("tcp").await;
    let mut liars = Vec::new();
    for number in 1..=3 {
        let mut liar = Liar::new(number, &address, Vec::new());
        patiently("a subscription", liar.until_heard()).await;
        liars.push(tokio::spawn(liar.run()));
    }
    // Three of four are open to strangers; the fourth stranger is refused.
    let mut fourth = Liar::new(4, &address, Vec::new());
    let refused = async {
        loop {
            let event = fourth.swarm.select_next_some().await;
            if matches!(
                event,
                SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. }
            ) {
                return;
            }
        }
    };
    patiently("a refusal", refused).await;
    assert_eq!(boot.overlay.peers().await, 3);
    liars.iter().for_each(tokio::task::JoinHandle::abort);
}

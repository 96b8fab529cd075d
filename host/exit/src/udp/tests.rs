use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use warren_ports::Clock;

use super::*;
use crate::{Exit, Limits, MAX_NEW_SILENT, Policy};

/// A clock that a test moves.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_000_000 * (1 + self.0.load(Ordering::Relaxed)))
    }
}

fn lab(limits: Limits) -> (Arc<Exit>, Arc<Hand>) {
    let clock = Arc::new(Hand::default());
    let policy = Policy { allow_private: true, ..Policy::default() };
    (Arc::new(Exit::new(policy, limits, clock.clone())), clock)
}

async fn peer() -> (UdpSocket, Target) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let target = Target::from(socket.local_addr().unwrap());
    (socket, target)
}

async fn heard(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2048];
    let waiting = tokio::time::timeout(Duration::from_secs(10), socket.recv_from(&mut buffer));
    let (length, from) = waiting.await.expect("a datagram arrives").unwrap();
    (buffer[..length].to_vec(), from)
}

#[tokio::test]
async fn datagrams_go_and_answers_come() {
    let (exit, _) = lab(Limits::default());
    let flow = exit.circuit().udp_flow();
    let (socket, target) = peer().await;
    flow.send(&target, Bytes::from_static(b"ask"));
    let (datagram, from) = heard(&socket).await;
    assert_eq!(datagram, b"ask");
    socket.send_to(b"answer", from).await.unwrap();
    assert_eq!(flow.recv().await.unwrap(), (target, Bytes::from_static(b"answer")));
}

#[tokio::test]
async fn a_waiting_recv_learns_of_a_socket_bound_later() {
    let (exit, _) = lab(Limits::default());
    let flow = exit.circuit().udp_flow();
    let (socket, target) = peer().await;
    let asking = async {
        tokio::task::yield_now().await;
        flow.send(&target, Bytes::from_static(b"ask"));
        let (_, from) = heard(&socket).await;
        socket.send_to(b"answer", from).await.unwrap();
    };
    let (got, ()) = tokio::join!(flow.recv(), asking);
    assert_eq!(got.unwrap().1, Bytes::from_static(b"answer"));
}

#[tokio::test]
async fn only_those_who_were_sent_to_may_answer() {
    let (exit, _) = lab(Limits::default());
    let flow = exit.circuit().udp_flow();
    let ((socket, target), (stranger, _)) = (peer().await, peer().await);
    flow.send(&target, Bytes::from_static(b"ask"));
    let (_, from) = heard(&socket).await;
    stranger.send_to(b"scan", from).await.unwrap();
    socket.send_to(&[7; MAX_PAYLOAD + 1], from).await.unwrap();
    socket.send_to(&[7; MAX_PAYLOAD], from).await.unwrap();
    assert_eq!(flow.recv().await.unwrap().1.len(), MAX_PAYLOAD);
    assert_eq!(exit.counters().get(DropReason::Unsolicited), 1);
    assert_eq!(exit.counters().get(DropReason::Oversized), 1);
}

#[tokio::test]
async fn a_silent_destination_gets_three_whichever_flow_asks() {
    let (exit, clock) = lab(Limits::default());
    let circuit = exit.circuit();
    let (one, two) = (circuit.udp_flow(), circuit.udp_flow());
    let (socket, target) = peer().await;
    for flow in [&one, &two, &one, &two, &one] {
        flow.send(&target, Bytes::from_static(b"?"));
    }
    for _ in 0..3 {
        heard(&socket).await;
    }
    assert_eq!(exit.counters().get(DropReason::Unanswered), 2);
    clock.0.store(FORGET.as_secs(), Ordering::Relaxed);
    one.send(&target, Bytes::from_static(b"later"));
    assert_eq!(heard(&socket).await.0, b"later", "the two that were dropped never come");
}

#[tokio::test]
async fn new_silent_destinations_are_bounded_for_a_circuit() {
    let (exit, _) = lab(Limits::default());
    let circuit = exit.circuit();
    let flow = circuit.udp_flow();
    for port in 0..40 {
        flow.send(&Target { host: Host::Ip(Ipv4Addr::LOCALHOST.into()), port: 20_000 + port }, Bytes::new());
    }
    assert_eq!(exit.counters().get(DropReason::TooManySilent), 40 - MAX_NEW_SILENT as u64);
    let (socket, target) = peer().await;
    exit.circuit().udp_flow().send(&target, Bytes::from_static(b"other circuit"));
    assert_eq!(heard(&socket).await.0, b"other circuit");
}

#[tokio::test]
async fn names_are_resolved_here_and_in_order() {
    let (exit, _) = lab(Limits::default());
    let flow = exit.circuit().udp_flow();
    let (socket, target) = peer().await;
    let named = Target { host: Host::Name("localhost".to_owned()), port: target.port };
    for text in [&b"one"[..], b"two", b"three"] {
        flow.send(&named, Bytes::copy_from_slice(text));
    }
    for text in [&b"one"[..], b"two", b"three"] {
        let (datagram, from) = heard(&socket).await;
        assert_eq!(datagram, text);
        socket.send_to(b"ok", from).await.unwrap();
        flow.recv().await.unwrap();
    }
    assert_eq!(flow.0.known("localhost"), Some(Ipv4Addr::LOCALHOST.into()));
}

#[tokio::test]
async fn what_the_policy_denies_is_never_sent() {
    let clock = Arc::new(Hand::default());
    let exit = Arc::new(Exit::new(Policy::default(), Limits::default(), clock));
    let flow = exit.circuit().udp_flow();
    let (socket, target) = peer().await;
    flow.send(&target, Bytes::from_static(b"?"));
    assert_eq!(exit.counters().get(DropReason::Denied), 1);
    flow.send(
        &Target { host: Host::Name("localhost".to_owned()), port: target.port },
        Bytes::from_static(b"?"),
    );
    while exit.counters().get(DropReason::Denied) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(socket.try_recv_from(&mut [0; 16]).is_err());
    assert!(flow.0.v4.get().is_none(), "no socket was opened");
}

#[tokio::test]
async fn queues_and_sockets_are_bounded() {
    let (exit, _) = lab(Limits { sockets_per_circuit: 1, ..Limits::default() });
    let circuit = exit.circuit();
    let (flow, other) = (circuit.udp_flow(), circuit.udp_flow());
    let (_socket, target) = peer().await;
    flow.send(&target, Bytes::from_static(b"?"));
    other.send(&target, Bytes::from_static(b"?"));
    assert_eq!(exit.counters().get(DropReason::NoRoom), 1);
    flow.send(&target, Bytes::from(vec![0; MAX_PAYLOAD + 1]));
    assert_eq!(exit.counters().get(DropReason::Oversized), 1);
    for n in 0..12 {
        let host = Host::Name(format!("name-{n}.invalid"));
        flow.send(&Target { host, port: 1 }, Bytes::new());
    }
    assert_eq!(exit.counters().get(DropReason::NoRoom), 1 + 4);
}

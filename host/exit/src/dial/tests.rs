use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use warren_ports::Clock;
use warren_schemas::Timestamp;

use super::*;
use crate::{Exit, Limits, Policy};

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1)
    }
}

fn exit(policy: Policy, limits: Limits) -> Arc<Exit> {
    Arc::new(Exit::new(policy, limits, Arc::new(Still)))
}

fn lab() -> Policy {
    Policy { allow_private: true, ..Policy::default() }
}

fn name(name: &str, port: u16) -> Target {
    Target { host: Host::Name(name.to_owned()), port }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn bytes_go_both_ways() {
    let (listener, address) = listener().await;
    let (mut outbound, connected) =
        exit(lab(), Limits::default()).circuit().connect(&address.into()).await.unwrap();
    assert_eq!(connected, address);
    let (mut inside, _) = listener.accept().await.unwrap();
    outbound.stream.write_all(b"ping").await.unwrap();
    outbound.stream.shutdown().await.unwrap();
    let mut heard = Vec::new();
    inside.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"ping");
    inside.write_all(b"pong").await.unwrap();
    drop(inside);
    heard.clear();
    outbound.stream.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"pong");
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_denied() {
    let (listener, address) = listener().await;
    let exit = exit(Policy::default(), Limits::default());
    let outcome = exit.circuit().connect(&name("localhost", address.port())).await;
    assert!(matches!(outcome, Err(DialError::Denied)));
    for disguise in ["127.1", "2130706433", "0x7f000001"] {
        let outcome = exit.circuit().connect(&name(disguise, address.port())).await;
        assert!(matches!(outcome, Err(DialError::Denied | DialError::HostUnreachable)), "{disguise}");
    }
    let nobody = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(nobody.is_err(), "no connection was made");
    assert!(exit.counters().get(DropReason::Denied) >= 1);
}

#[tokio::test]
async fn the_same_name_is_served_in_a_lab() {
    let (_listener, address) = listener().await;
    let circuit = exit(lab(), Limits::default()).circuit();
    let (_outbound, connected) = circuit.connect(&name("localhost", address.port())).await.unwrap();
    assert_eq!(connected, address);
}

#[tokio::test]
async fn a_relays_port_is_denied_in_a_lab_too() {
    let (_listener, address) = listener().await;
    let exit = exit(lab(), Limits::default());
    exit.set_relays([address]);
    assert!(matches!(exit.circuit().connect(&address.into()).await, Err(DialError::Denied)));
    exit.set_relays([]);
    assert!(exit.circuit().connect(&address.into()).await.is_ok());
}

#[tokio::test]
async fn failures_say_what_happened() {
    let (listener, address) = listener().await;
    drop(listener);
    let circuit = exit(lab(), Limits::default()).circuit();
    assert!(matches!(circuit.connect(&address.into()).await, Err(DialError::Refused)));
    let nowhere = circuit.connect(&name("no-such-name.invalid", 80)).await;
    assert!(matches!(nowhere, Err(DialError::HostUnreachable | DialError::TimedOut)));
    let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
    let denied = exit(Policy::default(), Limits::default()).circuit().connect(&mapped.into()).await;
    assert!(matches!(denied, Err(DialError::Denied)));
}

#[tokio::test]
async fn sockets_are_bounded_and_given_back() {
    let (_listener, address) = listener().await;
    let exit = exit(lab(), Limits { sockets: 3, sockets_per_circuit: 2, ..Limits::default() });
    let (one, two) = (exit.circuit(), exit.circuit());
    let first = one.connect(&address.into()).await.unwrap();
    let _second = one.connect(&address.into()).await.unwrap();
    assert!(matches!(one.connect(&address.into()).await, Err(DialError::Limit)), "the circuit's bound");
    let _third = two.connect(&address.into()).await.unwrap();
    assert!(matches!(two.connect(&address.into()).await, Err(DialError::Limit)), "the exit's bound");
    drop(first);
    assert!(two.connect(&address.into()).await.is_ok());
    assert_eq!(exit.counters().get(DropReason::NoRoom), 2);
}

#[tokio::test]
async fn a_dead_address_does_not_stop_the_next() {
    let (dead, dead_address) = listener().await;
    drop(dead);
    let (_listener, address) = listener().await;
    let (_stream, connected) = race(&[dead_address, address]).await.unwrap();
    assert_eq!(connected, address);
}

#[test]
fn families_take_turns() {
    let parse = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<SocketAddr>>();
    let mixed = parse(&["[2a00::1]:1", "[2a00::2]:1", "[2a00::3]:1", "1.1.1.1:1"]);
    assert_eq!(interleave(mixed), parse(&["[2a00::1]:1", "1.1.1.1:1", "[2a00::2]:1", "[2a00::3]:1"]));
    let many = parse(&["1.1.1.1:1", "1.1.1.2:1", "1.1.1.3:1", "1.1.1.4:1", "1.1.1.5:1"]);
    assert_eq!(interleave(many).len(), MAX_ATTEMPTS);
}

#[test]
fn the_machine_knows_its_own_addresses() {
    assert!(is_own("127.0.0.1:9".parse().unwrap()));
    assert!(!is_own("192.0.2.1:9".parse().unwrap()));
}

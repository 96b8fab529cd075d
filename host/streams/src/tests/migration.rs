//! Circuits that die under a connection.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use warren_ports::DialError;
use warren_schemas::CircuitHandle;

use super::glue::*;
use crate::*;

#[tokio::test]
async fn a_transfer_goes_on_over_another_circuit() {
    let pair = pair();
    let (connection, server) = within(pair.connect(1)).await;
    let (other, other_server) = within(pair.connect(2)).await;
    tokio::spawn(echo(other_server));
    let sent = pattern(20_000_000);
    let copy = sent.clone();
    let serving = tokio::spawn(async move {
        let Some(Asked::Connect { answer, .. }) = server.next().await else { panic!() };
        let mut stream = answer.accept("192.0.2.7:7".parse().unwrap()).await.unwrap();
        stream.write_all(&copy).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"thanks");
        server.carrier()
    });
    let mut stream = within(connection.open(&target())).await.unwrap();
    let mut got = vec![0; 5_000_000];
    within(stream.read_exact(&mut got)).await.unwrap();
    pair.cut.lock().unwrap().insert(CircuitHandle(1));
    connection.migrate(CircuitHandle(2));
    pair.near_port.circuit_dead(carrier(1));
    pair.far_port.circuit_dead(far_carrier(1));
    within(stream.read_to_end(&mut got)).await.unwrap();
    assert!(got == sent);
    stream.write_all(b"thanks").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(within(serving).await.unwrap(), far_carrier(2));
    assert_eq!(connection.circuit(), CircuitHandle(2));
    let mut stream = within(other.open(&target())).await.unwrap();
    stream.write_all(b"the circuit's own connection lives").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut back = Vec::new();
    within(stream.read_to_end(&mut back)).await.unwrap();
    assert_eq!(back, b"the circuit's own connection lives");
}

#[tokio::test]
async fn an_idle_connection_is_found_on_its_new_circuit() {
    let quiet = Settings { keepalive: Duration::from_secs(3600), ..Settings::default() };
    let pair = pair_with(quiet, Settings { stream_key: Some(SECRET), ..Settings::default() });
    let (connection, server) = within(pair.connect(1)).await;
    pair.cut.lock().unwrap().insert(CircuitHandle(1));
    connection.migrate(CircuitHandle(2));
    within(async {
        while server.carrier() != far_carrier(2) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    connection.migrate(CircuitHandle(3));
    within(async {
        while server.carrier() != far_carrier(3) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(!connection.is_closed());
}

#[tokio::test]
async fn a_dead_circuit_closes_the_originators_connections_on_it() {
    let pair = pair();
    let (connection, server) = within(pair.connect(1)).await;
    let (other, _other_server) = within(pair.connect(2)).await;
    let to = target();
    let (stream, far_stream) = tokio::join!(connection.open(&to), async {
        let Some(Asked::Connect { answer, .. }) = server.next().await else { panic!() };
        answer.accept("192.0.2.7:7".parse().unwrap()).await.unwrap()
    });
    let mut stream = stream.unwrap();
    pair.cut.lock().unwrap().insert(CircuitHandle(1));
    pair.near_port.circuit_dead(carrier(1));
    within(connection.closed()).await;
    assert!(within(stream.read_to_end(&mut Vec::new())).await.is_err());
    assert!(matches!(within(connection.open(&target())).await, Err(DialError::CircuitLost)));
    assert!(!other.is_closed());
    drop(far_stream);
}

#[tokio::test(start_paused = true)]
async fn a_last_hop_waits_for_the_originator_to_come_back_but_not_for_ever() {
    let pair = pair();
    let (connection, server) = pair.connect(1).await;
    pair.cut.lock().unwrap().insert(CircuitHandle(1));
    pair.far_port.circuit_dead(far_carrier(1));
    let wait = tokio::time::timeout(Duration::from_secs(10), server.closed()).await;
    assert!(wait.is_err(), "closed before its grace was over");
    server.closed().await;
    drop(connection);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_ends_when_its_circuit_dies_or_nobody_answers() {
    let pair = pair();
    pair.cut.lock().unwrap().extend([CircuitHandle(1), CircuitHandle(2)]);
    let silent = pair.originator.connect(CircuitHandle(1), public_key(&SECRET)).await;
    assert!(matches!(silent, Err(Error::TimedOut)));
    let (dead, ()) = tokio::join!(pair.originator.connect(CircuitHandle(2), public_key(&SECRET)), async {
        tokio::task::yield_now().await;
        pair.near_port.circuit_dead(carrier(2));
    });
    assert!(matches!(dead, Err(Error::Lost(_))), "{dead:?}");
}

#[tokio::test]
async fn a_replaced_worker_ends_every_connection() {
    let pair = pair();
    let (one, _server) = within(pair.connect(1)).await;
    let (two, _server) = within(pair.connect(2)).await;
    let (kept, _kept_server) = within(pair.connect(4)).await;
    pair.near_port.all_dead(0, |circuit| circuit == CircuitHandle(4));
    within(one.closed()).await;
    within(two.closed()).await;
    let (three, _server) = within(pair.connect(3)).await;
    assert!(!three.is_closed());
    assert!(!kept.is_closed());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_of_connections_that_are_over() {
    let pair = pair();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let tasks = metrics.num_alive_tasks();
    for round in 0..20 {
        let (connection, server) = pair.connect(round).await;
        let serving = tokio::spawn(echo(server));
        let mut stream = connection.open(&target()).await.unwrap();
        stream.write_all(b"round").await.unwrap();
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        if round % 3 == 0 {
            pair.near_port.circuit_dead(carrier(round));
            connection.closed().await;
        }
        drop((stream, connection));
        serving.await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert_eq!(metrics.num_alive_tasks(), tasks);
    assert_eq!((pair.near_port.hub.clients(), pair.last_hop.taken()), (0, 0));
}

/// What two threads of a last hop's node do for each other: circuits 1 to 9 belong to worker 0, those
/// above to worker 1, and a datagram goes to the thread whose connection it names.
async fn carry_to_two(
    near: Arc<CircuitPort>,
    far_ports: [Arc<CircuitPort>; 2],
    cut: Arc<Mutex<HashSet<u32>>>,
) {
    let worker_of = |circuit: u32| u8::from(circuit > 9);
    loop {
        near.drain(64, |from, datagram| {
            let circuit = from.circuit;
            let worker = worker_of(circuit.0);
            if cut.lock().unwrap().contains(&circuit.0) {
                return;
            }
            let home = far_ports[usize::from(worker)].home_of(CircuitEnd::LastHop, datagram);
            let to = far_ports.get(usize::from(home)).unwrap_or(&far_ports[usize::from(worker)]);
            to.deliver(Carrier { worker, circuit }, CircuitEnd::LastHop, datagram);
        });
        for port in &far_ports {
            port.drain(64, |to, datagram| {
                assert_eq!(to.worker, worker_of(to.circuit.0));
                if !cut.lock().unwrap().contains(&to.circuit.0) {
                    near.deliver(carrier(to.circuit.0), CircuitEnd::Originator, datagram);
                }
            });
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_transfer_goes_on_over_a_circuit_of_another_worker() {
    let last =
        |worker| endpoint(Settings { stream_key: Some(SECRET), worker, ..Settings::default() }).unwrap();
    let (originator, near_port) = endpoint(Settings::default()).unwrap();
    let [(zero, port_zero), (one, port_one)] = [0, 1].map(last);
    let (near_port, far_ports) = (Arc::new(near_port), [Arc::new(port_zero), Arc::new(port_one)]);
    let cut = Arc::<Mutex<HashSet<u32>>>::default();
    let joined = tokio::spawn(carry_to_two(near_port, far_ports.clone(), cut.clone()));
    let accept =
        |endpoint: Arc<Endpoint>| async move { endpoint.accept().await.unwrap().establish().await.unwrap() };
    let (zero, one) = (Arc::new(zero), Arc::new(one));
    let (connection, server) =
        tokio::join!(originator.connect(CircuitHandle(1), public_key(&SECRET)), accept(zero));
    let (other, other_server) =
        tokio::join!(originator.connect(CircuitHandle(10), public_key(&SECRET)), accept(one));
    let (connection, other) = (connection.unwrap(), other.unwrap());
    tokio::spawn(echo(other_server));
    let sent = pattern(10_000_000);
    let copy = sent.clone();
    let serving = tokio::spawn(async move {
        let Some(Asked::Connect { answer, .. }) = server.next().await else { panic!() };
        let mut stream = answer.accept("192.0.2.7:7".parse().unwrap()).await.unwrap();
        stream.write_all(&copy).await.unwrap();
        stream.shutdown().await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        server.carrier()
    });
    let mut stream = within(connection.open(&target())).await.unwrap();
    let mut got = vec![0; 2_000_000];
    within(stream.read_exact(&mut got)).await.unwrap();
    cut.lock().unwrap().insert(1);
    connection.migrate(CircuitHandle(10));
    far_ports[0].circuit_dead(carrier(1));
    within(stream.read_to_end(&mut got)).await.unwrap();
    assert!(got == sent);
    stream.shutdown().await.unwrap();
    let carrier = within(serving).await.unwrap();
    assert_eq!(carrier, Carrier { worker: 1, circuit: CircuitHandle(10) });
    assert!(!other.is_closed());
    far_ports[0].circuit_dead(carrier);
    joined.abort();
}

//! That connections get what comes for them, give what waits, and tell whoever waits for them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use warren_schemas::CircuitHandle;

use super::glue::*;
use crate::*;

/// Datagrams that wait at `from`, at most so many.
fn taken(from: &CircuitPort, most: usize) -> Vec<(CircuitHandle, Vec<u8>)> {
    let mut taken = Vec::new();
    from.drain(most, |Carrier { circuit, .. }, datagram| taken.push((circuit, datagram.to_vec())));
    taken
}

/// Gives originators what was taken of their last hop.
fn give_back(port: &CircuitPort, taken: &[(CircuitHandle, Vec<u8>)]) {
    for (circuit, datagram) in taken {
        port.deliver(carrier(circuit.0 - 1000), CircuitEnd::Originator, datagram);
    }
}

#[tokio::test]
async fn what_waits_for_core_is_bounded_and_goes_on_when_it_is_taken() {
    const LENGTH: usize = 300_000;
    let mut pair = pair();
    let mut downloads = tokio::task::JoinSet::new();
    let sent = pattern(LENGTH);
    let mut writers = Vec::new();
    for circuit in 1..=30 {
        let (connection, server) = within(pair.connect(circuit)).await;
        let to = target();
        let (near, far) = tokio::join!(connection.open(&to), async {
            let Some(Asked::Connect { answer, .. }) = server.next().await else { panic!() };
            answer.accept("192.0.2.7:7".parse().unwrap()).await.unwrap()
        });
        writers.push((far, server));
        let (mut near, expected) = (near.unwrap(), sent.clone());
        downloads.spawn(async move {
            let mut got = Vec::new();
            near.read_to_end(&mut got).await.unwrap();
            assert!(got == expected);
        });
    }
    // From here on nobody carries but this test.
    pair.stop();
    for (mut far, server) in writers {
        let sent = sent.clone();
        tokio::spawn(async move {
            far.write_all(&sent).await.unwrap();
            far.shutdown().await.unwrap();
            // The connection lives until its originator is gone.
            server.closed().await;
        });
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let first = taken(&pair.far_port, usize::MAX);
    let bytes: usize = first.iter().map(|(_, datagram)| datagram.len()).sum();
    assert!((1 << 20..(1 << 20) + 20_000).contains(&bytes), "{bytes}");
    give_back(&pair.near_port, &first);
    let carry = async {
        loop {
            for (circuit, datagram) in taken(&pair.near_port, 50) {
                pair.far_port.deliver(carrier(far(circuit).0), CircuitEnd::LastHop, &datagram);
            }
            give_back(&pair.near_port, &taken(&pair.far_port, 50));
            tokio::task::yield_now().await;
        }
    };
    within(async {
        tokio::select! {
            () = carry => {}
            done = async { while let Some(done) = downloads.join_next().await { done.unwrap() } } => done,
        }
    })
    .await;
}

#[tokio::test]
async fn a_handshake_that_nobody_waits_for_is_closed() {
    let pair = pair();
    let incoming = {
        let mut connect = std::pin::pin!(pair.originator.connect(CircuitHandle(1), public_key(&SECRET)));
        tokio::select! {
            _ = &mut connect => panic!("nobody answers yet"),
            incoming = pair.last_hop.accept() => incoming.unwrap(),
        }
    };
    // Not after the time that a handshake may take: the other side says so.
    let error =
        tokio::time::timeout(Duration::from_secs(5), incoming.establish()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
}

#[tokio::test]
async fn a_reset_is_told_as_often_as_it_is_asked_for() {
    let pair = pair();
    let (connection, server) = within(pair.connect(1)).await;
    let to = target();
    let (near, far) = tokio::join!(connection.open(&to), async {
        let Some(Asked::Connect { answer, .. }) = server.next().await else { panic!() };
        answer.accept("192.0.2.7:7".parse().unwrap()).await.unwrap()
    });
    let mut near = near.unwrap();
    drop(far);
    for _ in 0..3 {
        let error = within(near.read(&mut [0; 10])).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    let error = within(async {
        loop {
            if let Err(error) = near.write(&[0; 100]).await {
                break error;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn whoever_waits_is_told_when_the_runtime_ends() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (pair, connection, server) = first.block_on(async {
        let pair = pair();
        let (connection, server) = pair.connect(1).await;
        (pair, connection, server)
    });
    assert!(!connection.is_closed());
    drop(first);
    assert!(connection.is_closed());
    runtime().block_on(within(async {
        connection.closed().await;
        server.closed().await;
        assert!(connection.open(&target()).await.is_err());
    }));
    drop(pair);
}

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
        let (near, far) = stream(&connection, &server).await;
        writers.push((far, server));
        let (mut near, expected) = (near, sent.clone());
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
    // Before anything is acknowledged: those for whom there was no room.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let second = taken(&pair.far_port, usize::MAX);
    assert!(second.len() > 500, "{}", second.len());
    give_back(&pair.near_port, &first);
    give_back(&pair.near_port, &second);
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

#[tokio::test(start_paused = true)]
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
    let (mut near, far) = stream(&connection, &server).await;
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

#[tokio::test(start_paused = true)]
async fn a_writer_goes_on_as_soon_as_its_reader_does() {
    const LENGTH: usize = 9 << 20;
    let pair = pair();
    let (connection, server) = pair.connect(1).await;
    let (mut near, mut far) = stream(&connection, &server).await;
    tokio::spawn(async move {
        far.write_all(&vec![1; LENGTH]).await.unwrap();
        far.shutdown().await.unwrap();
        std::future::pending::<()>().await;
    });
    // Until as much is written as a stream may have unread, and nothing moves any more. Windows are looked at each second, which
    // would find what was forgotten.
    tokio::time::sleep(Duration::from_millis(8500)).await;
    let start = tokio::time::Instant::now();
    let mut got = Vec::new();
    near.read_to_end(&mut got).await.unwrap();
    assert_eq!(got.len(), LENGTH);
    assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn whoever_migrates_has_another_connection_id() {
    let mut pair = pair();
    let (connection, _server) = within(pair.connect(1)).await;
    // Until the last hop has given some.
    tokio::time::sleep(Duration::from_millis(100)).await;
    pair.stop();
    let mut stream = connection.open_stream().await.unwrap();
    stream.write_all(b"here").await.unwrap();
    tokio::task::yield_now().await;
    let before = taken(&pair.near_port, 10);
    connection.migrate(CircuitHandle(2));
    tokio::task::yield_now().await;
    let after = taken(&pair.near_port, 10);
    // Short headers: the id is behind the first byte.
    let ids = |taken: &[(CircuitHandle, Vec<u8>)]| -> Vec<(u32, Vec<u8>)> {
        taken.iter().map(|(circuit, datagram)| (circuit.0, datagram[1..9].to_vec())).collect()
    };
    let (before, after) = (ids(&before), ids(&after));
    assert!(!before.is_empty() && !after.is_empty());
    assert!(
        before.iter().all(|(circuit, _)| *circuit == 1) && after.iter().all(|(circuit, _)| *circuit == 2)
    );
    assert!(before.iter().all(|(_, old)| after.iter().all(|(_, new)| old != new)), "{before:?} {after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_finished_and_not_wanted_makes_room_for_another() {
    for first in [false, true] {
        let far = Settings { stream_key: Some(SECRET), streams: 1, ..Settings::default() };
        let pair = pair_with(Settings::default(), far);
        let (connection, server) = pair.connect(1).await;
        let (mut near, mut far) = stream(&connection, &server).await;
        near.shutdown().await.unwrap();
        assert_eq!(far.read(&mut [0; 10]).await.unwrap(), 0);
        if first {
            // Finished before it is not wanted.
            far.write_all(&[7; 60_000]).await.unwrap();
            far.shutdown().await.unwrap();
        }
        // It has said all, and wants no more: no reset, but a STOP_SENDING.
        drop(near);
        tokio::time::sleep(Duration::from_millis(500)).await;
        far.shutdown().await.unwrap();
        drop(far);
        stream(&connection, &server).await;
    }
}

#[tokio::test]
async fn what_came_at_once_by_one_circuit_is_told_apart() {
    let mut pair = pair();
    let (one, server_of_one) = within(pair.connect(1)).await;
    let (two, server_of_two) = within(pair.connect(1)).await;
    let (mut near_one, mut far_one) = stream(&one, &server_of_one).await;
    let (mut near_two, mut far_two) = stream(&two, &server_of_two).await;
    pair.stop();
    far_one.write_all(&[1; 20_000]).await.unwrap();
    far_two.write_all(&[2; 20_000]).await.unwrap();
    tokio::task::yield_now().await;
    // As relays may mix them: one of one connection, one of the other.
    let mut datagrams = taken(&pair.far_port, usize::MAX);
    datagrams.sort_by_key(|(_, datagram)| datagram[1..5].to_vec());
    let (first, second) = datagrams.split_at(datagrams.len() / 2);
    let mixed = first.iter().zip(second).flat_map(|(first, second)| [first, second]);
    let mixed = mixed.map(|(_, datagram)| datagram.as_slice());
    pair.near_port.deliver_all(carrier(1), CircuitEnd::Originator, mixed);
    for (near, byte) in [(&mut near_one, 1), (&mut near_two, 2)] {
        let mut got = vec![0; 15_000];
        within(near.read_exact(&mut got)).await.unwrap();
        assert!(got.iter().all(|got| *got == byte));
    }
    assert_eq!(pair.near_port.counters(), Counters::default());
}

#[tokio::test]
async fn bytes_that_panic_end_their_connection_and_nothing_else() {
    let mut pair = pair();
    let (one, server) = within(pair.connect(1)).await;
    let (two, _other) = within(pair.connect(2)).await;
    let (mut near, mut far) = stream(&one, &server).await;
    pair.stop();
    far.write_all(b"for it").await.unwrap();
    tokio::task::yield_now().await;
    let datagrams = taken(&pair.far_port, 1);
    let datagram = datagrams[0].1.as_slice();
    // The panic is in the first of several blocks.
    let mut count = 0;
    let panics = std::iter::from_fn(|| {
        count += 1;
        assert!(count != 3, "a panic, as in the parser of a stranger's bytes");
        (count < 40).then_some(datagram)
    });
    pair.near_port.deliver_all(carrier(1), CircuitEnd::Originator, panics);
    // And it is over for what comes later.
    pair.near_port.deliver_all(carrier(1), CircuitEnd::Originator, [datagram; 20].into_iter());
    assert!(near.read(&mut [0; 10]).await.is_err());
    within(one.closed()).await;
    assert!(!two.is_closed());
    let clients = pair.near_port.hub.clients();
    drop((one, near));
    within(async {
        while pair.near_port.hub.clients() == clients {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_last_hop_forgets_a_connection_that_panicked_and_keeps_the_others() {
    let pair = pair();
    let (_one, broken) = within(pair.connect(1)).await;
    let (two, kept) = within(pair.connect(2)).await;
    assert_eq!(pair.last_hop.taken(), 2);
    broken.panic();
    within(broken.closed()).await;
    within(async {
        while pair.last_hop.taken() == 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (mut near, mut far) = within(stream(&two, &kept)).await;
    within(far.write_all(b"still here")).await.unwrap();
    let mut got = [0; 10];
    within(near.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"still here");
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

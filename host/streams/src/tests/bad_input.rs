//! What a hostile other side sends.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use warren_schemas::CircuitHandle;
use warren_schemas::cell::MAX_INNER;

use super::glue::*;
use crate::port::ClientEnd;
use crate::*;

/// A stream on which nothing was asked yet.
async fn raw(connection: &Connection) -> TunnelStream {
    connection.open_stream().await.unwrap()
}

#[tokio::test]
async fn garbage_on_a_circuit_is_counted_and_harms_nobody() {
    let pair = pair();
    let (connection, server) = within(pair.connect(1)).await;
    tokio::spawn(echo(server));
    for (index, byte) in pattern(2000).into_iter().enumerate() {
        let datagram = vec![byte; index % 1300];
        pair.near_port.deliver(carrier(1), CircuitEnd::Originator, &datagram);
        pair.far_port.deliver(far_carrier(1), CircuitEnd::LastHop, &datagram);
        if index % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(pair.near_port.counters().unknown > 1900);
    assert!(pair.far_port.counters().unknown > 10, "oversized and empty");
    let mut stream = within(connection.open(&target())).await.unwrap();
    stream.write_all(b"still here").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut got = Vec::new();
    within(stream.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, b"still here");
}

#[tokio::test]
async fn datagrams_of_another_circuit_are_not_a_connections() {
    let (_endpoint, port) = endpoint(Settings::default()).unwrap();
    let hub = port::Hub::new(0);
    let registration = hub.register(CircuitHandle(1)).unwrap();
    let other = hub.register(CircuitHandle(1)).unwrap();
    assert_ne!(registration.end.tag, other.end.tag);
    let port_of_hub = CircuitPort::new(hub.clone());
    let datagram = |end: &ClientEnd| [&[0x40][..], &end.tag.to_be_bytes(), &[0; 30]].concat();
    let bytes = datagram(&registration.end);
    let deliver = |circuit| {
        port_of_hub.deliver(carrier(circuit), CircuitEnd::Originator, &bytes);
        port_of_hub.counters().unknown
    };
    assert_eq!(deliver(1), 0);
    assert_eq!(deliver(2), 1, "an exit that knows another's connection id learns nothing");
    registration.end.migrate(CircuitHandle(2));
    assert_eq!(deliver(2), 1);
    assert_eq!(deliver(1), 1, "late datagrams");
    assert_eq!(deliver(3), 2);
    drop(registration);
    assert_eq!(deliver(2), 3);
    assert_eq!(port.counters(), Counters::default());
}

#[tokio::test]
async fn what_is_nobodys_is_counted_among_what_is_somebodys() {
    let port = CircuitPort::new(port::Hub::new(0));
    let (one, two) =
        (port.hub.register(CircuitHandle(1)).unwrap(), port.hub.register(CircuitHandle(1)).unwrap());
    let of = |tag: u32, length| [&[0x40][..], &tag.to_be_bytes(), &vec![0; length]].concat();
    let (mine, theirs, unknown) = (of(one.end.tag, 30), of(two.end.tag, 31), of(!one.end.tag, 32));
    let (long, empty) = (of(one.end.tag, MAX_INNER), Vec::new());
    let all = [&mine, &mine, &theirs, &unknown, &long, &theirs, &empty, &mine];
    port.deliver_all(carrier(1), CircuitEnd::Originator, all.into_iter().map(Vec::as_slice));
    assert_eq!(port.counters(), Counters { unknown: 3, ..Counters::default() });
}

#[tokio::test]
async fn what_is_no_datagram_is_not_passed_on_to_another_worker() {
    let port = CircuitPort::new(port::Hub::new(0));
    let named = |length| [&[0x40, 7][..], &vec![0; length]].concat();
    assert_eq!(port.home_of(CircuitEnd::LastHop, &named(30)), 7);
    assert_eq!(port.home_of(CircuitEnd::LastHop, &named(MAX_INNER - 2)), 7);
    assert_eq!(port.home_of(CircuitEnd::LastHop, &named(MAX_INNER - 1)), 0);
    assert_eq!(port.home_of(CircuitEnd::Originator, &named(30)), 0);
}

#[tokio::test(start_paused = true)]
async fn late_and_malformed_requests_are_reset_and_counted() {
    let pair = pair();
    let (connection, server) = pair.connect(1).await;
    let mut silent = raw(&connection).await;
    silent.write_all(&[0]).await.unwrap();
    let mut long = raw(&connection).await;
    long.write_all(&[0xff, 0xff, 1, 2, 3]).await.unwrap();
    let mut garbage = raw(&connection).await;
    garbage.write_all(&[0, 8, 1, 2, 3, 4, 5, 6, 7, 8]).await.unwrap();
    for stream in [&mut silent, &mut long, &mut garbage] {
        assert!(stream.read_to_end(&mut Vec::new()).await.is_err());
    }
    while pair.far_port.counters().bad_requests < 3 {
        tokio::task::yield_now().await;
    }
    let to = target();
    let (stream, _far) = tokio::join!(connection.open(&to), async {
        let Some(Asked::Connect { answer, .. }) = server.next().await else { panic!() };
        answer.accept("192.0.2.7:7".parse().unwrap()).await.unwrap()
    });
    assert!(stream.is_ok(), "the connection lives");
}

#[tokio::test]
async fn silent_streams_do_not_keep_others_waiting() {
    let pair = pair();
    let (connection, server) = within(pair.connect(1)).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        let mut stream = raw(&connection).await;
        stream.write_all(&[0]).await.unwrap();
        silent.push(stream);
    }
    tokio::spawn(echo(server));
    assert!(within(connection.open(&target())).await.is_ok());
}

#[tokio::test]
async fn connections_are_bounded_for_a_circuit_and_in_all() {
    let limited = Settings {
        stream_key: Some(SECRET),
        connections: 3,
        connections_per_circuit: 2,
        ..Settings::default()
    };
    let pair = pair_with(Settings::default(), limited);
    let server = pair.last_hop.clone();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Some(incoming) = server.accept().await {
            kept.push(incoming.establish().await.unwrap());
        }
    });
    let key = public_key(&SECRET);
    let mut kept = Vec::new();
    for (circuit, fits) in [(1, true), (1, true), (1, false), (2, true), (3, false)] {
        let result = within(pair.originator.connect(CircuitHandle(circuit), key)).await;
        assert_eq!(result.is_ok(), fits, "{circuit}: {result:?}");
        kept.extend(result);
    }
    assert_eq!(pair.far_port.counters().refused_connections, 2);
}

#[tokio::test(start_paused = true)]
async fn handshakes_that_nobody_takes_are_bounded() {
    let pair = Arc::new(pair());
    let mut asking = tokio::task::JoinSet::new();
    for circuit in 0..300 {
        let pair = pair.clone();
        asking
            .spawn(async move { pair.originator.connect(CircuitHandle(circuit), public_key(&SECRET)).await });
    }
    // Those that found no place ask again, and find one when the first are dropped, and so refused.
    for (seconds, places) in [(3, 256), (5, 44)] {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let mut taken = Vec::new();
        while let Ok(incoming) = tokio::time::timeout(Duration::ZERO, pair.last_hop.accept()).await {
            taken.push(incoming);
        }
        assert_eq!(taken.len(), places);
    }
    while let Some(refused) = asking.join_next().await {
        let refused = refused.unwrap();
        assert!(matches!(refused, Err(Error::Lost(_))), "{refused:?}");
    }
}

//! Streams: bytes, halves, many, refusals.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use warren_ports::DialError;
use warren_schemas::CircuitHandle;
use warren_schemas::stream::{Host, Outcome, Target};

use super::glue::*;
use crate::*;

#[tokio::test]
async fn fifty_megabytes_arrive_equal_both_ways() {
    let pair = pair();
    let (connection, server) = within(pair.connect(1)).await;
    let echo = tokio::spawn(echo(server));
    let stream = within(connection.open(&target())).await.unwrap();
    assert_eq!(stream.bound(), Some("198.51.100.1:1".parse().unwrap()));
    let sent = pattern(50_000_000);
    let (mut read, mut write) = tokio::io::split(stream);
    let copy = sent.clone();
    let writing = tokio::spawn(async move {
        write.write_all(&copy).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut got = Vec::with_capacity(sent.len());
    within(read.read_to_end(&mut got)).await.unwrap();
    within(writing).await.unwrap();
    assert!(got == sent);
    drop(read);
    assert_eq!(connection.open_streams(), 0);
    drop(connection);
    within(echo).await.unwrap();
}

#[tokio::test]
async fn a_half_closed_stream_goes_on_the_other_way() {
    let pair = pair();
    let (connection, server) = within(pair.connect(1)).await;
    let serving = tokio::spawn(async move {
        let Some(Asked::Connect { answer, target }) = server.next().await else { panic!() };
        assert_eq!(target, Target { host: Host::Name("example.org".to_owned()), port: 443 });
        let mut stream = answer.accept("192.0.2.7:7".parse().unwrap()).await.unwrap();
        let mut request = Vec::new();
        stream.read_to_end(&mut request).await.unwrap();
        stream.write_all(b"answer to ").await.unwrap();
        stream.write_all(&request).await.unwrap();
        stream.shutdown().await.unwrap();
        server.closed().await;
    });
    let name = Target { host: Host::Name("example.org".to_owned()), port: 443 };
    let mut stream = within(connection.open(&name)).await.unwrap();
    stream.write_all(b"a question").await.unwrap();
    stream.shutdown().await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"answer to a question");
    drop((stream, connection));
    within(serving).await.unwrap();
}

#[tokio::test]
async fn a_dropped_stream_is_an_error_to_the_other_side() {
    let pair = pair();
    let (connection, server) = within(pair.connect(1)).await;
    let to = target();
    let stream = tokio::join!(connection.open(&to), async {
        let Some(Asked::Connect { answer, .. }) = server.next().await else { panic!() };
        answer.accept("192.0.2.7:7".parse().unwrap()).await.unwrap()
    });
    let (near, mut far) = (stream.0.unwrap(), stream.1);
    drop(near);
    let error = within(far.read_to_end(&mut Vec::new())).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn many_streams_share_a_connection() {
    let pair = pair();
    let (connection, server) = within(pair.connect(1)).await;
    tokio::spawn(echo(server));
    let mut streams = tokio::task::JoinSet::new();
    for index in 0..1500usize {
        let connection = connection.clone();
        streams.spawn(async move {
            let mut stream = connection.open(&target()).await.unwrap();
            let sent = pattern(1000 + index);
            stream.write_all(&sent).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).await.unwrap();
            assert!(got == sent);
        });
    }
    within(async {
        while let Some(done) = streams.join_next().await {
            done.unwrap();
        }
    })
    .await;
    assert_eq!(connection.open_streams(), 0);
}

#[tokio::test]
async fn refusals_arrive_by_name() {
    let pair = pair();
    let (connection, server) = within(pair.connect(1)).await;
    let outcomes = [
        Outcome::Failed,
        Outcome::Denied,
        Outcome::NetworkUnreachable,
        Outcome::HostUnreachable,
        Outcome::Refused,
        Outcome::TimedOut,
        Outcome::Limit,
    ];
    let serving = async {
        for outcome in outcomes {
            let Some(Asked::Connect { answer, .. }) = server.next().await else { panic!() };
            answer.refuse(outcome).await;
        }
        let Some(Asked::Connect { answer, .. }) = server.next().await else { panic!() };
        drop(answer);
    };
    let asking = async {
        let mut got = Vec::new();
        for _ in 0..=outcomes.len() {
            got.push(connection.open(&target()).await.unwrap_err());
        }
        got
    };
    let (got, ()) = within(async { tokio::join!(asking, serving) }).await;
    use DialError as E;
    assert!(matches!(
        got[..],
        [
            E::Failed,
            E::Denied,
            E::NetworkUnreachable,
            E::HostUnreachable,
            E::Refused,
            E::TimedOut,
            E::Limit,
            E::Failed
        ]
    ));
}

#[tokio::test]
async fn connections_of_several_circuits_do_not_mix() {
    let pair = pair();
    let mut connections = Vec::new();
    for circuit in [1, 2, 2, 3] {
        let (connection, server) = within(pair.connect(circuit)).await;
        assert_eq!(server.carrier(), far_carrier(circuit));
        tokio::spawn(echo(server));
        connections.push(connection);
    }
    for (index, connection) in connections.iter().enumerate() {
        let mut stream = within(connection.open(&target())).await.unwrap();
        stream.write_all(&[index as u8; 5000]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        within(stream.read_to_end(&mut got)).await.unwrap();
        assert_eq!(got, [index as u8; 5000]);
    }
}

#[tokio::test]
async fn a_closed_endpoint_closes_its_connections_and_makes_no_more() {
    let pair = pair();
    let (connection, server) = within(pair.connect(1)).await;
    pair.originator.close();
    within(connection.closed()).await;
    within(server.closed()).await;
    let error = pair.originator.connect(CircuitHandle(1), public_key(&SECRET)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    pair.last_hop.close();
    assert!(within(pair.last_hop.accept()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_closed_last_hop_closes_what_stands_and_refuses_the_rest() {
    let pair = Arc::new(pair());
    let (standing, _server) = pair.connect(1).await;
    let mut asking = tokio::task::JoinSet::new();
    for circuit in [2, 3] {
        let pair = pair.clone();
        asking
            .spawn(async move { pair.originator.connect(CircuitHandle(circuit), public_key(&SECRET)).await });
    }
    let begun = pair.last_hop.accept().await.unwrap();
    let start = tokio::time::Instant::now();
    pair.last_hop.close();
    assert!(begun.establish().await.is_err());
    standing.closed().await;
    while let Some(refused) = asking.join_next().await {
        assert_eq!(refused.unwrap().unwrap_err().kind(), ErrorKind::Lost);
    }
    // And who comes later.
    let late = pair.originator.connect(CircuitHandle(4), public_key(&SECRET)).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Lost);
    assert!(start.elapsed() < Duration::from_millis(500), "nobody has to find out for himself");
}

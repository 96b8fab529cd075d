//! UDP associations over real connections.

use std::net::SocketAddr;

use bytes::Bytes;
use warren_ports::{Association, DialError};
use warren_schemas::stream::{Host, Target};

use super::glue::*;
use crate::*;

async fn associate(
    connection: &Connection,
    server: &ServerConnection,
) -> (TunnelAssociation, TunnelAssociation) {
    let (near, far) = tokio::join!(connection.associate(), server.next());
    let Some(Asked::Associate { flow }) = far else { panic!() };
    (near.unwrap(), flow)
}

#[tokio::test]
async fn datagrams_whole_and_split_arrive_both_ways() {
    let pair = pair();
    let (connection, server) = within(pair.connect(1)).await;
    let (near, far) = within(associate(&connection, &server)).await;
    let name = Target { host: Host::Name("tracker.example".to_owned()), port: 6969 };
    let source = Target::from("[2001:db8::7]:6969".parse::<SocketAddr>().unwrap());
    for length in [0, 1, 500, 1150, 1200, 1472, 1500] {
        let payload = Bytes::from(pattern(length));
        near.send(&name, payload.clone()).unwrap();
        assert_eq!(within(far.recv()).await.unwrap(), (name.clone(), payload.clone()));
        far.send(&source, payload.clone()).unwrap();
        assert_eq!(within(near.recv()).await.unwrap(), (source.clone(), payload));
    }
    near.send(&name, Bytes::from(pattern(1501))).unwrap();
    assert_eq!(pair.near_port.counters().lost_datagrams, 1);
}

#[tokio::test]
async fn associations_do_not_mix_and_end_with_either_side() {
    let pair = pair();
    let (connection, server) = within(pair.connect(1)).await;
    let (near_one, far_one) = within(associate(&connection, &server)).await;
    let (near_two, far_two) = within(associate(&connection, &server)).await;
    near_one.send(&target(), Bytes::from_static(b"one")).unwrap();
    near_two.send(&target(), Bytes::from_static(b"two")).unwrap();
    assert_eq!(within(far_two.recv()).await.unwrap().1, b"two"[..]);
    assert_eq!(within(far_one.recv()).await.unwrap().1, b"one"[..]);
    drop(near_one);
    assert!(within(far_one.recv()).await.is_err());
    assert!(far_one.send(&target(), Bytes::new()).is_err());
    drop(far_two);
    assert!(within(near_two.recv()).await.is_err());
    assert_eq!(connection.open_streams(), 1);
    drop(near_two);
    assert_eq!(connection.open_streams(), 0);
}

#[tokio::test]
async fn a_flood_that_nobody_reads_is_dropped_and_counted() {
    let pair = pair();
    let (connection, server) = within(pair.connect(1)).await;
    let (near, far) = within(associate(&connection, &server)).await;
    within(async {
        while pair.far_port.counters().lost_datagrams == 0 {
            for _ in 0..50 {
                near.send(&target(), Bytes::from_static(&[1; 100])).unwrap();
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(within(far.recv()).await.unwrap().1, [1; 100][..]);
}

#[tokio::test]
async fn too_many_associations_are_refused_by_either_side() {
    let few = |key| Settings { stream_key: key, associations: 2, ..Settings::default() };
    for (near, far) in [(few(None), few(Some(SECRET))), (Settings::default(), few(Some(SECRET)))] {
        let pair = pair_with(near, far);
        let (connection, server) = within(pair.connect(1)).await;
        let _first = within(associate(&connection, &server)).await;
        let _second = within(associate(&connection, &server)).await;
        assert!(matches!(within(connection.associate()).await, Err(DialError::Limit)));
    }
}

#[tokio::test]
async fn readers_are_told_when_the_circuit_is_gone() {
    let pair = pair();
    let (connection, server) = within(pair.connect(1)).await;
    let (near, far) = within(associate(&connection, &server)).await;
    pair.near_port.circuit_dead(carrier(1));
    assert!(within(near.recv()).await.is_err());
    assert!(near.send(&target(), Bytes::new()).is_err());
    assert!(within(far.recv()).await.is_err());
    assert!(connection.is_closed());
}

use std::time::Duration;

use super::*;

fn loopback(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), 0)
}

/// Receives until `count` datagrams came, `max` a call.
async fn receive_all(socket: &Socket, count: usize, max: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut buffers = ReceiveBuffers::new();
    let mut got = Vec::new();
    let work = async {
        while got.len() < count {
            socket.readable().await.unwrap();
            while socket.receive(&mut buffers, max, |from, bytes| got.push((from, bytes.to_vec()))).unwrap()
                == max
            {}
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), work).await;
    assert!(waited.is_ok(), "{} of {count} datagrams came", got.len());
    got
}

async fn carries_a_batch(ip: &str) {
    let receiver = Socket::bind(loopback(ip), false).unwrap();
    let sender = Socket::bind(loopback(ip), false).unwrap();
    let mut outbox = Outbox::default();
    let sent: Vec<Vec<u8>> =
        (0..150u8).map(|index| vec![index; if index % 50 == 49 { 700 } else { 1350 }]).collect();
    for datagram in &sent {
        assert!(outbox.push(receiver.local_addr(), datagram));
    }
    while !outbox.is_empty() {
        sender.send(&mut outbox);
        sender.writable().await.unwrap();
    }
    let got = receive_all(&receiver, sent.len(), 7).await;
    assert!(got.iter().all(|(from, _)| *from == sender.local_addr()));
    assert_eq!(got.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(), sent);
    let (out, into) = (sender.counters(), receiver.counters());
    assert_eq!((out.sent, into.received), (150, 150));
    assert_eq!(out.sent_bytes, into.received_bytes);
    assert!(out.send_calls <= out.sent);
    if sender.state.max_gso_segments() > 1 {
        assert!(out.send_calls < 10, "{out:?}");
    }
}

#[tokio::test]
async fn a_batch_arrives_in_order_over_ipv4() {
    carries_a_batch("127.0.0.1").await;
}

#[tokio::test]
async fn a_batch_arrives_in_order_over_ipv6() {
    if Bound::bind(loopback("::1"), false).is_ok() {
        carries_a_batch("::1").await;
    }
}

#[tokio::test]
async fn a_wildcard_socket_speaks_ipv4_with_plain_addresses() {
    let Ok(both) = Socket::bind(loopback("::"), false) else { return };
    let four = Socket::bind(loopback("127.0.0.1"), false).unwrap();
    let mut outbox = Outbox::default();
    outbox.push(SocketAddr::new("127.0.0.1".parse().unwrap(), both.local_addr().port()), b"to");
    four.send(&mut outbox);
    let got = receive_all(&both, 1, 8).await;
    assert_eq!(got, [(four.local_addr(), b"to".to_vec())]);
    outbox.push(four.local_addr(), b"fro");
    assert_eq!(both.send(&mut outbox), 1);
    assert_eq!(receive_all(&four, 1, 8).await[0].1, b"fro");
}

#[tokio::test]
async fn an_oversized_datagram_is_counted_and_skipped() {
    let receiver = Socket::bind(loopback("127.0.0.1"), false).unwrap();
    let plain = UdpSocket::bind("127.0.0.1:0").unwrap();
    plain.send_to(&[1; MAX_DATAGRAM + 1], receiver.local_addr()).unwrap();
    plain.send_to(&[2; MAX_DATAGRAM], receiver.local_addr()).unwrap();
    let got = receive_all(&receiver, 1, 8).await;
    assert_eq!(got[0].1, vec![2; MAX_DATAGRAM]);
    assert_eq!(receiver.counters().oversized, 1);
}

#[tokio::test]
async fn a_destination_that_cannot_be_reached_is_counted_and_stops_nothing() {
    let sender = Socket::bind(loopback("127.0.0.1"), false).unwrap();
    let receiver = Socket::bind(loopback("127.0.0.1"), false).unwrap();
    let mut outbox = Outbox::default();
    outbox.push("[2001:db8::1]:9".parse().unwrap(), b"other family");
    for _ in 0..2 {
        outbox.push("192.0.2.1:9".parse().unwrap(), b"not from loopback");
        outbox.push("127.0.0.1:0".parse().unwrap(), b"no such port");
        outbox.push("0.0.0.0:9".parse().unwrap(), b"nobody");
    }
    let segments = sender.state.max_gso_segments();
    outbox.push(receiver.local_addr(), b"arrives");
    assert_eq!(sender.send(&mut outbox), 1);
    assert!(outbox.is_empty());
    assert_eq!(receive_all(&receiver, 1, 8).await[0].1, b"arrives");
    let counters = sender.counters();
    assert_eq!((counters.unreachable, counters.send_errors), (7, 0));
    assert_eq!(sender.state.max_gso_segments(), segments, "offload survives");
}

#[tokio::test]
async fn a_port_in_use_is_named_with_what_to_do() {
    let first = Bound::bind(loopback("127.0.0.1"), false).unwrap();
    for workers in [1, 4] {
        let error = bind_group(first.local_addr(), workers).unwrap_err();
        assert!(matches!(error, Error::InUse(_)));
        let text = error.to_string();
        assert!(
            text.contains(&first.local_addr().to_string()) && text.contains("choose another port"),
            "{text}"
        );
    }
    let group = bind_group(loopback("127.0.0.1"), 2).unwrap();
    let error = bind_group(group[0].local_addr(), 2).unwrap_err();
    assert!(matches!(error, Error::InUse(_)), "another node's group counts as in use");
}

#[tokio::test]
async fn a_foreign_address_cannot_be_bound() {
    let error = Bound::bind("192.0.2.1:0".parse().unwrap(), false).unwrap_err();
    assert!(matches!(error, Error::Bind { .. }));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_kernel_steers_by_the_link_id() {
    let group = bind_group(loopback("127.0.0.1"), 3).unwrap();
    let address = group[0].local_addr();
    assert!(group.iter().all(|bound| bound.local_addr() == address));
    let sockets: Vec<Socket> = group.into_iter().map(|bound| bound.start().unwrap()).collect();
    if steer::by_worker(&Bound::bind(address, true).unwrap().io).is_err() {
        return;
    }
    let sender = Socket::bind(loopback("127.0.0.1"), false).unwrap();
    let mut outbox = Outbox::default();
    for worker in 0..3u8 {
        outbox.push(address, &[5, worker, 0, 0, 1, 9, worker]);
        sender.send(&mut outbox);
    }
    for (worker, socket) in sockets.iter().enumerate() {
        let got = receive_all(socket, 1, 8).await;
        assert_eq!(got.len(), 1);
        assert_eq!(usize::from(got[0].1[6]), worker);
    }
}

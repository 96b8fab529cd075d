use std::time::Duration;

use super::*;

fn loopback(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), 0)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
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
    let mut sent: Vec<Vec<u8>> =
        (0..150u8).map(|index| vec![index; if index % 50 == 49 { 700 } else { 1350 }]).collect();
    // All of one worker: others would have runs of their own.
    sent.iter_mut().for_each(|datagram| datagram[1] = 1);
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
    outbox.push(address("[2001:db8::1]:9"), b"other family");
    for _ in 0..2 {
        outbox.push(address("192.0.2.1:9"), b"not from loopback");
        outbox.push(address("127.0.0.1:0"), b"no such port");
        outbox.push(address("0.0.0.0:9"), b"nobody");
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
        let error = bind_group(first.local_addr(), workers, true).unwrap_err();
        assert!(matches!(error, Error::InUse(_)));
        let text = error.to_string();
        assert!(
            text.contains(&first.local_addr().to_string()) && text.contains("choose another port"),
            "{text}"
        );
    }
    let group = bind_group(loopback("127.0.0.1"), 2, true).unwrap();
    let error = bind_group(group[0].local_addr(), 2, true).unwrap_err();
    assert!(matches!(error, Error::InUse(_)), "another node's group counts as in use");
}

#[tokio::test]
async fn a_foreign_address_cannot_be_bound() {
    let error = Bound::bind("192.0.2.1:0".parse().unwrap(), false).unwrap_err();
    assert!(matches!(error, Error::Bind { .. }));
}

/// A group of three, and somebody who sends to it.
#[cfg(target_os = "linux")]
fn steered(steering: bool) -> (Vec<Socket>, SocketAddr, Socket) {
    let group = bind_group(loopback("127.0.0.1"), 3, steering).unwrap();
    let address = group[0].local_addr();
    assert!(group.iter().all(|bound| bound.local_addr() == address));
    let sockets = group.into_iter().map(|bound| bound.start().unwrap()).collect();
    (sockets, address, Socket::bind(loopback("127.0.0.1"), false).unwrap())
}

/// A cell for that worker.
#[cfg(target_os = "linux")]
fn cell(worker: u8, content: u8) -> [u8; 7] {
    [5, worker, 0, 0, 1, 9, content]
}

/// What has come by now: index of the socket and content, by socket.
#[cfg(target_os = "linux")]
async fn arrived(sockets: &[Socket], count: usize) -> Vec<(usize, u8)> {
    let mut buffers: Vec<_> = sockets.iter().map(|_| ReceiveBuffers::new()).collect();
    let mut got = Vec::new();
    let work = async {
        while got.len() < count {
            for (index, (socket, buffers)) in sockets.iter().zip(&mut buffers).enumerate() {
                let take = |_: SocketAddr, bytes: &[u8]| got.push((index, *bytes.last().unwrap()));
                socket.receive(buffers, 64, take).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), work).await;
    assert!(waited.is_ok(), "{} of {count} datagrams came", got.len());
    got
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_kernel_steers_by_the_link_id() {
    let (sockets, address, sender) = steered(true);
    let mut outbox = Outbox::default();
    for (content, worker) in [2, 0, 1, 1, 2, 0].into_iter().enumerate() {
        outbox.push(address, &cell(worker, content as u8));
        sender.send(&mut outbox);
    }
    let mut got = arrived(&sockets, 6).await;
    got.sort_unstable();
    assert_eq!(got, [(0, 1), (0, 5), (1, 2), (1, 3), (2, 0), (2, 4)]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn an_id_that_no_socket_has_and_none_at_all_are_spread_by_address() {
    for worker in [0, 3, 255] {
        let (sockets, address, _) = steered(true);
        // Link id 0 is no id; 0 with other bytes behind it would name worker 0.
        let datagram = if worker == 0 { [1, 0, 0, 0, 0, 1, 7] } else { cell(worker, 7) };
        let senders: Vec<_> = (0..48).map(|_| Socket::bind(loopback("127.0.0.1"), false).unwrap()).collect();
        let mut outbox = Outbox::default();
        for sender in senders.iter().chain(&senders) {
            outbox.push(address, &datagram);
            sender.send(&mut outbox);
        }
        let got = arrived(&sockets, 2 * senders.len()).await;
        // That 48 addresses fall to one of three sockets would happen once in 3^47.
        assert!(got.iter().any(|(socket, _)| *socket != got[0].0), "worker {worker}: {got:?}");
        let of = |index| got.iter().filter(|(socket, _)| *socket == index).count();
        assert!((0..3).all(|index| of(index) % 2 == 0), "one sender, one socket");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn without_steering_one_sender_has_one_socket() {
    let (sockets, address, sender) = steered(false);
    let mut outbox = Outbox::default();
    for worker in 0..3 {
        outbox.push(address, &cell(worker, worker));
        sender.send(&mut outbox);
    }
    let got = arrived(&sockets, 3).await;
    assert!(got.iter().all(|(socket, _)| *socket == got[0].0), "{got:?}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_mixed_segmented_send_is_steered_whole_and_taken_apart() {
    let (sockets, address, sender) = steered(true);
    if sender.state.max_gso_segments() < 4 {
        return;
    }
    let contents: Vec<u8> = [1, 0, 2, 1].iter().flat_map(|worker| cell(*worker, *worker)).collect();
    let transmit = Transmit {
        destination: address,
        ecn: None,
        contents: &contents,
        segment_size: Some(7),
        src_ip: None,
    };
    sender.transmit(&transmit).unwrap();
    assert_eq!(arrived(&sockets, 4).await, [(1, 1), (1, 0), (1, 2), (1, 1)]);
}

use std::net::UdpSocket;

use super::*;
use crate::way::Conditions;

/// Sockets as nodes have them.
fn nodes(lab: &Lab) -> Vec<UdpSocket> {
    let bind = |place: &Place| {
        let socket = UdpSocket::bind(place.listen).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    };
    lab.places().iter().map(bind).collect()
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2000];
    let (length, source) = socket.recv_from(&mut buffer).unwrap();
    (buffer[..length].to_vec(), source)
}

#[test]
fn an_answer_to_where_a_datagram_came_from_finds_its_sender() {
    let lab = Lab::start(3, 1).unwrap();
    let sockets = nodes(&lab);
    let places = lab.places();
    for (sender, receiver) in [(0, 1), (1, 0), (2, 1)] {
        sockets[sender].send_to(b"question", places[receiver].reached_at).unwrap();
        let (question, from) = receive(&sockets[receiver]);
        assert_eq!(question, b"question");
        assert_eq!(from.ip(), places[sender].reached_at.ip());
        sockets[receiver].send_to(b"answer", from).unwrap();
        assert_eq!(receive(&sockets[sender]), (b"answer".to_vec(), places[receiver].reached_at));
    }
    assert_eq!(lab.counters().unwrap(), Counters { delivered: 6, ..Counters::default() });
}

#[test]
fn bursts_arrive_whole_in_order_and_not_before_their_time() {
    let lab = Lab::start(2, 1).unwrap();
    let sockets = nodes(&lab);
    let way = Conditions { delay: Duration::from_millis(30), ..Conditions::default() };
    lab.set(Node(0), Line { up: way, down: way }).unwrap();
    // An order is obeyed before the next is answered.
    lab.counters().unwrap();
    let clock = Clock::start();
    // No more than a socket's buffer holds.
    for number in 0..60_u32 {
        let datagram = [&number.to_be_bytes()[..], &[7; 1000]].concat();
        sockets[0].send_to(&datagram, lab.places()[1].reached_at).unwrap();
    }
    for number in 0..60_u32 {
        let (datagram, _) = receive(&sockets[1]);
        assert_eq!(datagram[..4], number.to_be_bytes());
        // Never early, but for what leaves with a neighbour.
        assert!(clock.now().since(Timestamp::default()) + TICK >= Duration::from_millis(30));
    }
}

#[test]
fn losses_follow_the_lines_of_both_ends() {
    let lab = Lab::start(2, 1).unwrap();
    let sockets = nodes(&lab);
    let lossy = Conditions { loss: 1.0, ..Conditions::default() };
    lab.set(Node(1), Line { up: lossy, ..Line::default() }).unwrap();
    lab.counters().unwrap();
    sockets[0].send_to(b"1", lab.places()[1].reached_at).unwrap();
    let (_, from) = receive(&sockets[1]);
    sockets[1].send_to(b"2", from).unwrap();
    let lost = (0..10_000).any(|_| {
        std::thread::sleep(Duration::from_millis(1));
        lab.counters().unwrap().lost > 0
    });
    assert!(lost);
    assert_eq!(lab.counters().unwrap(), Counters { delivered: 1, lost: 1, ..Counters::default() });
}

#[test]
fn strangers_are_carried_too_and_only_the_node_may_answer_for_itself() {
    let lab = Lab::start(1, 1).unwrap();
    let node = &nodes(&lab)[0];
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stranger.send_to(b"1", lab.places()[0].reached_at).unwrap();
    let (_, from) = receive(node);
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"forged", from).unwrap();
    node.send_to(b"2", from).unwrap();
    assert_eq!(receive(&stranger), (b"2".to_vec(), lab.places()[0].reached_at));
}

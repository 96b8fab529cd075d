use super::*;

fn worker_of(datagram: &[u8], source: SocketAddr, workers: u8) -> Option<u8> {
    super::worker_of(datagram, source, workers, &(0..workers))
}

fn source(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn datagram(kind: u8, receiver: LinkId, sender: u32) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&receiver.0.to_be_bytes());
    bytes.extend_from_slice(&[1, 1]);
    bytes.extend_from_slice(&sender.to_be_bytes());
    bytes.resize(1350, 0);
    bytes
}

#[test]
fn the_link_id_names_the_worker() {
    let from = source("192.0.2.1:4000");
    for kind in [2, 3, 4, 5, 0x85] {
        for worker in 0..8 {
            let bytes = datagram(kind, LinkId::new(worker, 0x00ab_cdef), 0);
            assert_eq!(worker_of(&bytes, from, 8), Some(worker));
            assert_eq!(worker_of(&bytes[..5], from, 8), Some(worker));
        }
    }
}

#[test]
fn a_worker_that_does_not_exist_gets_nothing() {
    let bytes = datagram(5, LinkId::new(3, 7), 0);
    assert_eq!(worker_of(&bytes, source("192.0.2.1:4000"), 3), None);
    assert_eq!(worker_of(&bytes, source("192.0.2.1:4000"), 0), None);
}

#[test]
fn what_names_nobody_is_dropped() {
    let from = source("[2001:db8::1]:4000");
    assert_eq!(worker_of(&[], from, 4), None);
    assert_eq!(worker_of(&[5, 1, 0, 0], from, 4), None);
    assert_eq!(worker_of(&datagram(0, LinkId::new(1, 1), 0), from, 4), None);
    assert_eq!(worker_of(&datagram(6, LinkId::new(1, 1), 0), from, 4), None);
    assert_eq!(worker_of(&datagram(5, LinkId::NONE, 9), from, 4), None);
    assert_eq!(worker_of(&datagram(1, LinkId::new(1, 1), 9), from, 4), None);
    assert_eq!(worker_of(&datagram(1, LinkId::NONE, 9)[..10], from, 4), None);
    assert_eq!(worker_of(&datagram(1, LinkId::NONE, 9), from, 0), None);
}

#[test]
fn all_parts_of_a_handshake_meet_one_worker() {
    let from = source("192.0.2.1:4000");
    let mut bytes = datagram(1, LinkId::NONE, 0x0102_0304);
    let worker = worker_of(&bytes, from, 8).unwrap();
    for rest in &mut bytes[11..] {
        *rest = 0xff;
    }
    assert_eq!(worker_of(&bytes, from, 8), Some(worker));
    let mapped = source("[::ffff:192.0.2.1]:4000");
    assert_eq!(worker_of(&bytes, mapped, 8), Some(worker));
}

#[test]
fn handshakes_spread_over_workers_by_sender_and_by_source() {
    let mut by_sender = [0u32; 4];
    let mut by_port = [0u32; 4];
    for index in 0..4000u32 {
        let bytes = datagram(1, LinkId::NONE, index);
        by_sender[usize::from(worker_of(&bytes, source("192.0.2.1:4000"), 4).unwrap())] += 1;
        let from = SocketAddr::new("192.0.2.1".parse().unwrap(), index as u16);
        let bytes = datagram(1, LinkId::NONE, 7);
        by_port[usize::from(worker_of(&bytes, from, 4).unwrap())] += 1;
    }
    for count in by_sender.into_iter().chain(by_port) {
        assert!((800..1200).contains(&count), "{by_sender:?} {by_port:?}");
    }
}

#[test]
fn the_hash_is_stable() {
    let bytes = datagram(1, LinkId::NONE, 0x0102_0304);
    let worker = |text, workers| worker_of(&bytes, source(text), workers).unwrap();
    let seen = [worker("192.0.2.1:4000", 255), worker("[2001:db8::1]:4000", 255)];
    assert_eq!(seen, [5, 182]);
}

#[test]
fn handshakes_go_to_open_workers_only_and_links_to_their_own() {
    for index in 0..200u16 {
        let from = SocketAddr::new("192.0.2.1".parse().unwrap(), 1000 + index);
        let bytes = datagram(1, LinkId::NONE, 7);
        let worker = super::worker_of(&bytes, from, 6, &(2..4));
        assert!(worker.is_some_and(|worker| (2..4).contains(&worker)), "{worker:?}");
        assert_eq!(super::worker_of(&bytes, from, 6, &(3..3)), None);
        assert_eq!(super::worker_of(&bytes, from, 2, &(2..4)), None, "no such worker");
        let bytes = datagram(5, LinkId::new(5, 1), 0);
        assert_eq!(super::worker_of(&bytes, from, 6, &(2..4)), Some(5));
    }
}

use proptest::prelude::*;
use warren_schemas::cell::{MAX_DATAGRAM, MAX_INNER};
use warren_schemas::{LinkId, PeerId};

use super::*;
use crate::fragments::FRAGMENT_LEN;

fn reason() -> impl Strategy<Value = CloseReason> {
    (0u8..=12).prop_map(CloseReason)
}

fn parts() -> impl Strategy<Value = (u8, u8, Vec<u8>)> {
    (1u8..=4).prop_flat_map(|total| {
        (0..total, Just(total), prop::collection::vec(any::<u8>(), 0..=FRAGMENT_LEN)).prop_map(
            |(index, total, mut bytes)| {
                if index + 1 < total {
                    bytes.resize(FRAGMENT_LEN, 7);
                }
                (index, total, bytes)
            },
        )
    })
}

proptest! {
    #[test]
    fn link_messages_read_what_they_write(kind in 0u8..10, part in parts(), reason in reason(), token: [u8; 8]) {
        let part = Fragment { index: part.0, total: part.1, bytes: &part.2 };
        let message = match kind {
            0 => LinkMessage::Padding,
            1 => LinkMessage::Create(part),
            2 => LinkMessage::Created(part),
            3 => LinkMessage::CreateFailed(reason),
            4 => LinkMessage::Destroy(reason),
            5 => LinkMessage::PathChallenge(token),
            6 => LinkMessage::PathResponse(token),
            7 => LinkMessage::Ping(token),
            8 => LinkMessage::Pong(token),
            _ => LinkMessage::Close(reason),
        };
        let mut buf = [0xaa; MAX_DATAGRAM];
        let length = message.encode(&mut buf).unwrap();
        prop_assert!(length > MIN_CONTENT);
        prop_assert_eq!(LinkMessage::decode(&buf[..length]), Ok(message));
        prop_assert_eq!(LinkMessage::decode(&buf[..length + 20]), Ok(message), "padding is ignored");
        prop_assert_eq!(message.encode(&mut buf[..length - 1]), None);
    }

    #[test]
    fn hop_messages_read_what_they_write(kind in 0u8..6, part in parts(), reason in reason(), token: [u8; 8], exchange: u32) {
        let data = part.2.clone();
        prop_assume!(kind != 0 || !data.is_empty());
        let part = Fragment { index: part.0, total: part.1, bytes: &part.2 };
        let message = match kind {
            0 => HopMessage::Data(&data),
            1 => HopMessage::Extend { exchange, part },
            2 => HopMessage::Extended { exchange, part },
            3 => HopMessage::ExtendFailed { exchange, reason },
            4 => HopMessage::Ping(token),
            _ => HopMessage::Pong(token),
        };
        let mut buf = [0; MAX_DATAGRAM];
        let length = message.encode(&mut buf).unwrap();
        prop_assert_eq!(HopMessage::decode(message.command(), &buf[..length]), Ok(message));
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..1400), command: u8) {
        let _ = (LinkMessage::decode(&bytes), HopMessage::decode(command, &bytes), Extend::decode(&bytes));
        let _ = (Link::decode(&bytes), Linked::decode(&bytes), CookieMessage::decode(&bytes));
    }
}

#[test]
fn unknown_and_cut_messages_are_refused() {
    assert_eq!(LinkMessage::decode(&[]), Err(DropReason::Malformed));
    assert_eq!(LinkMessage::decode(&[10, 0, 0]), Err(DropReason::UnknownCommand));
    assert_eq!(LinkMessage::decode(&[7, 1, 2, 3]), Err(DropReason::Malformed));
    assert_eq!(LinkMessage::decode(&[4, 200]), Ok(LinkMessage::Destroy(CloseReason::Unspecified)));
    for command in [0, 7, 31, 100, 254] {
        assert_eq!(HopMessage::decode(command, &[0; 20]), Err(DropReason::UnknownCommand));
    }
    assert_eq!(HopMessage::decode(command::DATA, &[]), Err(DropReason::Malformed));
    assert_eq!(HopMessage::decode(command::DATA, &[0; MAX_INNER + 1]), Err(DropReason::TooLong));
    assert_eq!(HopMessage::decode(command::PING, &[0; 7]), Err(DropReason::Malformed));
    assert!(HopMessage::Data(&[0; MAX_INNER + 1]).encode(&mut [0; MAX_DATAGRAM]).is_none());
}

#[test]
fn extend_holds_a_descriptor_and_a_create() {
    let extend = Extend { descriptor: &[1; 640], create: &[2; 38] };
    let bytes = extend.encode().unwrap();
    assert_eq!(Extend::decode(&bytes), Ok(extend));
    assert!(Extend { descriptor: &[1; 641], create: &[] }.encode().is_none());
    assert_eq!(Extend::decode(&[0x02, 0x81]), Err(DropReason::Descriptor));
    assert_eq!(Extend::decode(&[0, 5, 1, 2]), Err(DropReason::Malformed));
    let mut buf = [0; MAX_DATAGRAM];
    let part = Fragment { index: 0, total: 1, bytes: &bytes };
    assert!(
        HopMessage::Extend { exchange: 1, part }.encode(&mut buf).is_some(),
        "suite 1 fits into one cell"
    );
}

fn link() -> Link<'static> {
    Link {
        suite: 1,
        initiator: LinkId(0x0100_0002),
        peer_id: PeerId([3; 32]),
        epoch: 4,
        x: [5; 32],
        cookie: [6; 32],
        part: Fragment::EMPTY,
    }
}

#[test]
fn opening_datagrams_read_what_they_write() {
    let mut buf = [0xee; 1500];
    assert_eq!(link().encode(&mut buf), Some(MAX_DATAGRAM));
    assert_eq!(Link::decode(&buf[..MAX_DATAGRAM]), Ok(link()));
    assert_eq!(warren_schemas::cell::link_of(&buf), Some(LinkId::NONE));
    assert_eq!(Link::decode(&buf), Err(DropReason::Malformed));
    assert_eq!(Link::decode(&buf[..MAX_DATAGRAM - 1]), Err(DropReason::Malformed));
    assert_eq!(Linked::decode(&buf[..MAX_DATAGRAM]), Err(DropReason::Malformed));
    let linked = Linked {
        initiator: LinkId(7),
        suite: 1,
        responder: LinkId(8),
        y: [1; 32],
        auth: [2; 32],
        part: Fragment { index: 1, total: 2, bytes: &[9; 64] },
    };
    assert_eq!(linked.encode(&mut buf), Some(MAX_DATAGRAM));
    assert_eq!(Linked::decode(&buf[..MAX_DATAGRAM]), Ok(linked));
    let cookie = CookieMessage { initiator: LinkId(7), echo: [1; 8], cookie: [2; 32] };
    assert_eq!(cookie.encode(&mut buf), Some(COOKIE_MESSAGE_LEN));
    assert_eq!(CookieMessage::decode(&buf[..COOKIE_MESSAGE_LEN]), Ok(cookie));
    assert_eq!(CookieMessage::decode(&buf[..COOKIE_MESSAGE_LEN + 1]), Err(DropReason::Malformed));
}

#[test]
fn opening_datagrams_that_cannot_be_are_refused() {
    let with = |at: usize, byte: u8| {
        let mut buf = [0; MAX_DATAGRAM];
        link().encode(&mut buf).unwrap();
        buf[at] = byte;
        Link::decode(&buf).map(|_| ())
    };
    assert_eq!(with(0, 2), Err(DropReason::Malformed));
    assert_eq!(with(0, 0x81), Err(DropReason::Malformed), "no key phase yet");
    assert_eq!(with(4, 1), Err(DropReason::Malformed), "no receiver's id yet");
    assert_eq!(with(5, 2), Err(DropReason::Version));
    assert_eq!(with(112, 0), Err(DropReason::Fragment));
    let nobody = Link { initiator: LinkId::NONE, ..link() };
    let mut buf = [0; MAX_DATAGRAM];
    nobody.encode(&mut buf).unwrap();
    assert_eq!(Link::decode(&buf), Err(DropReason::Malformed));
}

#[test]
fn a_link_is_the_same_when_only_its_cookie_is_another() {
    let one = link();
    let part = |total, bytes| Fragment { total, bytes, ..one.part };
    assert_eq!(Link { cookie: [8; 32], ..one }.fingerprint(), one.fingerprint());
    let others = [
        Link { suite: one.suite ^ 1, ..one },
        Link { initiator: LinkId(one.initiator.0 ^ 1), ..one },
        Link { peer_id: PeerId([0xee; 32]), ..one },
        Link { epoch: one.epoch ^ 1, ..one },
        Link { x: [0xee; 32], ..one },
        Link { part: part(2, one.part.bytes), ..one },
        Link { part: part(1, b"another"), ..one },
    ];
    for other in others {
        assert_ne!(other.fingerprint(), one.fingerprint(), "{other:?}");
    }
}

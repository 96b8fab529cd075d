//! Messages, handshakes and their parts: what is read is written the same.

use std::fmt::Debug;

use warren_schemas::cell::{Header, MAX_DATAGRAM};
use warren_tunnel::drop_reason::DropReason;
use warren_tunnel::fragments::{Assembler, Fragment, MAX_HANDSHAKE};
use warren_tunnel::message::{CookieMessage, Extend, HopMessage, Link, LinkMessage, Linked, Reader};
use warren_tunnel::ntor::circuit::Create;

use crate::input::Input;

/// Reads, writes, reads again.
fn same<'a, T: PartialEq + Debug>(
    bytes: &'a [u8],
    room: &'a mut [u8],
    decode: fn(&'a [u8]) -> Result<T, DropReason>,
    encode: fn(&T, &mut [u8]) -> Option<usize>,
) {
    let Ok(read) = decode(bytes) else { return };
    let length = encode(&read, room).unwrap_or_else(|| panic!("{read:?} cannot be written"));
    assert_eq!(decode(&room[..length]), Ok(read));
}

fn hop<const COMMAND: u8>(bytes: &[u8]) -> Result<HopMessage<'_>, DropReason> {
    HopMessage::decode(COMMAND, bytes)
}

pub(crate) fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let (which, mut room) = (input.byte(), [0; 2 * MAX_DATAGRAM]);
    let bytes = input.rest();
    let bytes = bytes.get(..MAX_DATAGRAM).unwrap_or(bytes);
    match which % 14 {
        0 => same(bytes, &mut room, LinkMessage::decode, LinkMessage::encode),
        1 => same(bytes, &mut room, Link::decode, Link::encode),
        2 => same(bytes, &mut room, Linked::decode, Linked::encode),
        3 => same(bytes, &mut room, CookieMessage::decode, CookieMessage::encode),
        4 => same(bytes, &mut room, hop::<1>, HopMessage::encode),
        5 => same(bytes, &mut room, hop::<2>, HopMessage::encode),
        6 => same(bytes, &mut room, hop::<3>, HopMessage::encode),
        7 => same(bytes, &mut room, hop::<4>, HopMessage::encode),
        8 => same(bytes, &mut room, hop::<5>, HopMessage::encode),
        9 => same(bytes, &mut room, hop::<6>, HopMessage::encode),
        10 => header(bytes),
        11 => extend(bytes),
        12 => create(bytes),
        _ => parts(bytes),
    }
}

fn header(bytes: &[u8]) {
    if let Some(header) = Header::read(bytes) {
        assert_eq!(bytes.get(..header.to_bytes().len()), Some(&header.to_bytes()[..]));
    }
}

fn extend(bytes: &[u8]) {
    if let Ok(extend) = Extend::decode(bytes) {
        let written = extend.encode().unwrap();
        assert_eq!(Extend::decode(&written), Ok(extend));
    }
}

fn create(bytes: &[u8]) {
    if let Ok(create) = Create::decode(bytes) {
        assert_eq!(create.share.len(), create.suite.share_len());
        assert!(create.share.starts_with(create.name()));
    }
}

fn parts(bytes: &[u8]) {
    let (mut assembler, mut reader) = (Assembler::new(), Reader::new(bytes));
    while let Ok(part) = Fragment::decode(&mut reader) {
        if let Ok(Some(whole)) = assembler.push(&part) {
            assert!(whole.len() <= MAX_HANDSHAKE);
        }
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = (0..14).map(|which| [&[which][..], &[0; 120]].concat()).collect();
    let mut room = [0; MAX_DATAGRAM];
    for message in
        [LinkMessage::Ping([1; 8]), LinkMessage::Create(Fragment { index: 0, total: 1, bytes: &[2; 38] })]
    {
        let length = message.encode(&mut room).unwrap();
        seeds.push([&[0][..], &room[..length]].concat());
    }
    seeds.push([&[12, 1, 1, 0, 0, 0, 7][..], &[9; 32]].concat());
    seeds.push([&[11, 0, 4, 1, 2, 3, 4, 1, 1, 0, 0, 0, 7][..], &[9; 32]].concat());
    seeds
}

//! The datagrams of associations inside QUIC datagrams: framing, and joining of halves.

use std::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use warren_schemas::stream::{MAX_LEN, Target};

/// The most bytes of one payload: an Ethernet frame's.
pub(crate) const MAX_PAYLOAD: usize = 1500;
const WHOLE_HEADER: usize = 5;
const HALF_HEADER: usize = 7;
/// Halves of one association that wait for their other half.
const WAITING_HALVES: usize = 16;

/// A QUIC datagram of an association.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Frame {
    pub(crate) association: u32,
    pub(crate) part: Part,
}

#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Whole(Bytes),
    Half { sequence: u16, second: bool, bytes: Bytes },
}

impl Frame {
    /// None when the bytes are not one.
    pub(crate) fn read(mut bytes: Bytes) -> Option<Self> {
        let association = bytes.try_get_u32().ok()?;
        let part = match bytes.try_get_u8().ok()? {
            0 => Part::Whole(bytes),
            part @ (1 | 2) => {
                let sequence = bytes.try_get_u16().ok()?;
                Part::Half { sequence, second: part == 2, bytes }
            }
            _ => return None,
        };
        Some(Self { association, part })
    }

    fn write(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(HALF_HEADER + MAX_PAYLOAD);
        out.put_u32(self.association);
        match &self.part {
            Part::Whole(bytes) => {
                out.put_u8(0);
                out.put_slice(bytes);
            }
            Part::Half { sequence, second, bytes } => {
                out.put_u8(if *second { 2 } else { 1 });
                out.put_u16(*sequence);
                out.put_slice(bytes);
            }
        }
        out.freeze()
    }
}

/// The QUIC datagrams that carry `payload`: one, or two when it does not fit into `max` bytes.
/// None when the payload is too long, or does not fit into two.
pub(crate) fn frames(
    association: u32,
    sequence: u16,
    target: &Target,
    payload: &[u8],
    max: usize,
) -> Option<(Bytes, Option<Bytes>)> {
    let target = target.encode();
    let length = u16::try_from(target.len()).ok().filter(|_| target.len() <= MAX_LEN)?;
    if payload.len() > MAX_PAYLOAD {
        return None;
    }
    let mut body = BytesMut::with_capacity(2 + target.len() + payload.len());
    body.put_u16(length);
    body.put_slice(&target);
    body.put_slice(payload);
    let mut body = body.freeze();
    let frame = |part| Frame { association, part }.write();
    if WHOLE_HEADER + body.len() <= max {
        return Some((frame(Part::Whole(body)), None));
    }
    let first = body.split_to(body.len().div_ceil(2));
    if HALF_HEADER + first.len() > max {
        return None;
    }
    let half = |second, bytes| frame(Part::Half { sequence, second, bytes });
    Some((half(false, first), Some(half(true, body))))
}

/// Target and payload of a body; none when it is malformed.
pub(crate) fn read_body(mut body: Bytes) -> Option<(Target, Bytes)> {
    let length = usize::from(body.try_get_u16().ok()?);
    if length > MAX_LEN || length > body.len() {
        return None;
    }
    let target = Target::decode(&body.split_to(length)).ok()?;
    (body.len() <= MAX_PAYLOAD).then_some((target, body))
}

/// Halves that wait for their other half. When there are too many, the oldest is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Halves(VecDeque<(u16, bool, Bytes)>);

impl Halves {
    /// The body, when `part` is or completes one.
    pub(crate) fn join(&mut self, part: Part) -> Option<Bytes> {
        let (sequence, second, bytes) = match part {
            Part::Whole(body) => return Some(body),
            Part::Half { sequence, second, bytes } => (sequence, second, bytes),
        };
        let other = self.0.iter().position(|(known, half, _)| *known == sequence && *half != second);
        if let Some((_, _, other)) = other.and_then(|index| self.0.remove(index)) {
            let (first, last) = if second { (other, bytes) } else { (bytes, other) };
            return Some([first, last].concat().into());
        }
        if self.0.len() >= WAITING_HALVES {
            self.0.pop_front();
        }
        // A copy: it would keep what came with it.
        self.0.push_back((sequence, second, Bytes::copy_from_slice(&bytes)));
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use warren_schemas::stream::Host;

    use super::*;

    const MAX: usize = 1198;

    fn targets() -> [Target; 3] {
        let name = Target { host: Host::Name("n".repeat(255)), port: 53 };
        let four: SocketAddr = "192.0.2.1:53".parse().unwrap();
        let six: SocketAddr = "[2001:db8::1]:53".parse().unwrap();
        [name, four.into(), six.into()]
    }

    #[test]
    fn every_length_up_to_1500_arrives_in_one_or_two() {
        for target in targets() {
            for length in [0, 1, 800, 1100, 1150, 1199, 1400, 1499, 1500] {
                let payload: Vec<u8> = (0..length).map(|index| index as u8).collect();
                let (first, second) = frames(7, 9, &target, &payload, MAX).unwrap();
                assert!(first.len() <= MAX && second.as_ref().is_none_or(|half| half.len() <= MAX));
                let mut halves = Halves::default();
                let mut joined = None;
                for bytes in second.into_iter().chain([first]) {
                    let frame = Frame::read(bytes).unwrap();
                    assert_eq!(frame.association, 7);
                    assert_eq!(joined, None);
                    joined = halves.join(frame.part);
                }
                assert_eq!(read_body(joined.unwrap()), Some((target.clone(), payload.into())));
            }
            assert_eq!(frames(7, 9, &target, &[0; MAX_PAYLOAD + 1], MAX), None);
        }
    }

    #[test]
    fn halves_of_different_datagrams_do_not_join_and_are_bounded() {
        let mut halves = Halves::default();
        let half = |sequence, second| Part::Half { sequence, second, bytes: Bytes::from_static(b"x") };
        for sequence in 0..100 {
            assert_eq!(halves.join(half(sequence, false)), None);
        }
        assert_eq!(halves.0.len(), WAITING_HALVES);
        assert_eq!(halves.join(half(0, true)), None, "the oldest was forgotten");
        assert_eq!(halves.join(half(99, true)), Some(Bytes::from_static(b"xx")));
        assert_eq!(halves.join(half(99, true)), None);
    }

    #[test]
    fn garbage_is_refused() {
        for length in 0..5 {
            assert_eq!(Frame::read(Bytes::from(vec![0; length])), None);
        }
        assert_eq!(Frame::read(Bytes::from_static(&[0, 0, 0, 1, 3, 0, 0])), None);
        assert_eq!(Frame::read(Bytes::from_static(&[0, 0, 0, 1, 1, 0])), None);
        let (whole, _) = frames(1, 1, &targets()[1], b"payload", MAX).unwrap();
        let Some(Frame { part: Part::Whole(body), .. }) = Frame::read(whole) else { panic!() };
        for length in 0..body.len() - b"payload".len() {
            assert_eq!(read_body(body.slice(..length)), None);
        }
        let mut long = body.to_vec();
        long.resize(body.len() + MAX_PAYLOAD, 0);
        assert_eq!(read_body(long.into()), None);
    }
}

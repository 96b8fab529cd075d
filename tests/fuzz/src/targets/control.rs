//! What host and worker say to each other, and what opens a stream: read, written the same, and acted on.

use std::fmt::Debug;

use warren_schemas::control::{CloseReason, Event, Request, SYNC_NEVER, Sync, Told, TunnelConfig};
use warren_schemas::stream::{StreamReply, StreamRequest, Target};
use warren_schemas::{CircuitHandle, RequestId};

use crate::input::Input;
use crate::world::{ORIGINATOR, RELAY, World, with_world};

fn same<T: PartialEq + Debug, E: Debug>(
    read: Result<T, E>,
    encode: impl Fn(&T) -> Vec<u8>,
    decode: impl Fn(&[u8]) -> Result<T, E>,
) -> Option<T> {
    let read = read.ok()?;
    assert_eq!(decode(&encode(&read)).as_ref().ok(), Some(&read));
    Some(read)
}

pub(crate) fn run(input: &[u8]) {
    with_world(|world| feed(world, Input::new(input)));
}

fn feed(world: &mut World, mut input: Input<'_>) {
    let which = input.byte();
    let bytes = input.rest();
    match which % 6 {
        0 => request(world, bytes),
        1 => event(bytes),
        2 => config(world, bytes),
        3 => drop(same(StreamRequest::decode(bytes), StreamRequest::encode, StreamRequest::decode)),
        4 => drop(same(StreamReply::decode(bytes), StreamReply::encode, StreamReply::decode)),
        _ => drop(same(Target::decode(bytes), Target::encode, Target::decode)),
    }
}

fn request(world: &mut World, bytes: &[u8]) {
    same(Request::decode(bytes), |(id, request)| request.encode(*id), Request::decode);
    for node in [ORIGINATOR, RELAY] {
        let mut machine = world.machine(node);
        machine.control(bytes);
        machine.outlive();
    }
}

/// Frames change a view that has seen others, and twice the same is once.
fn event(bytes: &[u8]) {
    let read = same(Event::decode(bytes), |(id, event)| event.encode(*id), Event::decode);
    if let Some((_, Event::Sync(frame))) = read {
        let mut view = Told::default();
        if view.apply(&frame).is_err() {
            return;
        }
        let once = view.sync();
        assert_eq!(view.apply(&frame), Ok(()));
        assert_eq!(view.sync(), once);
        let mut copy = Told::default();
        assert_eq!(copy.apply(&once.whole()), Ok(()));
        assert_eq!(copy.sync(), once, "what is told whole is taken whole");
    }
}

fn config(world: &mut World, bytes: &[u8]) {
    if let Some(config) = same(TunnelConfig::decode(bytes), TunnelConfig::encode, TunnelConfig::decode) {
        let mut machine = world.machine(RELAY);
        machine.configure(config);
        machine.outlive();
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let requests = [
        Request::Monitor,
        Request::Circuit { handle: CircuitHandle(1), reason: CloseReason::Finished },
        with_world(|world| Request::Create { hops: world.descriptors(), suites: vec![1, 1] }),
    ];
    let mut seeds: Vec<Vec<u8>> =
        requests.iter().map(|request| [&[0][..], &request.encode(RequestId(5))].concat()).collect();
    let frame = Sync { links: 3, active: 1, drops: vec![(1, 2)], ..Sync::default() }.whole();
    let events = [Event::Sync(frame), Event::CircuitReady { handle: CircuitHandle(2), hops: 3 }];
    seeds.extend(events.iter().map(|event| [&[1][..], &event.encode(RequestId(0))].concat()));
    let config = with_world(|world| TunnelConfig { sync_period: SYNC_NEVER, ..world.config(RELAY).clone() });
    seeds.push([&[2][..], &config.encode()].concat());
    let target = Target::from(std::net::SocketAddr::from(([192, 0, 2, 1], 80)));
    seeds.push([&[3][..], &StreamRequest::Connect(target.clone()).encode()].concat());
    seeds.push([&[5][..], &target.encode()].concat());
    seeds
}

//! X25519, and the three steps of a circuit's handshake.

use std::hint::black_box;

use warren_schemas::PeerId;
use warren_tunnel::crypto::{Secret, public_key, x25519};
use warren_tunnel::ntor::circuit::{Create, Creating};
use warren_tunnel::ntor::{Initiator, Purpose, Suite, Target};
use zeroize::Zeroizing;

use crate::Hot;

const EPOCH: u32 = 7;
const ONION: [u8; 32] = [0x42; 32];

fn onion() -> Secret {
    Zeroizing::new(ONION)
}

/// The relay's side of its onion key, as the host would answer.
pub(crate) fn dh(epoch: u32, point: &[u8; 32]) -> Option<[u8; 32]> {
    (epoch == EPOCH).then(|| x25519(&onion(), point)).flatten().map(|shared| *shared)
}

pub(crate) fn target() -> Target {
    Target { peer_id: PeerId([1; 32]), epoch: EPOCH, onion_key: public_key(&onion()) }
}

pub(crate) fn initiator(purpose: Purpose) -> Initiator {
    Initiator::new(Suite::X25519, purpose, target(), [3; 32])
}

fn creating() -> Creating {
    Creating::new(Suite::X25519, target(), [3; 32])
}

fn answered(create: &[u8]) -> Vec<u8> {
    let create = Create::decode(create).unwrap();
    create.answer(&target(), [5; 32], &[], &mut dh).unwrap().0
}

pub(crate) fn hot() -> Vec<Hot<'static>> {
    let point = public_key(&Zeroizing::new([9; 32]));
    let create = creating().create();
    let (waiting, created) = (creating(), answered(&create));
    vec![
        ("X25519", Box::new(move |_| drop(black_box(x25519(&onion(), &point))))),
        ("handshake: create", Box::new(|_| drop(black_box(creating().create())))),
        ("handshake: answer", Box::new(move |_| drop(black_box(answered(&create))))),
        ("handshake: finish", Box::new(move |_| drop(black_box(waiting.finish(&created).unwrap())))),
    ]
}

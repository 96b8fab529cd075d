//! A full cell: the cipher alone, the layer, the link's header, and what a relay does with them.

use warren_schemas::batch::{HEADROOM, STRIDE};
use warren_schemas::cell::{HEADER_LEN, LAYER_LEN, MAX_DATAGRAM};
use warren_schemas::{CircuitId, LinkId};
use warren_tunnel::crypto::AeadKey;
use warren_tunnel::layer::{Opener, Sealer};
use warren_tunnel::link_keys::{LinkKeys, LinkOpener, LinkSealer};
use warren_tunnel::ntor::{Purpose, Suite, Target, respond};

use crate::Hot;
use crate::handshakes::{dh, initiator, target};

/// What the outermost layer of the longest cell seals.
const CONTENT: usize = MAX_DATAGRAM - HEADER_LEN - LAYER_LEN + 1;
const KEY: [u8; 32] = [7; 32];
const ASSOCIATED: &[u8; 4] = b"cell";
const CIRCUIT: CircuitId = CircuitId(5);

/// Both ends of a link: the initiator's sealer and the responder's opener.
fn link() -> (LinkSealer, LinkOpener) {
    let initiator = initiator(Purpose::Link);
    let target: Target = target();
    let answer =
        respond((Suite::X25519, Purpose::Link), &target, [4; 32], initiator.share(), &[], &mut dh).unwrap();
    let seed = initiator.finish(&answer.share, &answer.auth, &[]).unwrap();
    let (ours, theirs) = (LinkId(1 << 24 | 1), LinkId(2 << 24 | 2));
    let (sealer, _) = LinkKeys::derive(&seed, Suite::X25519).initiator(ours, theirs);
    let (_, opener) = LinkKeys::derive(&answer.seed, Suite::X25519).responder(theirs, ours);
    (sealer, opener)
}

fn hop() -> (Sealer, Opener) {
    let direction = warren_tunnel::crypto::Direction::Forward;
    (Sealer::new(&KEY, Suite::X25519, direction), Opener::new(&KEY, Suite::X25519, direction))
}

/// Two datagrams that came over a link, as long as they may be; their layer is for this hop.
fn received(link: &mut LinkSealer, layer: &mut Sealer) -> [Vec<u8>; 2] {
    [(); 2].map(|()| {
        let mut region = vec![0x5a; STRIDE];
        let at = layer.seal(&mut region, HEADROOM, CONTENT - 1, 0).unwrap();
        let at = link.seal_cell(&mut region, at.start, at.len(), CIRCUIT).unwrap();
        region[at].to_vec()
    })
}

pub(crate) fn hot() -> Vec<Hot<'static>> {
    vec![seal(), open(), forged(), tag_header(), check_header(), relay_forward(), relay_backward(), uncover()]
}

fn seal() -> Hot<'static> {
    let (key, mut content) = (AeadKey::new(&KEY), vec![0x5a; CONTENT]);
    ("seal", Box::new(move |_| assert!(key.seal(1, ASSOCIATED, &mut content).is_ok())))
}

fn sealed(key: &AeadKey) -> (Vec<u8>, [u8; 16]) {
    let mut content = vec![0x5a; CONTENT];
    let tag = key.seal(1, ASSOCIATED, &mut content).unwrap();
    (content, tag)
}

fn open() -> Hot<'static> {
    let key = AeadKey::new(&KEY);
    let (content, tag) = sealed(&key);
    let mut cells = [content.clone(), content];
    ("open", Box::new(move |round| assert!(key.open(1, ASSOCIATED, &mut cells[round], &tag))))
}

fn forged() -> Hot<'static> {
    let key = AeadKey::new(&KEY);
    let (mut content, mut tag) = sealed(&key);
    tag[3] ^= 1;
    ("refuse a forged cell", Box::new(move |_| assert!(!key.open(1, ASSOCIATED, &mut content, &tag))))
}

fn tag_header() -> Hot<'static> {
    let (mut link, _) = link();
    let mut region = vec![0x5a; STRIDE];
    let run = move |_| assert!(link.seal_cell(&mut region, HEADROOM, CONTENT, CIRCUIT).is_ok());
    ("tag a header", Box::new(run))
}

fn check_header() -> Hot<'static> {
    let (mut link, mut opener) = link();
    let cells = received(&mut link, &mut hop().0);
    ("check a header", Box::new(move |round| assert!(opener.accept(&cells[round]).is_ok())))
}

/// Checked on one link, its layer off, tagged for the other link.
fn relay_forward() -> Hot<'static> {
    let ((mut sealer, mut opener), (mut previous, mut at_link), (mut next, _)) = (hop(), link(), link());
    let mut cells = received(&mut previous, &mut sealer);
    let run = move |round: usize| {
        let cell = &mut cells[round];
        at_link.accept(cell).unwrap();
        let (_, inner) = opener.open(&mut cell[HEADER_LEN..]).unwrap();
        let start = HEADER_LEN + inner.start;
        assert!(next.seal_cell(cell, start, inner.len(), CIRCUIT).is_ok());
    };
    ("relay a cell forward", Box::new(run))
}

/// Checked on one link, another layer on, tagged for the other link.
fn relay_backward() -> Hot<'static> {
    let ((mut sealer, _), (mut previous, mut at_link), (mut next, _)) = (hop(), link(), link());
    let mut regions = [(); 2].map(|()| {
        let mut region = vec![0x5a; STRIDE];
        let at = previous.seal_cell(&mut region, HEADROOM, CONTENT - LAYER_LEN, CIRCUIT).unwrap();
        (region, at)
    });
    let run = move |round: usize| {
        let (region, at) = &mut regions[round];
        at_link.accept(&region[at.clone()]).unwrap();
        let start = at.start + HEADER_LEN;
        let layer = sealer.cover(region, start, at.end - start).unwrap();
        assert!(next.seal_cell(region, layer.start, layer.len(), CIRCUIT).is_ok());
    };
    ("relay a cell backward", Box::new(run))
}

/// The cover of one hop off, and what was inside was right.
fn uncover() -> Hot<'static> {
    let (mut sealer, mut opener) = hop();
    let mut cells = [(); 2].map(|()| {
        let mut region = vec![0x5a; STRIDE];
        let at = sealer.cover(&mut region, HEADROOM, CONTENT - 1).unwrap();
        region[at].to_vec()
    });
    let run = move |round: usize| {
        let (counter, _) = opener.uncover(&mut cells[round]).unwrap().unwrap();
        opener.confirm(counter);
    };
    ("take a cover off", Box::new(run))
}

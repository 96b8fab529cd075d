use std::collections::HashMap;
use std::path::PathBuf;

use super::*;
use crate::layer::Opener;

fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/vectors")).join(name)
}

fn committed(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

type Block = HashMap<String, Vec<u8>>;

/// The blocks of a file; a name that comes twice in a block keeps its last value.
fn blocks(name: &str) -> Vec<Block> {
    let text = committed(name);
    let blocks = text.split("\n\n").filter(|block| !block.starts_with('#'));
    blocks
        .map(|block| {
            let lines = block.lines().map(|line| line.split_once(" = ").unwrap());
            lines.map(|(name, value)| (name.to_owned(), unhex(value))).collect()
        })
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn u64_of(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}

/// `WARREN_WRITE_VECTORS=1 cargo test -p warren-tunnel writes` renews the files.
#[test]
fn writes_the_files_when_asked() {
    if std::env::var_os("WARREN_WRITE_VECTORS").is_none_or(|value| value != "1") {
        return;
    }
    std::fs::create_dir_all(path("")).unwrap();
    for name in NAMES {
        std::fs::write(path(name), compute(name).unwrap()).unwrap();
    }
}

#[test]
fn the_files_are_what_this_code_makes() {
    for name in NAMES {
        assert!(committed(name) == compute(name).unwrap(), "{name} differs");
    }
    assert_eq!(compute("none.txt"), None);
}

#[test]
fn layers_of_the_file_open() {
    let blocks = blocks("layers.txt");
    assert_eq!(blocks.len(), 10);
    for block in blocks {
        let key = block["key"].clone().try_into().unwrap();
        let direction = if block["direction"] == [0] { Direction::Forward } else { Direction::Backward };
        let mut opener = Opener::new(&key, Suite::X25519, direction);
        let counter = u64_of(&block["counter"]);
        opener.skip_to(counter);
        if let Some(cover) = block.get("cover") {
            let mut cover = cover.clone();
            let (told, inner) = opener.uncover(&mut cover).unwrap().unwrap();
            assert_eq!((told, &cover[inner]), (counter, &block["inner"][..]));
            continue;
        }
        let mut layer = block["layer"].clone();
        let (command, inner) = opener.open(&mut layer).unwrap();
        assert_eq!((vec![command], &layer[inner]), (block["command"].clone(), &block["inner"][..]));
    }
}

#[test]
fn the_circuit_of_the_file_stands() {
    circuit_stands("circuit.txt", Suite::X25519);
    #[cfg(feature = "hybrid")]
    circuit_stands("circuit-2.txt", Suite::Hybrid);
}

fn circuit_stands(name: &str, suite: Suite) {
    let blocks = blocks(name);
    let (given, handshakes) = blocks.split_first().unwrap();
    let random = given["initiator_random"].clone().try_into().unwrap();
    let target = Target {
        peer_id: PeerId(given["peer_id"].clone().try_into().unwrap()),
        epoch: u32::from_be_bytes(given["epoch"].clone().try_into().unwrap()),
        onion_key: given["onion_key"].clone().try_into().unwrap(),
    };
    assert_eq!(handshakes.len(), 2);
    for block in handshakes {
        let creating = Creating::new(suite, target, random);
        assert_eq!(creating.create(), block["create"]);
        let (keys, contents) = creating.finish(&block["created"]).unwrap();
        assert_eq!(contents, block["contents"]);
        let (_, mut opener) = keys.originator();
        let mut layer = block["backward_layer"].clone();
        let (command, inner) = opener.open(&mut layer).unwrap();
        assert_eq!((command, &layer[inner]), (1, &b"inner"[..]));
    }
}

#[test]
fn the_link_of_the_file_stands() {
    link_stands("link.txt", Suite::X25519);
    #[cfg(feature = "hybrid")]
    link_stands("link-2.txt", Suite::Hybrid);
}

fn link_stands(name: &str, suite: Suite) {
    let blocks = blocks(name);
    let handshake = &blocks[2];
    let mut opening = Opening::new(suite, target(), INITIATOR_ID, INITIATOR_RANDOM);
    let linked = Linked::decode(&handshake["linked"]).unwrap();
    let (_, mut backward) = opening.take_linked(&linked).unwrap().unwrap();
    let request = Link::decode(&handshake["link"]).unwrap();
    let rest = request.part.bytes;
    let answered = answer(&request, rest, &target(), RESPONDER_ID, RESPONDER_RANDOM, &mut onion_dh).unwrap();
    assert_eq!(answered.datagrams, [handshake["linked"].clone()]);
    let mut forward = answered.opener;
    assert_eq!(blocks.len(), 3 + 6);
    for block in &blocks[3..] {
        let (name, opener) = if block.contains_key("forward_cell") {
            ("forward", &mut forward)
        } else {
            ("backward", &mut backward)
        };
        let mut datagram = block[&format!("{name}_message")].clone();
        let accepted = opener.accept(&datagram).unwrap();
        assert_eq!(accepted.counter, u64_of(&block["counter"]));
        assert_eq!(accepted.circuit.0.to_be_bytes(), block["circuit"][..]);
        let content = opener.open_message(&accepted, &mut datagram).unwrap();
        assert_eq!(datagram[content], block["message"][..]);
        assert_eq!(opener.accept(&block[&format!("{name}_cell")]).unwrap().circuit, accepted.circuit);
    }
    assert_eq!((forward.phases(), backward.phases()), (2, 2));
}

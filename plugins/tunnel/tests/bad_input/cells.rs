use std::time::Duration;

use warren_schemas::CircuitId;
use warren_schemas::batch::{HEADROOM, STRIDE};
use warren_schemas::cell::{HEADER_LEN, LAYER_LEN, MAX_DATAGRAM, MAX_INNER};
use warren_tunnel::drop_reason::DropReason;
use warren_tunnel::message::{HopMessage, command};
use warren_tunnel::replay::WINDOW;
use warren_tunnel::testing::Net;

use crate::rogue::{HERE, Initiator, layer, refused, sent_to};

const RELAY: usize = 1;

#[test]
fn truncated_cells_are_dropped() {
    let mut net = Net::with_relays(1, 1);
    let mut rogue = Initiator::open(&mut net, RELAY);
    let mut hop = rogue.circuit(&mut net, 5);
    let cell = rogue.command(&mut hop, &HopMessage::Data(&[7; 100]));
    for length in 0..cell.len() {
        let reason =
            if length < HEADER_LEN + LAYER_LEN { DropReason::Malformed } else { DropReason::LinkTag };
        rogue.is_dropped(&mut net, &cell[..length], reason);
    }
    assert_eq!(rogue.say(&mut net, &cell), None);
    assert_eq!(net.nodes[RELAY].delivered.len(), 1);
}

#[test]
fn oversized_cells_are_dropped() {
    let mut net = Net::with_relays(1, 1);
    let mut rogue = Initiator::open(&mut net, RELAY);
    let mut hop = rogue.circuit(&mut net, 5);
    // Longer than a datagram, whatever is in it.
    let cell = rogue.command(&mut hop, &HopMessage::Data(&[7; MAX_INNER]));
    for more in [MAX_DATAGRAM + 1 - cell.len(), STRIDE - HEADROOM - cell.len()] {
        let long = [&cell[..], &vec![0; more]].concat();
        rogue.is_dropped(&mut net, &long, DropReason::TooLong);
    }
    // A datagram's length, but more inside than any hop takes; authentic in every layer.
    let inner = vec![7; MAX_DATAGRAM - HEADER_LEN - LAYER_LEN];
    assert!(inner.len() > MAX_INNER);
    let sealed = layer(&mut hop.sealer, command::DATA, &inner);
    let long = rogue.ends.cell(hop.id, &sealed);
    rogue.is_dropped(&mut net, &long, DropReason::TooLong);
    assert!(net.nodes[RELAY].delivered.is_empty());
    rogue.is_answered(&mut net);
}

#[test]
fn flipped_bits_are_dropped_and_the_cell_still_counts() {
    let mut net = Net::with_relays(1, 1);
    let mut rogue = Initiator::open(&mut net, RELAY);
    let mut hop = rogue.circuit(&mut net, 5);
    let cell = rogue.command(&mut hop, &HopMessage::Data(&[7; 40]));
    let outside = (0..HEADER_LEN).chain(cell.len() - 16..cell.len());
    for at in outside {
        for bit in 0..8 {
            let mut flipped = cell.clone();
            flipped[at] ^= 1 << bit;
            net.record.clear();
            assert!(rogue.say(&mut net, &flipped).is_some(), "byte {at} bit {bit}");
            assert!(net.record.is_empty(), "byte {at} bit {bit} was answered");
        }
    }
    assert_eq!(rogue.say(&mut net, &cell), None);
    // What the link's tag does not cover, the layer's does.
    for at in HEADER_LEN..HEADER_LEN + 30 {
        let mut sealed = layer(&mut hop.sealer, command::DATA, &[7; 40]);
        sealed[at - HEADER_LEN] ^= 0x20;
        let cell = rogue.ends.cell(hop.id, &sealed);
        rogue.is_dropped(&mut net, &cell, DropReason::Layer);
    }
    assert_eq!(net.nodes[RELAY].delivered.len(), 1);
}

#[test]
fn replayed_cells_are_dropped_by_link_and_by_layer() {
    let mut net = Net::with_relays(1, 1);
    let mut rogue = Initiator::open(&mut net, RELAY);
    let mut hop = rogue.circuit(&mut net, 5);
    let sealed = layer(&mut hop.sealer, command::DATA, b"once");
    let cell = rogue.ends.cell(hop.id, &sealed);
    assert_eq!(rogue.say(&mut net, &cell), None);
    rogue.is_dropped(&mut net, &cell, DropReason::LinkReplay);
    let again = rogue.ends.cell(hop.id, &sealed);
    rogue.is_dropped(&mut net, &again, DropReason::LayerReplay);
    // On another circuit of the same link it does not open at all.
    let other = rogue.circuit(&mut net, 6);
    let elsewhere = rogue.ends.cell(other.id, &sealed);
    rogue.is_dropped(&mut net, &elsewhere, DropReason::Layer);
    assert_eq!(net.nodes[RELAY].delivered.len(), 1);
}

#[test]
fn reordered_cells_are_taken_once_within_the_window() {
    let mut net = Net::with_relays(1, 1);
    let mut rogue = Initiator::open(&mut net, RELAY);
    let mut hop = rogue.circuit(&mut net, 5);
    let count = usize::try_from(WINDOW).unwrap() + 1;
    let cells: Vec<Vec<u8>> =
        (0..count).map(|at| rogue.command(&mut hop, &HopMessage::Data(&at.to_be_bytes()))).collect();
    net.record.clear();
    assert_eq!(rogue.say(&mut net, &cells[count - 1]), None);
    rogue.is_dropped(&mut net, &cells[0], DropReason::LinkReplay);
    for cell in cells[1..count - 1].iter().rev().take(200) {
        assert_eq!(rogue.say(&mut net, cell), None);
        rogue.is_dropped(&mut net, cell, DropReason::LinkReplay);
    }
    assert_eq!(rogue.say(&mut net, &cells[1]), None);
    assert_eq!(net.nodes[RELAY].delivered.len(), 202);
}

#[test]
fn unknown_links_and_circuits_are_dropped() {
    let mut net = Net::with_relays(1, 2);
    let mut rogue = Initiator::open(&mut net, RELAY);
    let mut hop = rogue.circuit(&mut net, 5);
    let sealed = layer(&mut hop.sealer, command::DATA, b"to nobody");
    let cell = rogue.ends.cell(CircuitId(6), &sealed);
    rogue.is_dropped(&mut net, &cell, DropReason::UnknownCircuit);
    let cell = rogue.ends.cell(CircuitId(0), &sealed);
    rogue.is_dropped(&mut net, &cell, DropReason::UnknownCircuit);
    let mut cell = rogue.ends.cell(hop.id, &sealed);
    cell[4] ^= 1;
    rogue.is_dropped(&mut net, &cell, DropReason::UnknownLink);
    cell[4] ^= 1;
    // The other relay has no such link, or one of its own.
    assert!(refused(&mut net, 2, HERE, &cell).is_some());
    assert_eq!(rogue.say(&mut net, &cell), None);
}

#[test]
fn commands_that_do_not_belong_are_dropped() {
    let mut net = Net::with_relays(1, 1);
    let mut rogue = Initiator::open(&mut net, RELAY);
    let mut hop = rogue.circuit(&mut net, 5);
    let bad: [(u8, &[u8], DropReason); 9] = [
        (command::RELAY, &[0; 50], DropReason::Unexpected),
        (command::DATA, &[], DropReason::Malformed),
        (command::EXTEND, &[0; 3], DropReason::Malformed),
        (command::EXTEND, &[0, 0, 0, 1, 3, 3, 0, 0], DropReason::Fragment),
        (command::EXTENDED, &[0, 0, 0, 1, 0, 1, 0, 0], DropReason::Unexpected),
        (command::EXTEND_FAILED, &[0; 5], DropReason::Unexpected),
        (command::PING, &[0; 7], DropReason::Malformed),
        (command::PONG, &[0; 8], DropReason::Unexpected),
        (77, &[0; 50], DropReason::UnknownCommand),
    ];
    for (number, inner, reason) in bad {
        let sealed = layer(&mut hop.sealer, number, inner);
        let cell = rogue.ends.cell(hop.id, &sealed);
        rogue.is_dropped(&mut net, &cell, reason);
    }
    let cell = rogue.command(&mut hop, &HopMessage::Ping(*b"12345678"));
    assert_eq!(rogue.say(&mut net, &cell), None);
    assert_eq!(rogue.answers(&mut net, &mut hop), [(command::PONG, b"12345678".to_vec())]);
}

#[test]
fn data_needs_an_exit() {
    let mut net = Net::new(1);
    net.add(false, false);
    net.add(true, false);
    let mut rogue = Initiator::open(&mut net, RELAY);
    let mut hop = rogue.circuit(&mut net, 5);
    let cell = rogue.command(&mut hop, &HopMessage::Data(b"to the world"));
    rogue.is_dropped(&mut net, &cell, DropReason::NotExit);
    assert!(net.nodes[RELAY].delivered.is_empty());
}

/// Even an authentic datagram causes nothing larger than itself at an address that is not proven.
#[test]
fn a_short_stolen_datagram_causes_no_challenge() {
    let mut net = Net::with_relays(1, 1);
    let mut rogue = Initiator::open(&mut net, RELAY);
    let thief = "6.7.8.9:1000".parse().unwrap();
    let short = rogue.ends.raw_message(CircuitId(0), &[0]);
    assert_eq!(refused(&mut net, RELAY, thief, &short), None);
    assert!(sent_to(&mut net, thief).is_empty());
    rogue.is_answered(&mut net);
}

/// A captured datagram sent on from elsewhere first: the link does not move, the stranger gets one
/// small challenge, and everything else goes where it went before.
#[test]
fn a_stolen_datagram_does_not_move_the_link() {
    let mut net = Net::with_relays(1, 1);
    let mut rogue = Initiator::open(&mut net, RELAY);
    let mut hop = rogue.circuit(&mut net, 5);
    let thief = "6.7.8.9:1000".parse().unwrap();
    net.record.clear();
    let stolen: Vec<Vec<u8>> =
        (0..20).map(|_| rogue.command(&mut hop, &HopMessage::Ping(*b"12345678"))).collect();
    for cell in &stolen {
        assert_eq!(refused(&mut net, RELAY, thief, cell), None);
    }
    let to_thief = sent_to(&mut net, thief);
    assert_eq!(to_thief.len(), 1);
    assert!(to_thief[0].len() <= stolen[0].len());
    assert_eq!(rogue.answers(&mut net, &mut hop).len(), 20);
    net.run_for(Duration::from_secs(5));
    rogue.is_answered(&mut net);
    assert!(sent_to(&mut net, thief).is_empty());
}

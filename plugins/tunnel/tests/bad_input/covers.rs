//! What the hops of a circuit may send back to its originator.

use std::time::Duration;

use warren_schemas::cell::{COVER_LEN, HEADER_LEN, LAYER_LEN};
use warren_schemas::control::{CloseReason, Event};
use warren_tunnel::drop_reason::DropReason;
use warren_tunnel::message::{HopMessage, command};

use crate::hops::{Hops, inner, swapped};
use crate::rogue::layer;

/// Parts with a counter far ahead of any that was used, with every command: whatever the key stream is, one of
/// them is a cover.
fn far_ahead() -> impl Iterator<Item = Vec<u8>> {
    (0..=255).map(|command| [&0x7fff_0000u32.to_be_bytes()[..], &[command], &[0xab; 100]].concat())
}

#[test]
fn a_counter_far_ahead_around_garbage_is_not_believed() {
    let mut hops = Hops::standing(3);
    let old = hops.said(3, command::DATA, b"old");
    for part in far_ahead() {
        hops.is_dropped(&part, DropReason::Layer);
        let body = hops.covered(1, &part);
        hops.is_dropped(&body, DropReason::Layer);
    }
    hops.arrives(&old, b"old");
    let new = hops.said(3, command::DATA, b"new");
    hops.arrives(&new, b"new");
}

#[test]
fn a_cell_that_came_is_refused_again_at_every_hop() {
    let mut hops = Hops::standing(3);
    let first = hops.parts(3, command::DATA, b"first");
    let datagram = hops.cell(&first[0]);
    assert_eq!(hops.say_datagram(&datagram), None);
    assert_eq!(hops.delivered(), [b"first"]);
    assert_eq!(hops.say_datagram(&datagram), Some(DropReason::LinkReplay));
    hops.is_dropped(&first[0], DropReason::LayerReplay);
    // The same inside of hop 2 and of hop 3 under fresh covers.
    let body = hops.covered(1, &first[1]);
    hops.is_dropped(&body, DropReason::LayerReplay);
    let part = hops.covered(2, &first[2]);
    let body = hops.covered(1, &part);
    hops.is_dropped(&body, DropReason::LayerReplay);
    assert_eq!(hops.delivered(), [b"first"]);
}

/// What is inside being new and right does not help, and it may come again under covers of its own.
#[test]
fn a_cover_whose_counter_was_used_is_refused_whatever_is_inside() {
    let mut hops = Hops::standing(3);
    let first = hops.parts(3, command::DATA, b"first");
    let other = hops.parts(3, command::DATA, b"other");
    hops.arrives(&first[0], b"first");
    let body = swapped(&first[0], 1, &first[1], &other[1]);
    hops.is_dropped(&body, DropReason::LayerReplay);
    let part = swapped(&first[1], 1, &first[2], &other[2]);
    let body = hops.covered(1, &part);
    hops.is_dropped(&body, DropReason::LayerReplay);
    hops.arrives(&other[0], b"other");
}

#[test]
fn a_refused_cell_leaves_its_covers_counters_free() {
    let mut hops = Hops::standing(3);
    let first = hops.parts(3, command::DATA, b"first");
    hops.arrives(&first[0], b"first");
    // Hop 2's part was seen: hop 1's counter is free.
    let refused = hops.covered(1, &first[1]);
    hops.is_dropped(&refused, DropReason::LayerReplay);
    let second = hops.parts(3, command::DATA, b"second");
    let third = hops.parts(3, command::DATA, b"third");
    let body = swapped(&refused, 1, &first[1], &third[1]);
    hops.arrives(&body, b"third");
    hops.is_dropped(&body, DropReason::LayerReplay);
    // Hop 3's layer was seen: those of hops 1 and 2 are.
    let part = hops.covered(2, &first[2]);
    let refused = hops.covered(1, &part);
    hops.is_dropped(&refused, DropReason::LayerReplay);
    let fifth = hops.parts(3, command::DATA, b"fifth");
    let body = swapped(&refused, 2, &first[2], &fifth[2]);
    hops.arrives(&body, b"fifth");
    hops.is_dropped(&body, DropReason::LayerReplay);
    hops.arrives(&second[0], b"second");
}

/// The link's tag is right each time, as the first hop can make it.
#[test]
fn whatever_is_changed_on_the_way_back_is_dropped_and_forgotten() {
    for hop in 1..=3 {
        let mut hops = Hops::standing(3);
        // No changed counter is to be one that was used.
        (0..12).for_each(|_| drop(hops.said(3, command::DATA, b"lost")));
        let number = if hop == 3 { command::DATA } else { command::PONG };
        let body = hops.said(hop, number, b"untouched");
        for at in 0..body.len() * 8 {
            let mut flipped = body.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            hops.is_dropped(&flipped, DropReason::Layer);
        }
        let least = (hop - 1) * COVER_LEN + LAYER_LEN;
        for length in LAYER_LEN..body.len() {
            let reason = if length < least { DropReason::Malformed } else { DropReason::Layer };
            hops.is_dropped(&body[..length], reason);
        }
        for more in [1, COVER_LEN, LAYER_LEN] {
            let long = [&body[..], &vec![0; more]].concat();
            hops.is_dropped(&long, DropReason::Layer);
        }
        if hop == 3 {
            hops.arrives(&body, b"untouched");
        } else {
            assert_eq!(hops.leads_nowhere(&body), None, "hop {hop}");
        }
        hops.is_dropped(&body, DropReason::LayerReplay);
    }
}

/// A body shorter than a layer is nothing that a link carries.
#[test]
fn what_is_too_short_for_a_layer_does_not_come_back() {
    let mut hops = Hops::standing(3);
    let body = hops.said(3, command::DATA, b"untouched");
    for length in 0..LAYER_LEN {
        let cell = hops.cell(&body);
        assert_eq!(hops.say_datagram(&cell[..HEADER_LEN + length]), Some(DropReason::Malformed));
    }
    hops.arrives(&body, b"untouched");
}

#[test]
fn a_middle_hop_may_only_say_what_means_nothing() {
    let said: [(u8, &[u8], Option<DropReason>); 11] = [
        (command::PONG, b"12345678", None),
        (command::PONG, b"1234567", Some(DropReason::Malformed)),
        (command::PADDING, &[], None),
        (command::PADDING, &[0; 1240], None),
        (command::DATA, b"from the middle", Some(DropReason::Unexpected)),
        (command::DATA, &[], Some(DropReason::Unexpected)),
        (command::EXTEND, &[0, 0, 0, 1, 0, 1, 0, 0], Some(DropReason::Unexpected)),
        (command::EXTENDED, &[0, 0, 0, 1, 0, 1, 0, 0], Some(DropReason::Unexpected)),
        (command::EXTEND_FAILED, &[0, 0, 0, 1, 1], Some(DropReason::Unexpected)),
        (command::PING, b"12345678", Some(DropReason::Unexpected)),
        (77, b"12345678", Some(DropReason::UnknownCommand)),
    ];
    let mut hops = Hops::standing(3);
    for hop in 1..=2 {
        for (number, inner, reason) in said {
            let body = hops.said(hop, number, inner);
            assert_eq!(hops.leads_nowhere(&body), reason, "command {number} of hop {hop}");
            // It was right, so it came: not again.
            hops.is_dropped(&body, DropReason::LayerReplay);
        }
    }
    let body = hops.said(3, command::DATA, b"from the last");
    hops.arrives(&body, b"from the last");
}

/// With a tag of its own, as it would be sealed away from the originator.
#[test]
fn a_middle_hop_does_not_seal_what_it_passes_on() {
    let mut hops = Hops::standing(3);
    let parts = hops.parts(3, command::DATA, b"as it came");
    for (hop, inside) in [(1, &parts[1]), (2, &parts[2])] {
        let body = hops.said(hop, command::RELAY, inside);
        hops.is_dropped(&body, DropReason::Layer);
    }
    hops.arrives(&parts[0], b"as it came");
}

/// The originator asks a last hop that was silent for 30 s, whoever else speaks.
#[test]
fn a_middle_hop_does_not_speak_for_the_last_one() {
    for (hop, asked) in [(1, 1), (2, 1), (3, 0)] {
        let mut hops = Hops::standing(3);
        hops.net.run_for(Duration::from_secs(29));
        assert_eq!(hops.cells_heard(), 0);
        let body = hops.said(hop, command::PONG, b"12345678");
        assert_eq!(hops.leads_nowhere(&body), None);
        hops.net.run_for(Duration::from_millis(1500));
        assert_eq!(hops.cells_heard(), asked, "PONG of hop {hop}");
    }
}

#[test]
fn only_the_last_hop_answers_an_extend() {
    let mut hops = Hops::standing(2);
    let next = hops.asked();
    let failed = |exchange| inner(&HopMessage::ExtendFailed { exchange, reason: CloseReason::Limit });
    for (hop, number, inner) in [
        (1, command::EXTENDED, &next.extended),
        (1, command::EXTEND_FAILED, &failed(next.exchange)),
        (1, command::DATA, &next.extended),
        (2, command::DATA, &next.extended),
        (2, command::EXTEND_FAILED, &failed(next.exchange + 1)),
        (2, command::RELAY, &next.extended),
    ] {
        let body = hops.said(hop, number, inner);
        assert_eq!(hops.leads_nowhere(&body), Some(DropReason::Unexpected), "command {number} of hop {hop}");
    }
    hops.add(next);
    let body = hops.said(3, command::DATA, b"from the last");
    hops.arrives(&body, b"from the last");
}

#[test]
fn the_last_hop_may_say_that_it_goes_no_further() {
    let mut hops = Hops::standing(2);
    let exchange = hops.asked().exchange;
    let failed = inner(&HopMessage::ExtendFailed { exchange, reason: CloseReason::Limit });
    let body = hops.said(2, command::EXTEND_FAILED, &failed);
    assert_eq!(hops.say(&body), None);
    let [(_, Event::CircuitFailed { reason: CloseReason::Limit, hop: 3 })] = hops.events() else {
        panic!("{:?}", hops.events())
    };
}

/// The hop behind it is not known yet, so the last one has nothing to pass on.
#[test]
fn a_cover_by_the_last_hop_is_no_layer_while_the_next_is_added() {
    for count in 1..=2 {
        let mut hops = Hops::standing(count);
        let mut next = hops.asked();
        let early = layer(&mut next.sealer, command::DATA, b"too early");
        for inside in [&early[..], &next.extended, &[0xab; 100], &[0; LAYER_LEN]] {
            let body = (1..=count).rev().fold(inside.to_vec(), |part, hop| hops.covered(hop, &part));
            hops.is_dropped(&body, DropReason::Layer);
        }
        hops.add(next);
        if count == 1 {
            let next = hops.asked();
            hops.add(next);
        }
        let body = hops.said(3, command::DATA, b"in time");
        hops.arrives(&body, b"in time");
    }
}

/// A known limit: covers have no tag. Hop 1 and the exit together know what is inside hop 2's cover and can put
/// another layer there. It has to have the counter of the first, so only the exit can seal it: what comes is the
/// exit's word as ever, and it comes once.
#[test]
fn who_knows_what_is_inside_a_cover_can_put_another_layer_of_its_own_there() {
    let mut hops = Hops::standing(3);
    let first = hops.parts(3, command::DATA, b"one thing");
    let other = layer(&mut hops.second_sealer(3), command::DATA, b"and other");
    assert_eq!(first[2][..4], other[..4]);
    let part = swapped(&first[1], 1, &first[2], &other);
    let body = hops.covered(1, &part);
    hops.arrives(&body, b"and other");
    hops.is_dropped(&body, DropReason::LayerReplay);
    hops.is_dropped(&first[0], DropReason::LayerReplay);
    let body = hops.covered(1, &part);
    hops.is_dropped(&body, DropReason::LayerReplay);
}

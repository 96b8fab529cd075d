//! A state that a stranger wrote, and a real one that was damaged.

use crate::input::Input;
use crate::world::{ORIGINATOR, RELAY, World, with_world};

pub(crate) fn run(input: &[u8]) {
    with_world(|world| feed(world, Input::new(input)));
}

fn feed(world: &mut World, mut input: Input<'_>) {
    let how = input.byte();
    let node = if how & 1 == 0 { RELAY } else { ORIGINATOR };
    let bytes = if how & 2 == 0 {
        input.rest().to_vec()
    } else {
        let mut bytes = world.state(node).to_vec();
        while !input.is_empty() {
            input.damage(&mut bytes);
        }
        bytes
    };
    if let Ok(machine) = world.heir(node, &bytes) {
        machine.outlive();
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = with_world(|world| {
        let whole = |node| [&[u8::from(node == ORIGINATOR)], world.state(node)].concat();
        vec![whole(RELAY), whole(ORIGINATOR)]
    });
    seeds.extend([vec![2, 1, 0, 8, 1], vec![3, 1, 1, 0, 255], vec![2, 7, 0, 60, 1, 0, 80, 2]]);
    seeds
}

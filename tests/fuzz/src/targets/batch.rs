//! Bytes as a batch, from a host and from a worker, and damage to a batch that is one.

use warren_schemas::batch::Batch;

use crate::input::Input;
use crate::world::{RELAY, World, with_world};

pub(crate) fn run(input: &[u8]) {
    with_world(|world| feed(world, Input::new(input)));
}

fn feed(world: &mut World, mut input: Input<'_>) {
    let bytes = if input.byte() & 1 == 0 {
        input.rest().to_vec()
    } else {
        let mut bytes = world.batch_of_flights(RELAY, 3).into_bytes();
        input.damage(&mut bytes);
        bytes
    };
    // What a worker says must be looked at without harm, too.
    if let Ok(batch) = Batch::from_worker(bytes.clone()) {
        let seen: usize = batch.slots().map(|slot| batch.bytes_of(&slot).len()).sum();
        assert!(seen <= batch.slot_count() * batch.payload().len());
    }
    if let Ok(batch) = Batch::from_host(bytes) {
        let mut machine = world.heir(RELAY, world.state(RELAY)).unwrap();
        machine.bent_data(batch);
        machine.outlive();
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let few = |slots: usize, payload: usize| [&[0], Batch::build(slots, payload).as_bytes()].concat();
    vec![few(0, 0), few(1, 40), few(3, 200), vec![1, 1, 0, 9, 255], vec![1, 7, 0, 60, 1, 0, 80, 2]]
}

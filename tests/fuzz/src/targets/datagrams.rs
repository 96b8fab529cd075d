//! What comes to a machine: forged and replayed datagrams, messages of a rogue with keys, orders, time.

use std::net::SocketAddr;
use std::time::Duration;

use warren_schemas::CircuitHandle;
use warren_schemas::batch::{Batch, HEADROOM, MAX_SLOTS, STRIDE, Slot, SlotKind};

use crate::input::{Input, field};
use crate::world::{LAST, Machine, ORIGINATOR, RELAY, STRANGER, World, with_world};

/// Steps of one input.
const MOST: usize = 200;

pub(crate) fn run(input: &[u8]) {
    with_world(|world| Run::new(world, Input::new(input)).go());
}

/// What one step adds to the next batch.
enum Item {
    Received(SocketAddr, Vec<u8>),
    Outgoing(CircuitHandle, Vec<u8>),
    Any(Slot),
}

struct Run<'a> {
    world: &'a mut World,
    input: Input<'a>,
    node: usize,
    machine: Machine,
    items: Vec<Item>,
}

impl<'a> Run<'a> {
    fn new(world: &'a mut World, mut input: Input<'a>) -> Self {
        let node = [RELAY, RELAY, ORIGINATOR, LAST][usize::from(input.byte() & 3)];
        let machine = world.machine(node);
        Self { world, input, node, machine, items: Vec::new() }
    }

    fn go(mut self) {
        for _ in 0..MOST {
            if self.input.is_empty() {
                break;
            }
            self.step();
            if self.items.len() == MAX_SLOTS {
                self.flush();
            }
        }
        self.flush();
        self.machine.outlive();
    }

    fn step(&mut self) {
        let kind = self.input.byte();
        match kind % 12 {
            0 => self.replay(kind & 128 == 0),
            1 => self.received(STRANGER, |run| run.input.field().to_vec()),
            2 | 3 => self.rogue_says(|run| {
                let (circuit, content) = (u32::from(run.input.byte()), run.input.field());
                run.world.rogue.message(circuit, content)
            }),
            4 | 5 => self.rogue_says(|run| {
                let (command, inner) = (run.input.byte(), run.input.field());
                run.world.rogue.command(command, inner)
            }),
            6 => self.rogue_says(|run| {
                let (circuit, layer) = (u32::from(run.input.byte()), run.input.field());
                run.world.rogue.cell(circuit, layer)
            }),
            7 => self.outgoing(),
            8 => self.any_slot(),
            9 => self.wait(),
            10 => self.order(),
            _ => {
                self.flush();
                self.machine.swap();
            }
        }
    }

    fn received(&mut self, from: SocketAddr, bytes: impl FnOnce(&mut Self) -> Vec<u8>) {
        let bytes = bytes(self);
        self.items.push(Item::Received(from, bytes));
    }

    fn rogue_says(&mut self, bytes: impl FnOnce(&mut Self) -> Vec<u8>) {
        // Now and then from where it has not proven to be.
        let from = if self.input.byte() & 7 == 7 { STRANGER } else { crate::world::ROGUE };
        self.received(from, bytes);
    }

    /// Something that was sent before, mostly damaged, from there or from elsewhere.
    fn replay(&mut self, from_elsewhere: bool) {
        let number = usize::from(self.input.byte());
        let (from, mut bytes) = self.world.flight(self.node, number);
        self.input.damage(&mut bytes);
        self.received(if from_elsewhere { STRANGER } else { from }, |_| bytes);
    }

    fn outgoing(&mut self) {
        let handle = match self.input.byte() {
            0..128 => self.world.handle(self.node),
            other => CircuitHandle(u32::from(other)),
        };
        let length = self.input.below(1400);
        self.items.push(Item::Outgoing(handle, vec![0x5a; length]));
    }

    fn any_slot(&mut self) {
        let [kind, detail] = self.input.array();
        let (offset, length) = (u32::from_be_bytes(self.input.array()), self.input.word());
        let handle = CircuitHandle(u32::from(self.input.byte()));
        let kind = SlotKind(kind % 8);
        self.items.push(Item::Any(Slot { kind, detail, address: STRANGER.into(), handle, offset, length }));
    }

    fn wait(&mut self) {
        self.flush();
        let time = Duration::from_millis(u64::from(self.input.word()) * 4);
        self.machine.now = self.machine.now.after(time);
        self.machine.timeout();
    }

    fn order(&mut self) {
        self.flush();
        let wish = self.world.wish();
        let asked = self.input.field();
        self.machine.control(if asked.is_empty() { &wish } else { asked });
    }

    fn flush(&mut self) {
        let items = std::mem::take(&mut self.items);
        let mut batch = Batch::with_slots(items.len());
        for (index, item) in items.iter().enumerate() {
            match item {
                Item::Received(from, bytes) => {
                    let bytes = &bytes[..bytes.len().min(STRIDE - HEADROOM)];
                    batch.fill(index, SlotKind::Received, *from, CircuitHandle(0), bytes);
                }
                Item::Outgoing(handle, bytes) => {
                    batch.fill(index, SlotKind::Outgoing, STRANGER, *handle, bytes);
                }
                Item::Any(slot) => batch.set_slot(index, *slot),
            }
        }
        self.machine.data(batch);
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let ping = field(&[5, 1, 2, 3, 4, 5, 6, 7, 8]);
    let mut seeds = vec![
        vec![0, 0, 0, 0, 0, 1, 1, 0, 30, 4, 9, 1, 0],
        [&[0, 2, 0, 0][..], &ping, &[9, 0, 100]].concat(),
        [&[0, 4, 0, 5][..], &ping, &[4, 0, 1], &ping, &[9, 0, 100]].concat(),
        vec![2, 7, 0, 4, 216, 7, 0, 0, 1, 9, 0, 10, 10, 0, 0, 11, 9, 1, 0],
        vec![3, 7, 0, 0, 9, 11, 128, 3, 0],
        vec![0, 8, 1, 0, 0, 0, 0, 9, 0, 9, 0, 11],
    ];
    // Everything that came to each of them, once more.
    for start in 0..4 {
        let replays = (0..40).flat_map(|number| [132, number, 0]);
        seeds.push([start].into_iter().chain(replays).collect());
    }
    seeds
}

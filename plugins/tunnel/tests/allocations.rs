//! The way of a cell allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use warren_schemas::CircuitHandle;
use warren_schemas::batch::{Batch, SlotKind};
use warren_tunnel::testing::Net;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counted(run: impl FnOnce() -> Batch) -> (Batch, usize) {
    let before = COUNT.with(Cell::get);
    let answer = run();
    (answer, COUNT.with(Cell::get) - before)
}

fn received(answer: &Batch, from: std::net::SocketAddr) -> Batch {
    let mut batch = Batch::with_slots(64);
    for (index, slot) in answer.slots().enumerate() {
        assert_eq!(slot.kind, SlotKind::Send);
        assert!(batch.fill(index, SlotKind::Received, from, CircuitHandle(0), answer.bytes_of(&slot)));
    }
    batch
}

#[test]
fn a_batch_goes_through_every_role_without_an_allocation() {
    let mut net = Net::with_relays(1, 3);
    let circuit = net.circuit(0, &[1, 2, 3]);
    for way in [[0, 1, 2, 3], [3, 2, 1, 0]] {
        let (first, last) = (way[0], way[3]);
        let end = if first == 0 { circuit } else { net.nodes[first].delivered[0].1 };
        // A window grows once, after its first 64 cells.
        net.send(first, end, &vec![vec![0; 1240]; 65]);
        net.run_for(Duration::from_secs(1));
        let now = net.now;
        for round in 0..10 {
            let mut batch = Batch::with_slots(64);
            for index in 0..64 {
                let address = net.nodes[first].address;
                assert!(batch.fill(index, SlotKind::Outgoing, address, end, &[round; 1240]));
            }
            for hop in way {
                let from = net.nodes[hop].address;
                let node = &mut net.nodes[hop];
                let (answer, allocations) = counted(|| node.tunnel.handle_data(&mut node.env, now, batch));
                // The first cell of a while may set a timer.
                assert!(round == 0 || allocations == 0, "{allocations} at node {hop} in round {round}");
                let kind = if hop == last { SlotKind::Deliver } else { SlotKind::Send };
                assert!(answer.slots().all(|slot| slot.kind == kind));
                batch = if hop == last { answer } else { received(&answer, from) };
            }
        }
    }
}

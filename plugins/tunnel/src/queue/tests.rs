use std::time::Duration;

use super::*;

const PLACE: (LinkId, CircuitId) = (LinkId(1), CircuitId(2));

fn at(millis: u64) -> Timestamp {
    Timestamp::from_micros(1_000_000_000 + millis * 1000)
}

fn handle(number: u32) -> CircuitHandle {
    CircuitHandle(number)
}

fn drain(queue: &mut Queue, now: Timestamp, most: usize) -> Vec<u32> {
    let mut order = Vec::new();
    while order.len() < most {
        let Some((circuit, cell)) = queue.pop(now).cell else { break };
        order.push(circuit.0);
        queue.recycle(cell.body);
    }
    order
}

#[test]
fn circuits_take_turns_by_bytes_not_by_cells() {
    let mut queue = Queue::new(256, 1 << 20);
    for _ in 0..100 {
        queue.push(at(0), handle(1), PLACE, &[0; 1300]).unwrap();
    }
    for _ in 0..200 {
        queue.push(at(0), handle(2), PLACE, &[0; 325]).unwrap();
    }
    let order = drain(&mut queue, at(1), 100);
    let large = order.iter().filter(|circuit| **circuit == 1).count();
    assert!((18..=22).contains(&large), "a fifth of the cells is half of the bytes: {large}");
}

#[test]
fn a_full_queue_refuses_and_leaves_the_others_alone() {
    let mut queue = Queue::new(4, 1 << 20);
    let refused = (0..10).filter(|_| queue.push(at(0), handle(1), PLACE, &[0; 100]).is_err()).count();
    assert_eq!(refused, 6);
    assert_eq!(queue.push(at(0), handle(2), PLACE, &[0; 100]), Ok(0));
}

#[test]
fn the_longest_queue_gives_way() {
    let cost = 100 + OVERHEAD;
    let mut queue = Queue::new(256, 100 * cost);
    for _ in 0..90 {
        queue.push(at(0), handle(1), PLACE, &[0; 100]).unwrap();
    }
    let gave_way: u64 = (0..40).map(|_| queue.push(at(0), handle(2), PLACE, &[0; 100]).unwrap()).sum();
    assert_eq!(gave_way, 30);
    assert_eq!(queue.flows[&handle(1)].cells.len(), 60);
    assert_eq!(queue.flows[&handle(2)].cells.len(), 40);
    assert_eq!(queue.bytes, 100 * cost);
}

#[test]
fn short_cells_cannot_take_more_memory_than_is_allowed() {
    let mut queue = Queue::new(256, 100_000);
    // Buffers that held long cells hold the short ones that come after them.
    for _ in 0..50 {
        queue.push(at(0), handle(0), PLACE, &[0; 1300]).unwrap();
    }
    drain(&mut queue, at(1), 50);
    for circuit in 1..=1000 {
        queue.push(at(2), handle(circuit), PLACE, &[0; 21]).unwrap();
    }
    let held: usize =
        queue.flows.values().flat_map(|flow| &flow.cells).map(|cell| cell.body.capacity()).sum();
    let cells = queue.flows.values().map(|flow| flow.cells.len()).sum::<usize>();
    assert!(cells > 100 && held + cells * size_of::<Waiting>() <= 100_000, "{cells} cells, {held} bytes");
    for circuit in 0..=1000 {
        queue.remove(handle(circuit));
    }
    assert_eq!(queue.bytes, 0);
}

#[test]
fn a_standing_queue_is_shortened_and_a_short_one_is_not() {
    let run = |arrivals_a_tick: u64| {
        let mut queue = Queue::new(256, 1 << 20);
        let mut late = 0;
        let mut longest = 0;
        for tick in 0..3000 {
            for _ in 0..arrivals_a_tick + u64::from(tick % 50 == 0) {
                let _ = queue.push(at(tick), handle(1), PLACE, &[0; 1000]);
            }
            let popped = queue.pop(at(tick));
            late += popped.late;
            if let Some((_, cell)) = popped.cell {
                longest = longest.max(at(tick).since(cell.since).as_millis());
                queue.recycle(cell.body);
            }
            if arrivals_a_tick == 1 {
                queue.pop(at(tick));
            }
        }
        (late, longest)
    };
    let (late, _) = run(1);
    assert_eq!(late, 0, "a queue that empties within the target loses nothing");
    let (late, _) = run(2);
    assert!(late > 10, "CoDel shortens a standing queue: {late}");
}

#[test]
fn a_removed_circuit_leaves_nothing_behind() {
    let mut queue = Queue::new(256, 1 << 20);
    for circuit in [1, 2, 1, 3] {
        queue.push(at(0), handle(circuit), PLACE, &[0; 500]).unwrap();
    }
    queue.remove(handle(1));
    assert_eq!(queue.bytes, 2 * (500 + OVERHEAD));
    assert_eq!(drain(&mut queue, at(0), 10), [2, 3]);
    assert!(queue.is_empty() && queue.flows.is_empty() && queue.by_length.is_empty());
    assert!(queue.pop(at(0).after(Duration::from_secs(1))).cell.is_none());
}

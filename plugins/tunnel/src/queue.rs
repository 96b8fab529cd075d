//! Cells that wait for the relay's rate: a queue for each circuit, CoDel in each (RFC 8289),
//! deficit round robin between them (RFC 8290, without its hashing), and one bound over all.
//!
//! When all queues together hold too much, the longest gives up its oldest cell.

mod codel;
mod state;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use warren_schemas::cell::MAX_DATAGRAM;
use warren_schemas::{CircuitHandle, CircuitId, LinkId, Timestamp};

use codel::{Codel, Fate};

/// Bytes a circuit may send in its turn.
const QUANTUM: usize = MAX_DATAGRAM;
/// What a waiting cell costs beside its buffer: its place in the queue and the allocator's part.
const OVERHEAD: usize = size_of::<Waiting>() + 32;
/// Buffers kept for the next cells.
const SPARE: usize = 1024;

/// A cell without its link header; that is put on when it leaves.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// The link it goes out on.
    pub link: LinkId,
    /// The circuit's id there.
    pub id: CircuitId,
    /// The layer that is the cell's body.
    pub body: Vec<u8>,
    since: Timestamp,
}

impl Waiting {
    /// Memory it takes. By its buffer, which may have held a longer cell before.
    const fn cost(&self) -> usize {
        self.body.capacity() + OVERHEAD
    }
}

#[derive(Debug, Default)]
struct Flow {
    cells: VecDeque<Waiting>,
    deficit: usize,
    codel: Codel,
}

/// All queues of a relay.
#[derive(Debug)]
pub(crate) struct Queue {
    flows: BTreeMap<CircuitHandle, Flow>,
    turn: VecDeque<CircuitHandle>,
    by_length: BTreeSet<(usize, CircuitHandle)>,
    spare: Vec<Vec<u8>>,
    bytes: usize,
    max_bytes: usize,
    max_cells: usize,
}

/// The circuit's queue takes no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Full;

/// What [`Queue::pop`] found.
#[derive(Debug, Default)]
pub(crate) struct Popped {
    /// The next cell in turn and whose it is.
    pub cell: Option<(CircuitHandle, Waiting)>,
    /// Cells before it that had waited too long and are gone.
    pub late: u64,
}

impl Queue {
    /// No queues yet; at most `max_cells` in each and `max_bytes` in all.
    pub(crate) const fn new(max_cells: usize, max_bytes: usize) -> Self {
        Self {
            flows: BTreeMap::new(),
            turn: VecDeque::new(),
            by_length: BTreeSet::new(),
            spare: Vec::new(),
            bytes: 0,
            max_bytes,
            max_cells,
        }
    }

    /// Other bounds from the next cell on.
    pub(crate) const fn set_bounds(&mut self, max_cells: usize, max_bytes: usize) {
        self.max_cells = max_cells;
        self.max_bytes = max_bytes;
    }

    /// Whether no cell waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.turn.is_empty()
    }

    /// Lets a cell wait in the queue of `circuit`; gives how many older cells of the longest queue
    /// gave way for it.
    ///
    /// # Errors
    /// When the circuit's own queue is full: the newcomer is refused.
    pub(crate) fn push(
        &mut self,
        now: Timestamp,
        circuit: CircuitHandle,
        (link, id): (LinkId, CircuitId),
        body: &[u8],
    ) -> Result<u64, Full> {
        let mut gave_way = 0;
        let length = self.flows.get(&circuit).map_or(0, |flow| flow.cells.len());
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.extend_from_slice(body);
        let cell = Waiting { link, id, body: buffer, since: now };
        let cost = cell.cost();
        if length >= self.max_cells || cost > self.max_bytes {
            self.recycle(cell.body);
            return Err(Full);
        }
        while self.bytes + cost > self.max_bytes && self.shorten_longest() {
            gave_way += 1;
        }
        self.bytes += cost;
        let flow = self.flows.entry(circuit).or_default();
        if flow.cells.is_empty() {
            self.turn.push_back(circuit);
        }
        self.by_length.remove(&(flow.cells.len(), circuit));
        flow.cells.push_back(cell);
        self.by_length.insert((flow.cells.len(), circuit));
        Ok(gave_way)
    }

    /// The next cell in turn, and what CoDel gave up before it. Give its buffer back with
    /// [`Queue::recycle`].
    pub(crate) fn pop(&mut self, now: Timestamp) -> Popped {
        let mut late = 0;
        while let Some(circuit) = self.turn.front().copied() {
            let Some(flow) = self.flows.get_mut(&circuit) else {
                self.turn.pop_front();
                continue;
            };
            let Some(length) = flow.cells.front().map(|cell| cell.body.len()) else {
                self.retire(circuit);
                continue;
            };
            if flow.deficit < length {
                flow.deficit += QUANTUM;
                self.turn.rotate_left(1);
                continue;
            }
            let Some(cell) = self.take_first(circuit) else { continue };
            let Some(flow) = self.flows.get_mut(&circuit) else { continue };
            let last = flow.cells.is_empty();
            match flow.codel.judge(now, now.since(cell.since), last) {
                Fate::Drop => {
                    late += 1;
                    self.recycle(cell.body);
                }
                Fate::Send => {
                    flow.deficit -= length;
                    if last {
                        self.retire(circuit);
                    }
                    return Popped { cell: Some((circuit, cell)), late };
                }
            }
        }
        Popped { cell: None, late }
    }

    /// Takes back the buffer of a cell that has left.
    pub(crate) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Forgets the queue of a circuit that is gone.
    pub(crate) fn remove(&mut self, circuit: CircuitHandle) {
        while let Some(cell) = self.take_first(circuit) {
            self.recycle(cell.body);
        }
        self.retire(circuit);
    }

    fn retire(&mut self, circuit: CircuitHandle) {
        // A flow that empties keeps no deficit (RFC 8290, section 4.2).
        if self.flows.remove(&circuit).is_some() {
            if self.turn.front() == Some(&circuit) {
                self.turn.pop_front();
            } else {
                self.turn.retain(|other| *other != circuit);
            }
        }
    }

    fn take_first(&mut self, circuit: CircuitHandle) -> Option<Waiting> {
        let flow = self.flows.get_mut(&circuit)?;
        let length = flow.cells.len();
        let cell = flow.cells.pop_front()?;
        self.by_length.remove(&(length, circuit));
        if length > 1 {
            self.by_length.insert((length - 1, circuit));
        }
        self.bytes -= cell.cost();
        Some(cell)
    }

    fn shorten_longest(&mut self) -> bool {
        let Some((_, circuit)) = self.by_length.last().copied() else { return false };
        let Some(cell) = self.take_first(circuit) else { return false };
        self.recycle(cell.body);
        if self.flows.get(&circuit).is_some_and(|flow| flow.cells.is_empty()) {
            self.retire(circuit);
        }
        true
    }
}

#[cfg(test)]
mod tests;

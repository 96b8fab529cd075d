//! Waiting cells on their way to a successor.

use std::collections::VecDeque;

use flatbuffers::{FlatBufferBuilder, WIPOffset};
use warren_schemas::cell::{LAYER_LEN, MAX_DATAGRAM};
use warren_schemas::generated::state as fb;
use warren_schemas::{CircuitHandle, CircuitId, LinkId, Timestamp};

use super::codel::Codel;
use super::{Flow, QUANTUM, Queue, Waiting};

impl Queue {
    /// Bytes and cells that wait.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.bytes, self.flows.values().map(|flow| flow.cells.len()).sum())
    }

    /// Writes every queue in the order of turns.
    pub(crate) fn write<'b>(&self, builder: &mut FlatBufferBuilder<'b>) -> Vec<WIPOffset<fb::Flow<'b>>> {
        let flow = |circuit| Some(self.flows.get(circuit)?.write(builder, *circuit));
        self.turn.iter().filter_map(flow).collect()
    }

    /// The same, and frees each: a worker may not have room for both.
    pub(crate) fn give<'b>(mut self, builder: &mut FlatBufferBuilder<'b>) -> Vec<WIPOffset<fb::Flow<'b>>> {
        let flow = |circuit| Some(self.flows.remove(circuit)?.write(builder, *circuit));
        self.turn.iter().filter_map(flow).collect()
    }

    /// Takes over a predecessor's queue, whose turn comes last. Nothing gives way: what waited there
    /// waits here. None when it cannot have been a queue.
    pub(crate) fn resume(&mut self, now: Timestamp, flow: &fb::Flow<'_>) -> Option<()> {
        let circuit = CircuitHandle(flow.circuit());
        let mut bodies = flow.bodies().bytes();
        let mut cells = VecDeque::with_capacity(flow.cells().len());
        let mut cost = 0;
        for cell in flow.cells() {
            let (body, rest) = bodies.split_at_checked(usize::from(cell.length()))?;
            if !(LAYER_LEN..=MAX_DATAGRAM).contains(&body.len()) {
                return None;
            }
            bodies = rest;
            let cell = Waiting {
                link: LinkId(cell.leg().link()),
                id: CircuitId(cell.leg().circuit()),
                body: body.to_vec(),
                since: now.min(Timestamp::from_micros(cell.since())),
            };
            cost += cell.cost();
            cells.push_back(cell);
        }
        if cells.is_empty() || !bodies.is_empty() || self.flows.contains_key(&circuit) {
            return None;
        }
        self.bytes += cost;
        self.turn.push_back(circuit);
        self.by_length.insert((cells.len(), circuit));
        let deficit = (flow.deficit() as usize).min(2 * QUANTUM);
        let codel = Codel::resume(flow.codel(), flow.first_above());
        self.flows.insert(circuit, Flow { cells, deficit, codel });
        Some(())
    }
}

impl Flow {
    fn write<'b>(
        &self,
        builder: &mut FlatBufferBuilder<'b>,
        circuit: CircuitHandle,
    ) -> WIPOffset<fb::Flow<'b>> {
        let cells: Vec<fb::QueuedCell> = self
            .cells
            .iter()
            .map(|cell| {
                let length = u16::try_from(cell.body.len()).unwrap_or(u16::MAX);
                fb::QueuedCell::new(cell.since.as_micros(), &fb::Leg::new(cell.link.0, cell.id.0), length)
            })
            .collect();
        let bodies: Vec<&[u8]> = self.cells.iter().map(|cell| cell.body.as_slice()).collect();
        let bodies = bodies.concat();
        let (codel, first_above) = self.codel.state();
        let args = fb::FlowArgs {
            circuit: circuit.0,
            cells: Some(builder.create_vector(&cells)),
            bodies: Some(builder.create_vector(&bodies)),
            deficit: u32::try_from(self.deficit).unwrap_or(u32::MAX),
            codel: Some(&codel),
            first_above,
        };
        fb::Flow::create(builder, &args)
    }
}

impl Codel {
    fn state(&self) -> (fb::Codel, Option<u64>) {
        let codel = fb::Codel::new(self.drop_next.as_micros(), self.count, self.last_count, self.dropping);
        (codel, self.first_above.map(Timestamp::as_micros))
    }

    fn resume(codel: &fb::Codel, first_above: Option<u64>) -> Self {
        Self {
            first_above: first_above.map(Timestamp::from_micros),
            dropping: codel.dropping(),
            drop_next: Timestamp::from_micros(codel.drop_next()),
            count: codel.count(),
            last_count: codel.last_count(),
        }
    }
}

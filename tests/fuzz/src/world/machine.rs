//! A machine under test, with a host around it that believes nothing.

use std::net::SocketAddr;
use std::time::Duration;

use warren_schemas::batch::{Batch, SlotKind};
use warren_schemas::cell::{MAX_DATAGRAM, MAX_INNER};
use warren_schemas::control::{Event, Request, TunnelConfig};
use warren_schemas::{RequestId, Timestamp};
use warren_tunnel::Tunnel;
use warren_tunnel::testing::{Seeded, TestEnv};

use super::STRANGER;

/// One machine, and what it may do.
pub(crate) struct Machine {
    tunnel: Tunnel,
    env: TestEnv,
    pub(crate) now: Timestamp,
    config: TunnelConfig,
    /// Where it may send to: its network. An address without proof, to which it must not send
    /// more than came from there, is [`STRANGER`]. None when it was told lies by its own host.
    known: Option<Vec<SocketAddr>>,
    /// Bytes that came from the stranger and were not answered yet.
    credit: usize,
}

impl Machine {
    pub(super) fn new(
        tunnel: Tunnel,
        now: Timestamp,
        config: TunnelConfig,
        env: &TestEnv,
        known: Option<Vec<SocketAddr>>,
    ) -> Self {
        let env =
            TestEnv { random: Seeded::new(1), onion: env.onion.clone(), dh_calls: 0, lines: Vec::new() };
        Self { tunnel, env, now, config, known, credit: 0 }
    }

    pub(crate) fn data(&mut self, batch: Batch) {
        let received = batch.slots().filter(|slot| slot.kind == SlotKind::Received);
        self.credit += received
            .filter(|slot| slot.address == STRANGER.into())
            .map(|slot| usize::from(slot.length))
            .sum::<usize>();
        let answer = self.tunnel.handle_data(&mut self.env, self.now, batch);
        self.look_at(answer);
    }

    /// A batch whose parts may lie across each other. What comes of it may be no batch either, and is
    /// then refused by whoever gets it.
    pub(crate) fn bent_data(&mut self, batch: Batch) {
        let answer = self.tunnel.handle_data(&mut self.env, self.now, batch).into_bytes();
        if let Ok(answer) = Batch::from_worker(answer) {
            self.look_at(answer);
        }
    }

    pub(crate) fn control(&mut self, request: &[u8]) {
        let answer = self.tunnel.handle_control(&mut self.env, self.now, request);
        self.look_at(answer);
    }

    pub(crate) fn timeout(&mut self) {
        let answer = self.tunnel.handle_timeout(&mut self.env, self.now);
        self.look_at(answer);
    }

    /// A changed configuration is taken or refused.
    pub(crate) fn configure(&mut self, config: TunnelConfig) {
        if self.tunnel.configure(self.now, config.clone()).is_ok() {
            self.config = config;
        }
    }

    /// Its state goes to a successor, which takes it.
    pub(crate) fn swap(&mut self) {
        let state = self.tunnel.export_state().unwrap();
        let mut heir = Tunnel::new();
        heir.configure(self.now, self.config.clone()).unwrap();
        heir.import_state(self.now, &state).unwrap_or_else(|error| panic!("its own state: {error}"));
        self.tunnel = heir;
    }

    /// Whatever was done to it: time passes, it reports, it goes over to a successor, it says goodbye.
    pub(crate) fn outlive(mut self) {
        for step in 0..4 {
            self.now = self.now.after(Duration::from_secs(1 << (4 * step)));
            self.timeout();
        }
        self.control(&Request::Monitor.encode(RequestId(9)));
        self.swap();
        self.timeout();
        let farewell = self.tunnel.shutdown(&mut self.env, self.now, 0);
        Batch::from_worker(farewell.into_bytes()).unwrap();
    }

    fn look_at(&mut self, answer: Batch) {
        let answer = Batch::from_worker(answer.into_bytes()).unwrap_or_else(|error| panic!("{error}"));
        for slot in answer.slots() {
            let bytes = answer.bytes_of(&slot);
            match slot.kind {
                SlotKind::Send => self.sent(slot.address.into(), bytes.len()),
                SlotKind::Deliver => assert!((1..=MAX_INNER).contains(&bytes.len()), "{} bytes", bytes.len()),
                SlotKind::Event => drop(Event::decode(bytes).unwrap()),
                SlotKind::Dropped | SlotKind::Empty => {}
                other => panic!("a worker answered {other:?}"),
            }
        }
    }

    fn sent(&mut self, to: SocketAddr, length: usize) {
        assert!(length <= MAX_DATAGRAM, "a datagram of {length} bytes");
        let Some(known) = &self.known else { return };
        assert!(to == STRANGER || known.contains(&to), "a datagram to {to}, of which nobody told it");
        if to == STRANGER {
            let left = self.credit.checked_sub(length);
            self.credit = left.unwrap_or_else(|| panic!("{length} bytes to a stranger that sent less"));
        }
    }
}

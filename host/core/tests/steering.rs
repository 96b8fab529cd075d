//! Each datagram comes to the worker that its link id names, whether or not the kernel helps, and also out
//! of a segmented send that mixes workers.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use warren_core::{Core, CoreConfig, SystemClock};
use warren_schemas::Timestamp;
use warren_schemas::batch::{Batch, SlotKind};
use warren_schemas::control::{Limits, TunnelConfig};
use warren_workers::{Description, Worker, WorkerFactory, WorkerFault, WorkerHost};

const WORKERS: u8 = 3;
const LENGTH: usize = 100;
const PATIENCE: Duration = Duration::from_secs(20);

/// What a worker was given: its index, and the datagram.
type Given = (u8, Vec<u8>);

/// A worker that tells what it is given.
struct Teller {
    index: u8,
    tell: SyncSender<Given>,
}

impl Worker for Teller {
    fn describe(&mut self) -> Result<Description, WorkerFault> {
        let (name, version) = ("teller".to_owned(), String::new());
        Ok(Description { name, version, suites: vec![1], writes_state: 0, reads_state: Vec::new() })
    }
    fn self_test(&mut self) -> Result<(), WorkerFault> {
        Ok(())
    }
    fn configure(&mut self, _: Timestamp, config: &[u8]) -> Result<(), WorkerFault> {
        self.index = TunnelConfig::decode(config).unwrap().worker_index;
        Ok(())
    }
    fn control(&mut self, _: Timestamp, _: &[u8]) -> Result<Batch, WorkerFault> {
        Ok(Batch::with_slots(0))
    }
    fn data(&mut self, _: Timestamp, batch: Batch) -> Result<Batch, WorkerFault> {
        for slot in batch.slots().filter(|slot| slot.kind == SlotKind::Received) {
            self.tell.send((self.index, batch.bytes_of(&slot).to_vec())).unwrap();
        }
        Ok(Batch::with_slots(0))
    }
    fn timeout(&mut self, _: Timestamp) -> Result<Batch, WorkerFault> {
        Ok(Batch::with_slots(0))
    }
    fn export_state(&mut self) -> Result<Vec<u8>, WorkerFault> {
        Ok(Vec::new())
    }
    fn snapshot(&mut self) -> Result<Vec<u8>, WorkerFault> {
        Ok(Vec::new())
    }
    fn import_state(&mut self, _: Timestamp, _: &[u8]) -> Result<(), WorkerFault> {
        Ok(())
    }
    fn shutdown(&mut self, _: Timestamp, _: u8) -> Result<Batch, WorkerFault> {
        Ok(Batch::with_slots(0))
    }
}

struct Tellers(SyncSender<Given>);

impl WorkerFactory for Tellers {
    fn name(&self) -> &str {
        "teller"
    }
    fn spawn(&self, _: Box<dyn WorkerHost>) -> Result<Box<dyn Worker>, WorkerFault> {
        Ok(Box::new(Teller { index: u8::MAX, tell: self.0.clone() }))
    }
}

fn start(steering: bool) -> (Core, Receiver<Given>) {
    let (tell, told) = sync_channel(64);
    let config = CoreConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: Vec::new(),
        steering,
        min_workers: WORKERS,
        max_workers: WORKERS,
        sync: None,
        pin: false,
        identity: [1; 32].into(),
        stream_key: [2; 32].into(),
        onion_keys: Vec::new(),
        relay: false,
        exit: None,
        allow_private: true,
        congestion: warren_core::Congestion::default(),
        limits: Limits::default(),
        rules: warren_circuits::Rules::default(),
        guards: Vec::new(),
        operator: None,
        factory: Arc::new(Tellers(tell)),
    };
    (warren_core::start(config, Arc::new(SystemClock::start())).unwrap(), told)
}

/// A cell of a link of that worker.
fn cell(worker: u8, number: u8) -> Vec<u8> {
    let mut bytes = vec![5, worker, 0, 0, 1];
    bytes.resize(LENGTH, number);
    bytes
}

/// Sends all in one call, to be cut by the kernel (udp(7), UDP_SEGMENT). False where it cannot.
fn send_segmented(from: &UdpSocket, to: SocketAddr, cells: &[Vec<u8>]) -> bool {
    let length = LENGTH as libc::c_int;
    // SAFETY: the option takes an int, which lives until the call returns.
    let set = unsafe {
        let (value, size) = ((&raw const length).cast(), size_of::<libc::c_int>() as libc::socklen_t);
        libc::setsockopt(from.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, value, size)
    };
    set == 0 && from.send_to(&cells.concat(), to).unwrap() == cells.len() * LENGTH
}

/// Sorted: nothing is said of the order between workers.
fn sorted(mut all: Vec<Given>) -> Vec<Given> {
    all.sort();
    all
}

async fn every_worker_gets_its_own(steering: bool, segmented: bool) {
    let (core, told) = start(steering);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = core.tunnel_address();
    let mut wanted: Vec<Given> = (0..30).map(|number| (number % WORKERS, Vec::new())).collect();
    for (number, (worker, bytes)) in (0..).zip(&mut wanted) {
        *bytes = cell(*worker, number);
    }
    let cells: Vec<Vec<u8>> = wanted.iter().map(|(_, bytes)| bytes.clone()).collect();
    if segmented {
        if !send_segmented(&sender, to, &cells) {
            return core.shutdown().await;
        }
    } else {
        for cell in &cells {
            sender.send_to(cell, to).unwrap();
        }
    }
    let receive = move || -> Vec<Given> { (0..30).map_while(|_| told.recv_timeout(PATIENCE).ok()).collect() };
    let got = tokio::task::spawn_blocking(receive).await.unwrap();
    for worker in 0..WORKERS {
        let of = |all: &[Given]| -> Vec<Vec<u8>> {
            all.iter().filter(|(index, _)| *index == worker).map(|(_, bytes)| bytes.clone()).collect()
        };
        assert_eq!(of(&got), of(&wanted), "in order, worker {worker}");
    }
    assert_eq!(sorted(got), sorted(wanted));
    let passed_on = core.status().await.handed_over;
    // The kernel steers each alone, or all of a send by the first; without it all come to one socket.
    let expected = if steering && !segmented { 0..=0 } else { 20..=30 };
    assert!(expected.contains(&passed_on), "{passed_on} passed on");
    core.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn steered_by_the_kernel() {
    every_worker_gets_its_own(true, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passed_on_where_the_kernel_does_not_steer() {
    every_worker_gets_its_own(false, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segmented_send_that_mixes_workers_is_taken_apart() {
    every_worker_gets_its_own(true, true).await;
    every_worker_gets_its_own(false, true).await;
}

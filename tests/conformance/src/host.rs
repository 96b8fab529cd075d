//! The hosts of these tests: seeded, recording, no operating system.

use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use warren_sandbox::{Sandbox, Settings};
use warren_workers::{DhRefusal, LogLevel, WorkerFactory, WorkerHost};
use x25519_dalek::{PublicKey, StaticSecret};

/// Epoch of every onion key here.
pub(crate) const EPOCH: u32 = 7;

/// SplitMix64: seeded, and good enough to stand in for randomness.
#[derive(Clone)]
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.word().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// What a worker asked of its host, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    Line(LogLevel, String),
    Random(usize),
    Dh(u32, Vec<u8>),
}

pub(crate) type Record = Arc<Mutex<Vec<Asked>>>;

/// A host from a seed. Clones share the record, not the randomness.
#[derive(Clone)]
pub(crate) struct SeededHost {
    random: Seeded,
    onion: StaticSecret,
    record: Record,
    /// How long writing a line takes.
    line_takes: Duration,
}

impl SeededHost {
    pub(crate) fn new(seed: u64) -> Self {
        let onion = StaticSecret::from(Seeded(!seed).bytes());
        Self { random: Seeded(seed), onion, record: Record::default(), line_takes: Duration::ZERO }
    }

    /// The same randomness and keys, with a record of its own.
    pub(crate) fn twin(&self) -> Self {
        Self { record: Record::default(), ..self.clone() }
    }

    /// The host of a successor: the same keys and record, randomness of its own.
    pub(crate) fn successor(&self, seed: u64) -> Self {
        Self { random: Seeded(seed), ..self.clone() }
    }

    pub(crate) fn slow(self, line_takes: Duration) -> Self {
        Self { line_takes, ..self }
    }

    pub(crate) fn record(&self) -> Record {
        Arc::clone(&self.record)
    }

    pub(crate) fn public_onion_key(&self) -> [u8; 32] {
        PublicKey::from(&self.onion).to_bytes()
    }

    fn note(&self, asked: Asked) {
        self.record.lock().unwrap().push(asked);
    }
}

impl WorkerHost for SeededHost {
    fn log(&mut self, level: LogLevel, line: &str) {
        self.note(Asked::Line(level, line.to_owned()));
        sleep(self.line_takes);
    }

    fn random(&mut self, bytes: &mut [u8]) {
        self.note(Asked::Random(bytes.len()));
        self.random.fill(bytes);
    }

    fn onion_dh(&mut self, epoch: u32, point: &[u8]) -> Result<[u8; 32], DhRefusal> {
        self.note(Asked::Dh(epoch, point.to_vec()));
        if epoch != EPOCH {
            return Err(DhRefusal::UnknownEpoch);
        }
        let point = <[u8; 32]>::try_from(point).map_err(|_| DhRefusal::BadPoint)?;
        let shared = self.onion.diffie_hellman(&PublicKey::from(point));
        if shared.was_contributory() { Ok(shared.to_bytes()) } else { Err(DhRefusal::BadPoint) }
    }
}

/// Limits for tests: like the real ones, but a machine busy with other tests must not turn a
/// deadline in CPU time into one in wall time.
pub(crate) fn settings() -> Settings {
    Settings { wall: Duration::from_secs(120), memory: 64 << 20, instances: 16, ..Settings::default() }
}

/// A factory of the component `name`.
pub(crate) fn factory(settings: Settings, name: &str) -> Arc<dyn WorkerFactory> {
    let component = warren_fixtures::component(name).unwrap();
    Arc::new(Sandbox::new(settings).unwrap().load(name, &component).unwrap())
}

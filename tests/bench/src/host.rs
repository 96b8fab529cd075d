//! What the workers of this process may ask for.

use std::fs::File;
use std::io::Read;

use warren_workers::{DhRefusal, LogLevel, WorkerHost};
use x25519_dalek::{PublicKey, StaticSecret};

/// The epoch of every onion key here.
pub(crate) const EPOCH: u32 = 1;

/// The system's randomness, and the onion key of a worker that takes circuits.
pub(crate) struct Host {
    random: File,
    onion: Option<StaticSecret>,
}

impl Host {
    /// For an originator.
    pub(crate) fn open() -> std::io::Result<Self> {
        Ok(Self { random: File::open("/dev/urandom")?, onion: None })
    }

    /// From now on it answers for a fresh onion key, whose public half it gives.
    pub(crate) fn make_onion_key(&mut self) -> std::io::Result<[u8; 32]> {
        let secret = self.onion.insert(StaticSecret::from(random(&mut self.random)?));
        Ok(PublicKey::from(&*secret).to_bytes())
    }

    pub(crate) fn bytes(&mut self) -> std::io::Result<[u8; 32]> {
        random(&mut self.random)
    }
}

fn random(from: &mut File) -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

impl WorkerHost for Host {
    fn log(&mut self, level: LogLevel, line: &str) {
        if matches!(level, LogLevel::Error | LogLevel::Warn) {
            eprintln!("worker of the measurement: {line}");
        }
    }

    fn random(&mut self, bytes: &mut [u8]) {
        if let Err(error) = self.random.read_exact(bytes) {
            eprintln!("no randomness: {error}");
            std::process::abort();
        }
    }

    fn onion_dh(&mut self, epoch: u32, point: &[u8]) -> Result<[u8; 32], DhRefusal> {
        let secret = self.onion.as_ref().filter(|_| epoch == EPOCH).ok_or(DhRefusal::UnknownEpoch)?;
        let point: [u8; 32] = point.try_into().map_err(|_| DhRefusal::BadPoint)?;
        let shared = secret.diffie_hellman(&PublicKey::from(point));
        if shared.was_contributory() { Ok(shared.to_bytes()) } else { Err(DhRefusal::BadPoint) }
    }
}

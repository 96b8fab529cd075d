//! What a member's worker may ask for.

use std::fs::File;
use std::io::Read;

use warren_workers::{DhRefusal, LogLevel, WorkerHost};

/// The system's randomness and nothing else: a member is no relay.
pub(super) struct Host(File);

impl Host {
    pub(super) fn open() -> std::io::Result<Self> {
        File::open("/dev/urandom").map(Self)
    }

    pub(super) fn bytes(&mut self) -> std::io::Result<[u8; 32]> {
        let mut bytes = [0; 32];
        self.0.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl WorkerHost for Host {
    fn log(&mut self, level: LogLevel, line: &str) {
        if matches!(level, LogLevel::Error | LogLevel::Warn) {
            eprintln!("crowd: {line}");
        }
    }

    fn random(&mut self, bytes: &mut [u8]) {
        if let Err(error) = self.0.read_exact(bytes) {
            eprintln!("crowd: no randomness: {error}");
            std::process::abort();
        }
    }

    fn onion_dh(&mut self, _: u32, _: &[u8]) -> Result<[u8; 32], DhRefusal> {
        Err(DhRefusal::UnknownEpoch)
    }
}

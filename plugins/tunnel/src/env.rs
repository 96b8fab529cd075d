//! What the state machine asks of whoever runs it.

/// How loud a line is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Something is broken.
    Error,
    /// Something is odd.
    Warn,
    /// Something an operator wants to know.
    Info,
    /// Everything else.
    Debug,
}

/// The three imports of a tunnel worker (`wit/worker.wit`).
pub trait Env {
    /// Takes a line for the operator. Never an address, a key or an infohash above `Debug`.
    fn log(&mut self, level: Level, line: &str);
    /// Fills `bytes` from the operating system's randomness.
    fn random(&mut self, bytes: &mut [u8]);
    /// X25519 (RFC 7748) of the relay's private onion key of `epoch` and `point`. None when the
    /// epoch is unknown, the result is zero, or it was asked too often.
    fn onion_dh(&mut self, epoch: u32, point: &[u8; 32]) -> Option<[u8; 32]>;
}

/// Inside a component the host answers.
#[cfg(all(target_arch = "wasm32", feature = "sdk"))]
impl Env for warren_sdk::Host {
    fn log(&mut self, level: Level, line: &str) {
        let level = match level {
            Level::Error => warren_sdk::Level::Error,
            Level::Warn => warren_sdk::Level::Warn,
            Level::Info => warren_sdk::Level::Info,
            Level::Debug => warren_sdk::Level::Debug,
        };
        Self::log(self, level, line);
    }

    fn random(&mut self, bytes: &mut [u8]) {
        Self::random(self, bytes);
    }

    fn onion_dh(&mut self, epoch: u32, point: &[u8; 32]) -> Option<[u8; 32]> {
        Self::onion_dh(self, epoch, point).ok()
    }
}

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

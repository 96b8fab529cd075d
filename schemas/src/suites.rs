//! Numbers of the handshake suites (docs/protocol.md, "Handshake"), and which one two sides take.

/// X25519, HKDF-SHA256, ChaCha20-Poly1305. Whoever takes part speaks it.
pub const X25519: u8 = 1;
/// Suite 1 with an ephemeral ML-KEM-768 besides.
pub const HYBRID: u8 = 2;

/// The suite of a handshake between us and a relay: the first of `ours`, which are best first, that
/// is among `theirs`. None when they have none in common.
#[must_use]
pub fn common(ours: &[u8], theirs: &[u8]) -> Option<u8> {
    ours.iter().copied().find(|suite| theirs.contains(suite))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_order_decides_and_theirs_does_not() {
        assert_eq!(common(&[HYBRID, X25519], &[X25519, HYBRID]), Some(HYBRID));
        assert_eq!(common(&[X25519, HYBRID], &[HYBRID, X25519]), Some(X25519));
        assert_eq!(common(&[HYBRID, X25519], &[X25519, 9]), Some(X25519));
        assert_eq!(common(&[X25519], &[HYBRID]), None);
        assert_eq!(common(&[], &[X25519]), None);
    }
}

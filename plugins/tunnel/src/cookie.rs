//! The stateless cookie that proves that an initiator receives at its address.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use warren_schemas::{LinkId, Timestamp};
use zeroize::Zeroizing;

use crate::crypto::{Secret, equal, hmac};

/// Bytes of a cookie.
pub const COOKIE_LEN: usize = 32;
/// Half of the longest time for which a cookie is valid.
pub const COOKIE_BUCKET: Duration = Duration::from_secs(30);

/// The node's cookie key.
pub struct CookieKey(Secret);

impl CookieKey {
    /// Takes the key's bytes.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// The cookie for whoever sent LINK with this id and key from this address.
    #[must_use]
    pub fn make(
        &self,
        now: Timestamp,
        source: SocketAddr,
        initiator: LinkId,
        x: &[u8; 32],
    ) -> [u8; COOKIE_LEN] {
        self.mac(bucket(now), source, initiator, x)
    }

    /// Whether `cookie` was made for the same in the last 30 to 60 s.
    #[must_use]
    pub fn check(
        &self,
        now: Timestamp,
        source: SocketAddr,
        initiator: LinkId,
        x: &[u8; 32],
        cookie: &[u8; COOKIE_LEN],
    ) -> bool {
        let now = bucket(now);
        [Some(now), now.checked_sub(1)]
            .into_iter()
            .flatten()
            .any(|bucket| equal(cookie, &self.mac(bucket, source, initiator, x)))
    }

    fn mac(&self, bucket: u64, source: SocketAddr, initiator: LinkId, x: &[u8; 32]) -> [u8; COOKIE_LEN] {
        let address = match source.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let parts: [&[u8]; 6] = [
            b"warren cookie 1",
            &address,
            &source.port().to_be_bytes(),
            &initiator.0.to_be_bytes(),
            x,
            &bucket.to_be_bytes(),
        ];
        *hmac(&*self.0, &parts)
    }
}

fn bucket(now: Timestamp) -> u64 {
    now.as_micros() / 1_000_000 / COOKIE_BUCKET.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_for_its_address_id_key_and_time_only() {
        let key = CookieKey::new([7; 32]);
        let (now, source, id, x) =
            (Timestamp::from_micros(90_000_000), "192.0.2.1:7".parse().unwrap(), LinkId(5), [9; 32]);
        let cookie = key.make(now, source, id, &x);
        assert!(key.check(now, source, id, &x, &cookie));
        assert!(key.check(Timestamp::from_micros(149_999_999), source, id, &x, &cookie));
        assert!(!key.check(Timestamp::from_micros(150_000_000), source, id, &x, &cookie));
        assert!(!key.check(Timestamp::from_micros(89_999_999), source, id, &x, &cookie));
        assert!(!key.check(now, "192.0.2.1:8".parse().unwrap(), id, &x, &cookie));
        assert!(!key.check(now, "192.0.2.2:7".parse().unwrap(), id, &x, &cookie));
        assert!(!key.check(now, source, LinkId(6), &x, &cookie));
        assert!(!key.check(now, source, id, &[8; 32], &cookie));
        assert!(!CookieKey::new([8; 32]).check(now, source, id, &x, &cookie));
        let mut flipped = cookie;
        flipped[31] ^= 1;
        assert!(!key.check(now, source, id, &x, &flipped));
        assert!(!key.check(now, source, id, &x, &[0; 32]));
    }

    #[test]
    fn an_address_and_its_mapped_form_are_one() {
        let key = CookieKey::new([7; 32]);
        let now = Timestamp::from_micros(5);
        let cookie = key.make(now, "192.0.2.1:7".parse().unwrap(), LinkId(5), &[1; 32]);
        assert!(key.check(now, "[::ffff:192.0.2.1]:7".parse().unwrap(), LinkId(5), &[1; 32], &cookie));
    }
}

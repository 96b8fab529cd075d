//! A download through a SOCKS door, whose every byte is compared while it comes.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::Context;

use crate::network::Network;
use crate::process::Process;
use crate::web::pattern;

/// A running download of [`crate::web::WebServer`].
pub struct Fetch {
    curl: Process,
    got: Arc<AtomicU64>,
    reader: Option<JoinHandle<bool>>,
}

impl Fetch {
    /// Starts to fetch `url` through `hops` hops, at most `rate` bytes a second.
    ///
    /// # Errors
    /// When there is no client, or no curl.
    pub fn start(network: &Network, url: &str, hops: u8, rate: u64) -> anyhow::Result<Self> {
        Self::start_as(network, url, &format!("h{hops}"), rate)
    }

    /// The same for a user name of the SOCKS door, which names hops and isolation; rate 0 is no limit.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_as(network: &Network, url: &str, user: &str, rate: u64) -> anyhow::Result<Self> {
        let client = network.client().context("the network has no client")?;
        let socks = client.socks().context("the client has no SOCKS door")?;
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--socks5-hostname", socks]);
        curl.args(["--proxy-user", &format!("{user}:{}", network.token())]);
        curl.args(["--limit-rate", &rate.to_string(), url]);
        // A proxy of the surroundings must not come between.
        curl.env_remove("ALL_PROXY").env("NO_PROXY", "").env("no_proxy", "");
        let mut curl = Process::start(curl.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let output = curl.child().stdout.take().context("curl has no output")?;
        let got = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&got);
        let reader = std::thread::spawn(move || is_pattern(output, &count));
        Ok(Self { curl, got, reader: Some(reader) })
    }

    /// Bytes that came so far.
    #[must_use]
    pub fn got(&self) -> u64 {
        self.got.load(Ordering::Relaxed)
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.curl.ended().is_none()
    }

    /// Waits for its end as long as `go_on` says so. Answers whether `length` bytes came, all of them
    /// right.
    pub fn finish(mut self, length: u64, go_on: impl FnMut() -> bool) -> bool {
        let succeeded = self.curl.wait(go_on).is_some_and(|status| status.success());
        let equal = self.reader.take().is_some_and(|reader| reader.join().unwrap_or(false));
        succeeded && equal && self.got() == length
    }
}

/// Whether the bytes are the server's, to their end.
fn is_pattern(mut from: impl Read, count: &AtomicU64) -> bool {
    let mut buffer = vec![0; 1 << 16];
    let mut offset = 0;
    loop {
        let Ok(length) = from.read(&mut buffer) else { return false };
        let got = buffer.get(..length).unwrap_or_default();
        if got.is_empty() {
            return true;
        }
        if !got.iter().zip(offset..).all(|(byte, at)| *byte == pattern(at)) {
            return false;
        }
        offset += length;
        count.store(offset as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_is_not_the_servers_is_seen() {
        let mut bytes: Vec<u8> = (0..300_000).map(pattern).collect();
        let count = AtomicU64::new(0);
        assert!(is_pattern(bytes.as_slice(), &count));
        assert_eq!(count.load(Ordering::Relaxed), 300_000);
        bytes[299_999] ^= 1;
        assert!(!is_pattern(bytes.as_slice(), &count));
        assert!(!is_pattern(&bytes[1..], &count));
    }
}

//! One download by curl, through a SOCKS door.

use std::io::Read;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::process::Process;

/// A running curl that throws away what it fetches.
pub struct Curl {
    process: Process,
    bytes: u64,
}

/// How a download went.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Fetched {
    /// From the start to the first byte of the answer, in seconds.
    pub first_byte_s: f64,
    /// From the start to the last byte, in seconds.
    pub seconds: f64,
}

impl Curl {
    /// Starts to fetch `url`, which has `bytes` bytes, through the SOCKS5 door at `socks`, whose user and
    /// password are `login` as `user:password`. Names are resolved at the other end.
    ///
    /// # Errors
    /// When there is no curl.
    pub fn start(socks: &str, login: &str, url: &str, bytes: u64) -> anyhow::Result<Self> {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--fail",
            "--output",
            "/dev/null",
            "--socks5-hostname",
            socks,
        ]);
        curl.args(["--proxy-user", login]);
        curl.args(["--write-out", "%{time_starttransfer} %{time_total} %{size_download}", url]);
        // A proxy of the surroundings must not come between.
        curl.env_remove("ALL_PROXY").env("NO_PROXY", "").env("no_proxy", "");
        Ok(Self { process: Process::start(curl.stdin(Stdio::null()).stdout(Stdio::piped()))?, bytes })
    }

    /// Waits for its end as long as `go_on` says so.
    ///
    /// # Errors
    /// When `go_on` said no, when curl failed, or when not all bytes came.
    pub fn finish(mut self, go_on: impl FnMut() -> bool) -> anyhow::Result<Fetched> {
        let status = self.process.wait(go_on).context("interrupted")?;
        let mut said = String::new();
        if let Some(output) = &mut self.process.child().stdout {
            output.read_to_string(&mut said)?;
        }
        match read(&said) {
            Some((fetched, got)) if status.success() && got == self.bytes => Ok(fetched),
            _ => bail!("a download failed ({status}): {said}"),
        }
    }
}

/// What curl says, and how many bytes came.
fn read(said: &str) -> Option<(Fetched, u64)> {
    let mut numbers = said.split(' ');
    let (first_byte_s, seconds) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some((Fetched { first_byte_s, seconds }, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_curl_says_is_read() {
        let fetched = Fetched { first_byte_s: 0.005, seconds: 3.5 };
        assert_eq!(read("0.005 3.5 200000000"), Some((fetched, 200_000_000)));
        assert_eq!(read(""), None);
        assert_eq!(read("0.1 0.2"), None);
    }
}

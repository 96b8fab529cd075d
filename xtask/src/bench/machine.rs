//! Which machine measured, and when.

use std::fs;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde::Serialize;

/// What figures are worth nothing without.
#[derive(Clone, Serialize)]
pub(super) struct Machine {
    /// UTC.
    pub(super) date: String,
    cpu: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
    rustc: String,
    /// Runnable processes in the last minute, before the measurement: proc(5), `/proc/loadavg`.
    load: f64,
}

impl Machine {
    /// This one, now.
    pub(super) fn here() -> anyhow::Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        let kib: u64 = field(&meminfo, "MemTotal")
            .and_then(|value| value.trim_end_matches(" kB").parse().ok())
            .unwrap_or(0);
        let rustc = Command::new("rustc").arg("--version").output().context("cannot start rustc")?;
        let load = fs::read_to_string("/proc/loadavg")?;
        Ok(Self {
            date: today(),
            cpu: field(&cpuinfo, "model name").unwrap_or("of an unknown kind").to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: (kib as f64 / (1 << 20) as f64).round() as u64,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            rustc: String::from_utf8_lossy(&rustc.stdout).split(' ').nth(1).unwrap_or("unknown").to_owned(),
            load: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default(),
        })
    }

    /// In a sentence.
    pub(super) fn sentence(&self) -> String {
        let Self { date, cpu, cores, memory_gib, kernel, rustc, .. } = self;
        format!("{date}; {cores} cores of {cpu}, {memory_gib} GiB, Linux {kernel}, loopback, Rust {rustc}")
    }
}

/// The value of `name: value`, the first of them.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.split_once(':')?.1.trim()))
}

#[expect(clippy::disallowed_methods, reason = "a measurement has a date")]
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    date(seconds / 86_400)
}

/// Days since 1970-01-01 as a date of the Gregorian calendar.
fn date(mut days: u64) -> String {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(11_017), "2000-03-01");
        assert_eq!(date(20_453), "2025-12-31");
        assert_eq!(date(20_454), "2026-01-01");
    }

    #[test]
    fn a_field_is_found() {
        assert_eq!(field("a\t: 1\nmodel name\t: AMD X: 2\n", "model name"), Some("AMD X: 2"));
        assert_eq!(field("a: 1", "b"), None);
    }
}

//! The keys of the one directory authority.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::torrc::{free, make_private, relay_address};

/// Who the authority is and where.
pub(super) struct Authority {
    pub(super) or: SocketAddr,
    pub(super) dir: SocketAddr,
    v3_identity: String,
    fingerprint: String,
    more: String,
}

impl Authority {
    /// Makes its keys in `dir/authority`. `lines` are for everybody's configuration.
    pub(super) fn make(dir: &Path, tor: &Path, gencert: &Path, lines: &[String]) -> anyhow::Result<Self> {
        let (or, port) = (free(relay_address(1))?, free(relay_address(1))?);
        let data = dir.join("authority");
        let keys = data.join("keys");
        make_private(&data)?;
        make_private(&keys)?;
        make_certificate(gencert, &keys, port)?;
        let certificate = fs::read_to_string(keys.join("authority_certificate"))?;
        let v3_identity = field(&certificate, "fingerprint ").context("a certificate without fingerprint")?;
        Ok(Self {
            or,
            dir: port,
            v3_identity,
            fingerprint: make_fingerprint(tor, &data)?,
            more: lines.join("\n"),
        })
    }

    /// The line of everybody's configuration that names it, and what else was asked for.
    pub(super) fn lines(&self) -> String {
        let (or, v3, print, more) = (self.or.port(), &self.v3_identity, &self.fingerprint, &self.more);
        format!("DirAuthority authority orport={or} no-v2 v3ident={v3} {} {print}\n{more}", self.dir)
    }
}

/// The rest of the line that starts so.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
}

/// tor-gencert(1): identity key, signing key and certificate. The keys live as long as the network.
fn make_certificate(gencert: &Path, keys: &Path, dir: SocketAddr) -> anyhow::Result<()> {
    let mut command = Command::new(gencert);
    command.args(["--create-identity-key", "--passphrase-fd", "0", "-m", "12", "-a", &dir.to_string()]);
    for (option, file) in
        [("-i", "authority_identity_key"), ("-s", "authority_signing_key"), ("-c", "authority_certificate")]
    {
        command.arg(option).arg(keys.join(file));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start tor-gencert")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(b"of no use to anybody\n")?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("tor-gencert failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Makes the relay's identity, and returns its fingerprint: the last line, after the nickname. The authority
/// that `tor` is told of here is nobody: without one it asks for the public ones.
fn make_fingerprint(tor: &Path, data: &Path) -> anyhow::Result<String> {
    let mut command = Command::new(tor);
    command.args([
        "--defaults-torrc",
        "/dev/null",
        "--ignore-missing-torrc",
        "-f",
        "/nonexistent",
        "--quiet",
    ]);
    command.args(["--list-fingerprint", "--ORPort", "1", "--DataDirectory"]).arg(data);
    command.args(["--DirAuthority", &format!("nobody 127.0.0.1:1 {}", "F".repeat(40))]);
    let output = command.stdin(Stdio::null()).output().context("cannot start tor")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).and_then(|line| line.split_once(' '));
    match last {
        Some((_, fingerprint)) if output.status.success() => Ok(fingerprint.replace(' ', "")),
        _ => bail!("tor makes no fingerprint: {}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}

/// How many relays run, says the authority's consensus (dir-spec, "r" lines).
pub(super) fn relays_in_consensus(dir: &Path) -> usize {
    let consensus = fs::read_to_string(dir.join("authority/cached-microdesc-consensus")).unwrap_or_default();
    consensus.lines().filter(|line| line.starts_with("s ") && line.contains(" Running")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relays_that_run_count() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(relays_in_consensus(dir.path()), 0);
        fs::create_dir(dir.path().join("authority")).unwrap();
        let text =
            "r a x 2026\ns Authority Fast Running Valid\nr b y 2026\ns Exit Running Valid\nr c\ns Valid\n";
        fs::write(dir.path().join("authority/cached-microdesc-consensus"), text).unwrap();
        assert_eq!(relays_in_consensus(dir.path()), 2);
    }

    #[test]
    fn a_field_is_the_rest_of_its_line() {
        assert_eq!(field("dir-key\nfingerprint ABC \nx", "fingerprint "), Some("ABC".to_owned()));
        assert_eq!(field("x", "fingerprint "), None);
    }
}

//! What could not run here, noted where `cargo xtask test` reads it.

use std::io::Write;

use anyhow::{Context, ensure};

use crate::swarm;

/// Notes that the current test did not run, and why.
///
/// # Errors
/// When nobody collects such notes: a test that did nothing must not pass unseen.
pub fn note(why: &str) -> anyhow::Result<()> {
    let thread = std::thread::current();
    // libtest names its threads after the tests.
    let line = format!("{}: {}\n", thread.name().unwrap_or("a test"), why.replace('\n', " "));
    let file = std::env::var_os("WARREN_NOT_RUN").filter(|path| !path.is_empty());
    let file = file.with_context(|| format!("WARREN_NOT_RUN is unset, and did not run: {line}"))?;
    let mut file = std::fs::File::options().create(true).append(true).open(file)?;
    // One write, as tests append at the same time.
    let written = file.write(line.as_bytes())?;
    ensure!(written == line.len(), "the disk is full");
    Ok(())
}

/// Whether there is no libtorrent; then that is noted.
///
/// # Errors
/// When there is none and nobody collects notes.
pub fn lacks_libtorrent() -> anyhow::Result<bool> {
    match swarm::python() {
        Ok(_) => Ok(false),
        Err(error) => note(&format!("{error:#}")).map(|()| true),
    }
}

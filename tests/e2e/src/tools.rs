//! Programs the tests need besides `warren`: a Python with libtorrent.

use std::path::PathBuf;

/// The Python that can import libtorrent: `$WARREN_PYTHON`, or the virtual environment that
/// `cargo xtask setup` makes in the user's cache; none when there is none.
#[must_use]
pub fn python() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))?;
    let named = std::env::var_os("WARREN_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| cache.join("warren/venv/bin/python"));
    let output = std::process::Command::new(&python).args(["-c", "import libtorrent"]).output().ok()?;
    output.status.success().then_some(python)
}

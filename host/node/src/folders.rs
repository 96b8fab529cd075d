//! Where things lie: the platform's folders (XDG base directories) and a node's state folder.

use std::env;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Client runs (`get`, `seed`) of one user that may go on at one time.
const CLIENTS: usize = 64;
const LOCK: &str = "lock";

/// Why a state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another node uses it.
    #[error("{} is in use by another warren{}; stop it, or give this one another --state-dir", path.display(), by(pid))]
    InUse {
        /// Which folder.
        path: PathBuf,
        /// The other process, if it said.
        pid: String,
    },
    /// Other users can look into it, and it holds things we did not put there.
    #[error("{} can be entered by other users; run: chmod 700 {}", .0.display(), .0.display())]
    Open(PathBuf),
    /// The system refused.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// Its words.
        source: io::Error,
    },
}

fn by(pid: &str) -> String {
    if pid.is_empty() { String::new() } else { format!(" (process {pid})") }
}

fn base(variable: &str, below_home: &str) -> PathBuf {
    let named = env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || env::home_dir().unwrap_or_else(|| PathBuf::from("."));
    named.unwrap_or_else(|| home().join(below_home)).join("warren")
}

/// `$XDG_CONFIG_HOME/warren`.
#[must_use]
pub fn config() -> PathBuf {
    base("XDG_CONFIG_HOME", ".config")
}

/// `$XDG_STATE_HOME/warren`.
#[must_use]
pub fn state() -> PathBuf {
    base("XDG_STATE_HOME", ".local/state")
}

/// `$XDG_CACHE_HOME/warren`.
#[must_use]
pub fn cache() -> PathBuf {
    base("XDG_CACHE_HOME", ".cache")
}

/// The control socket of the node with this state folder.
#[must_use]
pub fn control_socket(state: &Path) -> PathBuf {
    state.join("control.sock")
}

/// A folder with mode 0700 that this process alone uses until it is dropped.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the folder if need be, checks that it is its owner's alone, and locks it.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        make_private(path)?;
        let failed = |doing| move |source| StateError::Io { doing, path: path.to_owned(), source };
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut lock = options.open(path.join(LOCK)).map_err(failed("writing to"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = (&mut lock).take(16).read_to_string(&mut pid);
                return Err(StateError::InUse { path: path.to_owned(), pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(failed("locking")(source)),
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(failed("writing to"))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The first free one of `client`, `client-2`, … within `base`: an identity apart from the
    /// node's own, so that downloads are not tied to a relay.
    ///
    /// # Errors
    /// When all are in use, or one cannot be made.
    pub fn open_client(base: &Path) -> Result<Self, StateError> {
        make_private(base)?;
        let mut taken = None;
        for number in 1..=CLIENTS {
            let name = if number == 1 { "client".to_owned() } else { format!("client-{number}") };
            match Self::open(&base.join(name)) {
                Err(error @ StateError::InUse { .. }) => taken = Some(error),
                other => return other,
            }
        }
        Err(taken.unwrap_or_else(|| StateError::Open(base.to_owned())))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes `path` with mode 0700, or checks that it is its owner's alone. An empty folder, or one
/// that a node used before, is tightened.
///
/// # Errors
/// See [`StateError`].
pub fn make_private(path: &Path) -> Result<(), StateError> {
    let failed = |doing| move |source| StateError::Io { doing, path: path.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("creating"))?;
    let found = fs::metadata(path).map_err(failed("reading"))?;
    if found.mode() & 0o077 == 0 {
        return Ok(());
    }
    let ours = path.join(LOCK).exists() || path.join("client").exists();
    let empty = fs::read_dir(path).map_err(failed("reading"))?.next().is_none();
    if !ours && !empty {
        return Err(StateError::Open(path.to_owned()));
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed("protecting"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_state_folder_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let _state = StateDir::open(&path).unwrap();
        assert_eq!((mode(&path), mode(&path.join(LOCK))), (0o700, 0o600));
    }

    #[test]
    fn two_nodes_never_share_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let first = StateDir::open(&path).unwrap();
        let text = StateDir::open(&path).unwrap_err().to_string();
        assert!(text.contains("in use") && text.contains(&std::process::id().to_string()), "{text}");
        drop(first);
        StateDir::open(&path).unwrap();
    }

    #[test]
    fn clients_take_the_first_free_place() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("state");
        let first = StateDir::open_client(&base).unwrap();
        let second = StateDir::open_client(&base).unwrap();
        assert_eq!(second.path(), base.join("client-2"));
        assert_eq!(first.path(), base.join("client"));
        drop(first);
        assert_eq!(StateDir::open_client(&base).unwrap().path(), base.join("client"));
    }

    #[test]
    fn an_open_folder_with_other_things_in_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shared");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(path.join("photo"), "").unwrap();
        assert!(matches!(StateDir::open(&path), Err(StateError::Open(_))));
        assert_eq!(mode(&path), 0o755);
        fs::remove_file(path.join("photo")).unwrap();
        StateDir::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
    }
}

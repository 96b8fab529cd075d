//! The node's secrets: who it is (`identity.key`), what it proves as a last hop (`stream.key`) and
//! its onion keys (`onion.keys`). Files of mode 0600, made once and whole, refused when others can
//! read them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use warren_schemas::Timestamp;
use zeroize::Zeroizing;

/// How long an onion key is the newest (design: rotated every 7 days).
pub const ROTATION: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long it is answered for after that: the longest lifetime of a descriptor that names it.
pub const OVERLAP: Duration = warren_schemas::descriptor::MAX_LIFETIME;

/// First bytes of `onion.keys`: what it is, and version 1.
const MAGIC: [u8; 8] = *b"warrenk1";
/// Epoch u32 and time of making u64, little endian, and the secret.
const RECORD: usize = 4 + 8 + 32;
/// No file of ours is longer: the magic and four keys.
const LONGEST: usize = MAGIC.len() + 4 * RECORD;

/// Why a secret cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Others can read it.
    #[error("{} can be read by other users (mode {mode:o}); consider it lost, or run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to another user, or is no plain file.
    #[error("{} is not a plain file of this user", .0.display())]
    Foreign(PathBuf),
    /// It is not what we wrote.
    #[error("{} is damaged: {detail}; restore it, or remove it to start with a new one", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        detail: &'static str,
    },
    /// The system refused.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Its words.
        source: io::Error,
    },
}

/// 32 secret bytes, wiped when dropped.
pub type Secret = Zeroizing<[u8; 32]>;

/// One onion key as it lies on disk.
#[derive(Clone)]
pub struct OnionKeyFile {
    /// Its number.
    pub epoch: u32,
    /// When it was made.
    pub made: Timestamp,
    /// X25519 secret.
    pub secret: Secret,
}

impl OnionKeyFile {
    /// From when on it is no longer answered for.
    #[must_use]
    pub fn accept_until(&self) -> Timestamp {
        self.made.after(ROTATION).after(OVERLAP)
    }

    /// When a newer one is due.
    #[must_use]
    pub fn rotate_at(&self) -> Timestamp {
        self.made.after(ROTATION)
    }
}

/// The secret of this name in `state`, made at the first call.
///
/// # Errors
/// See [`SecretError`].
pub fn secret(state: &Path, name: &str) -> Result<Secret, SecretError> {
    let path = state.join(name);
    if let Some(bytes) = read(&path)? {
        let bytes = bytes.as_slice().try_into();
        return bytes.map(Zeroizing::new).map_err(|_| SecretError::Damaged { path, detail: "not 32 bytes" });
    }
    let secret = random(&path)?;
    write(&path, &*secret)?;
    Ok(secret)
}

/// The onion keys in `state`, newest first, at most two: a new one is made when none is there or
/// the newest is due, and those no longer answered for are forgotten.
///
/// # Errors
/// See [`SecretError`].
pub fn onion_keys(state: &Path, now: Timestamp) -> Result<Vec<OnionKeyFile>, SecretError> {
    let path = state.join("onion.keys");
    let mut keys = read(&path)?.map_or_else(|| Ok(Vec::new()), |bytes| decode(&bytes, &path))?;
    let held = keys.len();
    keys.retain(|key| now < key.accept_until());
    let epoch = keys.first().map(|key| key.epoch);
    let due = keys.first().is_none_or(|newest| now >= newest.rotate_at());
    if due {
        // Epochs follow the calendar when there is none to follow, so that no number returns.
        let week = u32::try_from(now.as_micros() / 1_000_000 / ROTATION.as_secs()).unwrap_or(0);
        let epoch = epoch.map_or(week, |last| last.wrapping_add(1).max(week));
        keys.insert(0, OnionKeyFile { epoch, made: now, secret: random(&path)? });
    }
    if due || keys.len() != held {
        write(&path, &encode(&keys))?;
    }
    Ok(keys)
}

fn encode(keys: &[OnionKeyFile]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST));
    bytes.extend_from_slice(&MAGIC);
    for key in keys.iter().take(2) {
        bytes.extend_from_slice(&key.epoch.to_le_bytes());
        bytes.extend_from_slice(&key.made.as_micros().to_le_bytes());
        bytes.extend_from_slice(&*key.secret);
    }
    bytes
}

fn decode(bytes: &[u8], path: &Path) -> Result<Vec<OnionKeyFile>, SecretError> {
    let damaged = |detail| SecretError::Damaged { path: path.to_owned(), detail };
    let (records, rest) =
        bytes.strip_prefix(&MAGIC).ok_or_else(|| damaged("not a key file"))?.as_chunks::<RECORD>();
    if !rest.is_empty() {
        return Err(damaged("its length is not that of whole keys"));
    }
    records.iter().map(|record| record_of(record).ok_or_else(|| damaged("a key is not readable"))).collect()
}

fn record_of(record: &[u8; RECORD]) -> Option<OnionKeyFile> {
    let (epoch, rest) = record.split_first_chunk()?;
    let (made, secret) = rest.split_first_chunk()?;
    Some(OnionKeyFile {
        epoch: u32::from_le_bytes(*epoch),
        made: Timestamp::from_micros(u64::from_le_bytes(*made)),
        secret: Zeroizing::new(secret.try_into().ok()?),
    })
}

fn random(path: &Path) -> Result<Secret, SecretError> {
    let mut secret = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *secret).map_err(|error| SecretError::Io {
        doing: "making a key for",
        path: path.to_owned(),
        source: io::Error::other(error.to_string()),
    })?;
    Ok(secret)
}

/// The content of a private file; none when there is no such file.
fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, SecretError> {
    let failed = |source| SecretError::Io { doing: "reading", path: path.to_owned(), source };
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() || found.uid() != owner() {
        return Err(SecretError::Foreign(path.to_owned()));
    }
    if found.mode() & 0o077 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode: found.mode() & 0o777 });
    }
    // Room for all of it at once: a buffer that grew would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 1));
    (&file).take(LONGEST as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > LONGEST {
        return Err(SecretError::Damaged { path: path.to_owned(), detail: "too long" });
    }
    Ok(Some(bytes))
}

fn owner() -> u32 {
    // SAFETY: geteuid takes nothing, cannot fail and touches no memory.
    unsafe { libc::geteuid() }
}

/// Puts a private file in its place whole: written beside it, synced, renamed. The state folder's
/// lock keeps other nodes away.
fn write(path: &Path, bytes: &[u8]) -> Result<(), SecretError> {
    let failed = |source| SecretError::Io { doing: "writing", path: path.to_owned(), source };
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)?;
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_secret_is_made_once_and_private() {
        let state = tempfile::tempdir().unwrap();
        let first = secret(state.path(), "identity.key").unwrap();
        assert_eq!(*first, *secret(state.path(), "identity.key").unwrap());
        assert_ne!(*first, *secret(state.path(), "stream.key").unwrap());
        let mode = fs::metadata(state.path().join("identity.key")).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 2, "nothing is left beside");
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let state = tempfile::tempdir().unwrap();
        secret(state.path(), "identity.key").unwrap();
        let path = state.path().join("identity.key");
        for mode in [0o644, 0o640, 0o604] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let text = secret(state.path(), "identity.key").unwrap_err().to_string();
            assert!(text.contains("chmod 600"), "{text}");
        }
    }

    #[test]
    fn damaged_and_foreign_files_are_refused_and_kept() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("identity.key");
        write(&path, b"short").unwrap();
        assert!(matches!(secret(state.path(), "identity.key"), Err(SecretError::Damaged { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"short");
        symlink(&path, state.path().join("stream.key")).unwrap();
        assert!(matches!(secret(state.path(), "stream.key"), Err(SecretError::Io { .. })));
        write(&state.path().join("onion.keys"), b"warrenk1 and more").unwrap();
        assert!(matches!(onion_keys(state.path(), NOW), Err(SecretError::Damaged { .. })));
        write(&state.path().join("onion.keys"), &[0; LONGEST + 1]).unwrap();
        assert!(matches!(onion_keys(state.path(), NOW), Err(SecretError::Damaged { .. })));
    }

    #[test]
    fn onion_keys_rotate_and_the_last_one_is_kept_while_its_descriptors_live() {
        let state = tempfile::tempdir().unwrap();
        let first = onion_keys(state.path(), NOW).unwrap();
        assert_eq!(first.len(), 1);
        let later = NOW.after(ROTATION - HOUR);
        assert_eq!(*onion_keys(state.path(), later).unwrap()[0].secret, *first[0].secret);
        let rotated = onion_keys(state.path(), NOW.after(ROTATION)).unwrap();
        assert_eq!(rotated.len(), 2);
        assert_eq!(rotated[0].epoch, first[0].epoch + 1);
        assert_ne!(*rotated[0].secret, *first[0].secret);
        assert_eq!(*rotated[1].secret, *first[0].secret);
        assert_eq!(onion_keys(state.path(), NOW.after(ROTATION + OVERLAP - HOUR)).unwrap().len(), 2);
        let forgotten = onion_keys(state.path(), NOW.after(ROTATION + OVERLAP)).unwrap();
        assert_eq!(forgotten.len(), 1);
        assert_eq!(forgotten[0].epoch, rotated[0].epoch);
        let long_after = onion_keys(state.path(), NOW.after(ROTATION * 50)).unwrap();
        assert_eq!(long_after.len(), 1);
        assert!(long_after[0].epoch > rotated[0].epoch);
    }

    #[test]
    fn an_interrupted_write_does_not_stand_in_the_way() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join("identity.new"), "half").unwrap();
        secret(state.path(), "identity.key").unwrap();
        assert!(!state.path().join("identity.new").exists());
    }
}

//! Compiled code on disk, so that the next start takes milliseconds.
//!
//! A file's name is the SHA-256 of the component and of everything in the engine that compiled
//! code depends on. Its content is the code and the code's SHA-256. Loading compiled code is
//! running it, so the folder is the user's own with mode 0700 and a file is believed only when it
//! is complete: a torn write or a bad disk must not reach wasmtime.

use std::fs::{self, DirBuilder, Permissions};
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

const DIGEST: usize = 32;
const EXTENSION: &str = "cwasm";
/// Files that are kept; the oldest go first.
const FILES: usize = 16;

pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Makes the folder, or takes an existing one if it is ours and closes it to others.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let metadata = fs::symlink_metadata(folder)?;
        // SAFETY: geteuid has no preconditions and cannot fail.
        let own = metadata.uid() == unsafe { libc::geteuid() };
        if !metadata.is_dir() || !own {
            return Err(io::Error::other("not a folder of this user"));
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        }
        Ok(Self { folder: folder.to_path_buf() })
    }

    /// The component, from its compiled form if there is one. Trouble with the file is logged and
    /// costs a compilation.
    pub(crate) fn component(&self, engine: &Engine, component: &[u8]) -> wasmtime::Result<Component> {
        let path = self.folder.join(key(engine, component)).with_extension(EXTENSION);
        if let Some(code) = read(&path) {
            // SAFETY: the bytes were written by this program (the folder admits no other user, the
            // digest shows that they are whole) and by an engine of the same configuration and
            // version (the name says so, and wasmtime checks again).
            match unsafe { Component::deserialize(engine, &code) } {
                Ok(compiled) => return Ok(compiled),
                Err(error) => tracing::warn!(path = %path.display(), %error, "compiled code is not taken"),
            }
        }
        let compiled = Component::from_binary(engine, component)?;
        let written =
            compiled.serialize().map_err(io::Error::other).and_then(|code| self.write(&path, &code));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "compiled code is not kept");
        }
        Ok(compiled)
    }

    fn write(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        let mut file = code.to_vec();
        file.extend_from_slice(&Sha256::digest(code));
        // A name of our own, so that two processes that compile at once do not mix their files.
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        fs::write(&fresh, file).and_then(|()| fs::rename(&fresh, path)).inspect_err(|_| {
            // It may never have come to be; there is nothing to say about that.
            fs::remove_file(&fresh).unwrap_or_default();
        })?;
        self.prune()
    }

    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                files.push((entry.metadata()?.modified()?, path));
            }
        }
        files.sort();
        let surplus = files.len().saturating_sub(FILES);
        files.iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

/// The code in a file, if it is whole.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut file = match fs::read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "compiled code cannot be read");
            return None;
        }
    };
    let length = file.len().checked_sub(DIGEST)?;
    let digest = file.split_off(length);
    if Sha256::digest(&file).as_slice() != digest {
        tracing::warn!(path = %path.display(), "compiled code is damaged");
        return None;
    }
    Some(file)
}

fn key(engine: &Engine, component: &[u8]) -> String {
    let mut sha = Feed(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut sha);
    sha.0.update(Sha256::digest(component));
    sha.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lets what can be hashed into a `Hasher` be hashed into SHA-256.
struct Feed(Sha256);

impl Hasher for Feed {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0
    }
}

//! Who vouches for a module: minisign keys, signatures, and checking them.
//!
//! Files are those of the minisign command line (<https://jedisct1.github.io/minisign/>): keys made there
//! sign here, and what was signed here verifies there. A signature lies beside its file, with `.minisig`
//! added to the name. Old signatures over the whole file instead of its hash are not taken.
//! I/O: reads the files it is given, writes key files and signatures; the crate reads randomness.

mod secret;

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Cursor, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use minisign::SignatureBox;
use sha2::{Digest, Sha256};
use warren_workers::plain_line;

pub use secret::{Generated, SecretFile, free, generate, read_password};

/// The longest module in bytes.
pub const MAX_MODULE: u64 = 64 << 20;
/// The longest file of a key, signature or password in bytes; real ones have some hundred.
const MAX_SMALL: u64 = 16 << 10;
/// Base64 of the 64 bytes of a signature over the comment: 88 characters, two of them padding.
const COMMENT_SIGNATURE: usize = 88;

/// Why a module is not vouched for, or a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// There is nothing to verify with.
    #[error("{} cannot be verified: no key is configured; put its signer's public key into plugins.keys", .0.display())]
    NoKey(PathBuf),
    /// The file has no signature.
    #[error("{} is not signed: there is no {}; make it with: warren plugin sign", module.display(), looked.display())]
    Missing {
        /// The file.
        module: PathBuf,
        /// Where its signature was looked for.
        looked: PathBuf,
    },
    /// What lies there is no signature.
    #[error("{} is not a minisign signature: {detail}", path.display())]
    Malformed {
        /// The signature's file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// Somebody signed it, but none of those who count.
    #[error("{} is signed by key {signer}, and the keys that count are {known}", module.display())]
    WrongKey {
        /// The file.
        module: PathBuf,
        /// The id of the key that signed.
        signer: String,
        /// The ids that count, with commas.
        known: String,
    },
    /// The signature does not belong to these bytes.
    #[error("{} is not what key {signer} signed: it was changed, or its signature was", module.display())]
    Changed {
        /// The file.
        module: PathBuf,
        /// The id of the key.
        signer: String,
    },
    /// Not a public key.
    #[error("{0} is neither a minisign public key nor a file of one")]
    PublicKey(String),
    /// Not a secret key.
    #[error("{} is not a minisign secret key: {detail}", path.display())]
    SecretKey {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A secret key without a password that others can read.
    #[error("{} has no password and can be read by other users (mode {mode:o}); consider it lost, or run: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// Its file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The password does not open the key.
    #[error("the password does not open {}", .0.display())]
    WrongPassword(PathBuf),
    /// A password file without one.
    #[error("{} holds no password in its first line", .0.display())]
    NoPassword(PathBuf),
    /// A file that is longer than it may be.
    #[error("{} is longer than the {limit} bytes it may have", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// Not a plain file.
    #[error("{} is not a file", .0.display())]
    NotAFile(PathBuf),
    /// A key is never written over another file.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// The key or signature could not be made.
    #[error("making a {what}: {detail}")]
    Making {
        /// `key` or `signature`.
        what: &'static str,
        /// The crate's words.
        detail: String,
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

/// A key that can verify.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey(minisign::PublicKey);

impl PublicKey {
    /// A key as it stands in the second line of a `.pub` file: 56 characters.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let key = minisign::PublicKey::from_base64(text.trim()).ok().map(Self)?;
        // "Ed": the only kind there is.
        (key.0.to_bytes().get(..2) == Some(b"Ed")).then_some(key)
    }

    /// A key from what a person gave: itself, or the path of its file.
    ///
    /// # Errors
    /// When it is neither.
    pub fn find(given: &str) -> Result<Self, SignatureError> {
        if let Some(key) = Self::read(given) {
            return Ok(key);
        }
        let text = small_text(Path::new(given)).map_err(|error| match error {
            SignatureError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                SignatureError::PublicKey(given.to_owned())
            }
            other => other,
        })?;
        let lines = text.lines().filter(|line| !line.starts_with("untrusted comment:"));
        lines.map(Self::read).next().flatten().ok_or_else(|| SignatureError::PublicKey(given.to_owned()))
    }

    /// What tells it from others: 16 hex digits, as minisign prints them.
    #[must_use]
    pub fn id(&self) -> String {
        key_id(self.0.keynum())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_base64())
    }
}

/// minisign prints the 8 bytes as one little-endian number.
fn key_id(keynum: &[u8]) -> String {
    keynum.iter().rev().map(|byte| format!("{byte:02X}")).collect()
}

/// Who signed a module, and what was said with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// The id of the key.
    pub signer: String,
    /// The comment that was signed too; one line.
    pub comment: String,
}

/// Where the signature of `module` lies.
#[must_use]
pub fn place_of(module: &Path) -> PathBuf {
    let mut name = module.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

/// The bytes of a module, at most [`MAX_MODULE`].
///
/// # Errors
/// When it is no plain file, longer, or cannot be read.
pub fn read_module(path: &Path) -> Result<Vec<u8>, SignatureError> {
    read_bounded(path, MAX_MODULE)
}

/// SHA-256 in hex.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks the signature beside `module`, whose content is `bytes`, by one of `keys`.
///
/// # Errors
/// [`SignatureError::Missing`] without a signature, [`SignatureError::NoKey`] without keys, and what is
/// wrong with it otherwise.
pub fn verify(module: &Path, bytes: &[u8], keys: &[PublicKey]) -> Result<Verified, SignatureError> {
    let place = place_of(module);
    let text = small_text(&place).map_err(|error| match error {
        SignatureError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            SignatureError::Missing { module: module.to_owned(), looked: place.clone() }
        }
        other => other,
    })?;
    if keys.is_empty() {
        return Err(SignatureError::NoKey(module.to_owned()));
    }
    let malformed = |detail: String| SignatureError::Malformed { path: place.clone(), detail };
    let signature = parse(&text).map_err(malformed)?;
    let signer = key_id(signature.keynum());
    let mut named = keys.iter().filter(|key| key.0.keynum() == signature.keynum()).peekable();
    if named.peek().is_none() {
        let known = keys.iter().map(PublicKey::id).collect::<Vec<_>>().join(", ");
        return Err(SignatureError::WrongKey { module: module.to_owned(), signer, known });
    }
    let opens = |key: &PublicKey| {
        minisign::verify(&key.0, &signature, Cursor::new(bytes), true, false, false).is_ok()
    };
    if !named.any(opens) {
        return Err(SignatureError::Changed { module: module.to_owned(), signer });
    }
    let comment = signature.trusted_comment().unwrap_or_default();
    Ok(Verified { signer, comment: plain_line(&comment) })
}

fn parse(text: &str) -> Result<SignatureBox, String> {
    // The crate takes a shorter one, and falls over it when it verifies.
    let whole = text
        .lines()
        .nth(3)
        .map(str::trim)
        .is_some_and(|last| last.len() == COMMENT_SIGNATURE && last.ends_with("==") && last.is_ascii());
    let signature = SignatureBox::from_string(text).map_err(|error| error.to_string())?;
    if !whole {
        return Err("the signature of its comment has a wrong length".into());
    }
    if !signature.is_prehashed() {
        return Err("it is of the old kind, which is not taken; sign the file anew".into());
    }
    Ok(signature)
}

fn small_text(path: &Path) -> Result<String, SignatureError> {
    let bytes = read_bounded(path, MAX_SMALL)?;
    // What is no text is no key or signature either: the parser says so.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, SignatureError> {
    let failed = |doing| move |source| SignatureError::Io { doing, path: path.to_owned(), source };
    // A pipe would keep the reader waiting before it could be seen that it is one.
    let options = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file: File = options.map_err(failed("opening"))?;
    if !file.metadata().map_err(failed("reading"))?.is_file() {
        return Err(SignatureError::NotAFile(path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed("reading"))?;
    if bytes.len() as u64 > limit {
        return Err(SignatureError::TooLong { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;

//! Keys that sign: making them, opening them, signing with them.

use std::fs::OpenOptions;
use std::io::{self, Cursor, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ct_codecs::{Base64, Decoder};
use minisign::{KeyPair, SecretKey, SecretKeyBox};
use warren_workers::plain_line;
use zeroize::Zeroizing;

use super::{PublicKey, SignatureError, place_of, read_module, small_text};

/// How the base64 of a secret key begins that is sealed with a password ("EdScB2").
const SEALED: &str = "RWRTY0Iy";
/// How that of one without begins ("Ed\0\0B2").
const OPEN: &str = "RWQAAEIy";
/// Bytes of a secret key: what it is 6, salt 32, limits 16, id 8, key 64, checksum.
const SECRET: usize = 6 + 32 + 16 + 8 + 64 + CHECKSUM;
/// Bytes of its checksum.
const CHECKSUM: usize = 32;

/// A key pair that was written down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Generated {
    /// The public half.
    pub public: PublicKey,
    /// Where the secret half lies, mode 0600.
    pub secret_file: PathBuf,
    /// Where the public half lies.
    pub public_file: PathBuf,
}

/// Where the public half of the key pair goes whose secret half goes to `out`.
fn public_half(out: &Path) -> PathBuf {
    match out.extension() {
        Some(ending) if ending != "pub" => out.with_extension("pub"),
        _ => {
            let mut name = out.as_os_str().to_owned();
            name.push(".pub");
            name.into()
        }
    }
}

/// Whether a key pair can go to `out`.
///
/// # Errors
/// When a file is there already.
pub fn free(out: &Path) -> Result<(), SignatureError> {
    let taken = [out.to_owned(), public_half(out)].into_iter().find(|path| path.symlink_metadata().is_ok());
    taken.map_or(Ok(()), |there| Err(SignatureError::Exists(there)))
}

/// Makes a key pair: the secret half goes to `out`, the public one beside it with the ending `.pub`.
/// Nothing is overwritten. Without a password whoever reads `out` can sign.
///
/// # Errors
/// When a file is there already or cannot be written.
pub fn generate(out: &Path, password: Option<&str>) -> Result<Generated, SignatureError> {
    free(out)?;
    let public_file = public_half(out);
    let making = |error: minisign::PError| SignatureError::Making { what: "key", detail: error.to_string() };
    let pair = match password {
        Some(password) => KeyPair::generate_encrypted_keypair(Some(password.to_owned())),
        None => KeyPair::generate_unencrypted_keypair(),
    };
    let KeyPair { pk, sk } = pair.map_err(making)?;
    let comment = format!("minisign {}secret key", if password.is_some() { "encrypted " } else { "" });
    let secret = Zeroizing::new(sk.to_box(Some(&comment)).map_err(making)?.into_string());
    let public = pk.to_box().map_err(making)?.into_string();
    create(out, 0o600, secret.as_bytes())?;
    create(&public_file, 0o644, public.as_bytes())?;
    Ok(Generated { public: PublicKey(pk), secret_file: out.to_owned(), public_file })
}

/// A secret key's file that was read: it says whether a password is needed.
pub struct SecretFile {
    path: PathBuf,
    text: Zeroizing<String>,
}

impl SecretFile {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, or everybody can read a key without a password.
    pub fn open(path: &Path) -> Result<Self, SignatureError> {
        let this = Self { path: path.to_owned(), text: Zeroizing::new(small_text(path)?) };
        if this.needs_password() {
            return Ok(this);
        }
        let failed = |source| SignatureError::Io { doing: "reading", path: path.to_owned(), source };
        let mode = path.metadata().map_err(failed)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SignatureError::Exposed { path: path.to_owned(), mode });
        }
        Ok(this)
    }

    /// Whether it is sealed with a password.
    #[must_use]
    pub fn needs_password(&self) -> bool {
        self.text.lines().nth(1).is_some_and(|line| line.starts_with(SEALED))
    }

    /// Signs `module`, and writes the signature beside it; an older one is replaced. `now` is in seconds
    /// since the Unix epoch. Takes about as long as a password takes to check, on purpose: 0.1 s and 32 MB,
    /// or 1 GB with keys of the minisign command line.
    ///
    /// # Errors
    /// When the key does not open or a file cannot be read or written.
    pub fn sign(&self, module: &Path, password: Option<&str>, now: u64) -> Result<PathBuf, SignatureError> {
        let bytes = read_module(module)?;
        let secret = self.unseal(password)?;
        let name = module.file_name().map(|name| plain_line(&name.to_string_lossy())).unwrap_or_default();
        let said = format!("timestamp:{now}\tfile:{name}\thashed");
        let making =
            |error: minisign::PError| SignatureError::Making { what: "signature", detail: error.to_string() };
        let comment = "signature from minisign secret key";
        let signature = minisign::sign(None, &secret, Cursor::new(&bytes), Some(&said), Some(comment));
        let text = signature.map_err(making)?.into_string();
        let (place, beside) = (place_of(module), module.with_extension("minisig.new"));
        let failed = |source| SignatureError::Io { doing: "writing", path: place.clone(), source };
        std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, &place)).map_err(failed)?;
        Ok(place)
    }

    /// A key that `minisign -G -W` made: without a password it writes no checksum either, which the crate
    /// takes for damage.
    fn unchecked(&self) -> Option<SecretKey> {
        let line = self.text.lines().nth(1)?;
        let bytes = Zeroizing::new(Base64::decode_to_vec(line.trim(), None).ok()?);
        let (_, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
        let open = bytes.len() == SECRET && line.starts_with(OPEN) && checksum.iter().all(|byte| *byte == 0);
        SecretKey::from_bytes(&bytes).ok().filter(|_| open)
    }

    fn unseal(&self, password: Option<&str>) -> Result<SecretKey, SignatureError> {
        let sealed = SecretKeyBox::from(String::clone(&self.text));
        let opened = match password.filter(|_| self.needs_password()) {
            Some(password) => sealed.into_secret_key(Some(password.to_owned())),
            None => match self.unchecked() {
                Some(key) => Ok(key),
                None => sealed.into_unencrypted_secret_key(),
            },
        };
        opened.map_err(|error| match error.kind() {
            minisign::ErrorKind::Verify if self.needs_password() => {
                SignatureError::WrongPassword(self.path.clone())
            }
            _ => SignatureError::SecretKey { path: self.path.clone(), detail: error.to_string() },
        })
    }
}

/// The first line of a password file.
///
/// # Errors
/// When it cannot be read, or the line is empty.
pub fn read_password(path: &Path) -> Result<Zeroizing<String>, SignatureError> {
    let text = Zeroizing::new(small_text(path)?);
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Zeroizing::new(line.to_owned())),
        _ => Err(SignatureError::NoPassword(path.to_owned())),
    }
}

fn create(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), SignatureError> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all())).map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            return SignatureError::Exists(path.to_owned());
        }
        SignatureError::Io { doing: "writing", path: path.to_owned(), source }
    })
}

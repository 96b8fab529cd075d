use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// A key, and what the minisign command line signed with it, from the tests of minisign-verify 0.2.5.
const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
const SIGNED: &str = "untrusted comment: signature from minisign secret key\n\
    RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n\
    trusted comment: timestamp:1633700835\tfile:test\tprehashed\n\
    wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==\n";
/// The same key over the whole of `test`, as minisign did before 0.10.
const OLD: &str = "untrusted comment: signature from minisign secret key\n\
    RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=\n\
    trusted comment: timestamp:1555779966\tfile:test\n\
    QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==\n";

struct Desk {
    folder: tempfile::TempDir,
    module: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let module = folder.path().join("new.wasm");
        fs::write(&module, "test").unwrap();
        Self { folder, module }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, signature: &str) {
        fs::write(place_of(&self.module), signature).unwrap();
    }

    fn verify(&self, keys: &[PublicKey]) -> Result<Verified, SignatureError> {
        verify(&self.module, &read_module(&self.module).unwrap(), keys)
    }

    fn refusal(&self, keys: &[PublicKey]) -> String {
        self.verify(keys).unwrap_err().to_string()
    }
}

fn key() -> PublicKey {
    PublicKey::read(KEY).unwrap()
}

#[test]
fn what_the_minisign_command_signed_is_verified() {
    let desk = Desk::new();
    desk.put(SIGNED);
    let verified = desk.verify(&[key()]).unwrap();
    assert_eq!(verified.signer, "E7620F1842B4E81F", "as minisign prints it");
    assert_eq!(verified.comment, "timestamp:1633700835 file:test prehashed");
}

#[test]
fn what_is_signed_here_is_verified_and_has_the_form_of_minisign() {
    let desk = Desk::new();
    for (name, password) in [("open.key", None), ("sealed.key", Some("a long one"))] {
        let made = generate(&desk.path(name), password).unwrap();
        let secret = SecretFile::open(&made.secret_file).unwrap();
        assert_eq!(secret.needs_password(), password.is_some());
        let place = secret.sign(&desk.module, password, 1_700_000_000).unwrap();
        assert_eq!(place, desk.path("new.wasm.minisig"));
        let verified = desk.verify(&[key(), made.public.clone()]).unwrap();
        assert_eq!(verified.signer, made.public.id());
        assert_eq!(verified.comment, "timestamp:1700000000 file:new.wasm hashed");

        let text = fs::read_to_string(&place).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines.len(), lines[1].len(), lines[3].len()), (4, 100, 88));
        assert!(lines[0].starts_with("untrusted comment: ") && lines[2].starts_with("trusted comment: "));
        assert!(lines[1].starts_with("RU"), "a signature over the hash");
        let public = fs::read_to_string(&made.public_file).unwrap();
        assert_eq!(public.lines().nth(1), Some(made.public.to_string().as_str()));
        assert!(public.contains(&format!("minisign public key: {}", made.public.id())), "{public}");
        assert_eq!(PublicKey::find(made.public_file.to_str().unwrap()).unwrap(), made.public);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&made.secret_file), mode(&made.public_file) & 0o600), (0o600, 0o600));
    }
}

#[test]
fn each_way_in_which_it_is_not_vouched_for_is_told_apart() {
    let desk = Desk::new();
    let text = desk.refusal(&[key()]);
    assert!(text.contains("is not signed") && text.contains("new.wasm.minisig"), "{text}");
    desk.put(SIGNED);
    let text = desk.refusal(&[]);
    assert!(text.contains("no key is configured") && text.contains("plugins.keys"), "{text}");
    let other = generate(&desk.path("other.key"), None).unwrap().public;
    let text = desk.refusal(std::slice::from_ref(&other));
    assert!(text.contains("signed by key E7620F1842B4E81F") && text.contains(&other.id()), "{text}");
    fs::write(&desk.module, "tesT").unwrap();
    let text = desk.refusal(&[other, key()]);
    assert!(text.contains("is not what key E7620F1842B4E81F signed"), "{text}");
}

#[test]
fn every_changed_bit_of_a_signature_is_refused() {
    let desk = Desk::new();
    for (line, column) in (0..4).flat_map(|line| (0..100).map(move |column| (line, column))) {
        let mut lines: Vec<Vec<u8>> = SIGNED.lines().map(|line| line.as_bytes().to_vec()).collect();
        let Some(byte) = lines[line].get_mut(column) else { continue };
        *byte ^= 1;
        desk.put(&String::from_utf8(lines.join(&b'\n')).unwrap());
        let verified = desk.verify(&[key()]);
        // The first line says of itself that nobody vouches for it.
        let comment = line == 0 && column >= "untrusted comment: ".len();
        // The last four bits before the padding belong to no byte; strict base64 refuses them.
        assert_eq!(verified.is_ok(), comment, "line {line}, column {column}: {verified:?}");
    }
}

#[test]
fn what_is_no_signature_is_refused_without_a_panic() {
    let desk = Desk::new();
    let short = SIGNED.replace("BQkJAgAooBQ==", "");
    let nothing = SIGNED.replace(
        "wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==",
        "AA==",
    );
    let stub = SIGNED.replace(
        "559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=",
        "",
    );
    for text in
        ["", "\n\n\n\n", "hello", "é\né\né\né\n", &short, &nothing, &stub, &SIGNED.replace('\n', "\r"), OLD]
    {
        desk.put(text);
        let refused = desk.refusal(&[key()]);
        assert!(refused.contains("is not a minisign signature"), "{text:?} -> {refused}");
    }
    fs::write(place_of(&desk.module), [0xff; 300]).unwrap();
    assert!(desk.refusal(&[key()]).contains("is not a minisign signature"));
    fs::write(place_of(&desk.module), vec![b'x'; 20_000]).unwrap();
    assert!(desk.refusal(&[key()]).contains("longer than the 16384 bytes"));
    fs::remove_file(place_of(&desk.module)).unwrap();
    fs::create_dir(place_of(&desk.module)).unwrap();
    assert!(desk.refusal(&[key()]).contains("is not a file"));
}

#[test]
fn a_key_file_is_never_written_over() {
    let desk = Desk::new();
    let made = generate(&desk.path("mine.key"), None).unwrap();
    assert_eq!(made.public_file, desk.path("mine.pub"));
    let before = fs::read(&made.secret_file).unwrap();
    assert!(
        matches!(generate(&desk.path("mine.key"), None), Err(SignatureError::Exists(path)) if path == made.secret_file)
    );
    fs::write(desk.path("half.pub"), "precious").unwrap();
    assert!(matches!(generate(&desk.path("half.key"), None), Err(SignatureError::Exists(_))));
    assert!(!desk.path("half.key").exists());
    assert_eq!(fs::read(&made.secret_file).unwrap(), before);
    assert_eq!(generate(&desk.path("bare"), None).unwrap().public_file, desk.path("bare.pub"));
    assert_eq!(generate(&desk.path("x.pub"), None).unwrap().public_file, desk.path("x.pub.pub"));
}

#[test]
fn a_key_that_does_not_open_signs_nothing() {
    let desk = Desk::new();
    let sealed = generate(&desk.path("sealed.key"), Some("right")).unwrap();
    let secret = SecretFile::open(&sealed.secret_file).unwrap();
    let wrong = secret.sign(&desk.module, Some("wrong"), 0).unwrap_err();
    assert!(matches!(wrong, SignatureError::WrongPassword(_)), "{wrong}");
    assert!(secret.sign(&desk.module, None, 0).is_err());
    assert!(!place_of(&desk.module).exists());

    let open = generate(&desk.path("open.key"), None).unwrap();
    fs::set_permissions(&open.secret_file, fs::Permissions::from_mode(0o644)).unwrap();
    let Err(exposed) = SecretFile::open(&open.secret_file) else { panic!("it was taken") };
    assert!(exposed.to_string().contains("chmod 600"), "{exposed}");

    let public = SecretFile::open(&open.public_file);
    let refused = public.err().unwrap_or_else(|| panic!("a public key was taken for a secret one"));
    assert!(matches!(refused, SignatureError::Exposed { .. }), "{refused}");
    fs::set_permissions(&open.public_file, fs::Permissions::from_mode(0o600)).unwrap();
    let public = SecretFile::open(&open.public_file).unwrap();
    let refused = public.sign(&desk.module, None, 0).unwrap_err();
    assert!(matches!(refused, SignatureError::SecretKey { .. }), "{refused}");
}

/// What `minisign -G -W` of version 0.11 writes has no checksum: the same key without it signs too.
#[test]
fn an_open_key_without_a_checksum_signs_and_a_damaged_one_does_not() {
    use ct_codecs::{Base64, Decoder, Encoder};
    let desk = Desk::new();
    let made = generate(&desk.path("open.key"), None).unwrap();
    let text = fs::read_to_string(&made.secret_file).unwrap();
    let whole = Base64::decode_to_vec(text.lines().nth(1).unwrap(), None).unwrap();
    let write = |bytes: &[u8]| {
        let text = format!("untrusted comment: x\n{}\n", Base64::encode_to_string(bytes).unwrap());
        fs::write(&made.secret_file, text).unwrap();
        SecretFile::open(&made.secret_file).unwrap().sign(&desk.module, None, 0)
    };
    let mut bytes = whole.clone();
    bytes[whole.len() - 32..].fill(0);
    write(&bytes).unwrap();
    assert_eq!(desk.verify(std::slice::from_ref(&made.public)).unwrap().signer, made.public.id());
    bytes[whole.len() - 1] = 1;
    assert!(matches!(write(&bytes), Err(SignatureError::SecretKey { .. })));
    for length in [0, 31, 32, 100, whole.len() - 1] {
        assert!(matches!(write(&vec![0; length]), Err(SignatureError::SecretKey { .. })), "{length}");
        assert!(write(&whole[..length]).is_err(), "{length}");
    }
}

#[test]
fn public_keys_are_found_as_text_or_file() {
    let desk = Desk::new();
    assert_eq!(PublicKey::find(KEY).unwrap().to_string(), KEY);
    fs::write(desk.path("bare.pub"), format!("{KEY}\n")).unwrap();
    assert_eq!(PublicKey::find(desk.path("bare.pub").to_str().unwrap()).unwrap(), key());
    fs::write(desk.path("junk.pub"), "untrusted comment: x\nRWQf6LRC\n").unwrap();
    for given in [desk.path("junk.pub").to_str().unwrap(), "RWQf6", "no-such-file.pub", ""] {
        let text = PublicKey::find(given).unwrap_err().to_string();
        assert!(
            text.contains("neither a minisign public key nor a file of one") || given.is_empty(),
            "{text}"
        );
    }
    // 42 bytes of another kind than "Ed".
    assert!(PublicKey::read("RUQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3").is_none());
}

#[test]
fn passwords_come_from_the_first_line_of_a_file() {
    let desk = Desk::new();
    fs::write(desk.path("password"), "secret words \nand more\n").unwrap();
    assert_eq!(&**read_password(&desk.path("password")).unwrap(), "secret words ");
    fs::write(desk.path("password"), "\nsecond\n").unwrap();
    assert!(matches!(read_password(&desk.path("password")), Err(SignatureError::NoPassword(_))));
}

#[test]
fn a_module_has_a_bounded_size_and_a_known_hash() {
    let desk = Desk::new();
    // FIPS 180-2, B.1.
    assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    let file = File::create(&desk.module).unwrap();
    file.set_len(MAX_MODULE).unwrap();
    assert_eq!(read_module(&desk.module).unwrap().len() as u64, MAX_MODULE);
    file.set_len(MAX_MODULE + 1).unwrap();
    assert!(matches!(read_module(&desk.module), Err(SignatureError::TooLong { .. })));
    assert!(matches!(read_module(desk.folder.path()), Err(SignatureError::NotAFile(_))));
}

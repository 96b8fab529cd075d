//! Published and golden vectors, computed inside Wasm by the guest `probe`.

use warren_schemas::Timestamp;
use warren_workers::Worker;

use crate::host::{Seeded, SeededHost, factory, settings};

// The same checks that run natively beside the primitives.
#[path = "../../../plugins/tunnel/src/probe/published.rs"]
#[expect(unreachable_pub, reason = "public where it comes from")]
mod published;

/// Golden vectors, in the order of `warren_tunnel::vectors::NAMES`.
const GOLDEN: [(&str, &str); 4] = [
    ("circuit.txt", include_str!("../../../schemas/vectors/circuit.txt")),
    ("layers.txt", include_str!("../../../schemas/vectors/layers.txt")),
    ("link.txt", include_str!("../../../schemas/vectors/link.txt")),
    ("messages.txt", include_str!("../../../schemas/vectors/messages.txt")),
];

fn probe(worker: &mut dyn Worker, request: &[u8]) -> Vec<u8> {
    let answer = worker.control(Timestamp::from_micros(1), request).unwrap();
    let slot = answer.slot(0).unwrap();
    answer.bytes_of(&slot).to_vec()
}

fn worker() -> Box<dyn Worker> {
    factory(settings(), "probe").spawn(Box::new(SeededHost::new(1))).unwrap()
}

#[test]
fn published_vectors_hold_inside_wasm() {
    let mut worker = worker();
    let counts = published::check(&mut |request| probe(worker.as_mut(), request));
    assert_eq!(counts, published::EXPECTED);
}

/// No cell is longer than this, nor is what opening keeps at once.
const LONGEST: usize = 2048;

#[test]
fn cells_of_every_length_are_sealed_inside_wasm_as_by_the_crate() {
    let (mut worker, mut random) = (worker(), Seeded(8439));
    let mut content = vec![0; 65_000];
    random.fill(&mut content);
    for length in (0..=LONGEST).chain([LONGEST + 1, 5_000, content.len()]) {
        let (key, nonce): ([u8; 32], [u8; 12]) = (random.bytes(), random.bytes());
        // Four bytes for cells; others now and then.
        let associated = if length % 8 == 0 { &content[..length % 71] } else { b"cell" };
        let damage: [u8; 2] = random.bytes();
        let mut request = [&[11], &key[..], &nonce, &damage].concat();
        for field in [associated, &content[..length]] {
            request.extend(u16::try_from(field.len()).unwrap().to_be_bytes());
            request.extend(field);
        }
        // Its name: the fallback would agree with itself.
        let answer = probe(worker.as_mut(), &request);
        assert_eq!((answer[0], answer.get(17..)), (0, Some(&b"vectors"[..])), "{length} bytes");
    }
}

#[test]
fn golden_vectors_come_out_of_wasm_the_same() {
    let mut worker = worker();
    let names: Vec<_> = GOLDEN.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, warren_tunnel::vectors::NAMES);
    for (index, (name, text)) in GOLDEN.iter().enumerate() {
        let answer = probe(worker.as_mut(), &[8, u8::try_from(index).unwrap()]);
        assert_eq!(answer[0], 0, "{name}");
        assert_eq!(String::from_utf8_lossy(&answer[1..]), *text, "{name}");
    }
}

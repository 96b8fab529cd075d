//! Our cipher against the crate: the one in use here, and the one in use inside Wasm.

use std::cell::RefCell;

use warren_fixtures::component;
use warren_sandbox::{Sandbox, Settings};
use warren_schemas::Timestamp;
use warren_tunnel::probe::probe;
use warren_workers::{DhRefusal, LogLevel, Worker, WorkerFactory, WorkerHost};

use crate::input::{Input, field};

/// More than opening keeps, and than any cell has.
const LONGEST: usize = 4096;

struct Deaf;

impl WorkerHost for Deaf {
    fn log(&mut self, _: LogLevel, _: &str) {}
    fn random(&mut self, _: &mut [u8]) {}
    fn onion_dh(&mut self, _: u32, _: &[u8]) -> Result<[u8; 32], DhRefusal> {
        Err(DhRefusal::UnknownEpoch)
    }
}

thread_local! {
    static IN_WASM: RefCell<Box<dyn Worker>> = RefCell::new(worker());
}

fn worker() -> Box<dyn Worker> {
    let plugin = Sandbox::new(Settings::default()).unwrap().load("probe", &component("probe").unwrap());
    plugin.unwrap().spawn(Box::new(Deaf)).unwrap()
}

/// What the guest's probe answers.
fn in_wasm(request: &[u8]) -> Vec<u8> {
    IN_WASM.with_borrow_mut(|worker| {
        let answer = worker.control(Timestamp::from_micros(1), request).unwrap();
        answer.bytes_of(&answer.slot(0).unwrap()).to_vec()
    })
}

/// Key, nonce, place of the damage, length, associated data; the rest repeats as the content.
fn request(mut input: Input<'_>) -> Vec<u8> {
    let (key, nonce): ([u8; 32], [u8; 12]) = (input.array(), input.array());
    let (damage, length) = (input.word(), input.below(LONGEST + 1));
    let associated = usize::from(input.byte());
    let associated = input.take(associated);
    let pattern = input.rest();
    let content: Vec<u8> =
        pattern.iter().chain(pattern.is_empty().then_some(&0)).cycle().take(length).copied().collect();
    [&[11], &key[..], &nonce, &damage.to_be_bytes(), &field(associated), &field(&content)].concat()
}

/// Both answers: the name of the cipher and the tag.
pub(crate) fn run(input: &[u8]) {
    let request = request(Input::new(input));
    let (native, wasm) = (probe(&request), in_wasm(&request));
    assert_eq!(native.first(), Some(&0), "the native cipher is not the crate's");
    assert_eq!(wasm.first(), Some(&0), "the cipher inside Wasm is not the crate's");
    let tag = |answer: &[u8]| answer[1..17].to_vec();
    assert_eq!(tag(&native), tag(&wasm), "the crate differs from itself");
    assert_eq!(&wasm[17..], b"vectors", "the fallback would agree with itself");
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let lengths = [
        0_u16, 1, 15, 16, 17, 63, 64, 191, 192, 193, 320, 321, 448, 449, 1240, 1309, 1350, 1471, 1472, 1473,
        2000, 4096,
    ];
    let seed = |length: &u16| {
        let key: [u8; 32] = std::array::from_fn(|at| at as u8);
        [&key[..], &[7; 12], &length.to_be_bytes(), &length.to_be_bytes(), &[4], b"cell", b"content"].concat()
    };
    lengths.iter().map(seed).collect()
}

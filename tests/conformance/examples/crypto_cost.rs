//! What the primitives cost inside Wasm, natively and in `ring`: one after the other in every round,
//! in one thread, medians of the rounds. `cargo xtask bench crypto` runs it with WARREN_PLUGINS set;
//! arguments: the number of rounds, and `--json` for a last line of JSON.

use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use warren_fixtures::component;
use warren_sandbox::{Sandbox, Settings};
use warren_schemas::Timestamp;
use warren_workers::{DhRefusal, LogLevel, Worker, WorkerFactory, WorkerHost};

/// Bytes of a cell.
const CELL: u16 = 1350;
/// Cells that are sealed in one go: about 5 ms.
const CELLS: u32 = 4000;
/// Points that are computed in one go.
const POINTS: u32 = 100;
const KEY: [u8; 32] = [7; 32];

struct Deaf;

impl WorkerHost for Deaf {
    fn log(&mut self, _: LogLevel, _: &str) {}
    fn random(&mut self, _: &mut [u8]) {}
    fn onion_dh(&mut self, _: u32, _: &[u8]) -> Result<[u8; 32], DhRefusal> {
        Err(DhRefusal::UnknownEpoch)
    }
}

#[expect(clippy::disallowed_methods, reason = "a measurement of wall time")]
fn timed<T>(run: impl FnOnce() -> T) -> Duration {
    let start = std::time::Instant::now();
    black_box(run());
    start.elapsed()
}

/// The request of `warren_tunnel::probe` for many cells.
fn cells(with: u8) -> Vec<u8> {
    [&[9, with], &KEY[..], &CELLS.to_be_bytes(), &CELL.to_be_bytes()].concat()
}

/// The same for many points; 9 is the base point.
fn points() -> Vec<u8> {
    let mut base = [0; 32];
    base[0] = 9;
    [&[10], &KEY[..], &base, &POINTS.to_be_bytes()].concat()
}

fn in_wasm(worker: &mut dyn Worker, request: &[u8]) -> Duration {
    let mut answer = None;
    let time = timed(|| answer = worker.control(Timestamp::from_micros(1), request).ok());
    let done =
        answer.and_then(|answer| answer.slot(0).map(|slot| answer.bytes_of(&slot).first() == Some(&0)));
    assert_eq!(done, Some(true), "the probe did not do it");
    time
}

fn native(request: &[u8]) -> Duration {
    timed(|| assert_eq!(warren_tunnel::probe::probe(request).first(), Some(&0)))
}

fn ring(cell: &mut [u8]) -> Result<Duration, ring::error::Unspecified> {
    let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &KEY)?);
    let mut all = Ok(());
    let time = timed(|| {
        for number in 0..CELLS {
            let [a, b, c, d] = number.to_be_bytes();
            let nonce = Nonce::assume_unique_for_key([0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]);
            let tag = key.seal_in_place_separate_tag(nonce, Aad::from(b"cell"), cell);
            all = all.and(black_box(tag).map(drop));
        }
    });
    all.map(|()| time)
}

/// The medians, in the order of [`NAMES`].
fn measure(rounds: usize) -> Result<[Duration; 9], Box<dyn Error>> {
    let long = Duration::from_secs(60);
    let sandbox = Sandbox::new(Settings { control_cpu: long, wall: long, ..Settings::default() })?;
    let mut worker = sandbox.load("probe", &component("probe")?)?.spawn(Box::new(Deaf))?;
    let mut cell = vec![0; usize::from(CELL)];
    let mut times = [const { Vec::new() }; 9];
    for _ in 0..rounds {
        let round = [
            in_wasm(worker.as_mut(), &cells(0)),
            in_wasm(worker.as_mut(), &cells(3)),
            in_wasm(worker.as_mut(), &cells(4)),
            in_wasm(worker.as_mut(), &cells(1)),
            native(&cells(1)),
            native(&cells(0)),
            ring(&mut cell).map_err(|error| error.to_string())?,
            in_wasm(worker.as_mut(), &points()),
            native(&points()),
        ];
        times.iter_mut().zip(round).for_each(|(times, time)| times.push(time));
    }
    Ok(times.map(|mut times| {
        times.sort();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }))
}

const NAMES: [&str; 9] = [
    "seal, Wasm",
    "open, Wasm",
    "no tag, Wasm",
    "seal, Wasm, the crate",
    "seal, native, the crate",
    "seal, native, ours",
    "seal, native, ring",
    "X25519, Wasm",
    "X25519, native",
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut rounds = 15;
    let mut json = false;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--json" => json = true,
            number => rounds = number.parse::<usize>()?.max(1),
        }
    }
    let times = measure(rounds)?;
    let mb_s = |time: Duration| f64::from(CELLS) * f64::from(CELL) / time.as_secs_f64() / 1e6;
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(POINTS);
    for (name, time) in NAMES.iter().zip(times) {
        if name.starts_with('X') {
            println!("{name:<30} {:>6.1} us", micros(time));
        } else {
            println!("{name:<30} {:>6.0} MB/s", mb_s(time));
        }
    }
    let [wasm, _, _, _, native_crate, _, ring, x25519_wasm, x25519_native] = times;
    if json {
        println!(
            r#"{{"cell":{CELL},"wasm_mb_s":{:.1},"native_crate_mb_s":{:.1},"ring_mb_s":{:.1},"ratio_to_ring":{:.3},"x25519_us_wasm":{:.1},"x25519_us_native":{:.1}}}"#,
            mb_s(wasm),
            mb_s(native_crate),
            mb_s(ring),
            mb_s(wasm) / mb_s(ring),
            micros(x25519_wasm),
            micros(x25519_native)
        );
    }
    Ok(())
}

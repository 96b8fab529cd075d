//! Whether the time of a primitive tells of its secrets: dudect (Reparaz, Balasch, Verbauwhede 2017)
//! natively and inside Wasm.
//!
//! Two classes of inputs of the same lengths take turns by the toss of a coin; each call is timed from
//! outside, and Welch's t says whether the classes' means differ. Times beyond a quantile of all are
//! cropped, at several quantiles, and the largest |t| counts: above 4.5 the times differ by more than chance.
//! A comparison that stops at the first wrong byte is measured beside the others, to show that the method
//! would find one. `cargo xtask bench ct` runs this with WARREN_PLUGINS set; arguments: measurements of
//! each function (a fifth of it for X25519), and `--json` for a last line of JSON.

use std::error::Error;
use std::hint::black_box;

use warren_fixtures::component;
use warren_sandbox::{Sandbox, Settings};
use warren_schemas::Timestamp;
use warren_tunnel::probe::probe;
use warren_workers::{DhRefusal, LogLevel, Worker, WorkerFactory, WorkerHost};

/// Bytes of content of the longest cell's outer layer.
const CONTENT: usize = 1309;
/// Above this the classes' times differ.
const THRESHOLD: f64 = 4.5;
/// Shares of the measurements that are kept, from the fastest on.
const QUANTILES: [f64; 8] = [0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0];
/// Inputs made before they are measured.
const AHEAD: usize = 500;
/// Measurements thrown away: caches and predictors find their state.
const WARM: usize = 1000;

struct Deaf;

impl WorkerHost for Deaf {
    fn log(&mut self, _: LogLevel, _: &str) {}
    fn random(&mut self, _: &mut [u8]) {}
    fn onion_dh(&mut self, _: u32, _: &[u8]) -> Result<[u8; 32], DhRefusal> {
        Err(DhRefusal::UnknownEpoch)
    }
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.word() as u8).collect()
    }
}

fn field(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

/// Which of the two classes an input belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    First,
    Second,
}

/// What is measured: its name, how an input of a class is made (a request of `warren_tunnel::probe`),
/// whether it must be found to leak.
struct Subject {
    name: &'static str,
    classes: &'static str,
    slow: bool,
    leaks: bool,
    make: fn(Class, &mut Dice) -> Vec<u8>,
}

const SUBJECTS: [Subject; 5] = [
    Subject {
        name: "seal",
        classes: "fixed key and content, random ones",
        slow: false,
        leaks: false,
        make: |class, dice| seal(&secret(class, dice), &content(class, dice)),
    },
    Subject {
        name: "open",
        classes: "fixed key and content, random ones",
        slow: false,
        leaks: false,
        make: |class, dice| opening(2, &secret(class, dice), &content(class, dice), None),
    },
    Subject {
        name: "open, forged",
        classes: "first byte of the tag wrong, last one",
        slow: false,
        leaks: false,
        make: |class, dice| forged(2, class, dice),
    },
    Subject {
        name: "X25519",
        classes: "fixed secret, random ones",
        slow: true,
        leaks: false,
        make: |class, dice| [&[3][..], &secret(class, dice), &[&[9][..], &[0; 31]].concat()].concat(),
    },
    Subject {
        name: "open, forged, leaky",
        classes: "first byte of the tag wrong, last one",
        slow: false,
        leaks: true,
        make: |class, dice| forged(12, class, dice),
    },
];

fn secret(class: Class, dice: &mut Dice) -> Vec<u8> {
    // Both classes take as long to make.
    let random = dice.bytes(32);
    if class == Class::First { vec![0; 32] } else { random }
}

fn content(class: Class, dice: &mut Dice) -> Vec<u8> {
    let random = dice.bytes(CONTENT);
    if class == Class::First { vec![0; CONTENT] } else { random }
}

fn seal(key: &[u8], content: &[u8]) -> Vec<u8> {
    [&[1][..], key, &[0; 12], &field(b"cell"), &field(content)].concat()
}

/// A request to open what was sealed, with a byte of the tag changed.
fn opening(operation: u8, key: &[u8], content: &[u8], wrong: Option<usize>) -> Vec<u8> {
    let answer = probe(&seal(key, content));
    let (sealed, tag) =
        answer.get(1..).and_then(|sealed| sealed.split_at_checked(content.len())).unwrap_or_default();
    let mut tag = tag.to_vec();
    if let Some(byte) = wrong.and_then(|at| tag.get_mut(at)) {
        *byte ^= 0x55;
    }
    [&[operation][..], key, &[0; 12], &field(b"cell"), &field(sealed), &tag].concat()
}

fn forged(operation: u8, class: Class, dice: &mut Dice) -> Vec<u8> {
    let at = if class == Class::First { 0 } else { 15 };
    opening(operation, &dice.bytes(32), &dice.bytes(CONTENT), Some(at))
}

#[expect(clippy::disallowed_methods, reason = "a measurement of wall time")]
fn timed<T>(run: impl FnOnce() -> T) -> u32 {
    let start = std::time::Instant::now();
    black_box(run());
    u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX)
}

/// Nanoseconds of each class.
#[derive(Default)]
struct Times([Vec<u32>; 2]);

fn measure(subject: &Subject, count: usize, call: &mut dyn FnMut(&[u8])) -> Times {
    let (mut times, mut dice, mut taken) = (Times::default(), Dice(1), 0);
    let all = count + WARM;
    while taken < all {
        let inputs: Vec<(Class, Vec<u8>)> = (0..AHEAD.min(all - taken))
            .map(|_| {
                let class = if dice.word() & 1 == 0 { Class::First } else { Class::Second };
                (class, (subject.make)(class, &mut dice))
            })
            .collect();
        for (class, input) in &inputs {
            let time = timed(|| call(black_box(input)));
            taken += 1;
            if taken > WARM {
                let [first, second] = &mut times.0;
                if *class == Class::First { first.push(time) } else { second.push(time) }
            }
        }
    }
    times
}

/// Number, mean and variance.
fn moments(times: &[u32], most: u32) -> (f64, f64, f64) {
    let kept = || times.iter().filter(|time| **time <= most).map(|time| f64::from(*time));
    let count = kept().count() as f64;
    let mean = kept().sum::<f64>() / count;
    let variance = kept().map(|time| (time - mean) * (time - mean)).sum::<f64>() / (count - 1.0);
    (count, mean, variance)
}

/// Welch's t of the times up to `most`, and the difference of the means in nanoseconds.
fn welch(Times([first, second]): &Times, most: u32) -> Option<(f64, f64)> {
    let (a, b) = (moments(first, most), moments(second, most));
    let spread = (a.2 / a.0 + b.2 / b.0).sqrt();
    let difference = a.1 - b.1;
    (a.0 > 100.0 && b.0 > 100.0 && spread > 0.0).then(|| (difference / spread, difference))
}

/// The largest |t| of all crops, and the difference of the means there.
fn largest(times: &Times) -> (f64, f64) {
    let mut all: Vec<u32> = times.0.iter().flatten().copied().collect();
    all.sort_unstable();
    let crop = |share: f64| all.get(((all.len() as f64 * share) as usize).saturating_sub(1)).copied();
    let tests = QUANTILES.iter().filter_map(|share| welch(times, crop(*share)?));
    tests.map(|(t, difference)| (t.abs(), difference)).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or_default()
}

struct Row {
    name: &'static str,
    place: &'static str,
    t: f64,
    difference: f64,
    count: usize,
    leaks: bool,
}

impl Row {
    fn show(&self, classes: &str) {
        let Self { name, place, t, difference, count, leaks } = self;
        let said = match (*t > THRESHOLD, leaks) {
            (false, false) => "no difference found",
            (true, false) => "THE TIMES DIFFER",
            (true, true) => "found, as it must be",
            (false, true) => "NOT FOUND: too much noise, the others say nothing",
        };
        println!("{name:<20} {place:<7} {count:>8} {t:>8.2} {difference:>10.2}  {said} ({classes})");
    }

    fn json(&self) -> String {
        let Self { name, place, t, difference, count, leaks } = self;
        format!(
            r#"{{"function":"{name}","where":"{place}","measurements":{count},"t":{t:.2},"difference_ns":{difference:.2},"leaky_on_purpose":{leaks}}}"#
        )
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut count, mut json) = (200_000, false);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--json" => json = true,
            number => count = number.parse::<usize>()?.max(1000),
        }
    }
    let sandbox = Sandbox::new(Settings::default())?;
    let mut worker = sandbox.load("probe", &component("probe")?)?.spawn(Box::new(Deaf))?;
    println!("function             where       calls      |t|  means: ns  (threshold {THRESHOLD})");
    let mut rows = Vec::new();
    for subject in &SUBJECTS {
        let count = if subject.slow { count / 5 } else { count };
        let worker: &mut dyn Worker = worker.as_mut();
        let mut native = |request: &[u8]| drop(black_box(probe(request)));
        let mut wasm = |request: &[u8]| drop(black_box(worker.control(Timestamp::from_micros(1), request)));
        let mut take = |place, call: &mut dyn FnMut(&[u8])| {
            let (t, difference) = largest(&measure(subject, count, call));
            let row = Row { name: subject.name, place, t, difference, count, leaks: subject.leaks };
            row.show(subject.classes);
            rows.push(row);
        };
        take("native", &mut native);
        take("Wasm", &mut wasm);
    }
    if json {
        let rows: Vec<String> = rows.iter().map(Row::json).collect();
        println!(r#"{{"threshold":{THRESHOLD},"rows":[{}]}}"#, rows.join(","));
    }
    Ok(())
}

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use warren_tunnel::testing::Seeded;

use super::*;

/// Mutations of each target's seeds.
const MUTATIONS: u64 = 3000;

/// Inputs that broke something once.
fn found(target: &Target) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("found").join(target.name);
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.map(|file| fs::read(file.path()).unwrap()).collect()
}

fn try_it(target: &Target, input: &[u8], origin: &str) {
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    assert!(outcome.is_ok(), "{} broke at {origin}: {input:?}", target.name);
}

/// A seed with some of its bytes changed, cut, joined to another or made longer.
fn mutate(seeds: &[Vec<u8>], dice: &mut Seeded) -> Vec<u8> {
    let pick = |dice: &mut Seeded| seeds[dice.below(seeds.len() as u64) as usize].clone();
    let mut input = pick(dice);
    for _ in 0..=dice.below(6) {
        let at = dice.below(input.len() as u64 + 1) as usize;
        match dice.below(5) {
            0 if at < input.len() => input[at] = dice.word() as u8,
            1 if at < input.len() => input[at] ^= 1 << dice.below(8),
            2 => input.insert(at, [0, 1, 255, dice.word() as u8][dice.below(4) as usize]),
            3 if dice.below(4) == 0 => input.truncate(at),
            _ => {
                let other = pick(dice);
                let from = dice.below(other.len() as u64 + 1) as usize;
                input.splice(at.., other[from..].iter().copied());
            }
        }
    }
    input
}

fn every_promise_is_kept(name: &str) {
    let target = target(name).unwrap();
    let mut seeds = target.seeds();
    seeds.iter().enumerate().for_each(|(number, seed)| try_it(&target, seed, &format!("seed {number}")));
    try_it(&target, &[], "nothing");
    let found = found(&target);
    found.iter().for_each(|input| try_it(&target, input, "what was found"));
    seeds.extend(found);
    let mut dice = Seeded::new(1);
    for number in 0..MUTATIONS {
        try_it(&target, &mutate(&seeds, &mut dice), &format!("mutation {number}"));
    }
}

macro_rules! tests {
    ($($name:ident)*) => {
        $(#[test] fn $name() { every_promise_is_kept(stringify!($name)); })*

        #[test]
        fn every_target_is_tried() {
            assert_eq!(TARGETS.map(|target| target.name), [$(stringify!($name)),*]);
        }
    };
}

tests! { cipher datagrams batch state messages control descriptor }

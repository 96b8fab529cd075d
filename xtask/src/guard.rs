//! `guard`: how many instructions the hot functions take, against what was recorded.
//!
//! Callgrind counts them in the program of tests/guard, which is built for x86-64-v3 with nothing that
//! looks at the processor when it runs. Counts do not depend on how busy a machine is; they do on the
//! compiler, so each has its own baselines. What a count cannot see: misses, stalls, the width of a port.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use anyhow::{Context, bail};
use clap::Args;

use crate::plugins::{cache_dir, workspace};
use crate::{program, setup};

/// `cargo xtask guard`
#[derive(Args)]
pub(crate) struct Guard {
    /// Make these counts the baselines of this compiler.
    #[arg(long)]
    record: bool,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
}

/// More than so many percent above a baseline are a regression.
const TOLERANCE: u64 = 5;
/// The processor that is built for.
const TARGET_CPU: &str = "x86-64-v3";
/// Crates that would choose by the processor they find.
const NO_DISPATCH: [&str; 4] = [
    r#"sha2_backend="soft""#,
    r#"curve25519_dalek_backend="serial""#,
    r#"chacha20_backend="soft""#,
    r#"poly1305_backend="soft""#,
];
/// The function of tests/guard in which callgrind counts.
const COUNTED: &str = "warren_guard_counted";
const BASELINES: &str = "tests/guard/baselines.toml";
const HEAD: &str = "# Instructions of the hot functions, for each compiler and processor they were built with and for.\n\
                    # Written by `cargo xtask guard --record`.\n";

/// Instructions, by function.
type Counts = BTreeMap<String, u64>;
/// Those, by what they were built with and for.
type Baselines = BTreeMap<String, Counts>;

/// Shows the counts, or records them.
pub(crate) fn run(guard: &Guard) -> anyhow::Result<ExitCode> {
    let counts = count(&valgrind()?)?;
    let (key, mut baselines) = (key()?, read()?);
    let compared = compare(baselines.get(&key), &counts);
    println!("{key}\n{}", table(&compared));
    if guard.json {
        println!("{}", serde_json::json!({ "key": key, "instructions": counts }));
    }
    if guard.record {
        baselines.insert(key, counts);
        let text = format!("{HEAD}\n{}", toml::to_string(&baselines)?);
        fs::write(workspace().join(BASELINES), text).context("cannot write the baselines")?;
        return Ok(ExitCode::SUCCESS);
    }
    let slower = compared.iter().any(|line| line.verdict == Verdict::Slower);
    Ok(if slower { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// For the gate: an error when something became slower, else what has to be said, if anything.
pub(crate) fn check() -> anyhow::Result<Option<String>> {
    let valgrind = match valgrind() {
        Ok(valgrind) => valgrind,
        Err(error) => return Ok(Some(format!("guard of the hot functions: {error:#}"))),
    };
    let key = key()?;
    let compared = compare(read()?.get(&key), &count(&valgrind)?);
    print!("{}", table(&compared));
    let named = |wanted: Verdict| {
        let lines = compared.iter().filter(|line| line.verdict == wanted);
        lines.map(|line| line.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    if compared.iter().any(|line| line.verdict == Verdict::Slower) {
        bail!("more instructions than recorded: {} (cargo xtask guard)", named(Verdict::Slower));
    }
    let unknown = named(Verdict::Unknown);
    Ok((!unknown.is_empty())
        .then(|| format!("guard of {unknown}: no baseline for {key} (cargo xtask guard --record)")))
}

/// How a function compares with its baseline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Same,
    Faster,
    Slower,
    /// There is no baseline, or nothing was counted where there is one.
    Unknown,
}

/// A function, its baseline, its count.
#[derive(PartialEq, Eq, Debug)]
struct Line {
    name: String,
    before: Option<u64>,
    now: Option<u64>,
    verdict: Verdict,
}

fn compare(baselines: Option<&Counts>, counts: &Counts) -> Vec<Line> {
    let mut names: Vec<&String> = baselines.into_iter().flat_map(Counts::keys).chain(counts.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let line = |name: &String| {
        let before = baselines.and_then(|counts| counts.get(name)).copied();
        let now = counts.get(name).copied();
        let verdict = before.zip(now).map_or(Verdict::Unknown, |(before, now)| judge(before, now));
        Line { name: name.clone(), before, now, verdict }
    };
    names.into_iter().map(line).collect()
}

fn judge(before: u64, now: u64) -> Verdict {
    match now.saturating_mul(100) {
        now if now > before.saturating_mul(100 + TOLERANCE) => Verdict::Slower,
        now if now < before.saturating_mul(100 - TOLERANCE) => Verdict::Faster,
        _ => Verdict::Same,
    }
}

fn table(lines: &[Line]) -> String {
    let mut text = String::new();
    let number = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
    for Line { name, before, now, verdict } in lines {
        let share = before.zip(*now).map(|(before, now)| (now as f64 / before as f64 - 1.0) * 100.0);
        let share = share.map_or_else(String::new, |share| format!("{share:+.1} %"));
        let word = match verdict {
            Verdict::Same => "",
            Verdict::Faster => "fewer: record it",
            Verdict::Slower => "MORE",
            Verdict::Unknown => "no baseline",
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name:<40} {:>10} {:>10} {share:>9}  {word}", number(*before), number(*now));
    }
    text
}

fn read() -> anyhow::Result<Baselines> {
    match fs::read_to_string(workspace().join(BASELINES)) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("{BASELINES} cannot be read")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Baselines::new()),
        Err(error) => Err(error).context(BASELINES),
    }
}

/// The compiler and the processor.
fn key() -> anyhow::Result<String> {
    let output = Command::new("rustc").arg("--version").current_dir(workspace()).output();
    let version = String::from_utf8(output.context("cannot start rustc")?.stdout)?;
    Ok(format!("{}, {TARGET_CPU}", version.trim()))
}

/// The program, installed if need be; an error where it cannot run what is built for [`TARGET_CPU`].
fn valgrind() -> anyhow::Result<PathBuf> {
    if !can_run() {
        bail!("this processor is no {TARGET_CPU}");
    }
    let program = PathBuf::from("valgrind");
    let works = || {
        let mut command = Command::new(&program);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    if !works() {
        setup::install_package("valgrind").context("valgrind is needed (Debian: valgrind)")?;
    }
    Ok(program)
}

#[cfg(target_arch = "x86_64")]
fn can_run() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("fma")
}

#[cfg(not(target_arch = "x86_64"))]
fn can_run() -> bool {
    false
}

/// Builds what is counted, in a folder of its own; answers the program. Whole-program optimised as
/// the plugin is: how a crate is cut into units must not move a count.
fn build() -> anyhow::Result<PathBuf> {
    let target_dir = cache_dir()?.join("guard-target");
    let built = target_dir.join("guest");
    program::forget_other_checkout(&target_dir)?;
    let mut flags = vec![format!("-Ctarget-cpu={TARGET_CPU}")];
    flags.extend(NO_DISPATCH.iter().map(|flag| format!("--cfg={flag}")));
    let mut command = program::cargo("build")?;
    command.args(["--quiet", "--profile", "guest", "--package", "warren-guard"]);
    command.arg("--target-dir").arg(&target_dir).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    command.env_remove("CARGO_BUILD_TARGET");
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the guard does not build ({status})");
    }
    Ok(built.join("guard"))
}

fn count(valgrind: &Path) -> anyhow::Result<Counts> {
    let (program, folder) = (build()?, tempfile::tempdir()?);
    let dump = folder.path().join("counted");
    let mut command = Command::new(valgrind);
    command.args(["--quiet", "--tool=callgrind"]).arg(format!("--callgrind-out-file={}", dump.display()));
    command.args([format!("--toggle-collect={COUNTED}"), format!("--dump-after={COUNTED}")]);
    // Only what is needed: counts must not hang on what surrounds them.
    command.arg(program).env_clear().envs(env::var_os("PATH").map(|path| ("PATH", path)));
    let output = command.stdin(Stdio::null()).output().context("cannot start valgrind")?;
    if !output.status.success() {
        bail!("valgrind failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    let names = String::from_utf8(output.stdout)?;
    let dumps = (1..).map(|part| dump.with_extension(part.to_string()));
    names.lines().zip(dumps).map(|(name, dump)| Ok((name.to_owned(), total(&dump)?))).collect()
}

/// What was counted in a dump.
fn total(dump: &Path) -> anyhow::Result<u64> {
    let text = fs::read_to_string(dump).with_context(|| format!("callgrind left no {}", dump.display()))?;
    sum(&text).context("a dump of callgrind without a count")
}

fn sum(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("summary: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, u64)]) -> Counts {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn more_than_five_percent_is_found() {
        let (before, now) = (
            counts(&[("a", 1000), ("b", 1000), ("c", 1000), ("gone", 1)]),
            counts(&[("a", 1050), ("b", 1051), ("c", 949), ("new", 1)]),
        );
        let verdicts: Vec<_> = compare(Some(&before), &now).iter().map(|line| line.verdict).collect();
        let unknown = Verdict::Unknown;
        assert_eq!(verdicts, [Verdict::Same, Verdict::Slower, Verdict::Faster, unknown, unknown]);
        assert!(compare(None, &now).iter().all(|line| line.verdict == unknown));
    }

    #[test]
    fn counts_are_read_from_dumps() {
        assert_eq!(sum("version: 1\nevents: Ir\nsummary: 42526\n\nfn=(1) main\n"), Some(42_526));
        assert_eq!(sum("version: 1\n"), None);
    }

    #[test]
    fn baselines_come_back_as_they_were_written() {
        let baselines = Baselines::from([("rustc 1, v3".to_owned(), counts(&[("relay: a cell", 7)]))]);
        let text = format!("{HEAD}\n{}", toml::to_string(&baselines).unwrap());
        assert_eq!(toml::from_str::<Baselines>(&text).unwrap(), baselines);
    }
}

//! `fuzz`: libFuzzer on a stable compiler.
//!
//! The targets are tests/fuzz. Only our own crates are instrumented, for branches and comparisons, with
//! debug assertions and overflow checks: cargo calls this program as the compiler of the workspace's members,
//! and it adds the flags. Dependencies are those of every other build. What libFuzzer finds worth keeping
//! stays in the user's cache, a folder a target; what breaks a promise is named, and belongs under
//! tests/fuzz/found.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use anyhow::{Context, bail};
use clap::Args;
use warren_bench::process::Process;

use crate::plugins::{self, cache_dir, workspace};
use crate::{interrupt, program};

/// `cargo xtask fuzz`
#[derive(Args)]
pub(crate) struct Fuzz {
    /// Only this target; all of them when none is named.
    target: Option<String>,
    /// How long each target is tried.
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    seconds: u32,
}

/// The targets of tests/fuzz, in its order.
const TARGETS: [&str; 7] = ["cipher", "datagrams", "batch", "state", "messages", "control", "descriptor"];
/// Seconds of each in the gate.
const IN_GATE: u32 = 4;
/// Says that this program is called in the place of the compiler.
const AS_COMPILER: &str = "WARREN_FUZZ_COMPILER";
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions=on",
    "-Coverflow-checks=on",
];

/// Tries the targets until they break or their time is over.
pub(crate) fn run(fuzz: &Fuzz) -> anyhow::Result<ExitCode> {
    interrupt::listen();
    let targets: Vec<&str> = match &fuzz.target {
        Some(name) if !TARGETS.contains(&name.as_str()) => {
            bail!("no target is called {name}: there are {}", TARGETS.join(", "))
        }
        Some(name) => vec![name],
        None => TARGETS.to_vec(),
    };
    let (program, plugins) = (build()?, plugins::build(&plugins::Wanted { out: None, fixtures: true })?);
    let broken = attempt(&program, &plugins, &targets, fuzz.seconds)?;
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// For the gate: an error when something broke, else what has to be said, if anything.
pub(crate) fn check(plugins: &Path) -> anyhow::Result<Option<String>> {
    if !has_cpp() {
        return Ok(Some("fuzzing: no C++ compiler for libFuzzer".to_owned()));
    }
    let broken = attempt(&build()?, plugins, &TARGETS, IN_GATE)?;
    if broken.is_empty() { Ok(None) } else { bail!("broke: {}", broken.join(", ")) }
}

fn has_cpp() -> bool {
    let mut command = Command::new(env::var_os("CXX").unwrap_or_else(|| "c++".into()));
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn build() -> anyhow::Result<PathBuf> {
    let mut command = program::cargo("build")?;
    command.args(["--quiet", "--release", "--workspace", "--features", "warren-fuzz/libfuzzer"]);
    command.args(["--bin", "fuzz"]).env(AS_COMPILER, "1");
    command.env("RUSTC_WORKSPACE_WRAPPER", env::current_exe().context("where is this program?")?);
    let status = command.status().context("cannot start cargo")?;
    if !status.success() {
        bail!("the fuzz targets do not build ({status})");
    }
    Ok(program::target_dir()?.join("release/fuzz"))
}

/// When cargo calls this program as a compiler: the compiler, with our flags. None when it does not.
pub(crate) fn compile() -> Option<anyhow::Result<ExitCode>> {
    env::var_os(AS_COMPILER)?;
    let mut arguments = env::args_os().skip(1);
    let mut command = Command::new(arguments.next()?);
    let arguments: Vec<OsString> = arguments.collect();
    // What runs while others are built is not linked with libFuzzer, nor is a question to the compiler.
    let ours = arguments.iter().any(|argument| argument == "--crate-name")
        && !arguments.iter().any(|argument| argument == "build_script_build" || argument == "proc-macro");
    command.args(&arguments).args(FLAGS.iter().filter(|_| ours));
    let status = command.status().context("cannot start the compiler");
    Some(status.map(|status| status.code().map_or(ExitCode::FAILURE, |code| ExitCode::from(code as u8))))
}

/// Tries each target so long; answers which broke.
fn attempt(program: &Path, plugins: &Path, targets: &[&str], seconds: u32) -> anyhow::Result<Vec<String>> {
    let mut broken = Vec::new();
    for target in targets {
        if !interrupt::go_on() {
            bail!("interrupted");
        }
        if !try_target(program, plugins, target, seconds)? {
            broken.push((*target).to_owned());
        }
    }
    Ok(broken)
}

fn try_target(program: &Path, plugins: &Path, target: &str, seconds: u32) -> anyhow::Result<bool> {
    let (kept, seeds, log) = (folder("corpus", target)?, tempfile::tempdir()?, folder("log", target)?);
    let broken = folder("broken", target)?;
    let mut command = Command::new(program);
    command.arg(&kept).arg(seeds.path());
    command.args(Some(workspace().join("tests/fuzz/found").join(target)).filter(|found| found.is_dir()));
    command.args([format!("-max_total_time={seconds}"), format!("-artifact_prefix={}/", broken.display())]);
    command.args(["-max_len=16384", "-len_control=20", "-timeout=20", "-rss_limit_mb=2048", "-verbosity=1"]);
    command.arg("-print_final_stats=1");
    command.env("WARREN_FUZZ_TARGET", target).env("WARREN_FUZZ_SEEDS", seeds.path());
    command.env("WARREN_PLUGINS", plugins).env("RUST_BACKTRACE", "1");
    let log = log.join("last.txt");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?);
    let mut process = Process::start(&mut command)?;
    let status = process.wait(interrupt::go_on).context("interrupted")?;
    let said = fs::read_to_string(&log)?;
    println!("fuzz: {target}: {}", summary(&said));
    if !status.success() {
        println!(
            "{}\nthe input is in {}, all that was said in {}",
            ending(&said),
            broken.display(),
            log.display()
        );
    }
    Ok(status.success())
}

fn folder(kind: &str, target: &str) -> anyhow::Result<PathBuf> {
    let folder = cache_dir()?.join("fuzz").join(kind).join(target);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// Inputs tried and branches reached, from what libFuzzer says.
fn summary(said: &str) -> String {
    let stat = |name: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name));
        line.map_or("?", |value| value.trim_start_matches(':').trim()).to_owned()
    };
    let covered = said.lines().rev().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "cov:").skip(1);
        words.next()
    });
    let (inputs, fresh) = (stat("number_of_executed_units"), stat("new_units_added"));
    format!("{inputs} inputs, {} branches, {fresh} inputs kept", covered.unwrap_or("?"))
}

/// What a target said when it broke: from the panic on, without its backtrace.
fn ending(said: &str) -> String {
    let start = said.find("panicked at").or_else(|| said.find("ERROR: ")).unwrap_or_default();
    let start = said.get(..start).and_then(|before| before.rfind('\n')).unwrap_or_default();
    let said = said.get(start..).unwrap_or_default().trim_start().lines();
    said.take_while(|line| *line != "stack backtrace:").take(12).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "INFO: seed\n#2 INITED cov: 40 ft: 50\n#9 NEW    cov: 61 ft: 80 corp: 5/17b\n\
                        stat::number_of_executed_units: 1234\nstat::new_units_added:          7\n";

    #[test]
    fn what_was_done_is_told() {
        assert_eq!(summary(SAID), "1234 inputs, 61 branches, 7 inputs kept");
        assert_eq!(summary(""), "? inputs, ? branches, ? inputs kept");
    }

    #[test]
    fn a_panic_is_found_in_what_was_said() {
        let said =
            format!("{SAID}\nthread 'main' panicked at src/x.rs:1:1:\nboth differ\nstack backtrace:\n 0: x");
        assert_eq!(ending(&said), "thread 'main' panicked at src/x.rs:1:1:\nboth differ");
        assert_eq!(ending("==1== ERROR: libFuzzer: timeout"), "==1== ERROR: libFuzzer: timeout");
    }
}

//! `test`: every gate and every test, and a count at the end.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use clap::Args;
use warren_bench::process::Process;

use crate::{demo, fuzz, guard, interrupt, net, plugins, program, setup, tidy};

/// `cargo xtask test`
#[derive(Args)]
pub(crate) struct Test {
    /// Leave out the end-to-end tests.
    #[arg(long)]
    no_e2e: bool,
}

/// What was counted so far.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    /// What failed, by name.
    failures: Vec<String>,
    /// What did not run, and why.
    not_run: Vec<String>,
}

impl Tally {
    fn gate(&mut self, name: &str, outcome: anyhow::Result<()>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(error) => {
                self.failed += 1;
                self.failures.push(format!("{name}: {error:#}"));
            }
        }
    }

    /// A gate that may have something to say although it holds.
    fn told(&mut self, name: &str, outcome: anyhow::Result<Option<String>>) {
        let outcome = outcome.map(|said| self.not_run.extend(said));
        self.gate(name, outcome);
    }

    /// Takes a line of libtest's output; answers whether it was a summary.
    fn handle_line(&mut self, line: &str) -> bool {
        if let Some(name) = line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
        }
        if let Some((name, _)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... ignored")) {
            self.not_run.push(format!("{name} (ignored)"));
        }
        let Some(summary) = line.strip_prefix("test result: ") else { return false };
        let count = |what: &str| {
            let part = summary.split(['.', ';']).map(str::trim).find_map(|part| part.strip_suffix(what));
            part.and_then(|number| number.trim().parse::<usize>().ok()).unwrap_or_default()
        };
        self.passed += count(" passed");
        self.failed += count(" failed");
        true
    }
}

/// Runs everything; what fails does not keep the rest from running.
pub(crate) fn run(test: &Test) -> anyhow::Result<ExitCode> {
    interrupt::listen();
    let mut tally = Tally::default();
    for (name, arguments) in GATES {
        heading(name);
        tally.gate(name, gate(arguments));
    }
    heading("tidy");
    match tidy::check() {
        Ok((kept, broken)) => {
            tally.passed += kept;
            tally.failed += broken;
            tally.failures.extend((broken > 0).then(|| format!("tidy: {broken} rules are broken")));
        }
        Err(error) => tally.gate("tidy", Err(error)),
    }
    heading("guard");
    tally.told("guard", guard::check());
    match Surroundings::make(&mut tally) {
        Ok(surroundings) => run_tests(test, &surroundings, &mut tally)?,
        Err(error) => tally.gate("plugins and program", Err(error)),
    }
    if !interrupt::go_on() {
        bail!("interrupted");
    }
    Ok(finish(&tally))
}

const GATES: [(&str, &[&str]); 4] = [
    ("formatting", &["fmt", "--all", "--check"]),
    (
        "lints",
        &["clippy", "--quiet", "--release", "--workspace", "--all-targets", "--", "--deny", "warnings"],
    ),
    (
        "lints of suite 2",
        &[
            "clippy",
            "--quiet",
            "--release",
            "--package",
            "warren-tunnel",
            "--features",
            "hybrid",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ],
    ),
    ("documentation", &["doc", "--quiet", "--release", "--workspace", "--no-deps"]),
];

fn heading(name: &str) {
    println!("== {name}");
}

fn gate(arguments: &[&str]) -> anyhow::Result<()> {
    let (verb, rest) = arguments.split_first().context("no verb")?;
    let mut command = program::cargo(verb)?;
    command.args(rest).env("RUSTDOCFLAGS", "--deny warnings");
    let mut process = Process::start(&mut command)?;
    match process.wait(interrupt::go_on) {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("{status}"),
        None => bail!("interrupted"),
    }
}

/// What tests find in their environment.
struct Surroundings {
    plugins: PathBuf,
    program: PathBuf,
    python: Option<PathBuf>,
    /// Tests append a line here for what they could not run.
    not_run: tempfile::NamedTempFile,
}

impl Surroundings {
    fn make(tally: &mut Tally) -> anyhow::Result<Self> {
        heading("plugins and program");
        let plugins = plugins::build(&plugins::Wanted { out: None, fixtures: true })?;
        let program = program::build(program::Profile::Release)?;
        let python = setup::python()
            .inspect_err(|error| tally.not_run.push(format!("tests against libtorrent: {error:#}")))
            .ok();
        Ok(Self { plugins, program, python, not_run: tempfile::NamedTempFile::new()? })
    }

    fn apply(&self, command: &mut Command) {
        command.env("WARREN_PLUGINS", &self.plugins).env("WARREN_BIN", &self.program);
        command.env("WARREN_NOT_RUN", self.not_run.path());
        if let Some(python) = &self.python {
            command.env("WARREN_PYTHON", python);
        }
    }
}

fn run_tests(test: &Test, surroundings: &Surroundings, tally: &mut Tally) -> anyhow::Result<()> {
    heading("tests");
    if test.no_e2e {
        cargo_test(&["--workspace", "--exclude", "warren-e2e"], surroundings, tally)?;
        tally.not_run.push("end-to-end tests (--no-e2e)".to_owned());
    } else {
        // One call: another choice of packages would be another choice of features to build.
        cargo_test(&["--workspace"], surroundings, tally)?;
        heading("the tools themselves");
        try_tools(surroundings, tally);
    }
    // Apart from the others, which are to see the tunnel as it is by default.
    cargo_test(&["--package", "warren-tunnel", "--features", "hybrid"], surroundings, tally)?;
    heading("fuzz");
    tally.told("fuzz", fuzz::check(&surroundings.plugins));
    let not_run = std::fs::read_to_string(surroundings.not_run.path())?;
    tally.not_run.extend(not_run.lines().map(str::to_owned));
    Ok(())
}

/// The demo, small, and a network around a command whose status must come back.
fn try_tools(surroundings: &Surroundings, tally: &mut Tally) {
    if surroundings.python.is_some() {
        tally.gate("demo", demo::smoke());
    }
    tally.gate("net", net::smoke());
}

fn cargo_test(packages: &[&str], surroundings: &Surroundings, tally: &mut Tally) -> anyhow::Result<()> {
    let mut command = program::cargo("test")?;
    command.args(["--quiet", "--release", "--no-fail-fast"]).args(packages);
    // libtest names each test only when it is not quiet.
    command.args(["--", "--format", "pretty"]);
    surroundings.apply(&mut command);
    let mut process = Process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let output = process.child().stdout.take().context("cargo has no output")?;
    let (mut summaries, failed_before) = (0, tally.failed);
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        summaries += usize::from(tally.handle_line(&line));
    }
    let status = process.wait(interrupt::go_on).context("interrupted")?;
    if !status.success() && tally.failed == failed_before {
        tally.gate("cargo test", Err(anyhow::anyhow!("{status}, after {summaries} test programs")));
    }
    Ok(())
}

fn finish(tally: &Tally) -> ExitCode {
    println!();
    tally.failures.iter().for_each(|failure| println!("failed: {failure}"));
    tally.not_run.iter().for_each(|what| println!("did not run: {what}"));
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_added_up() {
        let mut tally = Tally::default();
        for line in [
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test a::d ... ignored, needs root",
            "test result: FAILED. 11 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.67s",
            "test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ] {
            tally.handle_line(line);
        }
        tally.gate("x", Err(anyhow::anyhow!("y")));
        tally.gate("z", Ok(()));
        assert_eq!((tally.passed, tally.failed), (16, 2));
        assert_eq!(tally.failures, ["a::c", "x: y"]);
        assert_eq!(tally.not_run, ["a::d (ignored)"]);
    }
}

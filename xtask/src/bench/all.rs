//! `bench all`: every measurement in turn, and one file of what came out.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use warren_bench::process::Process;

use super::machine::Machine;
use crate::{interrupt, program};

/// This job's own name.
const OWN: &str = "all";

/// `cargo xtask bench all`
#[derive(Args)]
pub(super) struct All {
    /// Only these measurements.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// All but these.
    #[arg(long, value_delimiter = ',', value_name = "NAME", conflicts_with = "only")]
    skip: Vec<String>,
    /// Where the file goes; by default `bench` in the target folder.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write the peers' table and plots into docs too.
    #[arg(long)]
    write_docs: bool,
    /// End with one line of JSON: what is in the file.
    #[arg(long)]
    json: bool,
}

/// What is in the file.
#[derive(Serialize)]
struct Report {
    machine: Machine,
    /// What each measurement's `--json` says, by its name.
    results: BTreeMap<String, Value>,
    /// Why one said nothing.
    failed: BTreeMap<String, String>,
}

/// Runs every measurement of `names`.
pub(super) fn run(job: &All, names: &[String]) -> anyhow::Result<ExitCode> {
    let names = wanted(job, names)?;
    let folder = job.out.clone().map_or_else(|| Ok(program::target_dir()?.join("bench")), anyhow::Ok)?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    interrupt::listen();
    let mut report = Report { machine: Machine::here()?, results: BTreeMap::new(), failed: BTreeMap::new() };
    for name in names {
        if !interrupt::go_on() {
            bail!("interrupted");
        }
        println!("== {name}");
        match measure(job, name) {
            Ok(result) => drop(report.results.insert(name.clone(), result)),
            Err(error) => {
                println!("failed: {error:#}");
                report.failed.insert(name.clone(), format!("{error:#}"));
            }
        }
    }
    let path = folder.join(format!("{}.json", report.machine.date));
    fs::write(&path, serde_json::to_string_pretty(&report)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    if job.json {
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Of those there are.
fn wanted<'a>(job: &All, names: &'a [String]) -> anyhow::Result<Vec<&'a String>> {
    if let Some(unknown) = job.only.iter().chain(&job.skip).find(|name| !names.contains(name) || *name == OWN)
    {
        bail!("no measurement is called {unknown}");
    }
    let only = |name: &&String| job.only.is_empty() || job.only.contains(name);
    Ok(names.iter().filter(|name| *name != OWN && only(name) && !job.skip.contains(name)).collect())
}

/// Runs one in a process of its own, shows what it says, and takes the last line.
fn measure(job: &All, name: &str) -> anyhow::Result<Value> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", name, "--json"]);
    command.args((job.write_docs && name == "peers").then_some("--write-docs"));
    let mut process = Process::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let output = process.child().stdout.take().context("it has no output")?;
    let mut last = String::new();
    for line in BufReader::new(output).lines() {
        last = line?;
        if !last.starts_with('{') {
            println!("{last}");
        }
    }
    match process.wait(interrupt::go_on) {
        Some(status) if status.success() => serde_json::from_str(&last).context("its last line is no JSON"),
        Some(status) => bail!("{status}"),
        None => bail!("interrupted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_and_it_does_not_run_itself() {
        let names = ["crypto", "peers", "all"].map(str::to_owned);
        let job = |only: &[&str], skip: &[&str]| All {
            only: only.iter().map(|name| (*name).to_owned()).collect(),
            skip: skip.iter().map(|name| (*name).to_owned()).collect(),
            out: None,
            write_docs: false,
            json: false,
        };
        assert_eq!(wanted(&job(&[], &[]), &names).unwrap(), ["crypto", "peers"]);
        assert_eq!(wanted(&job(&["peers"], &[]), &names).unwrap(), ["peers"]);
        assert_eq!(wanted(&job(&[], &["peers"]), &names).unwrap(), ["crypto"]);
        assert!(wanted(&job(&["all"], &[]), &names).is_err());
        assert!(wanted(&job(&[], &["pears"]), &names).unwrap_err().to_string().contains("pears"));
    }
}

//! `warren worker`

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use warren_api::{News, SwapRequest, Swapping};
use warren_ports::swap::{SwapReport, SwapStage, SwapStep};

use super::{Failure, asking, control, say, say_json, text};
use crate::audit::stage_name;
use crate::cli::{Global, Swap, Worker};

pub(super) fn worker(global: &Global, command: &Worker) -> Result<(), Failure> {
    let path = control(global)?;
    match command {
        Worker::List => list(global, &path),
        Worker::Swap(swap) => {
            let request = request(swap)?;
            asking(async { follow(global, warren_api::swap(&path, request).await?).await })
        }
        Worker::Rollback { plugin } => {
            asking(async { follow(global, warren_api::rollback(&path, plugin).await?).await })
        }
        Worker::Kill { index } => {
            asking(async { Ok(warren_api::kill_worker(&path, *index).await?) })?;
            if global.json {
                say_json(&serde_json::json!({ "event": "killed", "worker": index }))?;
            } else {
                say(&format!("worker {index} was dropped\n"));
            }
            Ok(())
        }
    }
}

fn list(global: &Global, path: &Path) -> Result<(), Failure> {
    let workers = asking(async { Ok(warren_api::workers(path).await?) })?;
    if global.json {
        for worker in &workers {
            say_json(worker)?;
        }
        return Ok(());
    }
    say(&text::workers(&workers));
    Ok(())
}

/// The node has another working folder, so it is told the whole path. Whether the module is any good is
/// for the node to find out.
fn request(swap: &Swap) -> Result<SwapRequest, Failure> {
    let wrong = |error: std::io::Error| Failure::Usage(anyhow!("{}: {error}", swap.file.display()));
    let path: PathBuf = std::path::absolute(&swap.file).map_err(wrong)?;
    if path.to_str().is_none() {
        return Err(Failure::Usage(anyhow!("{} is no UTF-8, which the node needs", path.display())));
    }
    if !path.metadata().map_err(wrong)?.is_file() {
        return Err(Failure::Usage(anyhow!("{} is not a file", swap.file.display())));
    }
    File::open(&path).map_err(wrong)?;
    Ok(SwapRequest { plugin: swap.plugin.clone(), path, drain: swap.drain, canary: swap.canary })
}

async fn follow(global: &Global, mut swapping: Swapping) -> Result<(), Failure> {
    loop {
        match (swapping.next().await?, global.json) {
            // What ends all of it is said as the command's error.
            (News::Step(step), false) if step.stage == SwapStage::RolledBack && step.worker.is_none() => {}
            (News::Step(step), false) => drop(say(&line(&step))),
            (News::Done(report), false) => {
                say(&summary(&report));
                return Ok(());
            }
            (News::Step(step), true) => drop(say_json(&Event::Step(&step))?),
            (News::Done(report), true) => {
                say_json(&Event::Report(&report))?;
                return Ok(());
            }
        }
    }
}

/// A line of `--json`.
#[derive(serde::Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    Step(&'a SwapStep),
    Report(&'a SwapReport),
}

fn line(step: &SwapStep) -> String {
    let worker = step.worker.map_or_else(String::new, |index| format!("worker {index}: "));
    format!("{:<12} {worker}{}\n", stage_name(step), step.detail)
}

fn summary(report: &SwapReport) -> String {
    let mut text = format!("{} -> {}\n", report.from, report.to);
    for worker in &report.workers {
        let shadow = match worker.compared {
            0 => String::new(),
            answers => format!(", {answers} answers compared before"),
        };
        text.push_str(&format!(
            "  worker {}: {:.2} ms pause ({:.2} ms CPU), {} of state{shadow}\n",
            worker.worker,
            worker.pause_us as f64 / 1e3,
            worker.pause_cpu_us as f64 / 1e3,
            text::bytes(worker.state_bytes)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use warren_ports::swap::WorkerSwap;

    use super::*;

    #[test]
    fn steps_and_reports_read_well() {
        let step = SwapStep {
            at_us: 1,
            stage: SwapStage::RolledBack,
            worker: Some(2),
            detail: "its answers differ".into(),
        };
        assert_eq!(line(&step), "rolled-back  worker 2: its answers differ\n");
        let canary =
            WorkerSwap { worker: 0, pause_us: 1234, pause_cpu_us: 900, state_bytes: 1500, compared: 64 };
        let rest = WorkerSwap { worker: 1, compared: 0, ..canary };
        let report =
            SwapReport { from: "tunnel 1".into(), to: "tunnel 2".into(), workers: vec![canary, rest] };
        assert_eq!(
            summary(&report),
            "tunnel 1 -> tunnel 2\n  \
             worker 0: 1.23 ms pause (0.90 ms CPU), 1.5 kB of state, 64 answers compared before\n  \
             worker 1: 1.23 ms pause (0.90 ms CPU), 1.5 kB of state\n"
        );
    }

    #[test]
    fn json_lines_are_named() {
        let step = SwapStep { at_us: 1, stage: SwapStage::Verified, worker: None, detail: "x".into() };
        assert_eq!(
            serde_json::to_string(&Event::Step(&step)).unwrap(),
            r#"{"event":"step","at_us":1,"stage":"verified","worker":null,"detail":"x"}"#
        );
        let report = SwapReport { from: "a".into(), to: "b".into(), workers: Vec::new() };
        assert_eq!(
            serde_json::to_string(&Event::Report(&report)).unwrap(),
            r#"{"event":"report","from":"a","to":"b","workers":[]}"#
        );
    }
}

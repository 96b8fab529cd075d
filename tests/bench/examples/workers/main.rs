//! What workers cost without a network around them. `cargo xtask bench workers` and `cargo xtask bench boundary` run
//! it with WARREN_PLUGINS set; arguments: `--count` and how many live at once, `--boundary` for calls only, and
//! `--json` for a last line of JSON. Other work on the machine shows in every wall time here: medians, and for two threads the best.

mod cost;
mod crowd;
mod host;
mod relay;
mod replay;

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde::Serialize;
use warren_schemas::batch::MAX_SLOTS;

#[derive(Serialize)]
struct Tax {
    cpu_s_per_gb_wasm: f64,
    cpu_s_per_gb_native: f64,
    ratio: f64,
}

/// Calls with batches of several sizes, and nothing else.
#[derive(Serialize)]
struct Boundary {
    rows: Vec<cost::Crossing>,
    /// A straight line through the smallest and the largest batch: a call with nothing in it, and each cell more.
    call_us: f64,
    cell_ns: f64,
}

#[derive(Serialize)]
struct Report {
    instantiate_us: f64,
    /// The same with its configuration taken.
    configured_us: f64,
    resident_kb_per_worker: f64,
    /// After each was given a full batch and asked for the time once.
    resident_kb_after_batch: f64,
    instances_live: u32,
    instances_in_8gb: u64,
    boundary_us_per_64_cells: f64,
    sandbox_tax: Tax,
    scaling_1_to_2: f64,
    scaling_1_to_2_by_cpu: f64,
    restart_ms: f64,
    /// A tunnel worker that is dropped by order, until the next one answers.
    replace_tunnel_ms: f64,
}

/// The component `name`.
fn component(name: &str) -> anyhow::Result<Vec<u8>> {
    let folder = std::env::var_os("WARREN_PLUGINS").map(PathBuf::from);
    let folder = folder.context("WARREN_PLUGINS is not set: run `cargo xtask bench workers`")?;
    let path = folder.join(name).with_extension("wasm");
    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn main() -> anyhow::Result<()> {
    let (mut json, mut boundary, mut count) = (false, false, 4000);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = true,
            "--boundary" => boundary = true,
            "--count" => count = arguments.next().context("--count needs a number")?.parse()?,
            other => bail!("what is {other}?"),
        }
    }
    let report =
        if boundary { serde_json::to_string(&cross()?)? } else { serde_json::to_string(&measure(count)?)? };
    if json {
        println!("{report}");
    }
    Ok(())
}

fn cross() -> anyhow::Result<Boundary> {
    let rows = cost::crossings(&[1, 8, 16, 32, MAX_SLOTS])?;
    let (first, last) = rows.first().zip(rows.last()).context("nothing was measured")?;
    let each = (last.call_us - first.call_us) / (last.cells - first.cells) as f64;
    let call = first.call_us - each * first.cells as f64;
    println!("{:<34} {call:>10.3} us, and {:.1} ns a cell", "call with nothing in it", each * 1000.0);
    Ok(Boundary { call_us: rounded(call), cell_ns: rounded(each * 1000.0), rows })
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

fn measure(count: u32) -> anyhow::Result<Report> {
    // First: memory that earlier workers left warm would count as nobody's.
    let crowd = crowd::measure(count)?;
    let tunnel = cost::tunnel()?;
    let boundary = cost::boundary()?;
    let (restart_ms, replace_tunnel_ms) = (cost::restart()?, cost::replace()?);
    let relay = relay::Prepared::new()?;
    let tax = replay::tax(&relay)?;
    let scaling = replay::scaling(&relay)?;
    Ok(Report {
        instantiate_us: rounded(tunnel.spawn_us),
        configured_us: rounded(tunnel.configured_us),
        resident_kb_per_worker: rounded(crowd.idle_kb),
        resident_kb_after_batch: rounded(crowd.after_batch_kb),
        instances_live: count,
        instances_in_8gb: crowd.in_8_gb(),
        boundary_us_per_64_cells: rounded(boundary),
        sandbox_tax: Tax {
            cpu_s_per_gb_wasm: rounded(tax.wasm),
            cpu_s_per_gb_native: rounded(tax.native),
            ratio: rounded(tax.wasm / tax.native),
        },
        scaling_1_to_2: rounded(scaling.by_wall),
        scaling_1_to_2_by_cpu: rounded(scaling.by_cpu),
        restart_ms: rounded(restart_ms),
        replace_tunnel_ms: rounded(replace_tunnel_ms),
    })
}

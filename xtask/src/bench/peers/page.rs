//! The comparison in docs/benchmarks.md: a table and two plots.

use warren_bench::peers::{HOPS, Row};

use super::Report;
use super::ratios::Ratios;
use crate::bench::docs;
use crate::bench::machine::Machine;
use crate::bench::plot::{Bar, Chart, Group};

/// Writes them.
pub(super) fn write(report: &Report, machine: &Machine, command: &str) -> anyhow::Result<()> {
    let speed = docs::plot("peers-speed.svg", &speed(&report.rows))?;
    let cost = docs::plot("peers-cpu.svg", &cost(&report.rows))?;
    let text = format!(
        "`{command}`\n\n{}.\n\n{}\n{speed}\n{cost}",
        machine.sentence(),
        table(&report.rows, &report.ratios)
    );
    docs::write("peers", &text)
}

/// What a system is called among people.
fn full_name(system: &str) -> &str {
    match system {
        "warren" => "Warren",
        "tor" => "C tor",
        "ipv8-rust" => "IPv8, UDP",
        other => other,
    }
}

fn table(rows: &[Row], ratios: &Ratios) -> String {
    let mut text = "| downloads | | MB/s | first byte, ms | originator | relay | exit | whole path, CPU s/GB | \
                    Warren ÷ it: MB/s | CPU |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n"
        .to_owned();
    let cell = |value: Option<f64>, decimals: usize| {
        value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
    };
    for row in rows {
        let ratio = ratios.get(row.system).and_then(|of| of.get(&row.parallel));
        let cpu = row.cpu_s_per_gb;
        let cells = [
            row.parallel.to_string(),
            full_name(row.system).to_owned(),
            cell(Some(row.mb_per_s), 1),
            cell(Some(row.first_byte_s * 1000.0), 1),
            cell(cpu.originator, 1),
            cell(cpu.relay, 1),
            cell(cpu.exit, 1),
            cell(cpu.total, 1),
            cell(ratio.map(|ratio| ratio.mb_per_s), 2),
            cell(ratio.map(|ratio| ratio.cpu_total), 2),
        ];
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text
}

/// Rows by the downloads at once, as groups of bars.
fn groups(rows: &[Row], parts: impl Fn(&Row) -> Vec<f64>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for row in rows {
        let label = match row.parallel {
            1 => "one download".to_owned(),
            count => format!("{count} downloads at once"),
        };
        let bar = Bar {
            label: full_name(row.system).to_owned(),
            parts: parts(row),
            emphasised: row.system == "warren",
        };
        match groups.iter_mut().find(|group| group.label == label) {
            Some(group) => group.bars.push(bar),
            None => groups.push(Group { label, bars: vec![bar] }),
        }
    }
    groups
}

fn speed(rows: &[Row]) -> Chart {
    Chart {
        title: format!("{HOPS} hops on one machine: speed"),
        unit: "MB/s, longer is better".to_owned(),
        parts: vec!["all"],
        groups: groups(rows, |row| vec![row.mb_per_s]),
    }
}

fn cost(rows: &[Row]) -> Chart {
    let known = Option::unwrap_or_default;
    Chart {
        title: format!("{HOPS} hops on one machine: CPU"),
        unit: "CPU seconds for 1 GB, shorter is better".to_owned(),
        parts: vec!["originator", "relays, both", "exit"],
        groups: groups(rows, |row| {
            let cpu = row.cpu_s_per_gb;
            vec![known(cpu.originator), known(cpu.relay) * f64::from(HOPS - 1), known(cpu.exit)]
        }),
    }
}

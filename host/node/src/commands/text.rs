//! Circuits, workers and numbers as text for people.

use std::fmt::Write;

use warren_ports::status::{CircuitStatus, WorkerStatus};

/// A circuit and its hops, a line each.
pub(super) fn circuit(circuit: &CircuitStatus) -> String {
    let mut text =
        format!("{} {}, {} hops, {} streams", circuit.id, circuit.state, circuit.path.len(), circuit.streams);
    let _ = write!(
        text,
        ", {} out, {} in, {}",
        bytes(circuit.bytes_out),
        bytes(circuit.bytes_in),
        duration(circuit.age_s)
    );
    if !circuit.isolation.is_empty() {
        let _ = write!(text, ", for {}", circuit.isolation);
    }
    text.push('\n');
    let suites = circuit.suites.iter().map(Some).chain(std::iter::repeat(None));
    for ((hop, peer), suite) in (1..).zip(&circuit.path).zip(suites) {
        let suite = suite.map_or_else(String::new, |suite| format!(", suite {suite}"));
        let _ = writeln!(text, "  {hop}. {peer}{suite}");
    }
    text
}

/// Heads of the columns of [`workers`].
const COLUMNS: [&str; 10] =
    ["worker", "state", "busy", "circuits", "relays", "links", "carried", "drops", "restarts", "CPU"];

/// Workers as a table, a line each below their heads. What each runs comes last, as it is longest.
pub(super) fn workers(workers: &[WorkerStatus]) -> String {
    let rows: Vec<[String; COLUMNS.len()]> = workers.iter().map(cells).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(COLUMNS.get(column).map(|head| head.len())).max().unwrap_or(0)
    };
    let line = |cells: &[&str], module: &str| {
        let padded = cells.iter().enumerate().map(|(column, cell)| match column {
            // A word.
            1 => format!("{cell:<0$}  ", width(column)),
            _ => format!("{cell:>0$}  ", width(column)),
        });
        format!("{}{module}\n", padded.collect::<String>())
    };
    let mut text = line(&COLUMNS, "module");
    for (row, worker) in rows.iter().zip(workers) {
        text.push_str(&line(&row.each_ref().map(String::as_str), &worker.plugin));
    }
    text
}

fn cells(worker: &WorkerStatus) -> [String; COLUMNS.len()] {
    [
        worker.index.to_string(),
        worker.state.clone(),
        format!("{:.0} %", worker.busy * 100.0),
        worker.circuits.to_string(),
        worker.relayed_circuits.to_string(),
        worker.links.to_string(),
        bytes(worker.bytes_relayed),
        worker.drops.to_string(),
        worker.restarts.to_string(),
        format!("{:.1} s", worker.cpu_s),
    ]
}

/// As megabytes with one digit, or smaller.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1000 => format!("{bytes} B"),
        1000..100_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        100_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// The two units that matter.
pub(super) fn duration(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0, 999, 1000, 100_000, 2_500_000, 1_234_000_000].map(bytes),
            ["0 B", "999 B", "1.0 kB", "0.1 MB", "2.5 MB", "1.23 GB"]
        );
        assert_eq!([59, 61, 3660, 90_000].map(duration), ["59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
    }

    #[test]
    fn a_circuit_shows_hops_streams_bytes_and_age() {
        let status = CircuitStatus {
            id: "0.7".into(),
            path: vec!["one".into(), "two".into()],
            suites: vec![2, 1],
            state: "ready".into(),
            isolation: "web".into(),
            streams: 3,
            age_s: 61,
            bytes_out: 1500,
            bytes_in: 2_500_000,
        };
        assert_eq!(
            circuit(&status),
            "0.7 ready, 2 hops, 3 streams, 1.5 kB out, 2.5 MB in, 1 min 1 s, for web\n  1. one, suite 2\n  2. two, suite 1\n"
        );
    }

    #[test]
    fn workers_are_a_table() {
        let one = WorkerStatus {
            index: 1,
            plugin: "tunnel 0.1.0".into(),
            state: "draining".into(),
            busy: 0.5,
            bytes_relayed: 2_500_000,
            ..Default::default()
        };
        let other = WorkerStatus { index: 10, state: "running".into(), busy: 1.0, ..one.clone() };
        assert_eq!(
            workers(&[one, other]),
            "worker  state      busy  circuits  relays  links  carried  drops  restarts    CPU  module\n     \
             1  draining   50 %         0       0      0   2.5 MB      0         0  0.0 s  tunnel 0.1.0\n    \
             10  running   100 %         0       0      0   2.5 MB      0         0  0.0 s  tunnel 0.1.0\n"
        );
    }
}

//! `warren status`

use std::fmt::Write;

use warren_ports::status::Status;

use super::Failure;
use crate::cli::Global;
use crate::folders::control_socket;

pub(super) fn status(global: &Global) -> Result<(), Failure> {
    let config = super::load(global)?;
    let path = control_socket(&config.state_dir());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(anyhow::Error::from)?;
    let status = runtime.block_on(warren_api::status(&path)).map_err(anyhow::Error::from)?;
    if global.json {
        println!("{}", serde_json::to_string(&status).map_err(anyhow::Error::from)?);
    } else {
        print!("{}", text(&status));
    }
    Ok(())
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    let roles = if status.roles.is_empty() { "client".to_owned() } else { status.roles.join(" and ") };
    let _ = writeln!(text, "{} ({roles}), up {}", status.peer_id, duration(status.uptime_s));
    let _ = writeln!(text, "tunnel   {}", status.tunnel_addresses.join(" "));
    for address in &status.overlay_addresses {
        let _ = writeln!(text, "overlay  {address}");
    }
    let _ = writeln!(text, "socks    {}", status.socks_address.as_deref().unwrap_or("off"));
    let _ = writeln!(
        text,
        "knows    {} neighbours, {} relays, {} of them exits",
        status.overlay_peers, status.relays_known, status.exits_known
    );
    let _ = writeln!(text, "circuits {}", status.circuits.len());
    for circuit in &status.circuits {
        let (id, state, isolation) = (&circuit.id, &circuit.state, &circuit.isolation);
        let _ = writeln!(
            text,
            "  {id} {state}, {} hops, {} streams, {}{}",
            circuit.path.len(),
            circuit.streams,
            duration(circuit.age_s),
            if isolation.is_empty() { String::new() } else { format!(", for {isolation}") }
        );
        for (hop, peer) in (1..).zip(&circuit.path) {
            let _ = writeln!(text, "    {hop}. {peer}");
        }
    }
    for reason in &status.waiting {
        let _ = writeln!(text, "waiting  {reason}");
    }
    for worker in &status.workers {
        let _ = writeln!(
            text,
            "worker {} {}: {} links, {} circuits relayed, {:.1} MB relayed, {} drops, {} restarts, {:.1} CPU s",
            worker.index,
            worker.plugin,
            worker.links,
            worker.relayed_circuits,
            worker.bytes_relayed as f64 / 1e6,
            worker.drops,
            worker.restarts,
            worker.cpu_s
        );
    }
    text
}

fn duration(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use warren_ports::status::{CircuitStatus, WorkerStatus};

    use super::*;

    #[test]
    fn says_what_a_person_looks_for() {
        let status = Status {
            peer_id: "12D3KooWme".into(),
            uptime_s: 3700,
            roles: vec!["relay".into()],
            circuits: vec![CircuitStatus {
                path: vec!["one".into(), "two".into()],
                state: "ready".into(),
                ..Default::default()
            }],
            waiting: vec!["needs an exit; none is known".into()],
            workers: vec![WorkerStatus { bytes_relayed: 2_500_000, ..Default::default() }],
            ..Default::default()
        };
        let text = text(&status);
        for part in [
            "12D3KooWme (relay), up 1 h 1 min",
            "ready, 2 hops",
            "2. two",
            "needs an exit",
            "2.5 MB",
            "socks    off",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}

//! `warren status`

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use warren_ports::status::Status;

use super::pages::Pages;
use super::{Failure, asking, control, say, say_json, text};
use crate::cli::{self, Global};
use crate::stop::Stop;

pub(super) fn status(global: &Global, args: &cli::Status) -> Result<(), Failure> {
    let path = control(global)?;
    if let Some(period) = args.watch {
        return asking(watch(global, &path, period));
    }
    let status = asking(async { Ok(warren_api::status(&path).await?) })?;
    if global.json {
        say_json(&status)?;
    } else {
        say(&page(&status));
    }
    Ok(())
}

/// Until Ctrl-C, or nobody reads any more: both are a good end.
async fn watch(global: &Global, path: &Path, period: Duration) -> Result<(), Failure> {
    let mut stop = Stop::on_signals().map_err(anyhow::Error::from)?;
    let mut pages = (!global.json && std::io::stdout().is_terminal()).then(Pages::new);
    let mut watching = warren_api::watch(path, period).await?;
    loop {
        let status = tokio::select! {
            status = watching.next() => status?,
            () = stop.asked() => return Ok(()),
        };
        let read = match &mut pages {
            Some(pages) => pages.show(&page(&status)),
            None if global.json => say_json(&status)?,
            None => say(&line(&status)),
        };
        if !read {
            return Ok(());
        }
    }
}

/// What changes, on one line.
fn line(status: &Status) -> String {
    let streams: usize = status.circuits.iter().map(|circuit| circuit.streams).sum();
    let relayed: u32 = status.workers.iter().map(|worker| worker.relayed_circuits).sum();
    let carried: u64 = status.workers.iter().map(|worker| worker.bytes_relayed).sum();
    let waiting = match status.waiting.len() {
        0 => String::new(),
        count => format!(", {count} waiting"),
    };
    format!(
        "up {}: {} circuits with {streams} streams{waiting}, {relayed} circuits and {} relayed, {} workers, {} neighbours, {} relays known\n",
        text::duration(status.uptime_s),
        status.circuits.len(),
        text::bytes(carried),
        status.workers.len(),
        status.overlay_peers,
        status.relays_known
    )
}

/// All of it.
fn page(status: &Status) -> String {
    let mut page = String::new();
    let roles = if status.roles.is_empty() { "client".to_owned() } else { status.roles.join(" and ") };
    let _ = writeln!(page, "{} ({roles}), up {}", status.peer_id, text::duration(status.uptime_s));
    let _ = writeln!(page, "tunnel   {}", status.tunnel_addresses.join(" "));
    for address in &status.overlay_addresses {
        let _ = writeln!(page, "overlay  {address}");
    }
    let _ = writeln!(page, "socks    {}", status.socks_address.as_deref().unwrap_or("off"));
    let _ = writeln!(
        page,
        "knows    {} neighbours, {} relays, {} of them exits",
        status.overlay_peers, status.relays_known, status.exits_known
    );
    let _ = writeln!(page, "circuits {}", status.circuits.len());
    for circuit in &status.circuits {
        for line in text::circuit(circuit).lines() {
            let _ = writeln!(page, "  {line}");
        }
    }
    for reason in &status.waiting {
        let _ = writeln!(page, "waiting  {reason}");
    }
    page.push('\n');
    page.push_str(&text::workers(&status.workers));
    page
}

#[cfg(test)]
mod tests {
    use warren_ports::status::{CircuitStatus, WorkerStatus};

    use super::*;

    fn sample() -> Status {
        Status {
            peer_id: "12D3KooWme".into(),
            uptime_s: 3700,
            roles: vec!["relay".into()],
            circuits: vec![CircuitStatus {
                path: vec!["one".into(), "two".into()],
                state: "ready".into(),
                streams: 3,
                ..Default::default()
            }],
            waiting: vec!["needs an exit; none is known".into()],
            workers: vec![WorkerStatus { bytes_relayed: 2_500_000, ..Default::default() }],
            ..Default::default()
        }
    }

    #[test]
    fn says_what_a_person_looks_for() {
        let page = page(&sample());
        for part in [
            "12D3KooWme (relay), up 1 h 1 min",
            "ready, 2 hops",
            "2. two",
            "needs an exit",
            "2.5 MB",
            "socks    off",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
    }

    #[test]
    fn a_watcher_without_a_screen_gets_lines() {
        let line = line(&sample());
        assert_eq!(line.lines().count(), 1);
        for part in ["up 1 h 1 min: 1 circuits with 3 streams, 1 waiting", "2.5 MB relayed", "1 workers"] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
}

//! What a command shows while it works: one JSON object per line, a progress bar on a terminal, or
//! nothing but the outcome.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Something worth telling. With `--json` each is one line, named by `event`.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A node runs.
    Ready {
        /// Its id.
        peer_id: String,
        /// Where it takes tunnel datagrams.
        tunnel: Vec<String>,
        /// Where its overlay listens, with `/p2p/` at the end.
        overlay: Vec<String>,
        /// Where SOCKS listens, if it does.
        socks: Option<String>,
        /// Its control socket.
        control: PathBuf,
    },
    /// A torrent was taken up.
    Started {
        /// Its name; the infohash as long as it is not known.
        name: String,
        /// Relays between here and its peers.
        hops: u8,
        /// Its magnet, when this side made the torrent.
        magnet: Option<String>,
        /// Where it takes peers, with 0 hops only.
        listening: Option<String>,
    },
    /// Nothing moves, for this reason.
    Waiting {
        /// For people.
        reason: String,
    },
    /// A circuit stands.
    Circuit {
        /// Worker and handle.
        id: String,
        /// Peer ids, first hop first.
        path: Vec<String>,
    },
    /// How far it is.
    Progress {
        /// `metadata`, `checking`, `downloading`, `seeding` or `done`.
        state: &'static str,
        /// Bytes there.
        done: u64,
        /// Bytes in all; 0 until known.
        total: u64,
        /// 0 to 100.
        percent: f64,
        /// Bytes a second, downwards.
        down_bps: u64,
        /// Bytes a second, upwards.
        up_bps: u64,
        /// Peers connected.
        peers: u32,
        /// Own circuits that stand.
        circuits: usize,
    },
    /// It is complete.
    Done {
        /// Where it lies.
        path: PathBuf,
        /// Bytes.
        bytes: u64,
        /// From the command's start on.
        seconds: f64,
    },
}

/// Where events go.
pub enum Screen {
    /// To standard output, one JSON object per line.
    Json,
    /// Onto a bar on standard error; outcomes to standard output.
    Bar(ProgressBar),
    /// Outcomes to standard output, nothing else.
    Quiet,
}

impl Screen {
    /// What fits: JSON when asked for, a bar on a terminal, else quiet.
    #[must_use]
    pub fn new(json: bool) -> Self {
        if json {
            Self::Json
        } else if io::stderr().is_terminal() {
            Self::Bar(bar())
        } else {
            Self::Quiet
        }
    }

    /// Shows `event`.
    pub fn show(&self, event: &Event) {
        match self {
            Self::Json => {
                if let Ok(line) = serde_json::to_string(event) {
                    print_line(&line);
                }
            }
            Self::Bar(bar) => on_bar(bar, event),
            Self::Quiet => {
                if let Some(line) = outcome(event) {
                    print_line(&line);
                }
            }
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// A closed pipe must not end a download: what cannot be printed is lost.
fn print_line(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
    let template = "{spinner} {percent:>3}% [{bar:24}] {decimal_bytes}/{decimal_total_bytes} {wide_msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn on_bar(bar: &ProgressBar, event: &Event) {
    match event {
        Event::Progress { state, done, total, down_bps, up_bps, peers, circuits, .. } => {
            bar.set_length(*total);
            bar.set_position(*done);
            let rate = mega(if *state == "seeding" { *up_bps } else { *down_bps });
            let eta = eta(*done, *total, *down_bps);
            bar.set_message(format!("{state} {rate} MB/s · {peers} peers · {circuits} circuits{eta}"));
        }
        Event::Waiting { reason } => bar.set_message(format!("waiting: {reason}")),
        Event::Started { name, hops, magnet, .. } => {
            let way =
                if *hops == 0 { "directly, without anonymity".into() } else { format!("over {hops} hops") };
            bar.println(format!("{name} {way}"));
            if let Some(magnet) = magnet {
                bar.suspend(|| print_line(magnet));
            }
        }
        Event::Circuit { path, .. } => bar.println(format!("circuit: {}", path.join(" → "))),
        Event::Ready { .. } | Event::Done { .. } => {
            if let Some(line) = outcome(event) {
                bar.suspend(|| print_line(&line));
            }
        }
    }
}

/// The line that also somebody who wants silence wants.
fn outcome(event: &Event) -> Option<String> {
    match event {
        Event::Ready { peer_id, tunnel, overlay, socks, .. } => {
            let mut line = format!("warren is ready: {peer_id}, tunnel {}", tunnel.join(" "));
            if let Some(socks) = socks {
                line.push_str(&format!(", socks {socks}"));
            }
            overlay.iter().for_each(|address| line.push_str(&format!("\n  {address}")));
            Some(line)
        }
        Event::Started { magnet, .. } => magnet.clone(),
        Event::Done { path, bytes, seconds } => {
            let rate = if *seconds > 0.0 { *bytes as f64 / seconds / 1e6 } else { 0.0 };
            Some(format!("{}: {} in {seconds:.1} s ({rate:.1} MB/s)", path.display(), HumanBytes(*bytes)))
        }
        Event::Waiting { .. } | Event::Circuit { .. } | Event::Progress { .. } => None,
    }
}

fn mega(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

fn eta(done: u64, total: u64, down_bps: u64) -> String {
    let left = total.saturating_sub(done);
    match left.checked_div(down_bps) {
        Some(seconds) if left > 0 => format!(" · {}:{:02} left", seconds / 60, seconds % 60),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_named_objects() {
        let event = Event::Circuit { id: "0.1".into(), path: vec!["a".into(), "b".into()] };
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"event":"circuit","id":"0.1","path":["a","b"]}"#
        );
        let event = Event::Done { path: "x".into(), bytes: 5, seconds: 1.5 };
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"event":"done","path":"x","bytes":5,"seconds":1.5}"#
        );
    }

    #[test]
    fn time_left_is_shown_only_when_it_means_something() {
        assert_eq!(eta(0, 1000, 10), " · 1:40 left");
        assert_eq!(eta(0, 1000, 0), "");
        assert_eq!(eta(1000, 1000, 10), "");
    }

    #[test]
    fn quiet_shows_outcomes_only() {
        assert!(outcome(&Event::Waiting { reason: "no relay".into() }).is_none());
        assert!(outcome(&Event::Done { path: "f".into(), bytes: 1, seconds: 0.0 }).is_some());
    }
}

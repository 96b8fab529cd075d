//! A table of what congestion controllers make of distance, loss and a bottleneck of 100 Mbit/s, on virtual time, so
//! that it is the same on a busy machine: `cargo run --release -p warren-lab --example streams [CONTROLLER]`.
//!
//! A row is one download, then two of which the second comes 4 s later.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "without its parts there is no table")]

#[path = "../tests/streams/trial.rs"]
mod trial;

use trial::Trial;
use warren_streams::Congestion;

fn main() {
    let only = std::env::args().nth(1);
    println!(
        "controller  RTT ms  queue  loss %  share  dropped %  longest RTT  two: share  each          Jain   dropped %"
    );
    for congestion in Congestion::ALL {
        let name = format!("{congestion:?}");
        if only.as_ref().is_some_and(|only| !only.eq_ignore_ascii_case(&name)) {
            continue;
        }
        for (round_trip_ms, queue) in [(10, 1.0), (50, 1.0), (200, 1.0), (200, 0.1), (200, 4.0)] {
            for loss in [0.0, 0.001, 0.01] {
                row(
                    &name,
                    &Trial { round_trip_ms, queue, loss, downloads: vec![congestion], ..Trial::default() },
                );
            }
        }
    }
}

fn row(name: &str, trial: &Trial) {
    let one = trial.run();
    let two = Trial { downloads: trial.downloads.repeat(2), ..trial.clone() }.run();
    let longest = one.round_trips.iter().copied().fold(0.0, f64::max);
    let each: Vec<String> = two.shares.iter().map(|share| format!("{share:.3}")).collect();
    println!(
        "{name:<11} {:<7} {:<6} {:<7} {:<6.3} {:<10.2} {longest:<12.0} {:<11.3} {:<13} {:<6.3} {:.2}",
        trial.round_trip_ms,
        trial.queue,
        trial.loss * 100.0,
        one.share(),
        one.dropped * 100.0,
        two.share(),
        each.join(" "),
        two.jain(),
        two.dropped * 100.0
    );
}

//! What downloads over three hops make of distance, loss and a bottleneck, on virtual time.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[path = "streams/sharing.rs"]
mod sharing;
#[path = "streams/trial.rs"]
mod trial;

use trial::Trial;
use warren_streams::Congestion;

#[test]
fn one_download_fills_a_long_line_without_filling_its_queue() {
    for (round_trip_ms, least) in [(50, 0.8), (200, 0.75)] {
        let outcome = Trial { round_trip_ms, ..Trial::default() }.run();
        assert!(outcome.share() > least, "{round_trip_ms} ms: {outcome:?}");
        assert!(outcome.dropped < 0.01, "{round_trip_ms} ms: {outcome:?}");
        let longest = outcome.round_trips[5..].iter().copied().fold(0.0, f64::max);
        assert!(longest < (round_trip_ms + 60) as f64, "{round_trip_ms} ms: {outcome:?}");
    }
}

#[test]
fn chance_does_not_slow_it_down() {
    for (round_trip_ms, least) in [(20, 0.7), (50, 0.7), (200, 0.65)] {
        let outcome = Trial { round_trip_ms, loss: 0.01, ..Trial::default() }.run();
        assert!(outcome.share() > least, "{round_trip_ms} ms: {outcome:?}");
    }
}

#[test]
fn whoever_comes_later_gets_as_much() {
    for (round_trip_ms, loss, least) in
        [(50, 0.0, 0.95), (200, 0.0, 0.95), (50, 0.01, 0.9), (200, 0.01, 0.85)]
    {
        let downloads = vec![Congestion::default(); 2];
        let outcome = Trial { round_trip_ms, loss, downloads, seconds: 30, ..Trial::default() }.run();
        assert!(outcome.jain() > least && outcome.share() > 0.7, "{round_trip_ms} ms, {loss}: {outcome:?}");
    }
}

#[test]
fn four_share_a_line_too() {
    let outcome = Trial { downloads: vec![Congestion::default(); 4], seconds: 30, ..Trial::default() }.run();
    assert!(outcome.jain() > 0.9 && outcome.share() > 0.75, "{outcome:?}");
}

#[test]
fn a_short_queue_is_not_flooded() {
    let outcome = Trial { queue: 0.1, ..Trial::default() }.run();
    assert!(outcome.share() > 0.6 && outcome.dropped < 0.05, "{outcome:?}");
}

#[test]
fn slow_and_fast_lines_are_filled() {
    for (mbit, round_trip_ms, least) in [(2, 100, 0.6), (10, 100, 0.7), (500, 40, 0.7)] {
        let outcome = Trial { mbit, round_trip_ms, seconds: 10, ..Trial::default() }.run();
        assert!(outcome.share() > least, "{mbit} Mbit/s: {outcome:?}");
    }
}

#[test]
fn a_path_that_becomes_longer_is_filled_again() {
    for before_ms in [20, 80, 150] {
        let outcome = Trial { before_ms: Some(before_ms), seconds: 30, ..Trial::default() }.run();
        assert!(outcome.share() > 0.4, "{before_ms} ms: {outcome:?}");
    }
}

#[test]
fn beside_cubic_both_live() {
    for downloads in [[Congestion::Steady, Congestion::Cubic], [Congestion::Cubic, Congestion::Steady]] {
        let outcome =
            Trial { round_trip_ms: 50, downloads: downloads.to_vec(), seconds: 40, ..Trial::default() }.run();
        assert!(outcome.shares.iter().all(|share| *share > 0.1), "{downloads:?}: {outcome:?}");
    }
}

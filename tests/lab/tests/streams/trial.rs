//! One trial: downloads over a bottleneck.

pub(crate) mod rig;

use std::time::Duration;

use rig::{Download, Rig, access};
use warren_streams::{Congestion, Settings};

const MBIT: u64 = 1_000_000;

/// A bottleneck, and what is done with it.
#[derive(Clone)]
pub(crate) struct Trial {
    pub(crate) mbit: u64,
    pub(crate) round_trip_ms: u64,
    /// In products of rate and round trip.
    pub(crate) queue: f64,
    pub(crate) loss: f64,
    pub(crate) downloads: Vec<Congestion>,
    pub(crate) seconds: u64,
    /// What the round trip was for the first two seconds, if it was another one.
    pub(crate) before_ms: Option<u64>,
}

impl Default for Trial {
    fn default() -> Self {
        let downloads = vec![Congestion::default()];
        Self { mbit: 100, round_trip_ms: 200, queue: 1.0, loss: 0.0, downloads, seconds: 20, before_ms: None }
    }
}

#[derive(Debug)]
pub(crate) struct Outcome {
    /// Payload of each download as a part of what the bottleneck carries, while all ran.
    pub(crate) shares: Vec<f64>,
    /// Datagrams dropped at the bottleneck, as a part of those that passed.
    pub(crate) dropped: f64,
    /// Round trips of the first, in ms, at each full second.
    pub(crate) round_trips: Vec<f64>,
}

impl Outcome {
    pub(crate) fn share(&self) -> f64 {
        self.shares.iter().sum()
    }

    pub(crate) fn jain(&self) -> f64 {
        let squares: f64 = self.shares.iter().map(|share| share * share).sum();
        self.share() * self.share() / (self.shares.len() as f64 * squares)
    }
}

impl Trial {
    /// Each download starts 4 s after the one before; what is counted begins with the last.
    pub(crate) fn run(&self) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.unwrap().block_on(self.work())
    }

    async fn work(&self) -> Outcome {
        let bytes_per_second = (self.mbit * MBIT) as f64 / 8.0;
        let lines = |round_trip_ms: u64| {
            let round_trip = Duration::from_millis(round_trip_ms);
            let queue = (bytes_per_second * round_trip.as_secs_f64() * self.queue) as u64;
            access(self.mbit * MBIT, queue, round_trip, self.loss)
        };
        let settings = |congestion: &Congestion| Settings { congestion: *congestion, ..Settings::default() };
        let settings: Vec<Settings> = self.downloads.iter().map(settings).collect();
        let rig = Rig::new(&settings, &lines(self.before_ms.unwrap_or(self.round_trip_ms)), 1);
        let (mut running, mut connections) = (Vec::new(), Vec::new());
        for (index, circuit) in (0..settings.len()).zip(1..) {
            if index > 0 {
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
            let connection = rig.connect(index, circuit).await;
            running.push(Download::start(connection.clone()));
            connections.push(connection);
        }
        if self.before_ms.is_some() {
            tokio::time::sleep(Duration::from_secs(2)).await;
            rig.set(&lines(self.round_trip_ms));
        }
        let before: Vec<u64> = running.iter().map(Download::got).collect();
        let mut round_trips = Vec::new();
        for _ in 0..self.seconds {
            tokio::time::sleep(Duration::from_secs(1)).await;
            round_trips.push(connections[0].round_trip().as_secs_f64() * 1e3);
        }
        let capacity = bytes_per_second * self.seconds as f64;
        let share = |(download, before): (&Download, u64)| (download.got() - before) as f64 / capacity;
        let counters = rig.counters();
        Outcome {
            shares: running.iter().zip(before).map(share).collect(),
            dropped: counters.full as f64 / counters.delivered as f64,
            round_trips,
        }
    }
}

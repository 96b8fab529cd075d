//! `warren get` and `warren seed`: a node of their own for as long as the torrent takes.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use warren_torrent::{AddOptions, Download, Progress, SeedOptions, Source, State};

use super::Failure;
use crate::cli::{Get, Global, Seed};
use crate::folders::StateDir;
use crate::logging;
use crate::node::Node;
use crate::screen::{Event, Screen};
use crate::stop::Stop;

/// How often progress is looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often it is shown.
const TICKS_PER_LINE: u32 = 2;

pub(super) fn get(global: &Global, args: &Get) -> Result<(), Failure> {
    let source = source(&args.source)?;
    let options = AddOptions {
        hops: args.hops,
        out: args.out.clone(),
        peers: args.peers.clone(),
        seed_after: args.seed,
        listen: args.listen,
    };
    with_client(global, args.hops, async |client| {
        let torrents = client.node.torrents().clone();
        let Some(download) = client.unless_stopped(torrents.add(source, options)).await? else {
            return Err(interrupted());
        };
        let place = || format!("downloading into {}", args.out.display());
        client.follow(download, args.seed).await.with_context(place)
    })
}

pub(super) fn seed(global: &Global, args: &Seed) -> Result<(), Failure> {
    if !args.path.exists() {
        return Err(Failure::Usage(anyhow!("{} does not exist", args.path.display())));
    }
    let options = SeedOptions {
        hops: args.hops,
        trackers: args.trackers.clone(),
        peers: args.peers.clone(),
        listen: args.listen,
    };
    with_client(global, args.hops, async |client| {
        let torrents = client.node.torrents().clone();
        let Some(download) = client.unless_stopped(torrents.seed(&args.path, options)).await? else {
            return Ok(());
        };
        client.follow(download, true).await
    })
}

fn interrupted() -> anyhow::Error {
    anyhow!("interrupted; the same command goes on from here")
}

/// What the person meant; a path must lead to a file.
fn source(text: &str) -> Result<Source, Failure> {
    match Source::guess(text) {
        Source::File(path) if !path.is_file() => {
            Err(Failure::Usage(anyhow!("{text} is not a magnet link, not a URL, and not a file that exists")))
        }
        source => Ok(source),
    }
}

/// Starts a client node, does `work` with it, and takes it down again.
fn with_client(
    global: &Global,
    hops: u8,
    work: impl AsyncFnOnce(&mut Client) -> anyhow::Result<()>,
) -> Result<(), Failure> {
    let config = super::load(global)?.into_client(token()?, hops);
    logging::start(&config.log);
    let runtime = super::runtime(&config)?;
    let outcome: anyhow::Result<()> = runtime.block_on(async {
        let stop = Stop::on_signals()?;
        let base = config.state_dir();
        let state = StateDir::open_client(&base)?;
        let node = Node::start(&config, state).await?;
        let screen = Screen::new(global.json);
        let mut client = Client { node, screen, stop, hops, shown: HashSet::new(), started: now() };
        let outcome = work(&mut client).await;
        client.screen.finish();
        client.node.shutdown().await;
        outcome
    });
    // A blocking read of the torrent engine must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome.map_err(Failure::Failed)
}

#[expect(clippy::disallowed_methods, reason = "how long a command took is shown to a person")]
fn now() -> Instant {
    Instant::now()
}

/// A password for the SOCKS listener that only this process knows.
fn token() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no randomness: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A running client node and what it tells.
struct Client {
    node: Node,
    screen: Screen,
    stop: Stop,
    hops: u8,
    shown: HashSet<String>,
    started: Instant,
}

impl Client {
    /// What comes first: the outcome of `work`, or none when the person asked for the end.
    async fn unless_stopped<T, E: std::error::Error + Send + Sync + 'static>(
        &mut self,
        work: impl Future<Output = Result<T, E>>,
    ) -> anyhow::Result<Option<T>> {
        tokio::select! {
            outcome = work => Ok(Some(outcome?)),
            () = self.stop.asked() => Ok(None),
        }
    }

    /// Shows how it goes until it is done, or with `keep_on` until it is told to stop.
    async fn follow(&mut self, download: Download, keep_on: bool) -> anyhow::Result<()> {
        let progress = download.progress();
        let (magnet, listening) = (download.magnet(), download.listening().map(|at| at.to_string()));
        self.screen.show(&Event::Started { name: progress.name, hops: self.hops, magnet, listening });
        let mut done = false;
        let mut stop = self.stop.clone();
        loop {
            for _ in 0..TICKS_PER_LINE {
                tokio::select! {
                    () = stop.asked() => {
                        download.stop().await;
                        return if done || keep_on { Ok(()) } else { Err(interrupted()) };
                    }
                    finished = download.finished(), if !done => {
                        let finished = finished?;
                        done = true;
                        self.show_progress(&download.progress()).await;
                        self.screen.show(&Event::Done {
                            path: finished.path,
                            bytes: finished.total,
                            seconds: self.started.elapsed().as_secs_f64(),
                        });
                        if !keep_on {
                            download.stop().await;
                            return Ok(());
                        }
                    }
                    () = tokio::time::sleep(TICK) => {}
                }
            }
            self.show_progress(&download.progress()).await;
        }
    }

    async fn show_progress(&mut self, progress: &Progress) {
        let status = self.node.status().await;
        let hops = usize::from(self.hops);
        let ready =
            status.circuits.iter().filter(|circuit| circuit.state == "ready" && circuit.path.len() == hops);
        let mut circuits = 0;
        for circuit in ready {
            circuits += 1;
            if self.shown.insert(circuit.id.clone()) {
                self.screen.show(&Event::Circuit { id: circuit.id.clone(), path: circuit.path.clone() });
            }
        }
        // Without a circuit the core knows why before the torrent's dials give up.
        let reason = match &progress.state {
            State::WaitingForCircuit(reason) => Some(reason),
            _ if circuits == 0 && hops > 0 => status.waiting.first(),
            _ => None,
        };
        if let Some(reason) = reason {
            self.screen.show(&Event::Waiting { reason: reason.clone() });
            return;
        }
        let state = match &progress.state {
            State::WaitingForCircuit(_) | State::Stopped | State::Failed(_) => return,
            State::Metadata => "metadata",
            State::Checking => "checking",
            State::Downloading => "downloading",
            State::Seeding => "seeding",
            State::Done => "done",
        };
        let (done, total) = (progress.done, progress.total);
        let percent = if total == 0 { 0.0 } else { done as f64 * 100.0 / total as f64 };
        let (down_bps, peers) = (progress.down_bps, progress.peers);
        self.screen.show(&Event::Progress {
            state,
            done,
            total,
            percent,
            down_bps,
            up_bps: progress.up_bps,
            peers,
            circuits,
        });
    }
}

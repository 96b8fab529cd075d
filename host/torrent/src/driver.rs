//! A torrent's life, from its source to its end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::engine::{Engine, Running, folder};
use crate::metainfo::{self, Metainfo};
use crate::saved::{Saved, Shelf};
use crate::torrent::{Outcome, Phase, Torrent};
use crate::trackers::http;
use crate::{Error, Finished, InfoHash, listener};

mod announcer;

/// How often the engine is asked how it is; it does not tell by itself.
const LOOK: Duration = Duration::from_millis(200);
/// For trackers to take a goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// Between tries to fetch a .torrent while there is no circuit.
const REFETCH: Duration = Duration::from_secs(2);

/// What there is to begin with.
pub(crate) enum Start {
    Url(reqwest::Url),
    Infohash(InfoHash),
    Metainfo(Metainfo),
}

/// How to go on.
pub(crate) struct Plan {
    pub(crate) start: Start,
    pub(crate) out: PathBuf,
    pub(crate) trackers: Vec<String>,
    /// As `host:port`, for the next run.
    pub(crate) peers: Vec<String>,
    pub(crate) seed_after: bool,
    pub(crate) listener: Option<TcpListener>,
}

/// What is to be closed at the end.
#[derive(Default)]
struct Household {
    announcers: JoinSet<()>,
    engine: Option<Engine>,
}

/// Runs a torrent to its end.
pub(crate) async fn drive(torrent: Arc<Torrent>, plan: Plan) {
    let mut household = Household::default();
    let result = tokio::select! {
        result = live(&torrent, plan, &mut household) => result,
        () = torrent.halt.cancelled() => Err(Error::Stopped),
    };
    torrent.outcome.send_if_modified(|outcome| {
        let pending = matches!(outcome, Outcome::Pending);
        if let (true, Err(error)) = (pending, &result) {
            *outcome = Outcome::Failed(error.clone());
        }
        pending
    });
    torrent.ending.cancel();
    let goodbyes = async { while household.announcers.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GOODBYE, goodbyes).await;
    torrent.ended.cancel();
    if let Some(engine) = household.engine {
        engine.stop().await;
    }
    *torrent.phase() = match result {
        Ok(()) => Phase::Done,
        Err(Error::Stopped) => Phase::Stopped,
        Err(error) => Phase::Failed(error),
    };
}

/// Returns when all is there and nobody is to be served, and never while seeding.
async fn live(torrent: &Arc<Torrent>, plan: Plan, household: &mut Household) -> Result<(), Error> {
    let shelf = Shelf::new(&torrent.ports.settings.state_dir);
    let (metainfo, engine) =
        begin(torrent, plan.start, &plan.trackers, &shelf, plan.listener, household).await?;
    torrent.describe(metainfo.name.clone(), metainfo.total);
    let mut trackers = plan.trackers;
    trackers
        .extend(metainfo.trackers.iter().filter(|url| !trackers.contains(url)).cloned().collect::<Vec<_>>());
    let saved = Saved {
        infohash: metainfo.infohash.to_string(),
        name: metainfo.name.clone(),
        hops: torrent.isolation.hops,
        out: plan.out.clone(),
        trackers,
        peers: plan.peers,
        seed_after: plan.seed_after,
        listen: torrent.listening,
    };
    shelf.keep(&metainfo, &saved)?;
    let running = engine.run(metainfo.bare(), &folder(&plan.out, &metainfo)).await?;
    *torrent.phase() = Phase::Running(running.clone());
    complete(&running).await?;
    let finished = Finished { path: plan.out.join(&metainfo.name), total: metainfo.total };
    torrent.outcome.send_replace(Outcome::Complete(finished));
    if !plan.seed_after {
        return shelf.forget(metainfo.infohash);
    }
    Err(failure(&running).await)
}

/// Gets the metadata, and everything running that finds peers.
async fn begin(
    torrent: &Arc<Torrent>,
    start: Start,
    trackers: &[String],
    shelf: &Shelf,
    peers_in: Option<TcpListener>,
    household: &mut Household,
) -> Result<(Metainfo, Engine), Error> {
    let (infohash, known) = match start {
        Start::Url(url) => known(fetch(torrent, url).await?),
        Start::Metainfo(metainfo) => known(metainfo),
        Start::Infohash(infohash) => (infohash, shelf.metainfo(infohash)),
    };
    torrent.claim(&torrent.ports.active(), infohash)?;
    let of_torrent = known.iter().flat_map(|metainfo| &metainfo.trackers);
    let mut urls: Vec<&String> = Vec::new();
    for url in trackers.iter().chain(of_torrent) {
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    announcer::spawn(torrent, urls, &mut household.announcers)?;
    let proxy = torrent.proxy(&torrent.key);
    let state = &torrent.ports.settings.state_dir;
    let engine = Engine::start(state, proxy, torrent.peer_id(), peers_in.is_some()).await?;
    household.engine = Some(engine.clone());
    if let (Some(listener), Some(inner)) = (peers_in, engine.listening()) {
        tokio::spawn(listener::run(torrent.clone(), listener, inner));
    }
    let metainfo = match known {
        Some(metainfo) => metainfo,
        None => engine.metadata(infohash).await?,
    };
    Ok((metainfo, engine))
}

fn known(metainfo: Metainfo) -> (InfoHash, Option<Metainfo>) {
    (metainfo.infohash, Some(metainfo))
}

/// Fetches a .torrent, as often as it takes while there is no circuit.
async fn fetch(torrent: &Torrent, url: reqwest::Url) -> Result<Metainfo, Error> {
    let client = http::client(&torrent.proxy(&torrent.web))?;
    loop {
        match http::get(&client, url.clone(), metainfo::MAX_LEN).await {
            Ok(bytes) => return Metainfo::parse(&bytes),
            Err(_) if torrent.waiting().is_some() => tokio::time::sleep(REFETCH).await,
            Err(error) => return Err(Error::Fetch(error.to_string())),
        }
    }
}

async fn complete(running: &Running) -> Result<(), Error> {
    loop {
        let stats = running.stats();
        if let Some(error) = stats.error {
            return Err(Error::Engine(one_line(&error)));
        }
        if stats.finished && !stats.checking {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn failure(running: &Running) -> Error {
    loop {
        if let Some(error) = running.stats().error {
            return Error::Engine(one_line(&error));
        }
        tokio::time::sleep(LOOK * 5).await;
    }
}

/// The engine prints causes over several lines, and below them, in some set-ups, a backtrace.
fn one_line(error: &str) -> String {
    let text = error.split("Stack backtrace").next().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

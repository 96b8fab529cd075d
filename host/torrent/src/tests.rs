//! Whole torrents, librqbit on both sides, over loopback: a dial of our own in place of circuits, and
//! a SOCKS server just large enough.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::*;

mod failures;
mod network;
mod tracker;

use network::{Circuits, Node};
use tracker::TestTracker;

/// Long enough for a busy machine; nothing is measured with it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes that do not repeat, other ones for every seed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (0..length.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(length).collect()
}

/// A folder to share: a large file, a small one, an empty one.
fn share(root: &Path) -> PathBuf {
    let folder = root.join("share");
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    std::fs::write(folder.join("large.bin"), noise(6_000_000, 1)).unwrap();
    std::fs::write(folder.join("sub/small.txt"), b"hello").unwrap();
    std::fs::write(folder.join("zero"), b"").unwrap();
    folder
}

fn equal(a: &Path, b: &Path) {
    for name in ["large.bin", "sub/small.txt", "zero"] {
        assert!(std::fs::read(a.join(name)).unwrap() == std::fs::read(b.join(name)).unwrap(), "{name}");
    }
}

fn to(out: &Path) -> AddOptions {
    AddOptions { hops: 3, out: out.to_owned(), peers: Vec::new(), seed_after: false, listen: None }
}

fn direct() -> SeedOptions {
    SeedOptions { listen: Some("127.0.0.1:0".parse().unwrap()), ..SeedOptions::default() }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

async fn until(mut what: impl FnMut() -> bool) {
    soon(async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

struct Pair {
    dir: TempDir,
    shared: PathBuf,
    seeding: Download,
    /// Kept alive: its SOCKS server ends with it.
    _seeder: Node,
    circuits: Circuits,
    node: Node,
}

impl Pair {
    /// A seeder that listens, and a node that downloads through circuits.
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let shared = share(dir.path());
        let seeder = Node::new(dir.path().join("seeder"), Circuits::default()).await;
        let seeding = seeder.torrents.seed(&shared, direct()).await.unwrap();
        let circuits = Circuits::default();
        let node = Node::new(dir.path().join("node"), circuits.clone()).await;
        Self { dir, shared, seeding, _seeder: seeder, circuits, node }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    async fn add(&self) -> Download {
        let magnet = self.seeding.magnet().unwrap();
        self.node.torrents.add(Source::guess(&magnet), to(&self.out())).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_magnet_becomes_its_files() {
    let pair = Pair::new().await;
    let download = pair.add().await;
    let finished = soon(download.finished()).await.unwrap();
    assert_eq!((finished.path.clone(), finished.total), (pair.out().join("share"), 6_000_005));
    equal(&finished.path, &pair.shared);
    let progress = pair.seeding.progress();
    assert_eq!((progress.state, progress.name.as_str()), (State::Seeding, "share"));
    until(|| download.progress().state == State::Done).await;
    assert_eq!(download.progress().done, 6_000_005);
    assert!(pair.node.torrents.saved().is_empty(), "nothing to resume");
    assert!(pair.node.torrents.list().is_empty());

    // Everything went by one isolation, 3 hops, named like the torrent; and only to the peer.
    let dialled = pair.circuits.dialled();
    let peer = pair.seeding.listening().unwrap().to_string();
    assert!(!dialled.is_empty());
    for (isolation, target) in dialled {
        assert_eq!((isolation.hops, &*isolation.key), (3, download.isolation_key()));
        assert_eq!(target.to_string(), peer);
    }
    pair.seeding.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seeder_dials_out() {
    let dir = TempDir::new().unwrap();
    let shared = share(dir.path());
    let node = Node::new(dir.path().join("node"), Circuits::default()).await;
    let seeder = Node::new(dir.path().join("seeder"), Circuits::default()).await;
    let options = SeedOptions { hops: 2, ..SeedOptions::default() };
    let seeding = seeder.torrents.seed(&shared, options).await.unwrap();
    let mut options = to(&dir.path().join("out"));
    (options.hops, options.listen) = (0, direct().listen);
    // The engine takes metadata from peers it dials only: with a magnet alone nobody would begin.
    let torrent = crate::create::create(&shared).unwrap().bare().to_vec();
    let download = node.torrents.add(Source::Bytes(torrent), options).await.unwrap();
    seeding.add_peers([download.listening().unwrap().into()]);
    let finished = soon(download.finished()).await.unwrap();
    equal(&finished.path, &shared);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_circuit_it_waits_and_says_so() {
    let pair = Pair::new().await;
    pair.circuits.none("no exit is known");
    let download = pair.add().await;
    until(|| download.progress().state == State::WaitingForCircuit("no exit is known".into())).await;
    assert_eq!(pair.circuits.connected(), 0);
    pair.circuits.some();
    let finished = soon(download.finished()).await.unwrap();
    equal(&finished.path, &pair.shared);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_die_are_dialled_again() {
    let pair = Pair::new().await;
    // Every connection dies after 2 MB, four are needed at least.
    pair.circuits.cut_after(2_000_000);
    let download = pair.add().await;
    let finished = soon(download.finished()).await.unwrap();
    equal(&finished.path, &pair.shared);
    assert!(pair.circuits.connected() >= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_download_resumes_with_what_it_has() {
    let pair = Pair::new().await;
    pair.circuits.cut_after(2_000_000);
    pair.circuits.refuse_after(2);
    let download = pair.add().await;
    until(|| download.progress().done > 500_000).await;
    let done = download.progress().done;
    download.clone().stop().await;
    assert_eq!(download.progress().state, State::Stopped);
    assert!(matches!(download.finished().await, Err(Error::Stopped)));

    let saved = pair.node.torrents.saved();
    assert_eq!((saved.len(), saved[0].name.as_str(), saved[0].hops), (1, "share", 3));
    // A new run of the node.
    let circuits = Circuits::default();
    let again = Node::new(pair.dir.path().join("node"), circuits.clone()).await;
    let download = again.torrents.resume(&saved[0]).await.unwrap();
    let finished = soon(download.finished()).await.unwrap();
    equal(&finished.path, &pair.shared);
    assert!(circuits.carried() < 6_000_005 - done / 2, "{} again, {done} were there", circuits.carried());
}

#[tokio::test(flavor = "multi_thread")]
async fn http_trackers_are_asked_through_the_circuit() {
    let pair = Pair::new().await;
    let tracker = TestTracker::start(pair.seeding.listening().unwrap()).await;
    let torrent = tracker.torrent(&pair.shared);
    tracker.serve_torrent(&torrent);
    let source = Source::guess(&tracker.torrent_url());
    let download = pair.node.torrents.add(source, to(&pair.out())).await.unwrap();
    let finished = soon(download.finished()).await.unwrap();
    equal(&finished.path, &pair.shared);
    until(|| download.progress().state == State::Done).await;
    let events: Vec<_> = tracker.announces().iter().map(|announce| announce.event.clone()).collect();
    assert_eq!(events.first().map(String::as_str), Some("started"));
    assert_eq!(events.last().map(String::as_str), Some("stopped"));
    for announce in tracker.announces() {
        assert!(!announce.head.to_lowercase().contains("user-agent"), "{}", announce.head);
        assert_eq!(announce.peer_id, tracker.announces()[0].peer_id);
    }
    // The tracker was reached as the peers are.
    let keys: Vec<_> = pair.circuits.dialled().iter().map(|(isolation, _)| isolation.key.clone()).collect();
    assert!(keys.iter().all(|key| **key == *download.isolation_key()));
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_trackers_are_asked_through_the_circuit() {
    let pair = Pair::new().await;
    let (address, events) = tracker::udp(pair.seeding.listening().unwrap()).await;
    let link =
        format!("magnet:?xt=urn:btih:{}&tr=udp://{address}/announce", pair.seeding.infohash().unwrap());
    pair.circuits.none("not yet");
    let download = pair.node.torrents.add(Source::Magnet(link), to(&pair.out())).await.unwrap();
    until(|| download.progress().state == State::WaitingForCircuit("not yet".into())).await;
    assert!(events.lock().unwrap().is_empty());
    pair.circuits.some();
    let finished = soon(download.finished()).await.unwrap();
    equal(&finished.path, &pair.shared);
    until(|| download.progress().state == State::Done).await;
    let events = events.lock().unwrap().clone();
    assert_eq!((events.first(), events.last()), (Some(&2), Some(&3)), "started and stopped: {events:?}");
    for isolation in pair.circuits.associated() {
        assert_eq!((isolation.hops, &*isolation.key), (3, download.isolation_key()));
    }
}

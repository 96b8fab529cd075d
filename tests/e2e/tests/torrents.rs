//! Torrents over circuits: with libtorrent on the other side, and through the death of relays.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use warren_bench::content;
use warren_bench::network::Role;
use warren_e2e::lab::Lab;
use warren_e2e::not_run;
use warren_e2e::origin::Origin;
use warren_e2e::swarm::{self, Talker, is, text};
use warren_e2e::tracker::Swarm;

const MB: u64 = 1_000_000;
const LONG: Duration = Duration::from_secs(240);

/// A file with its digest.
struct Content {
    path: PathBuf,
    sha256: String,
}

impl Content {
    fn new(folder: &Path, bytes: u64) -> Self {
        let path = folder.join("content.bin");
        content::write(&path, bytes, bytes).unwrap();
        let sha256 = content::sha256(&path).unwrap();
        Self { path, sha256 }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    #[track_caller]
    fn assert_same(&self, other: impl AsRef<Path>) {
        assert_eq!(content::sha256(other.as_ref()).unwrap(), self.sha256);
    }
}

fn number(event: &Value, name: &str) -> f64 {
    event[name].as_f64().unwrap_or_default()
}

fn get(lab: &Lab, name: &str, arguments: &[&str]) -> (Talker, PathBuf) {
    let out = lab.dir().join(name).join("out");
    let mut all = vec!["get"];
    all.extend(arguments);
    let out_text = out.to_str().unwrap().to_owned();
    all.extend(["--out", out_text.as_str()]);
    (swarm::warren(lab, name, &all).unwrap(), out)
}

fn wait_done(download: &mut Talker) -> Value {
    download.wait_for("done", LONG, |event| is(event, "done")).unwrap()
}

/// Waits until it has so many percent.
fn wait_percent(download: &mut Talker, percent: f64) {
    download
        .wait_for("progress", LONG, |event| is(event, "progress") && number(event, "percent") >= percent)
        .unwrap();
}

#[test]
fn a_file_arrives_from_libtorrent_over_three_hops() {
    if not_run::lacks_libtorrent().unwrap() {
        return;
    }
    let lab = Lab::start(3, 2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let content = Content::new(folder.path(), 16 * MB);
    let (_seeder, listening) = swarm::libtorrent(&["seed", content.path()]).unwrap();
    let magnet = text(&listening, "magnet").unwrap();
    let (mut download, _) = get(&lab, "by-magnet", &[&magnet, "--hops", "3"]);
    let done = wait_done(&mut download);
    content.assert_same(text(&done, "path").unwrap());
    assert_eq!(done["bytes"], 16 * MB);
    let circuits: Vec<&Value> = download.seen().iter().filter(|event| is(event, "circuit")).collect();
    assert!(!circuits.is_empty());
    assert!(circuits.iter().all(|circuit| circuit["path"].as_array().unwrap().len() == 3), "{circuits:?}");
    assert_eq!(download.process().wait(|| true).unwrap().code(), Some(0));
    let port = listening["port"].as_u64().unwrap();
    let infohash = text(&listening, "infohash").unwrap();
    let secrets = [infohash, format!("127.0.0.1:{port}"), format!("/ip4/127.0.0.1/tcp/{port}")];
    let logs = logs(&lab);
    assert!(logs.len() > lab.nodes().len(), "each node's and the downloader's: {logs:?}");
    assert_eq!(naming(&logs, &secrets), Vec::<&String>::new());
    // At debug they are named, and found: the search works.
    let (mut download, out) = get(&lab, "debugged", &[&magnet, "--hops", "1", "--log-level", "debug"]);
    wait_done(&mut download);
    let log = std::fs::read_to_string(out.with_file_name("log.txt")).unwrap();
    assert!(!naming(&[log], &secrets).is_empty());
}

/// What the nodes and the programs that joined them have logged.
fn logs(lab: &Lab) -> Vec<String> {
    let folders = std::fs::read_dir(lab.dir()).unwrap().map(|folder| folder.unwrap().path());
    folders.filter_map(|folder| std::fs::read_to_string(folder.join("log.txt")).ok()).collect()
}

/// The logs that name one of these.
fn naming<'a>(logs: &'a [String], secrets: &[String]) -> Vec<&'a String> {
    let names = |log: &&String| secrets.iter().any(|secret| log.to_lowercase().contains(secret));
    logs.iter().filter(names).collect()
}

#[test]
fn a_torrent_file_and_the_url_of_one_lead_to_the_content() {
    if not_run::lacks_libtorrent().unwrap() {
        return;
    }
    let lab = Lab::start(3, 2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let content = Content::new(folder.path(), 4 * MB);
    let (_seeder, listening) = swarm::libtorrent(&["seed", content.path()]).unwrap();
    let (torrent, port) = (text(&listening, "torrent").unwrap(), listening["port"].to_string());
    let origin = Origin::with_file("x.torrent", std::fs::read(&torrent).unwrap()).unwrap();
    let (url, peer) = (format!("http://{}/x.torrent", origin.address()), format!("127.0.0.1:{port}"));
    for (name, source) in [("by-file", &torrent), ("by-url", &url)] {
        let (mut download, out) = get(&lab, name, &[source, "--peer", &peer, "--hops", "3"]);
        let done = wait_done(&mut download);
        content.assert_same(text(&done, "path").unwrap());
        content.assert_same(out.join("content.bin"));
        assert_eq!(download.process().wait(|| true).unwrap().code(), Some(0), "{name}");
    }
    assert_eq!(origin.requests(), 1);
    // What is there and is no torrent, and what is not there.
    for (name, path, says) in [("no-torrent", "100", "torrent"), ("missing", "y.torrent", "torrent")] {
        let url = format!("http://{}/{path}", origin.address());
        let (mut download, _) = get(&lab, name, &[&url, "--peer", &peer, "--hops", "1"]);
        let error = download.wait_for("an error", LONG, |event| is(event, "error")).unwrap();
        assert!(text(&error, "message").unwrap().contains(says), "{name}: {error}");
        assert_eq!(download.process().wait(|| true).unwrap().code(), Some(1), "{name}");
    }
}

#[test]
fn trackers_are_asked_through_the_circuit() {
    if not_run::lacks_libtorrent().unwrap() {
        return;
    }
    let lab = Lab::start(3, 2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let content = Content::new(folder.path(), MB);
    let (_seeder, listening) = swarm::libtorrent(&["seed", content.path()]).unwrap();
    let infohash = text(&listening, "infohash").unwrap();
    let port = u16::try_from(listening["port"].as_u64().unwrap()).unwrap();
    let peers = [std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, port)];
    for udp in [false, true] {
        let swarm = Swarm::of(&peers);
        let tracker = if udp {
            format!("udp://{}/announce", swarm.serve_udp().unwrap())
        } else {
            format!("http://{}/announce", swarm.serve_http().unwrap())
        };
        let magnet = format!("magnet:?xt=urn:btih:{infohash}&tr={tracker}");
        let (mut download, _) = get(&lab, &format!("by-tracker-{udp}"), &[&magnet, "--hops", "2"]);
        let done = wait_done(&mut download);
        content.assert_same(text(&done, "path").unwrap());
        assert_eq!(download.process().wait(|| true).unwrap().code(), Some(0));
        let announces = swarm.announces();
        assert!(announces.len() >= 2, "started and stopped: {announces:?}");
    }
}

#[test]
fn libtorrent_downloads_what_we_seed() {
    if not_run::lacks_libtorrent().unwrap() {
        return;
    }
    let lab = Lab::start(3, 2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let content = Content::new(folder.path(), 8 * MB);
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = unused.local_addr().unwrap().port().to_string();
    drop(unused);
    let peer = format!("127.0.0.1:{port}");
    let mut seeder = swarm::warren(&lab, "seeder", &["seed", content.path(), "--peer", &peer]).unwrap();
    let started = seeder.wait_for("started", LONG, |event| is(event, "started")).unwrap();
    let magnet = text(&started, "magnet").unwrap();
    let into = folder.path().join("leech");
    std::fs::create_dir(&into).unwrap();
    let arguments = ["leech", &magnet, into.to_str().unwrap(), "--port", &port];
    let (mut leech, _) = swarm::libtorrent(&arguments).unwrap();
    leech.wait_for("done", LONG, |event| is(event, "done")).unwrap();
    content.assert_same(into.join("content.bin"));
    seeder.process().signal(libc::SIGTERM);
    assert_eq!(seeder.process().wait(|| true).unwrap().code(), Some(0));
}

#[test]
fn a_download_survives_a_relay_and_an_exit() {
    if not_run::lacks_libtorrent().unwrap() {
        return;
    }
    let mut lab = Lab::start(4, 2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let content = Content::new(folder.path(), 64 * MB);
    let (_seeder, listening) = swarm::libtorrent(&["seed", content.path()]).unwrap();
    let magnet = text(&listening, "magnet").unwrap();
    let (mut download, _) = get(&lab, "survivor", &[&magnet, "--hops", "3"]);
    wait_percent(&mut download, 5.0);
    let first = download.seen().iter().find(|event| is(event, "circuit")).unwrap().clone();
    let exit = first["path"][2].as_str().unwrap().to_owned();
    lab.kill(first["path"][0].as_str().unwrap()).unwrap();
    wait_percent(&mut download, 40.0);
    let exits = lab.alive(Role::Exit);
    let exit = if exits.contains(&exit) { exit } else { exits[0].clone() };
    lab.kill(&exit).unwrap();
    let done = wait_done(&mut download);
    content.assert_same(text(&done, "path").unwrap());
}

#[test]
fn without_relays_a_download_waits_and_then_goes_on() {
    if not_run::lacks_libtorrent().unwrap() {
        return;
    }
    let mut lab = Lab::start(3, 2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let content = Content::new(folder.path(), 64 * MB);
    let (mut seeder, listening) = swarm::libtorrent(&["seed", content.path()]).unwrap();
    let magnet = text(&listening, "magnet").unwrap();
    let (mut download, _) = get(&lab, "patient", &[&magnet, "--hops", "3"]);
    wait_percent(&mut download, 5.0);
    lab.kill_all();
    let waiting = download.wait_for("waiting", LONG, |event| is(event, "waiting")).unwrap();
    assert!(!text(&waiting, "reason").unwrap().is_empty());
    lab.revive().unwrap();
    let done = wait_done(&mut download);
    content.assert_same(text(&done, "path").unwrap());
    assert!(seeder.process().ended().is_none());
}

#[test]
fn a_killed_download_goes_on_where_it_was() {
    if not_run::lacks_libtorrent().unwrap() {
        return;
    }
    let lab = Lab::start(3, 2).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let content = Content::new(folder.path(), 64 * MB);
    let (mut seeder, listening) = swarm::libtorrent(&["seed", content.path()]).unwrap();
    let (torrent, port) = (text(&listening, "torrent").unwrap(), listening["port"].to_string());
    let peer = format!("127.0.0.1:{port}");
    let arguments = [torrent.as_str(), "--peer", &peer, "--hops", "1"];
    let (mut download, _) = get(&lab, "killed", &arguments);
    wait_percent(&mut download, 30.0);
    download.process().kill();
    seeder.process().kill();
    let (mut download, _) = get(&lab, "killed", &arguments);
    // Nobody has it now but the disk.
    wait_percent(&mut download, 10.0);
    let (_seeder, _) = swarm::libtorrent(&["seed", content.path(), "--port", &port]).unwrap();
    let done = wait_done(&mut download);
    content.assert_same(text(&done, "path").unwrap());
}

#[test]
fn broken_torrents_and_unwritable_folders_are_explained() {
    if not_run::lacks_libtorrent().unwrap() {
        return;
    }
    let lab = Lab::start(2, 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let torrent = write("cut.torrent", b"d8:announce");
    let nothing = write("nothing.torrent", b"d8:announce3:abce");
    let content = Content::new(folder.path(), MB);
    let (_seeder, listening) = swarm::libtorrent(&["seed", content.path()]).unwrap();
    let magnet = text(&listening, "magnet").unwrap();
    let file = write("file", b"");
    for (what, arguments, says) in [
        ("cut", vec![torrent.as_str()], "not well-formed"),
        ("empty", vec![nothing.as_str()], "no info dictionary"),
        ("no-hash", vec!["magnet:?dn=x"], "no infohash"),
        ("v2", vec!["magnet:?xt=urn:btmh:1220aa"], "v2"),
        (
            "lonely",
            vec!["magnet:?xt=urn:btih:0123456789012345678901234567890123456789"],
            "no way to find peers",
        ),
        ("unwritable", vec![magnet.as_str(), "--hops", "1", "--out", file.as_str()], "downloading into"),
    ] {
        let mut all = vec!["get"];
        all.extend(&arguments);
        let mut download = swarm::warren(&lab, what, &all).unwrap();
        let error = download.wait_for("an error", LONG, |event| is(event, "error")).unwrap();
        assert!(text(&error, "message").unwrap().contains(says), "{what}: {error}");
        assert_eq!(download.process().wait(|| true).unwrap().code(), Some(1), "{what}");
    }
}

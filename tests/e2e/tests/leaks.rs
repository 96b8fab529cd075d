//! Nothing leaves but through the circuits: a network namespace with only loopback counts every
//! packet for which there is no route; where there are no namespaces, strace shows every address.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{SocketAddrV4, UdpSocket};
use std::time::Duration;

use warren_bench::content;
use warren_e2e::lab::Lab;
use warren_e2e::swarm::{self, Talker, is, text};
use warren_e2e::tracker::Swarm;
use warren_e2e::{namespace, not_run, trace};

#[test]
fn an_anonymous_download_sends_nothing_past_its_circuits() {
    if namespace::is_inside() {
        return count_what_leaves();
    }
    if not_run::lacks_libtorrent().unwrap() {
        return;
    }
    if namespace::is_possible() {
        namespace::run_inside("an_anonymous_download_sends_nothing_past_its_circuits").unwrap();
    } else if trace::is_possible() {
        trace_what_leaves();
    } else {
        not_run::note("neither a network namespace nor strace is to be had").unwrap();
    }
}

fn count_what_leaves() {
    // The counter counts, or it would prove nothing.
    let before = namespace::without_route().unwrap();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    assert!(socket.send_to(b"leak", "192.0.2.1:9").is_err());
    assert_eq!(namespace::without_route().unwrap(), before + 1);

    let lab = Lab::start(3, 2).unwrap();
    let before = namespace::without_route().unwrap();
    download(|arguments| swarm::warren(&lab, "downloader", arguments).unwrap());
    assert_eq!(namespace::without_route().unwrap(), before, "something was sent past the circuits");
}

/// Without a namespace: every address that the downloader gives to the kernel is on this machine.
fn trace_what_leaves() {
    let lab = Lab::start(3, 2).unwrap();
    let file = lab.dir().join("trace.txt");
    let wrapper = trace::wrapper(&file);
    let pid = download(|arguments| swarm::warren_within(&lab, "downloader", arguments, &wrapper).unwrap());
    let trace = trace::read(&file, pid).unwrap();
    assert!(trace.loopback > 0, "the relays are on loopback, and it reached them: {trace:?}");
    assert!(trace.refused.is_empty(), "sent past the circuits: {:#?}", trace.refused);
}

/// Downloads what libtorrent seeds, with much around it that would lead elsewhere. Gives the process
/// id of the downloader, which has ended.
fn download(start: impl FnOnce(&[&str]) -> Talker) -> u32 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("content.bin");
    content::write(&path, 8_000_000, 1).unwrap();
    let (_seeder, listening) = swarm::libtorrent(&["seed", path.to_str().unwrap()]).unwrap();
    let (infohash, magnet) = (text(&listening, "infohash").unwrap(), text(&listening, "magnet").unwrap());
    // Peers in the documentation range: an exit refuses them before it opens a socket, and whoever
    // else tried them would be counted.
    let nowhere: Vec<SocketAddrV4> =
        (1..=50).map(|n| SocketAddrV4::new([192, 0, 2, n].into(), 6881)).collect();
    let swarm = Swarm::of(&nowhere);
    let (http, udp) = (swarm.serve_http().unwrap(), swarm.serve_udp().unwrap());
    let link = format!(
        "{magnet}&x.pe=192.0.2.77:6881&tr=http://{http}/announce&tr=udp://{udp}/announce\
         &tr=udp://192.0.2.78:1337/announce&tr=http://192.0.2.79/announce"
    );
    assert!(link.contains(&infohash));
    let out = folder.path().join("out");
    let arguments = ["get", &link, "--hops", "3", "--seed", "--out", out.to_str().unwrap()];
    let mut download = start(&arguments);
    let pid = download.process().pid();
    download.wait_for("done", Duration::from_secs(240), |event| is(event, "done")).unwrap();
    download.process().stop();
    assert_eq!(content::sha256(&out.join("content.bin")).unwrap(), content::sha256(&path).unwrap());
    let announces = swarm.announces();
    assert!(announces.iter().any(|line| line.starts_with("GET ")), "{announces:?}");
    assert!(announces.iter().any(|line| line.starts_with("udp ")), "{announces:?}");
    pid
}

//! Nothing leaves but through the circuits: a network namespace with only loopback counts every
//! packet for which there is no route.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::net::{SocketAddrV4, UdpSocket};
use std::time::Duration;

use warren_bench::content;
use warren_e2e::lab::Lab;
use warren_e2e::namespace;
use warren_e2e::swarm::{self, is, text};
use warren_e2e::tracker::Swarm;

/// Packets that this namespace could not send for want of a route, IPv4 and IPv6 (`OutNoRoutes`).
fn without_route() -> u64 {
    let four = std::fs::read_to_string("/proc/net/snmp").unwrap();
    let lines: Vec<Vec<&str>> =
        four.lines().filter(|line| line.starts_with("Ip:")).map(|line| line.split(' ').collect()).collect();
    let column = lines[0].iter().position(|name| *name == "OutNoRoutes").unwrap();
    let six = std::fs::read_to_string("/proc/net/snmp6").unwrap_or_default();
    let six = six
        .lines()
        .find_map(|line| line.strip_prefix("Ip6OutNoRoutes"))
        .map_or(0, |n| n.trim().parse().unwrap());
    lines[1][column].parse::<u64>().unwrap() + six
}

#[test]
fn an_anonymous_download_sends_nothing_past_its_circuits() {
    if !namespace::is_inside() {
        return namespace::run_inside("an_anonymous_download_sends_nothing_past_its_circuits").unwrap();
    }
    // The counter counts, or it would prove nothing.
    let before = without_route();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    assert!(socket.send_to(b"leak", "192.0.2.1:9").is_err());
    assert_eq!(without_route(), before + 1);

    let lab = Lab::start(3, 2).unwrap();
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
    let before = without_route();
    let out = folder.path().join("out");
    let arguments = ["get", &link, "--hops", "3", "--seed", "--out", out.to_str().unwrap()];
    let mut download = swarm::warren(&lab, "downloader", &arguments).unwrap();
    download.wait_for("done", Duration::from_secs(240), |event| is(event, "done")).unwrap();
    download.process().stop();
    assert_eq!(content::sha256(&out.join("content.bin")).unwrap(), content::sha256(&path).unwrap());
    let announces = swarm.announces();
    assert!(announces.iter().any(|line| line.starts_with("GET ")), "{announces:?}");
    assert!(announces.iter().any(|line| line.starts_with("udp ")), "{announces:?}");
    assert_eq!(without_route(), before, "something was sent past the circuits");
}

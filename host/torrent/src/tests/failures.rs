//! What must fail, and say why.

use std::path::Path;

use tokio::io::AsyncReadExt;
use warren_ports::{BoxFuture, BoxStream, DialError, SocksClient};

use super::*;

struct Asker(tokio::sync::oneshot::Sender<Option<DialError>>);

impl SocksClient for Asker {
    fn accept(self: Box<Self>) -> BoxFuture<'static, std::io::Result<BoxStream>> {
        let _ = self.0.send(None);
        Box::pin(async { Err(std::io::ErrorKind::Other.into()) })
    }

    fn refuse(self: Box<Self>, error: DialError) -> BoxFuture<'static, ()> {
        let _ = self.0.send(Some(error));
        Box::pin(async {})
    }
}

async fn asked(node: &Node, user: &str, target: &str) -> Option<DialError> {
    let (tell, told) = tokio::sync::oneshot::channel();
    node.torrents.serve(user, parse_peer(target).unwrap(), Box::new(Asker(tell)));
    soon(told).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_we_announced_is_dialled() {
    let pair = Pair::new().await;
    pair.circuits.none("not yet");
    let download = pair.add().await;
    let key = download.isolation_key();
    let peers =
        ["127.0.0.1:80", "1.2.3.4:6881", "127.64.0.9:1024", "[::1]:80", "example.org:80", "127.64.0.1:9"];
    for target in peers {
        assert!(matches!(asked(&pair.node, key, target).await, Some(DialError::Denied)), "{target}");
    }
    assert_eq!(download.counters().unknown, 4);
    assert!(download.counters().stale >= 2);
    assert!(matches!(asked(&pair.node, "t-guessed", "127.64.0.1:1024").await, Some(DialError::Denied)));
    let alias = asked(&pair.node, key, "127.64.0.1:1024").await;
    assert!(
        matches!(alias, Some(DialError::NoCircuit(_) | DialError::Denied | DialError::Limit)),
        "{alias:?}"
    );
    assert_eq!(pair.circuits.connected(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_cannot_send_us_into_private_networks() {
    let dir = TempDir::new().unwrap();
    let circuits = Circuits::default();
    let node = Node::with(dir.path().join("node"), circuits.clone(), |s| s.allow_private = false).await;
    let shared = share(dir.path());
    let tracker = TestTracker::start("127.0.0.1:1".parse().unwrap()).await;
    let source = Source::Bytes(tracker.torrent(&shared));
    let download = node.torrents.add(source, to(&dir.path().join("out"))).await.unwrap();
    until(|| download.counters().private > 0).await;

    let url = Source::Url(tracker.torrent_url());
    let fetch = node.torrents.add(url, to(&dir.path().join("out"))).await.unwrap();
    assert!(matches!(soon(fetch.finished()).await, Err(Error::Fetch(_))));
    let magnet = format!("magnet:?xt=urn:btih:{}&x.pe=127.0.0.1:1&x.pe=10.0.0.1:1", "ab".repeat(20));
    let magnet = node.torrents.add(Source::Magnet(magnet), to(&dir.path().join("out"))).await;
    assert!(matches!(magnet.err(), Some(Error::NoPeerSource)));
    assert!(circuits.dialled().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_is_said() {
    let pair = Pair::new().await;
    std::fs::write(pair.out(), b"in the way").unwrap();
    let download = pair.add().await;
    let error = soon(download.finished()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::System);
    until(|| matches!(download.progress().state, State::Failed(_))).await;

    std::fs::remove_file(pair.out()).unwrap();
    until(|| pair.node.torrents.list().is_empty()).await;
    let finished = soon(pair.add().await.finished()).await.unwrap();
    equal(&finished.path, &pair.shared);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_and_resumes() {
    let pair = Pair::new().await;
    let folder = pair.out().join("share");
    std::fs::create_dir_all(&folder).unwrap();
    // Every write to this device fails for want of space.
    std::os::unix::fs::symlink("/dev/full", folder.join("large.bin")).unwrap();
    let download = pair.add().await;
    let error = soon(download.finished()).await.unwrap_err();
    assert!(error.to_string().contains("No space left"), "{error}");
    until(|| pair.node.torrents.list().is_empty()).await;

    std::fs::remove_file(folder.join("large.bin")).unwrap();
    let finished = soon(pair.add().await.finished()).await.unwrap();
    equal(&finished.path, &pair.shared);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_for() {
    let dir = TempDir::new().unwrap();
    let node = Node::with(dir.path().join("node"), Circuits::default(), |s| s.max_active = 1).await;
    let add = |source, options| node.torrents.add(source, options);
    let magnet =
        |hash: &str| Source::Magnet(format!("magnet:?xt=urn:btih:{}&x.pe=127.0.0.1:1", hash.repeat(20)));
    let out = || to(Path::new("out"));

    assert!(matches!(add(Source::guess("magnet:?dn=x"), out()).await, Err(Error::MagnetWithoutInfohash)));
    let lonely = Source::Magnet(format!("magnet:?xt=urn:btih:{}", "ab".repeat(20)));
    assert!(matches!(add(lonely, out()).await, Err(Error::NoPeerSource)));
    assert!(matches!(add(magnet("ab"), AddOptions { hops: 4, ..out() }).await, Err(Error::Hops(4))));
    let listen = AddOptions { listen: direct().listen, ..out() };
    assert!(matches!(add(magnet("ab"), listen).await, Err(Error::ListenNeedsDirect)));
    assert!(matches!(add(Source::Bytes(b"d4:info".to_vec()), out()).await, Err(Error::Bencode { .. })));
    assert!(matches!(add(Source::guess("/absent.torrent"), out()).await, Err(Error::Io { .. })));

    let first = add(magnet("ab"), out()).await.unwrap();
    assert!(matches!(add(magnet("ab"), out()).await, Err(Error::Active(_))));
    assert!(matches!(add(magnet("cd"), out()).await, Err(Error::TooMany(1))));
    first.stop().await;
    add(magnet("cd"), out()).await.unwrap().stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_said() {
    let dir = TempDir::new().unwrap();
    let node = Node::new(dir.path().join("node"), Circuits::default()).await;
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = SeedOptions { listen: Some(taken.local_addr().unwrap()), ..SeedOptions::default() };
    let error = node.torrents.seed(&share(dir.path()), options).await.err().unwrap();
    assert!(error.to_string().starts_with("listening for peers on 127.0.0.1:"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_at_the_listener_is_closed_and_counted() {
    let pair = Pair::new().await;
    until(|| pair.seeding.progress().state == State::Seeding).await;
    let mut stream = tokio::net::TcpStream::connect(pair.seeding.listening().unwrap()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = soon(stream.read_to_end(&mut rest)).await;
    assert!(rest.is_empty());
    until(|| pair.seeding.counters().not_bittorrent == 1).await;
}

/// A peer that greets, says that it has everything, and sends addresses it hopes we dial.
async fn treacherous(listener: tokio::net::TcpListener, infohash: InfoHash, lure: std::net::SocketAddr) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut greeting = [0; 68];
    stream.read_exact(&mut greeting).await.unwrap();
    let extended = |id: u8, body: &[u8]| {
        let length = u32::try_from(body.len() + 2).unwrap().to_be_bytes();
        [&length[..], &[20, id], body].concat()
    };
    let std::net::IpAddr::V4(ip) = lure.ip() else { panic!() };
    let address = [&ip.octets()[..], &lure.port().to_be_bytes()].concat();
    let pex = [b"d5:added6:", &address[..], b"7:added.f1:\x127:dropped6:", &address[..], b"e"].concat();
    let says = [
        &[&b"\x13BitTorrent protocol"[..], &[0, 0, 0, 0, 0, 0x10, 0, 0], &infohash.0, &[b'x'; 20]].concat()[..],
        &extended(0, b"d1:md6:ut_pexi1eee"),
        // librqbit's own id for ut_pex.
        &extended(1, &pex),
        &[0, 0, 0, 1, 1],
    ];
    tokio::io::AsyncWriteExt::write_all(&mut stream, &says.concat()).await.unwrap();
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard).await;
    let leaks = [&b"ut_pex"[..], b"yourip", &[127, 64]];
    for leak in leaks {
        assert!(!heard.windows(leak.len()).any(|window| window == leak), "{leak:?} in {heard:?}");
    }
    assert!(heard.windows(11).any(|window| window == b"ut_metadata"));
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_from_peers_are_never_dialled() {
    let pair = Pair::new().await;
    let lure = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let traitor = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = traitor.local_addr().unwrap();
    let torrent = crate::create::create(&pair.shared).unwrap();
    let heard = tokio::spawn(treacherous(traitor, torrent.infohash, lure.local_addr().unwrap()));
    let options = AddOptions { peers: vec![at.into()], ..to(&pair.out()) };
    let download = pair.node.torrents.add(Source::Bytes(torrent.bare().to_vec()), options).await.unwrap();
    // All it says, 149 bytes, has come in.
    until(|| pair.circuits.carried() >= 149).await;
    download.add_peers([pair.seeding.listening().unwrap().into()]);
    soon(download.finished()).await.unwrap();
    until(|| download.progress().state == State::Done).await;
    heard.await.unwrap();
    assert_eq!(download.counters().unknown, 0);
    let lure = lure.local_addr().unwrap().to_string();
    assert!(pair.circuits.dialled().iter().all(|(_, target)| target.to_string() != lure));
}

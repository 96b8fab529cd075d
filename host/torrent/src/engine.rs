//! librqbit, and nothing of it outside this file. One session per torrent, whose only way out is our
//! SOCKS server: no DHT, no local discovery, no UPnP, no tracker but ours, no listener but a loopback
//! one, and that only when a listener of ours feeds it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use librqbit::{
    AddTorrent, AddTorrentOptions, AddTorrentResponse, ConnectionOptions, ListenerMode, ListenerOptions,
    ManagedTorrent, PeerConnectionOptions, Session, SessionOptions, TorrentStatsState,
};

use librqbit::dht::Id20;

use crate::metainfo::Metainfo;
use crate::storage::WholeWrites;
use crate::{Error, InfoHash, inner_tracker};
use librqbit::storage::StorageFactoryExt;

/// What peers see as our client's name: without a version, which would tell users apart.
const CLIENT: &str = "Warren";
/// A dial waits for a circuit before it fails.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(120);
/// The engine's keepalives come every 120 s and cannot be set for a live torrent.
const READ_WRITE_TIMEOUT: Duration = Duration::from_secs(180);
/// Blocks of 16 KiB asked for at a time: 8 MiB in flight, for round trips of three hops.
const REQUEST_WINDOW: usize = 512;
/// Peers connected at a time.
const PEERS: usize = 80;
/// The engine's permits for blocking work, disk and open streams together; its own 8 let streams
/// starve downloads.
const BLOCKING: usize = 64;

/// A session.
#[derive(Clone)]
pub(crate) struct Engine {
    session: Arc<Session>,
}

/// A torrent in it.
#[derive(Clone)]
pub(crate) struct Running {
    torrent: Arc<ManagedTorrent>,
}

/// How far it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct EngineStats {
    pub(crate) checking: bool,
    pub(crate) finished: bool,
    pub(crate) error: Option<String>,
    /// Bytes checked so far while checking, bytes there afterwards.
    pub(crate) done: u64,
    pub(crate) total: u64,
    pub(crate) fetched: u64,
    pub(crate) uploaded: u64,
    /// Bytes a second.
    pub(crate) down: u64,
    /// Bytes a second.
    pub(crate) up: u64,
    pub(crate) peers: u32,
}

impl Engine {
    /// Starts a session.
    ///
    /// # Errors
    /// What librqbit says.
    pub(crate) async fn start(
        folder: &Path,
        proxy: String,
        id: [u8; 20],
        listen: bool,
    ) -> Result<Self, Error> {
        let listener = ListenerOptions {
            mode: ListenerMode::TcpOnly,
            listen_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            enable_upnp_port_forwarding: false,
            ipv4_only: true,
            ..ListenerOptions::default()
        };
        let peer_opts = PeerConnectionOptions {
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_write_timeout: Some(READ_WRITE_TIMEOUT),
            keep_alive_interval: None,
            max_request_window: Some(REQUEST_WINDOW),
        };
        let options = SessionOptions {
            dht: None,
            disable_local_service_discovery: true,
            persistence: None,
            // Its check of resumed pieces takes a wrong hash for a right one (9.1.0): check all.
            fastresume: false,
            peer_id: Some(Id20::new(id)),
            listen: listen.then_some(listener),
            connect: Some(ConnectionOptions {
                proxy_url: Some(proxy),
                enable_tcp: true,
                peer_opts: Some(peer_opts),
            }),
            runtime_worker_threads: Some(BLOCKING),
            trackers: inner_tracker::URL.parse().into_iter().collect(),
            peer_limit: Some(PEERS),
            ipv4_only: true,
            client_name_and_version: Some(CLIENT.into()),
            default_storage_factory: Some(WholeWrites::default().boxed()),
            ..SessionOptions::default()
        };
        let session = Session::new_with_opts(folder.to_owned(), options).await.map_err(engine)?;
        Ok(Self { session })
    }

    /// Where the engine takes connections, when it was started with `listen`.
    pub(crate) fn listening(&self) -> Option<SocketAddr> {
        self.session.listen_addr()
    }

    /// Asks peers for the metadata until one gives it.
    ///
    /// # Errors
    /// What librqbit says; [`Error::WrongMetadata`] and what [`Metainfo`] finds wrong.
    pub(crate) async fn metadata(&self, infohash: InfoHash) -> Result<Metainfo, Error> {
        let magnet = format!("magnet:?xt=urn:btih:{infohash}");
        let options = AddTorrentOptions { list_only: true, ..AddTorrentOptions::default() };
        let added = self.session.add_torrent(AddTorrent::from_url(magnet), Some(options)).await;
        let AddTorrentResponse::ListOnly(listed) = added.map_err(engine)? else {
            return Err(Error::Engine("the engine has this torrent already".into()));
        };
        let mut metainfo = Metainfo::parse(&listed.torrent_bytes)?;
        metainfo.trackers.clear();
        if metainfo.infohash == infohash { Ok(metainfo) } else { Err(Error::WrongMetadata) }
    }

    /// Begins with the torrent: checks what is in `folder`, then downloads the rest into it.
    ///
    /// # Errors
    /// What librqbit says, such as a folder that cannot be written.
    pub(crate) async fn run(&self, bare: Bytes, folder: &Path) -> Result<Running, Error> {
        let folder = folder.to_str().ok_or_else(|| Error::UnsafeName(folder.display().to_string()))?;
        let options = AddTorrentOptions {
            overwrite: true,
            output_folder: Some(folder.to_owned()),
            ..AddTorrentOptions::default()
        };
        let added = self.session.add_torrent(AddTorrent::from_bytes(bare), Some(options)).await;
        let torrent = added.map_err(engine)?.into_handle();
        Ok(Running { torrent: torrent.ok_or_else(|| Error::Engine("the engine did not take it".into()))? })
    }

    /// Ends the session. Takes about a second.
    pub(crate) async fn stop(&self) {
        self.session.stop().await;
    }
}

impl Running {
    pub(crate) fn stats(&self) -> EngineStats {
        let stats = self.torrent.stats();
        let live = stats.live.as_ref();
        EngineStats {
            checking: matches!(stats.state, TorrentStatsState::Initializing { .. }),
            finished: stats.finished,
            error: stats.error,
            done: stats.progress_bytes,
            total: stats.total_bytes,
            fetched: live.map_or(0, |live| live.snapshot.fetched_bytes),
            uploaded: stats.uploaded_bytes,
            down: live.map_or(0, |live| live.download_speed.as_bytes()),
            up: live.map_or(0, |live| live.upload_speed.as_bytes()),
            peers: live.map_or(0, |live| live.snapshot.peer_stats.live),
        }
    }
}

fn engine(error: impl std::fmt::Display) -> Error {
    // Its errors print their causes in the alternate form only.
    Error::Engine(format!("{error:#}"))
}

/// The folder the engine writes into: a torrent of many files gets its own.
pub(crate) fn folder(out: &Path, metainfo: &Metainfo) -> PathBuf {
    if metainfo.is_folder { out.join(&metainfo.name) } else { out.to_owned() }
}

//! All torrents of a node.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use warren_ports::{Datagrams, Dial, DialError, SocksClient, Target};

use crate::driver::{self, Plan, Start};
use crate::hub::is_public;
use crate::metainfo::{self, Metainfo};
use crate::saved::{Saved, Shelf};
use crate::torrent::{Ports, Torrent};
use crate::{
    AddOptions, Download, Error, InfoHash, Magnet, SeedOptions, Settings, Source, create, magnet, peers,
};

/// All torrents of a node; clones are the same.
#[derive(Clone)]
pub struct Torrents {
    ports: Arc<Ports>,
}

/// A source, read.
struct Opened {
    start: Start,
    name: Option<String>,
    total: u64,
    trackers: Vec<String>,
    peers: Vec<Target>,
}

impl Torrents {
    /// No torrents yet. Their tasks run on the runtime this is called in, which must be multi-threaded.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(settings: Settings, dial: Arc<dyn Dial>, datagrams: Arc<dyn Datagrams>) -> Self {
        Self { ports: Arc::new(Ports::new(settings, dial, datagrams)) }
    }

    /// Takes a CONNECT whose SOCKS user name begins with `t-`. Returns at once; the answer to the
    /// client comes later. Users we never made up are refused.
    pub fn serve(&self, user: &str, target: Target, client: Box<dyn SocksClient>) {
        let of = |name: fn(&Torrent) -> &Arc<str>| {
            self.ports.active().iter().find(|t| &**name(t) == user).cloned()
        };
        match (of(|torrent| &torrent.key), of(|torrent| &torrent.web)) {
            (Some(torrent), _) => self.ports.runtime.spawn(peers::engine(torrent, target, client)),
            (None, Some(torrent)) => self.ports.runtime.spawn(peers::web(torrent, target, client)),
            (None, None) => self.ports.runtime.spawn(client.refuse(DialError::Denied)),
        };
    }

    /// Begins a download, or resumes it: what is in `options.out` already is checked and kept.
    ///
    /// # Errors
    /// What is wrong with the source or the request. What goes wrong later is told by
    /// [`Download::finished`].
    pub async fn add(&self, source: Source, options: AddOptions) -> Result<Download, Error> {
        let mut opened = open(source).await?;
        let allow_private = self.ports.settings.allow_private;
        opened.peers.retain(|peer| is_public(peer, allow_private));
        let reachable = options.listen.is_some() || matches!(opened.start, Start::Url(_));
        let known = opened.trackers.len() + opened.peers.len() + options.peers.len();
        if known == 0 && !reachable {
            return Err(Error::NoPeerSource);
        }
        self.begin(opened, options).await
    }

    async fn begin(&self, mut opened: Opened, options: AddOptions) -> Result<Download, Error> {
        let (listening, listener) = listen(options.hops, options.listen).await?;
        let torrent = self.enter(options.hops, listening, opened.start.infohash())?;
        opened.peers.extend(options.peers);
        torrent.hub.add(opened.peers.iter().cloned(), true);
        if let Some(name) = opened.name {
            torrent.describe(name, opened.total);
        }
        let plan = Plan {
            start: opened.start,
            out: options.out,
            trackers: opened.trackers,
            peers: opened.peers.iter().map(ToString::to_string).collect(),
            seed_after: options.seed_after,
            listener,
        };
        self.launch(&torrent, plan);
        Ok(Download { torrent, magnet: None })
    }

    /// Seeds a file or a folder, of which a torrent is made; or, given a .torrent, what lies beside it.
    /// Hashing takes about a second a gigabyte.
    ///
    /// # Errors
    /// What is wrong with the request or the files.
    pub async fn seed(&self, path: &Path, options: SeedOptions) -> Result<Download, Error> {
        let (listening, listener) = listen(options.hops, options.listen).await?;
        let path = std::path::absolute(path).map_err(Error::io("reading", path))?;
        let made = tokio::task::spawn_blocking({
            let path = path.clone();
            move || match path.extension() {
                Some(extension) if extension == "torrent" => Metainfo::parse(&read_torrent(&path)?),
                _ => create::create(&path),
            }
        });
        let mut metainfo = made.await.map_err(|_| Error::Stopped)??;
        metainfo.trackers.splice(0..0, options.trackers);
        let mut magnet = Magnet {
            infohash: metainfo.infohash,
            name: Some(metainfo.name.clone()),
            trackers: metainfo.trackers.clone(),
            peers: Vec::new(),
        };
        magnet.peers.extend(listening.filter(|address| !address.ip().is_unspecified()).map(Target::from));
        let torrent = self.enter(options.hops, listening, Some(metainfo.infohash))?;
        torrent.describe(metainfo.name.clone(), metainfo.total);
        torrent.hub.add(options.peers.iter().cloned(), true);
        let plan = Plan {
            trackers: metainfo.trackers.clone(),
            start: Start::Metainfo(metainfo),
            out: path.parent().unwrap_or(&path).to_owned(),
            peers: options.peers.iter().map(ToString::to_string).collect(),
            seed_after: true,
            listener,
        };
        self.launch(&torrent, plan);
        Ok(Download { torrent, magnet: Some(magnet) })
    }

    /// The torrents that are active, in the order they came.
    #[must_use]
    pub fn list(&self) -> Vec<Download> {
        self.ports
            .active()
            .iter()
            .map(|torrent| Download { torrent: torrent.clone(), magnet: None })
            .collect()
    }

    /// What was not done with when it ended: downloads, and what was seeded.
    #[must_use]
    pub fn saved(&self) -> Vec<Saved> {
        Shelf::new(&self.ports.settings.state_dir).all()
    }

    /// Takes up a torrent of [`Self::saved`].
    ///
    /// # Errors
    /// As [`Self::add`].
    pub async fn resume(&self, saved: &Saved) -> Result<Download, Error> {
        let opened = Opened {
            start: Start::Infohash(saved.infohash.parse()?),
            name: Some(saved.name.clone()),
            total: 0,
            trackers: saved.trackers.clone(),
            peers: Vec::new(),
        };
        let options = AddOptions {
            hops: saved.hops,
            out: saved.out.clone(),
            peers: saved.peers.iter().filter_map(|peer| magnet::parse_peer(peer)).collect(),
            seed_after: saved.seed_after,
            listen: saved.listen,
        };
        self.begin(opened, options).await
    }

    /// Where the .torrent of an active torrent is kept: the info dictionary alone, no trackers. It is
    /// there as soon as the metadata is known.
    #[must_use]
    pub fn torrent_file(&self, infohash: InfoHash) -> std::path::PathBuf {
        Shelf::new(&self.ports.settings.state_dir).torrent_file(infohash)
    }

    /// Does not resume a torrent any more. Its files stay.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn forget(&self, infohash: InfoHash) -> Result<(), Error> {
        Shelf::new(&self.ports.settings.state_dir).forget(infohash)
    }

    /// Stops all: at most about ten seconds.
    pub async fn stop(&self) {
        let all = self.ports.active().clone();
        all.iter().for_each(|torrent| torrent.halt.cancel());
        for torrent in all {
            torrent.gone.cancelled().await;
        }
    }

    /// Makes room for a torrent and lists it.
    fn enter(
        &self,
        hops: u8,
        listening: Option<SocketAddr>,
        infohash: Option<InfoHash>,
    ) -> Result<Arc<Torrent>, Error> {
        let settings = &self.ports.settings;
        if hops > 3 {
            return Err(Error::Hops(hops));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        if settings.socks_token.as_ref().is_some_and(|token| token.is_empty() || !token.bytes().all(plain)) {
            return Err(Error::Token);
        }
        let torrent = Arc::new(Torrent::new(self.ports.clone(), hops, listening)?);
        let mut active = self.ports.active();
        if let Some(infohash) = infohash {
            torrent.claim(&active, infohash)?;
        }
        if active.len() >= settings.max_active {
            return Err(Error::TooMany(settings.max_active));
        }
        active.push(torrent.clone());
        Ok(torrent)
    }

    fn launch(&self, torrent: &Arc<Torrent>, plan: Plan) {
        let torrent = torrent.clone();
        self.ports.runtime.spawn(async move {
            driver::drive(torrent.clone(), plan).await;
            torrent.ports.active().retain(|other| !Arc::ptr_eq(other, &torrent));
            torrent.gone.cancel();
        });
    }
}

impl Start {
    fn infohash(&self) -> Option<InfoHash> {
        match self {
            Self::Url(_) => None,
            Self::Infohash(infohash) => Some(*infohash),
            Self::Metainfo(metainfo) => Some(metainfo.infohash),
        }
    }
}

async fn open(source: Source) -> Result<Opened, Error> {
    let metainfo = match source {
        Source::Magnet(link) => {
            let Magnet { infohash, name, trackers, peers } = Magnet::parse(&link)?;
            return Ok(Opened { start: Start::Infohash(infohash), name, total: 0, trackers, peers });
        }
        Source::Url(url) => {
            let url = reqwest::Url::parse(&url).map_err(|error| Error::Fetch(error.to_string()))?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(Error::Fetch("neither http nor https".into()));
            }
            let (name, trackers, peers) = (None, Vec::new(), Vec::new());
            return Ok(Opened { start: Start::Url(url), name, total: 0, trackers, peers });
        }
        Source::Bytes(bytes) => Metainfo::parse(&bytes)?,
        Source::File(path) => {
            let read = tokio::task::spawn_blocking(move || read_torrent(&path)).await;
            Metainfo::parse(&read.map_err(|_| Error::Stopped)??)?
        }
    };
    Ok(Opened {
        name: Some(metainfo.name.clone()),
        total: metainfo.total,
        trackers: metainfo.trackers.clone(),
        start: Start::Metainfo(metainfo),
        peers: Vec::new(),
    })
}

fn read_torrent(path: &Path) -> Result<Vec<u8>, Error> {
    let length = path.metadata().map_err(Error::io("reading", path))?.len();
    if length > u64::try_from(metainfo::MAX_LEN).unwrap_or(u64::MAX) {
        return Err(Error::TooLarge(metainfo::MAX_LEN));
    }
    std::fs::read(path).map_err(Error::io("reading", path))
}

async fn listen(
    hops: u8,
    address: Option<SocketAddr>,
) -> Result<(Option<SocketAddr>, Option<TcpListener>), Error> {
    let Some(address) = address else { return Ok((None, None)) };
    if hops != 0 {
        return Err(Error::ListenNeedsDirect);
    }
    let failed = Error::io("listening for peers on", address.to_string());
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        Ok((listener.local_addr()?, listener))
    };
    let (address, listener) = bound.await.map_err(failed)?;
    Ok((Some(address), Some(listener)))
}

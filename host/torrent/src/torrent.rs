//! One torrent: what its engine, its connections, its trackers and its owner share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use warren_ports::{Datagrams, Dial, Isolation};

use crate::counters::Tally;
use crate::engine::Running;
use crate::hub::Hub;
use crate::trackers::{Event, Identity};
use crate::{Error, Finished, InfoHash, Settings};

/// Where a torrent is in its life.
#[derive(Clone)]
pub(crate) enum Phase {
    /// Fetching a .torrent, or asking peers for the metadata.
    Metadata,
    /// In the engine.
    Running(Running),
    Done,
    Stopped,
    Failed(Error),
}

/// What `finished` waits for.
#[derive(Clone)]
pub(crate) enum Outcome {
    Pending,
    Complete(Finished),
    Failed(Error),
}

/// What every torrent of a node shares.
pub(crate) struct Ports {
    /// Left by every torrent at its end.
    active: Mutex<Vec<Arc<Torrent>>>,
    pub(crate) settings: Settings,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) datagrams: Arc<dyn Datagrams>,
    pub(crate) runtime: tokio::runtime::Handle,
}

impl Ports {
    pub(crate) fn new(settings: Settings, dial: Arc<dyn Dial>, datagrams: Arc<dyn Datagrams>) -> Self {
        let runtime = tokio::runtime::Handle::current();
        Self { active: Mutex::default(), settings, dial, datagrams, runtime }
    }

    pub(crate) fn active(&self) -> MutexGuard<'_, Vec<Arc<Torrent>>> {
        lock(&self.active)
    }
}

/// One torrent.
pub(crate) struct Torrent {
    pub(crate) ports: Arc<Ports>,
    /// The engine's SOCKS user, and the isolation key: all of a torrent's traffic shares its circuits,
    /// and no other traffic does.
    pub(crate) key: Arc<str>,
    /// The SOCKS user of our own HTTP client.
    pub(crate) web: Arc<str>,
    pub(crate) isolation: Isolation,
    identity: Identity,
    pub(crate) infohash: OnceLock<InfoHash>,
    pub(crate) hub: Hub,
    pub(crate) tally: Tally,
    /// All bytes that passed connections with peers.
    pub(crate) moved: AtomicU64,
    /// Where peers may come in.
    pub(crate) listening: Option<SocketAddr>,
    /// Why there is no circuit, while there is none.
    waiting: Mutex<Option<String>>,
    /// Why the last announce failed, until one succeeds.
    trouble: Mutex<Option<String>>,
    phase: Mutex<Phase>,
    name: Mutex<Option<String>>,
    total: AtomicU64,
    pub(crate) outcome: watch::Sender<Outcome>,
    /// Somebody asked to stop.
    pub(crate) halt: CancellationToken,
    /// Trackers say goodbye.
    pub(crate) ending: CancellationToken,
    /// Connections are closed.
    pub(crate) ended: CancellationToken,
    /// Everything is over.
    pub(crate) gone: CancellationToken,
}

impl Torrent {
    /// A torrent that does nothing yet.
    ///
    /// # Errors
    /// [`Error::Random`].
    pub(crate) fn new(ports: Arc<Ports>, hops: u8, listening: Option<SocketAddr>) -> Result<Self, Error> {
        let mut identity = Identity::random().map_err(|_| Error::Random)?;
        if let Some(address) = listening {
            identity.port = address.port();
        }
        let key: Arc<str> = user()?.into();
        let allow_private = ports.settings.allow_private;
        Ok(Self {
            isolation: Isolation { hops, key: key.clone() },
            key,
            web: user()?.into(),
            identity,
            ports,
            infohash: OnceLock::new(),
            hub: Hub::new(allow_private),
            tally: Tally::default(),
            moved: AtomicU64::new(0),
            listening,
            waiting: Mutex::default(),
            trouble: Mutex::default(),
            phase: Mutex::new(Phase::Metadata),
            name: Mutex::default(),
            total: AtomicU64::new(0),
            outcome: watch::Sender::new(Outcome::Pending),
            halt: CancellationToken::new(),
            ending: CancellationToken::new(),
            ended: CancellationToken::new(),
            gone: CancellationToken::new(),
        })
    }

    /// Names this torrent's swarm, once. `active` are all torrents, under their lock.
    ///
    /// # Errors
    /// [`Error::Active`] when another torrent has it.
    pub(crate) fn claim(&self, active: &[Arc<Self>], infohash: InfoHash) -> Result<(), Error> {
        let other = active.iter().find(|other| other.infohash.get() == Some(&infohash));
        if other.is_some_and(|other| !std::ptr::eq(&**other, self)) {
            return Err(Error::Active(infohash));
        }
        self.infohash.get_or_init(|| infohash);
        Ok(())
    }

    pub(crate) fn peer_id(&self) -> [u8; 20] {
        self.identity.peer_id
    }

    /// The address of our SOCKS server for a user of it.
    pub(crate) fn proxy(&self, user: &str) -> String {
        let settings = &self.ports.settings;
        // The engine gives no user name without a password.
        let token = settings.socks_token.as_deref().unwrap_or("none");
        format!("socks5h://{user}:{token}@{}", settings.socks)
    }

    pub(crate) fn phase(&self) -> MutexGuard<'_, Phase> {
        lock(&self.phase)
    }

    pub(crate) fn running(&self) -> Option<Running> {
        match &*self.phase() {
            Phase::Running(running) => Some(running.clone()),
            _ => None,
        }
    }

    pub(crate) fn describe(&self, name: String, total: u64) {
        *lock(&self.name) = Some(name);
        self.total.store(total, Ordering::Relaxed);
    }

    pub(crate) fn name(&self) -> Option<String> {
        lock(&self.name).clone()
    }

    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Why there is no circuit.
    pub(crate) fn waiting(&self) -> Option<String> {
        lock(&self.waiting).clone()
    }

    /// Notes whether there is a circuit.
    pub(crate) fn wait_because(&self, reason: Option<String>) {
        *lock(&self.waiting) = reason;
    }

    /// Why the last announce failed.
    pub(crate) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// Notes how the last announce went.
    pub(crate) fn troubled_by(&self, trouble: Option<String>) {
        *lock(&self.trouble) = trouble;
    }

    /// What trackers are told now; nothing as long as the infohash is not known.
    pub(crate) fn announce(&self, event: Event) -> Option<crate::trackers::Announce> {
        let stats = self.running().map(|running| running.stats()).unwrap_or_default();
        let left = match stats.total {
            // Not known how much: more than nothing, so that the tracker takes us for no seeder.
            0 => self.total().max(1),
            total if stats.checking => total,
            total => total.saturating_sub(stats.done),
        };
        Some(crate::trackers::Announce {
            infohash: *self.infohash.get()?,
            identity: self.identity,
            uploaded: stats.uploaded,
            downloaded: stats.fetched,
            left,
            event,
        })
    }
}

/// A SOCKS user nobody else can guess or has. Lower case letters and digits: the engine decodes nothing.
fn user() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(bytes.iter().fold("t-".to_owned(), |user, byte| user + &format!("{byte:02x}")))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

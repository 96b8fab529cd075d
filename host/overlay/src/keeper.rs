//! The task that verifies descriptors and keeps them, so that the network task need not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use libp2p::PeerId;
use libp2p::gossipsub::{MessageAcceptance, MessageId};
use libp2p::request_response::ResponseChannel;
use tokio::sync::mpsc;
use warren_ports::Clock;
use warren_schemas::descriptor::SignedDescriptor;

use crate::Event;
use crate::pages::{Page, Request};
use crate::store::{Offer, Store, Way};

/// Work that waits. When it is full the network task drops what comes: gossip and pages come again.
const JOBS: usize = 256;
/// Descriptors of a page verified at a stretch (60 µs each).
const STRETCH: usize = 16;

/// What there is to do.
#[derive(Debug)]
pub(crate) enum Job {
    Gossip { id: MessageId, from: PeerId, data: Vec<u8> },
    Page { from: PeerId, page: Page },
    Answer { request: Request, channel: ResponseChannel<Page> },
    Own(SignedDescriptor),
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Done {
    Gossip {
        id: MessageId,
        from: PeerId,
        acceptance: MessageAcceptance,
    },
    /// Where to go on, if there is more and nothing was wrong; and how many were wrong.
    Page {
        from: PeerId,
        next: Option<[u8; 32]>,
        invalid: usize,
    },
    Answer {
        page: Page,
        channel: ResponseChannel<Page>,
    },
    Own(SignedDescriptor),
}

/// The network task's end of it.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) jobs: mpsc::Sender<Job>,
    pub(crate) done: mpsc::Receiver<Done>,
    /// Of what is held now.
    pub(crate) digest: Arc<AtomicU64>,
}

struct Task {
    store: Store,
    clock: Arc<dyn Clock>,
    events: mpsc::Sender<Event>,
    digest: Arc<AtomicU64>,
}

/// Runs until its `jobs` are dropped.
pub(crate) fn spawn(clock: Arc<dyn Clock>, events: mpsc::Sender<Event>) -> Keeper {
    let (jobs, mut queue) = mpsc::channel(JOBS);
    let (results, done) = mpsc::channel(JOBS);
    let digest = Arc::new(AtomicU64::new(0));
    let mut task = Task { store: Store::default(), clock, events, digest: Arc::clone(&digest) };
    tokio::spawn(async move {
        while let Some(job) = queue.recv().await {
            if let Some(done) = task.perform(job).await
                && results.send(done).await.is_err()
            {
                break;
            }
        }
    });
    Keeper { jobs, done, digest }
}

impl Task {
    async fn perform(&mut self, job: Job) -> Option<Done> {
        let done = match job {
            Job::Gossip { id, from, data } => {
                let acceptance = self.judge(SignedDescriptor::from_bytes(data)).await;
                Some(Done::Gossip { id, from, acceptance })
            }
            Job::Page { from, page } => Some(self.take_page(from, page).await),
            Job::Answer { request, channel } => {
                Some(Done::Answer { page: self.store.page(self.clock.now(), request), channel })
            }
            Job::Own(signed) => self.own(signed),
        };
        self.digest.store(self.store.digest(), Ordering::Relaxed);
        done
    }

    async fn judge(&mut self, signed: SignedDescriptor) -> MessageAcceptance {
        match self.store.offer(self.clock.now(), Way::Gossip, &signed) {
            Offer::Taken(content) => {
                self.emit(Event::Descriptor(signed, *content)).await;
                MessageAcceptance::Accept
            }
            Offer::FirstGossip => MessageAcceptance::Accept,
            Offer::Known | Offer::NotNow(_) => MessageAcceptance::Ignore,
            Offer::Invalid(error) => {
                tracing::debug!(%error, "a neighbour gossips a wrong descriptor");
                MessageAcceptance::Reject
            }
        }
    }

    async fn take_page(&mut self, from: PeerId, page: Page) -> Done {
        let mut invalid = 0;
        for (at, bytes) in page.descriptors.into_iter().enumerate() {
            let signed = SignedDescriptor::from_bytes(bytes);
            match self.store.offer(self.clock.now(), Way::Page, &signed) {
                Offer::Taken(content) => self.emit(Event::Descriptor(signed, *content)).await,
                Offer::Invalid(_) => invalid += 1,
                Offer::Known | Offer::FirstGossip | Offer::NotNow(_) => {}
            }
            if at % STRETCH == STRETCH - 1 {
                tokio::task::yield_now().await;
            }
        }
        Done::Page { from, next: page.next.filter(|_| invalid == 0), invalid }
    }

    fn own(&mut self, signed: SignedDescriptor) -> Option<Done> {
        match self.store.offer(self.clock.now(), Way::Own, &signed) {
            Offer::Taken(_) | Offer::FirstGossip => Some(Done::Own(signed)),
            Offer::Known => None,
            Offer::NotNow(error) | Offer::Invalid(error) => {
                tracing::error!(%error, "this node's own descriptor is refused");
                None
            }
        }
    }

    /// Waits for room: no descriptor that was taken is lost. Nobody listening is no fault.
    async fn emit(&self, event: Event) {
        if self.events.send(event).await.is_err() {
            tracing::trace!("nobody listens to the overlay");
        }
    }
}

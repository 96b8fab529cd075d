//! One task per tracker of a torrent: asks it as often as it wants, passes its peers on, and says
//! goodbye.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use tokio::task::JoinSet;

use crate::Error;
use crate::hub::is_public;
use crate::peers::note;
use crate::torrent::{Outcome, Torrent};
use crate::trackers::{Answer, Event, Tracker, TrackerError, http, udp};

/// Before a tracker that did not answer is asked again, doubled each time.
const RETRY: Duration = Duration::from_secs(15);
const MAX_RETRY: Duration = Duration::from_secs(900);
/// While there is no circuit.
const NO_CIRCUIT: Duration = Duration::from_secs(5);

/// Starts a task for every tracker that can be asked.
///
/// # Errors
/// [`Error::Engine`] when TLS is needed and cannot be set up.
pub(super) fn spawn(
    torrent: &Arc<Torrent>,
    urls: Vec<&String>,
    tasks: &mut JoinSet<()>,
) -> Result<(), Error> {
    let trackers: Vec<_> = urls.into_iter().filter_map(|url| Tracker::parse(url).ok()).collect();
    let http = trackers.iter().any(|tracker| matches!(tracker, Tracker::Http(_)));
    let client = if http { Some(http::client(&torrent.proxy(&torrent.web))?) } else { None };
    for tracker in trackers {
        tasks.spawn(run(torrent.clone(), tracker, client.clone()));
    }
    Ok(())
}

async fn run(torrent: Arc<Torrent>, tracker: Tracker, client: Option<Client>) {
    let mut outcome = torrent.outcome.subscribe();
    let complete = |outcome: &Outcome| matches!(outcome, Outcome::Complete(_));
    // One who begins with everything has not completed anything.
    let mut event = Event::Started;
    let mut told_complete = complete(&outcome.borrow());
    let (mut heard, mut failures) = (false, 0_u32);
    loop {
        let asked = tokio::select! {
            asked = ask(&torrent, &tracker, &client, event) => asked,
            () = torrent.ending.cancelled() => break,
        };
        let wait = match asked {
            Ok(answer) => {
                (heard, failures, event) = (true, 0, Event::Regular);
                torrent.hub.offer(answer.peers, false);
                torrent.troubled_by(None);
                answer.interval
            }
            Err(error) => {
                tracing::debug!(%error, "a tracker gave no answer");
                torrent.troubled_by(Some(error.to_string()));
                failures += 1;
                retry(&torrent, failures)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            Ok(_) = outcome.wait_for(complete), if heard && !told_complete => {
                (told_complete, event) = (true, Event::Completed);
            }
            () = torrent.ending.cancelled() => break,
        }
    }
    if heard {
        let _ = ask(&torrent, &tracker, &client, Event::Stopped).await;
    }
}

fn retry(torrent: &Torrent, failures: u32) -> Duration {
    match torrent.waiting() {
        Some(_) => NO_CIRCUIT,
        None => RETRY.saturating_mul(2_u32.saturating_pow(failures.min(10) - 1)).min(MAX_RETRY),
    }
}

async fn ask(
    torrent: &Torrent,
    tracker: &Tracker,
    client: &Option<Client>,
    event: Event,
) -> Result<Answer, TrackerError> {
    let what = torrent.announce(event).ok_or(TrackerError::Address)?;
    match tracker {
        Tracker::Http(url) => http::announce(client.as_ref().ok_or(TrackerError::Address)?, url, &what).await,
        Tracker::Udp(target) => {
            if !is_public(target, torrent.ports.settings.allow_private) {
                torrent.tally.private();
                return Err(TrackerError::Address);
            }
            let association = torrent.ports.datagrams.associate(torrent.isolation.clone()).await;
            note(torrent, association.as_ref().err());
            udp::announce(&*association?, target, &what, udp::FIRST_WAIT).await
        }
    }
}

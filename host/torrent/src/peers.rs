//! Connections of a torrent: from its engine to peers and to the in-process tracker, and from our own
//! HTTP client to the world.

use std::net::{IpAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use warren_ports::{BoxStream, DialError, DialJob, Host, SocksClient, Target};

use crate::alias::{End, Resolved};
use crate::filter;
use crate::hub::{is_alias, is_public};
use crate::inner_tracker;
use crate::torrent::Torrent;

/// How long a second connection to a peer waits for the first to end: the engine opens one for the
/// metadata, and the next before the first is quite closed.
const HANDOVER: Duration = Duration::from_secs(3);
/// Copied at a time between our HTTP client and the world.
const WEB_BUFFER: usize = 16 * 1024;

/// Serves a CONNECT of the engine.
pub(crate) async fn engine(torrent: Arc<Torrent>, target: Target, client: Box<dyn SocksClient>) {
    match target.host {
        Host::Name(name) if name == inner_tracker::HOST => {
            let Ok(stream) = client.accept().await else { return };
            tokio::select! {
                _ = inner_tracker::serve(stream, &torrent.hub) => {}
                () = torrent.ended.cancelled() => {}
            }
        }
        Host::Ip(IpAddr::V4(ip)) => match torrent.hub.resolve(SocketAddrV4::new(ip, target.port)) {
            Some(peer) => to_peer(torrent, peer, client).await,
            None if is_alias(ip) => {
                torrent.tally.stale();
                client.refuse(DialError::Denied).await;
            }
            None => refuse_unknown(&torrent, client).await,
        },
        _ => refuse_unknown(&torrent, client).await,
    }
}

/// What came from peer exchange, or from nowhere.
async fn refuse_unknown(torrent: &Torrent, client: Box<dyn SocksClient>) {
    torrent.tally.unknown();
    client.refuse(DialError::Denied).await;
}

async fn to_peer(torrent: Arc<Torrent>, peer: Resolved, client: Box<dyn SocksClient>) {
    let permit = tokio::time::timeout(HANDOVER, peer.gate.clone().acquire_owned()).await;
    let Ok(Ok(permit)) = permit else {
        torrent.tally.busy();
        return client.refuse(DialError::Limit).await;
    };
    let end = dial_peer(&torrent, peer.target.clone(), client, permit).await;
    if let Some(wait) = torrent.hub.closed(peer.index, end) {
        tokio::select! {
            () = tokio::time::sleep(wait) => torrent.hub.renew(peer.index),
            () = torrent.ended.cancelled() => {}
        }
    }
}

async fn dial_peer(
    torrent: &Arc<Torrent>,
    target: Target,
    client: Box<dyn SocksClient>,
    permit: OwnedSemaphorePermit,
) -> End {
    let (tell, told) = oneshot::channel();
    let job: DialJob = Box::new({
        let torrent = torrent.clone();
        move |outcome| {
            Box::pin(async move {
                let end = converse(&torrent, outcome, client).await;
                drop(permit);
                let _ = tell.send(end);
            })
        }
    });
    let dialled = torrent.ports.dial.dial(torrent.isolation.clone(), target, job);
    tokio::select! {
        () = dialled => {}
        () = torrent.ended.cancelled() => return End::CircuitLost,
    }
    // A job that was dropped had a circuit that died with its thread's tasks.
    told.await.unwrap_or(End::CircuitLost)
}

/// Runs where the circuit lives.
async fn converse(
    torrent: &Torrent,
    outcome: Result<BoxStream, DialError>,
    client: Box<dyn SocksClient>,
) -> End {
    note(torrent, outcome.as_ref().err());
    let stream = match outcome {
        Ok(stream) => stream,
        Err(error) => {
            let end = match error {
                DialError::NoCircuit(_) => End::NoCircuit,
                DialError::CircuitLost => End::CircuitLost,
                _ => End::Unreachable,
            };
            client.refuse(error).await;
            return end;
        }
    };
    let (Ok(engine), Some(infohash)) = (client.accept().await, torrent.infohash.get()) else {
        return End::Closed(0);
    };
    let moved = AtomicU64::new(0);
    tokio::select! {
        end = filter::carry(engine, stream, *infohash, torrent.peer_id(), &moved) => {
            if let Err(reason) = end {
                tracing::debug!(?reason, "a peer's conversation was ended");
                torrent.tally.dropped(reason);
            }
        }
        () = torrent.ended.cancelled() => {}
    }
    let moved = moved.into_inner();
    torrent.moved.fetch_add(moved, Ordering::Relaxed);
    End::Closed(moved)
}

/// Remembers whether there is a circuit: every dial tells.
pub(crate) fn note(torrent: &Torrent, error: Option<&DialError>) {
    match error {
        Some(DialError::NoCircuit(reason)) => torrent.wait_because(Some(reason.clone())),
        Some(DialError::CircuitLost) => {}
        _ => torrent.wait_because(None),
    }
}

/// Serves a CONNECT of our own HTTP client: to trackers, and to where a .torrent is.
pub(crate) async fn web(torrent: Arc<Torrent>, target: Target, client: Box<dyn SocksClient>) {
    if !is_public(&target, torrent.ports.settings.allow_private) {
        torrent.tally.private();
        return client.refuse(DialError::Denied).await;
    }
    let job: DialJob = Box::new({
        let torrent = torrent.clone();
        move |outcome| {
            Box::pin(async move {
                note(&torrent, outcome.as_ref().err());
                match outcome {
                    Err(error) => client.refuse(error).await,
                    Ok(mut stream) => {
                        let Ok(mut client) = client.accept().await else { return };
                        let copy = tokio::io::copy_bidirectional_with_sizes(
                            &mut client,
                            &mut stream,
                            WEB_BUFFER,
                            WEB_BUFFER,
                        );
                        tokio::select! {
                            _ = copy => {}
                            () = torrent.ended.cancelled() => {}
                        }
                    }
                }
            })
        }
    });
    tokio::select! {
        () = torrent.ports.dial.dial(torrent.isolation.clone(), target, job) => {}
        () = torrent.ended.cancelled() => {}
    }
}

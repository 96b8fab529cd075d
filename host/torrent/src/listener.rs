//! Peers that come in, when a person asked for 0 hops and named an address to listen on.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::filter;
use crate::torrent::Torrent;

/// Peers from outside at a time; more wait in the kernel's queue.
const MAX_INCOMING: usize = 64;

/// Lets peers in, each filtered and handed to the engine, until the torrent ended.
pub(crate) async fn run(torrent: Arc<Torrent>, listener: TcpListener, engine: SocketAddr) {
    let places = Arc::new(Semaphore::new(MAX_INCOMING));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = torrent.ended.cancelled() => return,
        };
        let Ok((peer, _)) = accepted else {
            // Out of file descriptors, most likely: wait for some to be closed.
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            continue;
        };
        let torrent = torrent.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = take(&torrent, peer, engine) => {}
                () = torrent.ended.cancelled() => {}
            }
            drop(place);
        });
    }
}

async fn take(torrent: &Torrent, peer: TcpStream, engine: SocketAddr) {
    let Ok(engine) = TcpStream::connect(engine).await else { return };
    let Some(infohash) = torrent.infohash.get() else { return };
    let _ = (peer.set_nodelay(true), engine.set_nodelay(true));
    if let Err(reason) = filter::carry(engine, peer, *infohash, torrent.peer_id(), &torrent.moved).await {
        tracing::debug!(?reason, "an incoming peer's conversation was ended");
        torrent.tally.dropped(reason);
    }
}

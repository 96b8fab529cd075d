//! From an accepted SOCKS client to a circuit, or to the torrent it belongs to.

use std::sync::Arc;

use std::io;
use tokio::sync::Semaphore;

use warren_ports::{BoxFuture, BoxStream, Datagrams, Dial, DialError, Isolation, SocksClient, Target};
use warren_socks5::{Accepted, AssociateClient, ConnectClient, Request, Server, User, splice};
use warren_torrent::Torrents;

/// Clients served at one time; more wait to be accepted.
const CLIENTS: usize = 4096;

/// A client as the torrents see it.
struct Waiting(ConnectClient);

impl SocksClient for Waiting {
    fn accept(self: Box<Self>) -> BoxFuture<'static, io::Result<BoxStream>> {
        Box::pin(async move { Ok(Box::new(self.0.accept(None).await?) as BoxStream) })
    }

    fn refuse(self: Box<Self>, error: DialError) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.0.refuse(&error).await })
    }
}

/// What stands behind the door.
pub(crate) struct FrontDoor {
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) datagrams: Arc<dyn Datagrams>,
    pub(crate) torrents: Torrents,
    pub(crate) default_hops: u8,
}

impl FrontDoor {
    /// Serves clients until it is dropped.
    pub(crate) async fn run(self, mut server: Server) {
        let places = Arc::new(Semaphore::new(CLIENTS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let accepted = server.accept().await;
            let Some(serving) = self.serve(accepted) else { continue };
            tokio::spawn(async move {
                serving.await;
                drop(place);
            });
        }
    }

    fn serve(&self, accepted: Accepted) -> Option<BoxFuture<'static, ()>> {
        let isolation = accepted.user.isolation(self.default_hops);
        match (accepted.request, isolation) {
            (Request::Connect { target, client }, Some(isolation)) => {
                Some(self.connect(isolation, target, client))
            }
            (Request::Associate { client }, Some(isolation)) => Some(self.associate(isolation, client)),
            (Request::Connect { target, client }, None) => {
                if let User::Torrent(user) = &accepted.user {
                    self.torrents.serve(user, target, Box::new(Waiting(client)));
                }
                None
            }
            (Request::Associate { client }, None) => {
                Some(Box::pin(async move { client.refuse(&DialError::Denied).await }))
            }
        }
    }

    /// Ends when the connection does, though all of it happens on the circuit's thread: the client
    /// keeps its place.
    fn connect(&self, isolation: Isolation, target: Target, client: ConnectClient) -> BoxFuture<'static, ()> {
        let (over, ended) = tokio::sync::oneshot::channel::<()>();
        let job = move |outcome| -> BoxFuture<'static, ()> {
            Box::pin(async move {
                match outcome {
                    Ok(stream) => {
                        // What ends a connection is between the client and its destination.
                        if let Ok(client) = client.accept(None).await {
                            let _ = splice(client, stream).await;
                        }
                    }
                    Err(error) => client.refuse(&error).await,
                }
                drop(over);
            })
        };
        let dialled = self.dial.dial(isolation, target, Box::new(job));
        Box::pin(async move {
            dialled.await;
            let _ = ended.await;
        })
    }

    fn associate(&self, isolation: Isolation, client: AssociateClient) -> BoxFuture<'static, ()> {
        let associated = self.datagrams.associate(isolation);
        Box::pin(async move {
            match associated.await {
                Ok(association) => {
                    let _ = client.run(association).await;
                }
                Err(error) => client.refuse(&error).await,
            }
        })
    }
}

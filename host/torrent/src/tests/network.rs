//! What stands in for circuits and for our SOCKS server.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use warren_ports::{
    Association, BoxFuture, BoxStream, Datagrams, Dial, DialError, DialJob, Host, Isolation, SocksClient,
    Target,
};

use crate::{Settings, Torrents};

/// Circuits that are TCP connections on loopback, and can fail.
#[derive(Clone, Default)]
pub(super) struct Circuits {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    dialled: Mutex<Vec<(Isolation, Target)>>,
    associated: Mutex<Vec<Isolation>>,
    no_circuit: Mutex<Option<String>>,
    connected: AtomicUsize,
    refuse_after: Mutex<Option<usize>>,
    cut_after: Mutex<Option<u64>>,
    carried: AtomicU64,
}

impl Circuits {
    pub(super) fn dialled(&self) -> Vec<(Isolation, Target)> {
        self.shared.dialled.lock().unwrap().clone()
    }

    pub(super) fn associated(&self) -> Vec<Isolation> {
        self.shared.associated.lock().unwrap().clone()
    }

    pub(super) fn connected(&self) -> usize {
        self.shared.connected.load(Ordering::SeqCst)
    }

    /// Bytes that came in.
    pub(super) fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::SeqCst)
    }

    pub(super) fn none(&self, reason: &str) {
        *self.shared.no_circuit.lock().unwrap() = Some(reason.into());
    }

    pub(super) fn some(&self) {
        *self.shared.no_circuit.lock().unwrap() = None;
    }

    pub(super) fn cut_after(&self, bytes: u64) {
        *self.shared.cut_after.lock().unwrap() = Some(bytes);
    }

    pub(super) fn refuse_after(&self, connections: usize) {
        *self.shared.refuse_after.lock().unwrap() = Some(connections);
    }
}

impl Dial for Circuits {
    fn dial(&self, isolation: Isolation, target: Target, job: DialJob) -> BoxFuture<'static, ()> {
        let shared = self.shared.clone();
        Box::pin(async move {
            if let Some(reason) = shared.no_circuit.lock().unwrap().clone() {
                return drop(tokio::spawn(job(Err(DialError::NoCircuit(reason)))));
            }
            shared.dialled.lock().unwrap().push((isolation, target.clone()));
            let connected = shared.connected.fetch_add(1, Ordering::SeqCst);
            if shared.refuse_after.lock().unwrap().is_some_and(|most| connected >= most) {
                return drop(tokio::spawn(job(Err(DialError::Refused))));
            }
            let outcome = match TcpStream::connect(target.to_string()).await {
                Ok(stream) => {
                    let left = shared.cut_after.lock().unwrap().unwrap_or(u64::MAX);
                    Ok(Box::new(Mortal { stream, left, shared }) as BoxStream)
                }
                Err(error) => Err(DialError::from(&error)),
            };
            tokio::spawn(job(outcome));
        })
    }
}

/// A connection that dies when it has brought in so many bytes.
struct Mortal {
    stream: TcpStream,
    left: u64,
    shared: Arc<Shared>,
}

impl AsyncRead for Mortal {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let got = u64::try_from(buf.filled().len() - before).unwrap();
        self.left = self.left.saturating_sub(got);
        self.shared.carried.fetch_add(got, Ordering::SeqCst);
        polled
    }
}

impl AsyncWrite for Mortal {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Datagrams for Circuits {
    fn associate(&self, isolation: Isolation) -> BoxFuture<'static, Result<Box<dyn Association>, DialError>> {
        let shared = self.shared.clone();
        Box::pin(async move {
            if let Some(reason) = shared.no_circuit.lock().unwrap().clone() {
                return Err(DialError::NoCircuit(reason));
            }
            shared.associated.lock().unwrap().push(isolation);
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            // Not known to be writable before it was asked.
            socket.writable().await.unwrap();
            Ok(Box::new(Loopback(socket)) as Box<dyn Association>)
        })
    }
}

struct Loopback(UdpSocket);

impl Association for Loopback {
    fn send(&self, target: &Target, payload: Bytes) -> io::Result<()> {
        self.0.try_send_to(&payload, target.to_string().parse().unwrap()).map(drop)
    }

    fn recv(&self) -> BoxFuture<'_, io::Result<(Target, Bytes)>> {
        Box::pin(async {
            let mut datagram = vec![0; 1500];
            let (length, from) = self.0.recv_from(&mut datagram).await?;
            datagram.truncate(length);
            Ok((from.into(), datagram.into()))
        })
    }
}

/// Torrents with a SOCKS server before them.
pub(super) struct Node {
    pub(super) torrents: Torrents,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Node {
    pub(super) async fn new(state_dir: PathBuf, circuits: Circuits) -> Self {
        Self::with(state_dir, circuits, |_| {}).await
    }

    pub(super) async fn with(
        state_dir: PathBuf,
        circuits: Circuits,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = Settings {
            state_dir,
            socks: listener.local_addr().unwrap(),
            socks_token: Some("s3cret".into()),
            max_active: 4,
            allow_private: true,
        };
        change(&mut settings);
        let torrents = Torrents::new(settings, Arc::new(circuits.clone()), Arc::new(circuits));
        let server = tokio::spawn({
            let torrents = torrents.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let torrents = torrents.clone();
                    tokio::spawn(async move {
                        if let Ok((user, target, client)) = handshake(client).await {
                            torrents.serve(&user, target, Box::new(client));
                        }
                    });
                }
            }
        });
        Self { torrents, server }
    }
}

/// RFC 1928 and 1929, for clients that behave.
async fn handshake(mut client: TcpStream) -> io::Result<(String, Target, Client)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert_eq!(client.read_u8().await?, 5);
    let methods = counted(&mut client).await?;
    assert!(methods.contains(&2));
    client.write_all(&[5, 2]).await?;
    assert_eq!(client.read_u8().await?, 1);
    let user = text(counted(&mut client).await?);
    assert_eq!(text(counted(&mut client).await?), "s3cret");
    client.write_all(&[1, 0]).await?;
    let mut head = [0; 4];
    client.read_exact(&mut head).await?;
    assert_eq!(head[..3], [5, 1, 0]);
    let host = match head[3] {
        1 => {
            let mut ip = [0; 4];
            client.read_exact(&mut ip).await?;
            Host::Ip(ip.into())
        }
        3 => {
            let name = text(counted(&mut client).await?);
            // reqwest gives addresses as names.
            name.parse().map_or(Host::Name(name), Host::Ip)
        }
        other => panic!("address type {other}"),
    };
    let port = client.read_u16().await?;
    Ok((user, Target { host, port }, Client(client)))
}

async fn counted(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; client.read_u8().await?.into()];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

struct Client(TcpStream);

impl SocksClient for Client {
    fn accept(mut self: Box<Self>) -> BoxFuture<'static, io::Result<BoxStream>> {
        Box::pin(async move {
            self.0.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
            Ok(Box::new(self.0) as BoxStream)
        })
    }

    fn refuse(mut self: Box<Self>, _: DialError) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let _ = self.0.write_all(&[5, 1, 0, 1, 0, 0, 0, 0, 0, 0]).await;
        })
    }
}

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use warren_ports::BoxFuture;
use warren_ports::status::{CircuitStatus, Status};

use super::*;

struct Node;

fn sample() -> Status {
    let circuit =
        CircuitStatus { path: vec!["a".into(), "b".into()], state: "ready".into(), ..Default::default() };
    Status { peer_id: "me".into(), uptime_s: 7, circuits: vec![circuit], ..Default::default() }
}

impl StatusSource for Node {
    fn status(&self) -> BoxFuture<'_, Status> {
        Box::pin(async { sample() })
    }
}

async fn raw(path: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    // The server may answer and close before all of it was taken.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

fn serve(path: &Path) -> tokio::task::JoinHandle<()> {
    tokio::spawn(Server::bind(path, Arc::new(Node)).unwrap().run())
}

#[tokio::test]
async fn status_goes_round_and_the_socket_is_its_owners() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    assert!(matches!(status(&path).await, Err(Error::NotRunning(_))));
    let server = serve(&path);
    assert_eq!(status(&path).await.unwrap(), sample());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    server.abort();
    let _ = server.await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_path_longer_than_a_socket_name_works() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("x".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let path = deep.join("control.sock");
    let _server = serve(&path);
    assert_eq!(status(&path).await.unwrap(), sample());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let _server = serve(&path);
    assert!(matches!(Server::bind(&path, Arc::new(Node)), Err(Error::InUse(_))));
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(Server::bind(&file, Arc::new(Node)), Err(Error::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[tokio::test]
async fn nonsense_is_answered_and_long_lines_are_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let _server = serve(&path);
    assert!(raw(&path, b"hello\n").await.contains("not a request"));
    assert!(raw(&path, b"{\"ask\":\"reboot\"}\n").await.contains("unknown variant"));
    assert!(raw(&path, &[b'x'; 10_000]).await.contains("line too long"));
    assert!(raw(&path, b"{\"ask\":\"status\"}").await.contains("without an end"));
    let two = raw(&path, b"{\"ask\":\"status\"}\n{\"ask\":\"status\"}\n").await;
    assert_eq!(two.lines().count(), 2);
    assert_eq!(status(&path).await.unwrap(), sample());
}

#[tokio::test]
async fn many_clients_at_once_are_all_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let _server = serve(&path);
    let asked: Vec<_> = (0..100)
        .map(|_| {
            tokio::spawn({
                let path = path.clone();
                async move { status(&path).await }
            })
        })
        .collect();
    for answer in asked {
        assert_eq!(answer.await.unwrap().unwrap(), sample());
    }
}

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use warren_ports::status::{CircuitStatus, Status, WorkerStatus};
use warren_ports::swap::{SwapStage, WorkerSwap};

use super::*;

/// A node whose swaps wait until they are let through.
struct Node {
    gate: Semaphore,
    asked: AtomicU64,
    finished: Semaphore,
}

impl Node {
    fn new() -> Self {
        Self { gate: Semaphore::new(0), asked: AtomicU64::new(0), finished: Semaphore::new(0) }
    }
}

fn sample() -> Status {
    let circuit =
        CircuitStatus { path: vec!["a".into(), "b".into()], state: "ready".into(), ..Default::default() };
    let worker = WorkerStatus { index: 3, plugin: "tunnel 0.1.0".into(), busy: 0.5, ..Default::default() };
    Status {
        peer_id: "me".into(),
        uptime_s: 7,
        circuits: vec![circuit],
        waiting: vec!["needs an exit".into()],
        workers: vec![worker],
        ..Default::default()
    }
}

fn step(stage: SwapStage) -> SwapStep {
    SwapStep { at_us: 5, stage, worker: None, detail: "so".into() }
}

fn report(to: &str) -> SwapReport {
    let worker = WorkerSwap { worker: 0, pause_us: 900, pause_cpu_us: 800, state_bytes: 7, compared: 64 };
    SwapReport { from: "old".into(), to: to.into(), workers: vec![worker] }
}

fn request(path: &str) -> SwapRequest {
    SwapRequest { plugin: "tunnel".into(), path: path.into(), drain: false, canary: 64 }
}

impl StatusSource for Node {
    fn status(&self) -> BoxFuture<'_, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { sample() })
    }
}

impl WorkerControl for Node {
    fn swap(
        &self,
        request: SwapRequest,
        steps: mpsc::Sender<SwapStep>,
    ) -> BoxFuture<'_, Result<SwapReport, Refused>> {
        Box::pin(async move {
            let _ = steps.try_send(step(SwapStage::Verified));
            self.gate.acquire().await.unwrap().forget();
            let _ = steps.try_send(step(SwapStage::Finished));
            self.finished.add_permits(1);
            if request.drain { Err(Refused("it cannot drain".into())) } else { Ok(report("new")) }
        })
    }

    fn rollback(
        &self,
        plugin: String,
        steps: mpsc::Sender<SwapStep>,
    ) -> BoxFuture<'_, Result<SwapReport, Refused>> {
        Box::pin(async move {
            let _ = steps.try_send(step(SwapStage::RolledBack));
            Ok(report(&plugin))
        })
    }

    fn kill_worker(&self, index: u8) -> BoxFuture<'_, Result<(), Refused>> {
        Box::pin(async move {
            if index == 3 { Ok(()) } else { Err(Refused(format!("there is no worker {index}"))) }
        })
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
    tokio::spawn(Server::bind(path, Arc::new(Node::new())).unwrap().run())
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
    assert!(matches!(Server::bind(&path, Arc::new(Node::new())), Err(Error::InUse(_))));
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(Server::bind(&file, Arc::new(Node::new())), Err(Error::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[tokio::test]
async fn nonsense_is_answered_and_long_lines_are_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let _server = serve(&path);
    assert!(raw(&path, b"hello\n").await.contains("not a request"));
    assert!(raw(&path, b"{\"ask\":\"reboot\"}\n").await.contains("unknown variant"));
    assert!(raw(&path, &[b'x'; 40_000]).await.contains("line too long"));
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

fn refusal<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
    match answer {
        Err(Error::Refused(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// A socket, and the node behind it.
fn node() -> (tempfile::TempDir, std::path::PathBuf, Arc<Node>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let node = Arc::new(Node::new());
    tokio::spawn(Server::bind(&path, Arc::clone(&node) as _).unwrap().run());
    (folder, path, node)
}

#[tokio::test]
async fn workers_circuits_and_kills_go_round() {
    let (_folder, path, _) = node();
    assert_eq!(workers(&path).await.unwrap(), sample().workers);
    assert_eq!(circuits(&path).await.unwrap(), (sample().circuits, sample().waiting));
    kill_worker(&path, 3).await.unwrap();
    assert_eq!(refusal(kill_worker(&path, 9).await), "there is no worker 9");
}

#[tokio::test]
async fn a_swap_tells_its_steps_and_then_its_report() {
    let (_folder, path, node) = node();
    let mut swapping = swap(&path, request("/new.wasm")).await.unwrap();
    assert_eq!(swapping.next().await.unwrap(), News::Step(step(SwapStage::Verified)));
    node.gate.add_permits(1);
    assert_eq!(swapping.next().await.unwrap(), News::Step(step(SwapStage::Finished)));
    assert_eq!(swapping.next().await.unwrap(), News::Done(report("new")));

    node.gate.add_permits(1);
    let mut refused = swap(&path, SwapRequest { drain: true, ..request("/new.wasm") }).await.unwrap();
    refused.next().await.unwrap();
    refused.next().await.unwrap();
    assert_eq!(refusal(refused.next().await), "it cannot drain");

    let mut back = rollback(&path, "tunnel").await.unwrap();
    assert_eq!(back.next().await.unwrap(), News::Step(step(SwapStage::RolledBack)));
    assert_eq!(back.next().await.unwrap(), News::Done(report("tunnel")));
}

#[tokio::test]
async fn a_second_change_is_refused_with_the_name_of_the_first() {
    let (_folder, path, node) = node();
    let mut first = swap(&path, request("/first.wasm")).await.unwrap();
    first.next().await.unwrap();
    let mut second = swap(&path, request("/second.wasm")).await.unwrap();
    let text = refusal(second.next().await);
    assert!(text.contains("a swap of tunnel to /first.wasm is under way"), "{text}");
    let mut back = rollback(&path, "tunnel").await.unwrap();
    assert!(refusal(back.next().await).contains("/first.wasm"));
    assert_eq!(status(&path).await.unwrap(), sample(), "questions are answered meanwhile");
    node.gate.add_permits(1);
    first.next().await.unwrap();
    assert_eq!(first.next().await.unwrap(), News::Done(report("new")));
    let mut again = rollback(&path, "tunnel").await.unwrap();
    again.next().await.unwrap();
    assert_eq!(again.next().await.unwrap(), News::Done(report("tunnel")));
}

#[tokio::test]
async fn a_swap_goes_on_when_its_client_leaves() {
    let (_folder, path, node) = node();
    let mut swapping = swap(&path, request("/new.wasm")).await.unwrap();
    swapping.next().await.unwrap();
    drop(swapping);
    let mut other = swap(&path, request("/other.wasm")).await.unwrap();
    assert!(refusal(other.next().await).contains("/new.wasm is under way"));
    node.gate.add_permits(1);
    node.finished.acquire().await.unwrap().forget();
}

#[tokio::test]
async fn a_watch_repeats_until_the_client_leaves() {
    let (_folder, path, node) = node();
    let mut watching = watch(&path, Duration::ZERO).await.unwrap();
    for _ in 0..3 {
        assert_eq!(watching.next().await.unwrap(), sample());
    }
    drop(watching);
    // The server is done with it once eight others find a place.
    let mut others = Vec::new();
    while others.len() < 8 {
        let mut other = watch(&path, Duration::from_secs(3600)).await.unwrap();
        match other.next().await {
            Ok(_) => others.push(other),
            Err(error) => assert!(refusal::<()>(Err(error)).contains("watch already")),
        }
    }
    let mut ninth = watch(&path, Duration::from_secs(3600)).await.unwrap();
    assert!(refusal(ninth.next().await).contains("8 clients watch already"));
    assert_eq!(status(&path).await.unwrap(), sample());
    assert!(node.asked.load(Ordering::SeqCst) > 3 + 8);
}

#[tokio::test]
async fn who_watches_may_ask_something_else() {
    let (_folder, path, _) = node();
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"{\"ask\":\"watch\",\"period_ms\":3600000}\n").await.unwrap();
    let mut first = [0; 8];
    stream.read_exact(&mut first).await.unwrap();
    stream.write_all(b"{\"ask\":\"workers\"}\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.lines().last().unwrap().starts_with("{\"workers\":["), "{rest}");
}

#[tokio::test]
async fn malformed_orders_change_nothing() {
    let (_folder, path, node) = node();
    for (line, part) in [
        (r#"{"ask":"swap"}"#, "missing field"),
        (r#"{"ask":"swap","plugin":"tunnel","path":"/x","drain":false,"canary":-1}"#, "invalid value"),
        (r#"{"ask":"swap","plugin":"tunnel","path":"/x","canary":1,"force":true}"#, "unknown field"),
        (r#"{"ask":"kill_worker","index":256}"#, "invalid value"),
        (r#"{"ask":"watch"}"#, "missing field"),
        (r#"{"ask":"rollback"}"#, "missing field"),
    ] {
        let answer = raw(&path, format!("{line}\n").as_bytes()).await;
        assert!(answer.contains("not a request") && answer.contains(part), "{line} -> {answer}");
    }
    assert_eq!(node.finished.available_permits(), 0);
}

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use warren_ports::BoxFuture;
use warren_schemas::Timestamp;

use super::*;
use crate::config::{Sources, load};
use crate::signature::{SecretFile, generate, place_of};

/// Answers as it was told to, and writes down what it was asked.
struct Core {
    ends: Result<SwapReport, String>,
    asked: Mutex<Vec<String>>,
    late: Mutex<Option<mpsc::Sender<SwapStep>>>,
}

fn step(stage: SwapStage, detail: &str) -> SwapStep {
    SwapStep { at_us: 9, stage, worker: Some(0), detail: detail.into() }
}

impl Core {
    fn run(&self, what: &str, audit: mpsc::Sender<SwapStep>) -> BoxFuture<'_, Result<SwapReport, String>> {
        self.asked.lock().unwrap().push(what.to_owned());
        Box::pin(async move {
            // More than fit at once: the audit has to be emptied meanwhile.
            for number in 0..3 * STEPS {
                audit.send(step(SwapStage::Committed, &number.to_string())).await.unwrap();
            }
            *self.late.lock().unwrap() = Some(audit);
            self.ends.clone()
        })
    }
}

impl Exchange for Core {
    fn swap(&self, order: Order, audit: mpsc::Sender<SwapStep>) -> BoxFuture<'_, Result<SwapReport, String>> {
        self.run(&format!("swap to {}", order.factory.name()), audit)
    }

    fn rollback(&self, audit: mpsc::Sender<SwapStep>) -> BoxFuture<'_, Result<SwapReport, String>> {
        self.run("rollback", audit)
    }

    fn kill(&self, index: u8) -> BoxFuture<'_, Result<bool, String>> {
        self.asked.lock().unwrap().push(format!("kill {index}"));
        Box::pin(async move { Ok(index == 0) })
    }
}

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000)
    }
}

struct Bench {
    folder: tempfile::TempDir,
    core: Arc<Core>,
    swaps: Swaps,
}

impl Bench {
    fn new(config: &[&str], sandbox: bool, ends: Result<SwapReport, String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let flags = config.iter().map(|text| ("--set".to_owned(), (*text).to_owned())).collect();
        let sources = Sources { file: Some(PathBuf::from("/dev/null")), flags, ..Sources::default() };
        let core = Arc::new(Core { ends, asked: Mutex::default(), late: Mutex::default() });
        let settings = warren_sandbox::Settings { instances: 1, ..Default::default() };
        let swaps = Swaps {
            exchange: Arc::clone(&core) as _,
            sandbox: sandbox.then(|| Sandbox::new(settings).unwrap()),
            plugins: load(&sources).unwrap().plugins,
            lab: false,
            audit: Arc::new(Audit::new(folder.path())),
            clock: Arc::new(Fixed),
            changed: Arc::default(),
        };
        Self { folder, core, swaps }
    }

    async fn swap(&self, path: &Path) -> (Result<SwapReport, Refused>, Vec<SwapStep>) {
        let request =
            SwapRequest { plugin: "tunnel".into(), path: path.to_owned(), drain: false, canary: 64 };
        let (steps, mut inbox) = mpsc::channel(1024);
        let ended = self.swaps.swap(request, steps).await;
        let mut told = Vec::new();
        while let Some(step) = inbox.recv().await {
            told.push(step);
        }
        (ended, told)
    }

    /// A swap that is refused before the core is asked: why, with a line for it in the audit.
    async fn refusal(&self, path: &Path) -> String {
        let (ended, told) = self.swap(path).await;
        let reason = ended.unwrap_err().0;
        assert_eq!(told.last().unwrap().detail, reason);
        assert_eq!(told.last().unwrap().stage, SwapStage::RolledBack);
        assert!(self.audit().last().unwrap().contains("rolled-back"));
        assert!(self.core.asked.lock().unwrap().is_empty());
        reason
    }

    fn audit(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("audit.jsonl")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn module(&self, content: &[u8]) -> PathBuf {
        let path = self.folder.path().join("new.wasm");
        fs::write(&path, content).unwrap();
        path
    }
}

fn report() -> SwapReport {
    SwapReport { from: "old".into(), to: "new".into(), workers: Vec::new() }
}

#[tokio::test]
async fn a_module_is_taken_only_when_it_is_signed_read_and_loaded() {
    let keys = tempfile::tempdir().unwrap();
    let ours = generate(&keys.path().join("ours.key"), None).unwrap();
    let other = generate(&keys.path().join("other.key"), None).unwrap();
    let bench = Bench::new(&[&format!("plugins.keys={}", ours.public)], true, Ok(report()));
    let module = bench.module(b"no component");
    let sign = |key: &Path| SecretFile::open(key).unwrap().sign(&module, None, 5).unwrap();

    let text = bench.refusal(&module).await;
    assert!(text.contains("is not signed") && text.contains("new.wasm.minisig"), "{text}");
    sign(&other.secret_file);
    let text = bench.refusal(&module).await;
    assert!(text.contains(&other.public.id()) && text.contains(&ours.public.id()), "{text}");
    sign(&ours.secret_file);
    let text = bench.refusal(&module).await;
    assert!(text.contains("new.wasm") && text.contains("does not compile"), "{text}");
    fs::write(&module, b"other bytes").unwrap();
    assert!(bench.refusal(&module).await.contains("was changed"));
    assert!(bench.refusal(Path::new("new.wasm")).await.contains("not an absolute path"));
    assert!(bench.refusal(bench.folder.path()).await.contains("is not a file"));
    assert!(bench.refusal(&bench.folder.path().join("none.wasm")).await.contains("none.wasm"));
    fs::File::create(&module).unwrap().set_len(signature::MAX_MODULE + 1).unwrap();
    assert!(bench.refusal(&module).await.contains("longer than"));
}

#[tokio::test]
async fn an_unsigned_module_passes_only_where_signatures_are_not_required() {
    let bench = Bench::new(&["plugins.require_signature=false"], true, Ok(report()));
    let module = bench.module(b"no component");
    assert!(bench.refusal(&module).await.contains("does not compile"), "so it was let through to be loaded");

    let keys = tempfile::tempdir().unwrap();
    let ours = generate(&keys.path().join("ours.key"), None).unwrap().public;
    let key = format!("plugins.keys={ours}");
    let bench = Bench::new(&["plugins.require_signature=false", &key], true, Ok(report()));
    let module = bench.module(b"no component");
    fs::write(place_of(&module), "nonsense").unwrap();
    let text = bench.refusal(&module).await;
    assert!(text.contains("is not a minisign signature"), "a signature that is there must be right: {text}");
}

#[tokio::test]
async fn native_workers_and_unknown_plugins_are_refused_by_name() {
    let bench = Bench::new(&[], false, Ok(report()));
    let text = bench.refusal(&bench.module(b"x")).await;
    assert!(text.contains("workers.mode is \"native\""), "{text}");
    let (steps, _inbox) = mpsc::channel(8);
    assert!(bench.swaps.rollback("tunnel", steps.clone()).await.unwrap_err().0.contains("native"));
    let text = bench.swaps.rollback("search", steps).await.unwrap_err().0;
    assert!(text.contains("\"search\"") && text.contains("known: tunnel"), "{text}");
}

#[tokio::test]
async fn every_step_of_the_core_is_noted_and_the_descriptor_is_due_again() {
    let bench = Bench::new(&[], true, Ok(report()));
    let (steps, mut inbox) = mpsc::channel(3);
    assert_eq!(bench.swaps.rollback("tunnel", steps).await, Ok(report()));
    bench.swaps.changed.notified().await;
    assert_eq!(bench.audit().len(), 3 * STEPS);
    let mut told = Vec::new();
    while let Some(step) = inbox.recv().await {
        told.push(step.detail);
    }
    assert_eq!(told, ["0", "1", "2"], "a client that does not listen loses steps and holds nothing up");

    let late = bench.core.late.lock().unwrap().take().unwrap();
    late.send(step(SwapStage::Drained, "long after")).await.unwrap();
    while !bench.audit().last().unwrap().contains("long after") {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn why_the_core_did_not_is_told_and_noted() {
    let bench = Bench::new(&[], true, Err("the canary\ntrapped".into()));
    let (steps, _inbox) = mpsc::channel(1024);
    assert_eq!(bench.swaps.rollback("tunnel", steps).await, Err(Refused("the canary trapped".into())));
    let last = bench.audit().pop().unwrap();
    assert!(last.contains("rolled-back") && last.contains("the canary trapped"), "{last}");
}

#[tokio::test]
async fn workers_are_killed_in_labs_only() {
    let mut bench = Bench::new(&[], true, Ok(report()));
    assert!(bench.swaps.kill(0).await.unwrap_err().0.contains("lab.enabled"));
    assert!(bench.core.asked.lock().unwrap().is_empty());
    bench.swaps.lab = true;
    assert_eq!(bench.swaps.kill(0).await, Ok(()));
    assert_eq!(bench.swaps.kill(7).await, Err(Refused("there is no worker 7".into())));
}

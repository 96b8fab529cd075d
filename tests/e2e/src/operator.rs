//! What the person who runs a node does with its workers: sign modules, exchange them, look at them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use warren_bench::Stopwatch;
use warren_bench::network::Node;

use crate::lab::{self, Lab};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A key pair of its own and a folder for what it signs.
pub struct Signer {
    folder: TempDir,
    public: String,
}

impl Signer {
    /// Makes a fresh key.
    ///
    /// # Errors
    /// When the program does not.
    pub fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let key = folder.path().join("plugin.key");
        let mut keygen = Command::new(lab::program()?);
        keygen.args(["plugin", "keygen", "--json", "--no-password", "--out"]).arg(&key);
        let made = lines(&succeed(&mut keygen)?)?;
        let public = made.first().and_then(|made| made.get("public_key")?.as_str());
        Ok(Self { public: public.context("no public key")?.to_owned(), folder })
    }

    /// The setting of a node that trusts this key.
    #[must_use]
    pub fn trusted(&self) -> (&'static str, String) {
        ("plugins.keys", format!("[\"{}\"]", self.public))
    }

    /// A copy of the plugin `name` without a signature, in a file called `copy`.
    ///
    /// # Errors
    /// When it was not built.
    pub fn copy(&self, name: &str, copy: &str) -> anyhow::Result<PathBuf> {
        let (from, to) = (lab::plugin(name)?, self.folder.path().join(copy));
        fs::copy(&from, &to).with_context(|| format!("{}: cargo xtask build-plugins", from.display()))?;
        Ok(to)
    }

    /// Signs a file.
    ///
    /// # Errors
    /// When the program does not.
    pub fn sign(&self, file: &Path) -> anyhow::Result<()> {
        let mut sign = Command::new(lab::program()?);
        sign.args(["plugin", "sign", "--key"]).arg(self.folder.path().join("plugin.key")).arg(file);
        succeed(&mut sign).map(drop)
    }

    /// A signed copy of a plugin.
    ///
    /// # Errors
    /// As [`Self::copy`] and [`Self::sign`].
    pub fn signed(&self, name: &str) -> anyhow::Result<PathBuf> {
        let copy = self.copy(name, name)?;
        self.sign(&copy)?;
        Ok(copy)
    }
}

/// A step of an audit.
#[derive(Clone, Debug)]
pub struct Step {
    /// What happened, as `committed`.
    pub stage: String,
    /// To which worker.
    pub worker: Option<u64>,
    /// In words.
    pub detail: String,
}

impl Step {
    /// `committed 0`, or `verified` when no worker is named.
    #[must_use]
    pub fn place(&self) -> String {
        let Self { stage, worker, .. } = self;
        worker.map_or_else(|| stage.clone(), |worker| format!("{stage} {worker}"))
    }
}

/// Orders to a node of a lab, by its name.
impl Lab {
    /// Runs `warren ARGUMENTS` for this node and waits for its end.
    ///
    /// # Errors
    /// When there is no such node or the program does not start.
    pub fn order(&self, node: &str, arguments: &[&str]) -> anyhow::Result<Output> {
        let node = self.nodes().iter().find(|it| it.name() == node).context("no such node")?;
        let mut command = self.command();
        Ok(command.args(arguments).arg("--json").arg("--config").arg(node.config()).output()?)
    }

    fn ask(&self, node: &str, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
        lines(&checked(self.order(node, arguments)?, node)?)
    }

    /// The name of the node with this peer id.
    ///
    /// # Errors
    /// When there is none.
    pub fn name_of(&self, peer_id: &str) -> anyhow::Result<String> {
        let mut nodes = self.nodes().iter();
        let node = nodes.find(|node| node.peer_id() == Some(peer_id)).context("nobody has this id")?;
        Ok(node.name().to_owned())
    }

    /// The peer id of a node; empty when there is no such node.
    #[must_use]
    pub fn id_of(&self, name: &str) -> &str {
        let node = self.nodes().iter().find(|node| node.name() == name);
        node.and_then(Node::peer_id).unwrap_or_default()
    }

    /// What `warren circuits` lists.
    ///
    /// # Errors
    /// When the node does not answer.
    pub fn circuits(&self, node: &str) -> anyhow::Result<Vec<Value>> {
        self.ask(node, &["circuits"])
    }

    /// What `warren worker list` lists.
    ///
    /// # Errors
    /// When the node does not answer.
    pub fn workers(&self, node: &str) -> anyhow::Result<Vec<Value>> {
        self.ask(node, &["worker", "list"])
    }

    /// Exchanges the module and gives the report that ends it.
    ///
    /// # Errors
    /// When it is refused; the text says why.
    pub fn swap(&self, node: &str, module: &Path, more: &[&str]) -> anyhow::Result<Value> {
        let mut arguments = vec!["worker", "swap", "tunnel", module.to_str().context("no UTF-8")?];
        arguments.extend(more);
        self.ask(node, &arguments)?.pop().context("no report")
    }

    /// Goes back to the module before.
    ///
    /// # Errors
    /// When it is refused; the text says why.
    pub fn rollback(&self, node: &str) -> anyhow::Result<Value> {
        self.ask(node, &["worker", "rollback", "tunnel"])?.pop().context("no report")
    }

    /// Drops a worker.
    ///
    /// # Errors
    /// When there is no such worker.
    pub fn kill_worker(&self, node: &str, index: u64) -> anyhow::Result<()> {
        self.ask(node, &["worker", "kill", &index.to_string()]).map(drop)
    }

    /// The audit of a node.
    ///
    /// # Errors
    /// When a line is not as it should be.
    pub fn audit(&self, node: &str) -> anyhow::Result<Vec<Step>> {
        let path = self.dir().join(node).join("state").join("audit.jsonl");
        let text = if path.exists() { fs::read_to_string(path)? } else { String::new() };
        let step = |line: &str| {
            let value: Value = serde_json::from_str(line)?;
            let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
            let worker = value.get("worker").and_then(Value::as_u64);
            let stage = text("stage").context("no stage")?;
            Ok(Step { stage, worker, detail: text("detail").context("no detail")? })
        };
        text.lines().map(step).collect()
    }

    /// Waits until `wanted` gives something.
    ///
    /// # Errors
    /// When it does not within `patience`, or fails; the text holds the node's log.
    pub fn until<T>(
        &self,
        node: &str,
        what: &str,
        patience: Duration,
        mut wanted: impl FnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let waited = Stopwatch::start();
        loop {
            if let Some(found) = wanted()? {
                return Ok(found);
            }
            if waited.elapsed() > patience {
                let (workers, circuits) = (self.workers(node)?, self.circuits(node)?);
                let node = self.nodes().iter().find(|it| it.name() == node);
                let log = node.map(Node::log_tail).unwrap_or_default();
                bail!("no {what} within {patience:?}: {workers:#?} {circuits:#?}\n{log}");
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn succeed(command: &mut Command) -> anyhow::Result<String> {
    checked(command.output()?, &format!("{command:?}"))
}

fn checked(output: Output, who: &str) -> anyhow::Result<String> {
    ensure!(output.status.success(), "{who}: {}: {}", output.status, words(&output));
    Ok(String::from_utf8(output.stdout)?)
}

/// All that a program said.
#[must_use]
pub fn words(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

fn lines(text: &str) -> anyhow::Result<Vec<Value>> {
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

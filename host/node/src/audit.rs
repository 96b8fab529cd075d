//! What was done to the workers by order: a line of JSON a step, appended to `audit.jsonl` in the state
//! folder (mode 0600) and told to the log under the target `audit`.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use warren_ports::swap::SwapStep;
use warren_workers::plain_line;

/// Where the lines go. Grows by orders of the node's owner only, so nothing is ever taken from it.
pub(crate) struct Audit {
    path: PathBuf,
}

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    plugin: &'a str,
    #[serde(flatten)]
    step: &'a SwapStep,
}

impl Audit {
    pub(crate) fn new(state: &Path) -> Self {
        Self { path: state.join("audit.jsonl") }
    }

    /// Notes a step. A disk that is full does not stop a swap half-way: the log says so.
    pub(crate) fn note(&self, plugin: &str, step: &SwapStep) {
        let (stage, detail) = (stage_name(step), plain_line(&step.detail));
        match step.worker {
            Some(worker) => tracing::info!(target: "audit", plugin, worker, "{stage}: {detail}"),
            None => tracing::info!(target: "audit", plugin, "{stage}: {detail}"),
        }
        if let Err(error) = self.append(&Line { plugin, step }) {
            tracing::error!(path = %self.path.display(), "the audit could not be written: {error}");
        }
    }

    fn append(&self, line: &Line<'_>) -> std::io::Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        options.open(&self.path)?.write_all(text.as_bytes())
    }
}

/// As it stands in the file.
pub(crate) fn stage_name(step: &SwapStep) -> String {
    serde_json::to_value(step.stage)
        .ok()
        .and_then(|name| name.as_str().map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use warren_ports::swap::SwapStage;

    use super::*;

    #[test]
    fn steps_are_appended_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let step = |stage, worker, detail: &str| SwapStep { at_us: 7, stage, worker, detail: detail.into() };
        Audit::new(folder.path()).note("tunnel", &step(SwapStage::Verified, None, "signed"));
        Audit::new(folder.path()).note("tunnel", &step(SwapStage::RolledBack, Some(2), "a\nb"));
        let path = folder.path().join("audit.jsonl");
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "{\"plugin\":\"tunnel\",\"at_us\":7,\"stage\":\"verified\",\"worker\":null,\"detail\":\"signed\"}\n\
             {\"plugin\":\"tunnel\",\"at_us\":7,\"stage\":\"rolled-back\",\"worker\":2,\"detail\":\"a\\nb\"}\n"
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

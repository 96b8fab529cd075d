//! The guards this node keeps from one run to the next: `guards`, a line each, in its state folder.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use warren_circuits::Guard;
use warren_core::Core;
use warren_schemas::{PeerId, Timestamp};

/// How often they are written when they changed.
const PERIOD: Duration = Duration::from_secs(60);

/// Reads them; a line that cannot be read is left out, so that a damaged file costs one guard and
/// not the start.
pub(crate) fn load(state: &Path) -> Vec<Guard> {
    let text = fs::read_to_string(state.join("guards")).unwrap_or_default();
    text.lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Guard> {
    let (peer, since) = line.split_once(' ')?;
    let since = Timestamp::from_micros(since.parse().ok()?);
    Some(Guard { peer: PeerId::from_base58(peer)?, since })
}

/// Writes them now and then, as long as the node runs.
pub(crate) async fn keep(core: Arc<Core>, state: std::path::PathBuf) {
    let mut written = load(&state);
    loop {
        tokio::time::sleep(PERIOD).await;
        let guards = core.guards().await;
        if guards != written && save(&state, &guards).is_ok() {
            written = guards;
        }
    }
}

/// Writes them beside and renames, so that a crash leaves the old file or the new one.
pub(crate) fn save(state: &Path, guards: &[Guard]) -> std::io::Result<()> {
    let lines = guards.iter().map(|guard| format!("{} {}\n", guard.peer, guard.since.as_micros()));
    let (file, beside) = (state.join("guards"), state.join("guards.new"));
    fs::write(&beside, lines.collect::<String>())?;
    fs::rename(beside, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_costs_a_line() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load(folder.path()), []);
        let guards =
            [1, 2].map(|n| Guard { peer: PeerId([n; 32]), since: Timestamp::from_micros(u64::from(n)) });
        save(folder.path(), &guards).unwrap();
        assert_eq!(load(folder.path()), guards);
        let text = fs::read_to_string(folder.path().join("guards")).unwrap();
        fs::write(folder.path().join("guards"), text.replacen("12D3", "????", 1)).unwrap();
        assert_eq!(load(folder.path()), guards[1..]);
    }
}

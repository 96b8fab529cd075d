//! Generated code equals what the generator makes of its source today.

use std::fs;
use std::path::Path;

use anyhow::Context;

use super::{Findings, Tree};
use crate::setup;

const FOLDER: &str = "schemas/src/generated";

pub(super) fn check(tree: &Tree) -> anyhow::Result<Findings> {
    let fresh = tempfile::tempdir()?;
    setup::generate(fresh.path())?;
    compare(&tree.root.join(FOLDER), fresh.path())
}

fn compare(committed: &Path, fresh: &Path) -> anyhow::Result<Findings> {
    let names = |folder: &Path| -> anyhow::Result<Vec<_>> {
        let files = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut names: Vec<_> = files.flatten().map(|file| file.file_name()).collect();
        names.sort();
        Ok(names)
    };
    let mut all = names(committed)?;
    all.extend(names(fresh)?);
    all.sort();
    all.dedup();
    let stale = all.iter().filter(|name| {
        let (old, new) = (fs::read(committed.join(name)), fs::read(fresh.join(name)));
        !matches!((old, new), (Ok(old), Ok(new)) if old == new)
    });
    let say = |name: &std::ffi::OsString| {
        format!("{FOLDER}/{} is stale: run cargo xtask setup --generate", name.to_string_lossy())
    };
    Ok(stale.map(say).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_missing_and_left_over_files_are_found() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (folder, name, text) in [
            (&old, "same", "1"),
            (&new, "same", "1"),
            (&old, "stale", "1"),
            (&new, "stale", "2"),
            (&old, "left", "1"),
            (&new, "new", "1"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let findings = compare(old.path(), new.path()).unwrap();
        assert_eq!(findings.len(), 3, "{findings:?}");
        assert!(!findings.iter().any(|finding| finding.contains("same")));
    }
}

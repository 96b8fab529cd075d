//! Every dependency may be shipped under MIT or Apache-2.0: none has a licence that asks for more.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

use super::{Findings, Tree};

/// SPDX names. MPL-2.0 asks for the source of its own files only, which are public.
const ALLOWED: [&str; 16] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "NCSA",
    "Unicode-3.0",
    "Zlib",
];

pub(super) fn check(tree: &Tree) -> anyhow::Result<Findings> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let output =
        cargo.args(["metadata", "--format-version", "1", "--locked"]).current_dir(&tree.root).output();
    let output = output.context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata.get("packages").and_then(Value::as_array).context("no packages")?;
    let mut findings = BTreeSet::new();
    for package in packages {
        let text = |name: &str| package.get(name).and_then(Value::as_str).unwrap_or_default();
        if !is_allowed(text("license")) {
            findings.insert(format!("{} {}: licence '{}'", text("name"), text("version"), text("license")));
        }
    }
    Ok(findings.into_iter().collect())
}

/// Whether an SPDX expression can be met with what is allowed. Old crates write `/` for OR.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any(&mut rest) == Some(true) && rest.is_empty()
}

fn any(rest: &mut &[&str]) -> Option<bool> {
    let mut met = all(rest)?;
    while let ["OR", after @ ..] = *rest {
        *rest = after;
        met |= all(rest)?;
    }
    Some(met)
}

fn all(rest: &mut &[&str]) -> Option<bool> {
    let mut met = one(rest)?;
    while let ["AND", after @ ..] = *rest {
        *rest = after;
        met &= one(rest)?;
    }
    Some(met)
}

fn one(rest: &mut &[&str]) -> Option<bool> {
    match **rest {
        ["(", ref after @ ..] => {
            *rest = after;
            let met = any(rest)?;
            let [")", after @ ..] = *rest else { return None };
            *rest = after;
            Some(met)
        }
        [name, "WITH", exception, ref after @ ..] => {
            *rest = after;
            Some(ALLOWED.contains(&format!("{name} WITH {exception}").as_str()))
        }
        [name, ref after @ ..] => {
            *rest = after;
            Some(ALLOWED.contains(&name))
        }
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_says() {
        for good in
            ["MIT", "MIT/GPL-3.0", "(GPL-3.0 OR MIT) AND ISC", "GPL-3.0 OR Apache-2.0 WITH LLVM-exception"]
        {
            assert!(is_allowed(good), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "MIT MIT", "MIT OR", "Apache-2.0 WITH other"] {
            assert!(!is_allowed(bad), "{bad}");
        }
    }
}

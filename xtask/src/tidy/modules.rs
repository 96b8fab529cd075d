//! What every built plugin imports: nothing but what its world declares.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, bail};
use wasmparser::{Parser, Payload};

use super::{Findings, Tree};
use crate::plugins;

/// Guests of the tests that break this rule on purpose.
const ROGUES: [&str; 2] = ["undeclared.wasm", "other_version.wasm"];

/// What lies there is judged as it is found, and again after what changed was built.
pub(super) fn check(tree: &Tree) -> anyhow::Result<Findings> {
    let allowed = declared(&tree.text(Path::new("wit/worker.wit"))?, "tunnel")?;
    let mut findings = BTreeSet::new();
    for file in tree.with_extension("wasm") {
        findings.extend(judge(&file.to_string_lossy(), &std::fs::read(tree.root.join(file))?, &allowed));
    }
    findings.extend(judge_folder(&plugins::default_out()?, &allowed)?);
    let built = plugins::build(&plugins::Wanted { out: None, fixtures: true })?;
    findings.extend(judge_folder(&built, &allowed)?);
    Ok(findings.into_iter().collect())
}

fn judge_folder(folder: &Path, allowed: &BTreeSet<String>) -> anyhow::Result<Findings> {
    let mut findings = Findings::new();
    for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        if name.ends_with(".wasm") && !ROGUES.contains(&name.as_str()) {
            findings.extend(judge(&name, &std::fs::read(file.path())?, allowed));
        }
    }
    Ok(findings)
}

fn judge(name: &str, bytes: &[u8], allowed: &BTreeSet<String>) -> Findings {
    let imports = match imports(bytes) {
        Ok(imports) => imports,
        Err(error) => return vec![format!("{name} is no component: {error:#}")],
    };
    let undeclared = imports.into_iter().filter(|import| !allowed.contains(import));
    undeclared.map(|import| format!("{name} imports {import}, which its world does not declare")).collect()
}

/// The imports of world `name` in a WIT file, as components spell them.
fn declared(wit: &str, name: &str) -> anyhow::Result<BTreeSet<String>> {
    let lines = || wit.lines().map(|line| line.trim().trim_end_matches(';'));
    let package = lines().find_map(|line| line.strip_prefix("package ")).context("the WIT has no package")?;
    let (package, version) = package.split_once('@').context("the WIT's package has no version")?;
    let head = format!("world {name} {{");
    if !lines().any(|line| line == head) {
        bail!("the WIT has no world {name}");
    }
    let world = lines().skip_while(|line| *line != head).take_while(|line| *line != "}");
    let imports = world.filter_map(|line| line.strip_prefix("import "));
    Ok(imports.map(|interface| format!("{package}/{interface}@{version}")).collect())
}

/// The imports of a component. What its inner modules import is linked inside it.
fn imports(bytes: &[u8]) -> anyhow::Result<BTreeSet<String>> {
    let mut imports = BTreeSet::new();
    let mut depth = 0_usize;
    let mut is_component = false;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::Version { encoding, .. } if depth == 0 => {
                is_component = encoding == wasmparser::Encoding::Component;
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    imports.insert(import?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    if !is_component {
        bail!("it is a core module");
    }
    Ok(imports)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIT: &str = "package a:b@0.1.0;\ninterface log {\n}\nworld tunnel {\n    import log;\n    import random;\n    export machine;\n}\n";

    /// A component that imports an instance of each name: preamble, a type section with one empty
    /// instance type, an import section (component-model, Binary.md).
    fn component(names: &[&str]) -> Vec<u8> {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        bytes.extend_from_slice(&[7, 3, 1, 0x42, 0]);
        let mut section = vec![names.len() as u8];
        for name in names {
            section.extend_from_slice(&[0, name.len() as u8]);
            section.extend_from_slice(name.as_bytes());
            section.extend_from_slice(&[5, 0]);
        }
        bytes.extend_from_slice(&[10, section.len() as u8]);
        bytes.extend_from_slice(&section);
        bytes
    }

    #[test]
    fn the_world_says_what_is_declared() {
        let allowed = declared(WIT, "tunnel").unwrap();
        assert_eq!(allowed, BTreeSet::from(["a:b/log@0.1.0".to_owned(), "a:b/random@0.1.0".to_owned()]));
        assert!(declared(WIT, "other").is_err());
    }

    #[test]
    fn undeclared_imports_are_found() {
        let allowed = declared(WIT, "tunnel").unwrap();
        let judged = |names: &[&str]| judge("x.wasm", &component(names), &allowed);
        assert!(judged(&["a:b/log@0.1.0"]).is_empty());
        let findings = judged(&["a:b/log@0.1.0", "a:b/socket@0.1.0", "a:b/log@0.2.0"]);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert_eq!(judge("x.wasm", b"\0asm\x01\0\0\0", &allowed).len(), 1, "a core module");
        assert_eq!(judge("x.wasm", b"not wasm", &allowed).len(), 1);
    }
}

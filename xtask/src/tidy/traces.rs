//! What must not be in the tree: paths of somebody's machine, hosts of somebody's registry.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{env, fs};

use super::{Findings, Tree};

/// Folders that exist on a machine and not in a project. Taken apart so that this file passes.
const FOLDERS: [&str; 3] = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/")];
/// Registries everybody has.
const PUBLIC: [&str; 6] =
    ["crates.io", "index.crates.io", "static.crates.io", "github.com", "pypi.org", "files.pythonhosted.org"];
/// The only source of a locked package.
const CRATES_IO: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";

pub(super) fn check(tree: &Tree) -> anyhow::Result<Findings> {
    let mut needles: BTreeSet<String> = FOLDERS.map(str::to_owned).into();
    needles.extend(registry_hosts());
    let mut findings = Findings::new();
    for file in &tree.files {
        if let Ok(text) = fs::read_to_string(tree.root.join(file)) {
            findings.extend(judge(file, &text, &needles));
        }
    }
    Ok(findings)
}

fn judge(file: &Path, text: &str, needles: &BTreeSet<String>) -> Findings {
    let mut findings = Findings::new();
    for (number, line) in (1..).zip(text.lines()) {
        if let Some(needle) = needles.iter().find(|needle| line.contains(needle.as_str())) {
            findings.push(format!("{}:{number}: names {needle}", file.display()));
        }
        if file == Path::new("Cargo.lock") && line.starts_with("source = ") && line != CRATES_IO {
            findings.push(format!("{}:{number}: a package that is not from crates.io", file.display()));
        }
    }
    findings
}

/// The hosts of the registries that this machine is set up to use, but for the public ones.
fn registry_hosts() -> BTreeSet<String> {
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo = env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    let files = [
        cargo.join("config.toml"),
        cargo.join("config"),
        home.join(".config/pip/pip.conf"),
        home.join(".pip/pip.conf"),
        home.join(".npmrc"),
        PathBuf::from("/etc/pip.conf"),
    ];
    let mut texts: Vec<String> = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    let is_registry =
        |name: &str| name.contains("INDEX") || name.contains("REGISTR") || name.contains("PROXY");
    texts.extend(env::vars_os().filter_map(|(name, value)| {
        is_registry(&name.to_string_lossy()).then(|| value.to_string_lossy().into_owned())
    }));
    texts.iter().flat_map(|text| hosts(text)).collect()
}

/// The hosts of the URLs in `text`. Those without a dot (`localhost`) and plain addresses are
/// everybody's too.
fn hosts(text: &str) -> Vec<String> {
    let urls = text.split("://").skip(1);
    let hosts = urls.filter_map(|url| {
        let authority = url.split(|c: char| c == '/' || c.is_whitespace() || "\"'<>".contains(c)).next()?;
        let host = authority.rsplit('@').next()?;
        Some(host.split(':').next()?.to_owned())
    });
    hosts
        .filter(|host| host.contains('.') && !PUBLIC.contains(&host.as_str()))
        .filter(|host| host.parse::<std::net::IpAddr>().is_err())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_in_urls() {
        let text =
            "registry = \"sparse+https://user:pw@mirror.example:8443/index/\"\nx = 'https://pypi.org/simple'";
        assert_eq!(hosts(text), ["mirror.example"]);
        assert!(hosts("http://localhost:1/ http://127.0.0.1:80/").is_empty());
    }

    #[test]
    fn traces_are_found() {
        let needles = BTreeSet::from([FOLDERS[0].to_owned(), "mirror.example".to_owned()]);
        let text = format!("fine\nsee {}x\nhttps://mirror.example/\n", FOLDERS[0]);
        assert_eq!(judge(Path::new("a.md"), &text, &needles).len(), 2);
        let lock = format!("{CRATES_IO}\nsource = \"git+https://example.org/x\"\n");
        assert_eq!(judge(Path::new("Cargo.lock"), &lock, &needles).len(), 1);
    }
}

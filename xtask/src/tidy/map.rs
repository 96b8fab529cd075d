//! The map of the house: the block fenced as `map` in ARCHITECTURE.md, one room a line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{Findings, Tree};

/// Where a room stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Floor {
    /// A floor of the host, from the bottom.
    Host(u8),
    /// Guest code: what runs inside a worker, and what it stands on.
    Guest,
}

/// Folder of each room, and its floor.
pub(super) fn read(text: &str) -> anyhow::Result<BTreeMap<PathBuf, Floor>> {
    let block = text.split("```map\n").nth(1).and_then(|rest| rest.split("```").next());
    let block = block.context("ARCHITECTURE.md has no block fenced as `map`")?;
    let rooms = block.lines().filter(|line| !line.trim().is_empty()).map(|line| {
        let mut words = line.split_whitespace();
        let (room, floor) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let floor = match floor.parse() {
            Ok(floor) => Floor::Host(floor),
            Err(_) if floor == "g" => Floor::Guest,
            Err(_) => anyhow::bail!("the map's line {line:?} has no floor"),
        };
        Ok((PathBuf::from(room), floor))
    });
    rooms.collect()
}

pub(super) fn of(tree: &Tree) -> anyhow::Result<BTreeMap<PathBuf, Floor>> {
    read(&tree.text(Path::new("ARCHITECTURE.md"))?)
}

pub(super) fn check(tree: &Tree) -> anyhow::Result<Findings> {
    let map = of(tree)?;
    let root: toml::Table = tree.text(Path::new("Cargo.toml"))?.parse()?;
    let members = root.get("workspace").and_then(|workspace| workspace.get("members")?.as_array());
    let members: Vec<&str> = members.into_iter().flatten().filter_map(toml::Value::as_str).collect();
    let manifests =
        tree.files.iter().filter(|file| file.file_name().is_some_and(|name| name == "Cargo.toml"));
    let crates = manifests.filter_map(|file| file.parent()).filter(|folder| !folder.as_os_str().is_empty());
    Ok(compare(
        &map.into_keys().collect::<Vec<_>>(),
        &members,
        &crates.map(Path::to_owned).collect::<Vec<_>>(),
    ))
}

/// The contract's WIT packages are a room without a Cargo.toml.
const WIT: &str = "wit";

fn compare(map: &[PathBuf], members: &[&str], crates: &[PathBuf]) -> Findings {
    let mut findings = Findings::new();
    for room in map.iter().filter(|room| **room != Path::new(WIT)) {
        if !crates.contains(room) {
            findings.push(format!("the map has {}, the tree does not", room.display()));
        }
    }
    for folder in crates {
        if !map.contains(folder) {
            findings.push(format!("the tree has {}, the map does not", folder.display()));
        }
        if !members.iter().any(|member| folder == Path::new(member)) {
            findings.push(format!("{} is no member of the workspace", folder.display()));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_and_floors_are_read() {
        let map = read("x\n```map\nhost/net  2  UDP\nsdk/rust g  authors\n```\ny").unwrap();
        assert_eq!(map[Path::new("host/net")], Floor::Host(2));
        assert_eq!(map[Path::new("sdk/rust")], Floor::Guest);
        assert!(read("no block").is_err());
        assert!(read("```map\nhost/net UDP\n```").is_err());
    }

    #[test]
    fn a_map_that_is_not_the_tree_is_found() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        let tree = paths(&["host/net", "xtask"]);
        assert!(compare(&paths(&["host/net", "wit", "xtask"]), &["host/net", "xtask"], &tree).is_empty());
        assert_eq!(
            compare(&paths(&["host/net"]), &["host/net", "xtask"], &tree).len(),
            1,
            "a room is missing"
        );
        assert_eq!(compare(&paths(&["host/net", "xtask", "y"]), &["host/net", "xtask"], &tree).len(), 1);
        assert_eq!(compare(&tree, &["xtask"], &tree).len(), 1, "no member");
    }
}

//! Who may depend on whom: the floors of the map, and one room for each heavy library.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::map::{self, Floor};
use super::{Findings, Tree};

/// Heavy libraries, by the start of their packages' names, and the room that may name each.
const HEAVY: [(&str, &str); 6] = [
    ("wasmtime", "host/sandbox"),
    ("libp2p", "host/overlay"),
    ("librqbit", "host/torrent"),
    ("quinn-udp", "host/net"),
    ("quinn", "host/streams"),
    ("rusqlite", "host/store"),
];

/// The bottom of floor 1: its neighbours there stand on it.
const PORTS: &str = "host/ports";
/// The one adapter that links a guest as a library.
const ADAPTER: (&str, &str) = ("host/native", "plugins/tunnel");
/// From this floor on (tests, tools) guests may be linked.
const TESTS: u8 = 5;

struct Crate {
    folder: PathBuf,
    name: String,
    /// Packages it names, in any kind of dependency.
    needs: Vec<String>,
}

pub(super) fn check(tree: &Tree) -> anyhow::Result<Findings> {
    let floors = map::of(tree)?;
    let mut crates = Vec::new();
    for folder in floors.keys() {
        let manifest = folder.join("Cargo.toml");
        if tree.files.contains(&manifest) {
            crates.push(read(folder, &tree.text(&manifest)?.parse()?));
        }
    }
    Ok(judge(&floors, &crates))
}

fn read(folder: &Path, manifest: &Table) -> Crate {
    let name = manifest.get("package").and_then(|package| package.get("name")?.as_str()).unwrap_or_default();
    let mut needs = Vec::new();
    gather(manifest, &mut needs);
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    targets.filter_map(Value::as_table).for_each(|target| gather(target, &mut needs));
    Crate { folder: folder.to_owned(), name: name.to_owned(), needs }
}

fn gather(table: &Table, needs: &mut Vec<String>) {
    for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
        for (key, value) in table.get(kind).and_then(Value::as_table).into_iter().flatten() {
            let renamed = value.get("package").and_then(Value::as_str);
            needs.push(renamed.unwrap_or(key).to_owned());
        }
    }
}

fn judge(floors: &BTreeMap<PathBuf, Floor>, crates: &[Crate]) -> Findings {
    let mut findings = Findings::new();
    for from in crates {
        for need in &from.needs {
            if let Some(to) = crates.iter().find(|other| other.name == *need) {
                let stands = floors.get(&from.folder).zip(floors.get(&to.folder));
                if stands.is_some_and(|(a, b)| !may_see((&from.folder, *a), (&to.folder, *b))) {
                    let (from, to) = (from.folder.display(), to.folder.display());
                    findings.push(format!("{from} depends on {to}, which is not below it"));
                }
            }
            if let Some((library, room)) = heavy(need)
                && from.folder != Path::new(room)
            {
                findings.push(format!("{} names {library}, which is for {room} only", from.folder.display()));
            }
        }
    }
    findings
}

fn may_see(from: (&Path, Floor), to: (&Path, Floor)) -> bool {
    match (from.1, to.1) {
        (Floor::Host(above), Floor::Host(below)) => {
            below < above || (below == above && to.0 == Path::new(PORTS))
        }
        (Floor::Host(above), Floor::Guest) => {
            above >= TESTS || (from.0 == Path::new(ADAPTER.0) && to.0 == Path::new(ADAPTER.1))
        }
        (Floor::Guest, Floor::Host(below)) => below == 0,
        (Floor::Guest, Floor::Guest) => true,
    }
}

fn heavy(package: &str) -> Option<(&'static str, &'static str)> {
    HEAVY.into_iter().find(|(library, _)| {
        package.strip_prefix(library).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(manifests: &[(&str, &str)]) -> Findings {
        let map = "```map\nschemas 0 a\nhost/ports 1 a\nhost/circuits 1 a\nhost/net 2 a\nhost/exit 2 a\n\
                   host/native 3 a\nplugins/tunnel g a\ntests/e2e 5 a\n```";
        let floors = map::read(map).unwrap();
        let crates: Vec<Crate> = floors
            .keys()
            .map(|folder| {
                let own =
                    manifests.iter().filter(|(name, _)| folder == Path::new(name)).map(|(_, text)| *text);
                let name = folder.to_string_lossy().replace('/', "-");
                let text = format!("[package]\nname = \"{name}\"\n{}", own.collect::<String>());
                read(folder, &text.parse().unwrap())
            })
            .collect();
        judge(&floors, &crates)
    }

    #[test]
    fn looking_down_is_allowed() {
        let allowed = [
            (
                "host/net",
                "[dependencies]\nschemas.workspace = true\nhost-circuits = \"1\"\nquinn-udp = \"1\"",
            ),
            ("host/circuits", "[dependencies]\nhost-ports.workspace = true"),
            ("host/native", "[dependencies]\nplugins-tunnel.workspace = true"),
            ("plugins/tunnel", "[dependencies]\nschemas.workspace = true"),
            ("tests/e2e", "[dev-dependencies]\nplugins-tunnel.workspace = true\nhost-net = \"1\""),
        ];
        assert_eq!(findings(&allowed), Findings::new());
    }

    #[test]
    fn looking_up_sideways_or_across_is_found() {
        for (room, manifest) in [
            ("schemas", "[dependencies]\nhost-ports = \"1\""),
            ("host/ports", "[dependencies]\nhost-circuits = \"1\""),
            ("host/net", "[dependencies]\nhost-exit = \"1\""),
            ("host/net", "[dev-dependencies]\nhost-native = \"1\""),
            ("host/net", "[target.'cfg(unix)'.dependencies]\nhost-exit = \"1\""),
            ("host/net", "[dependencies]\nother = { package = \"host-exit\" }"),
            ("host/net", "[dependencies]\nplugins-tunnel = \"1\""),
            ("plugins/tunnel", "[build-dependencies]\nhost-ports = \"1\""),
        ] {
            assert_eq!(findings(&[(room, manifest)]).len(), 1, "{room} {manifest}");
        }
    }

    #[test]
    fn a_heavy_library_outside_its_room_is_found() {
        for (library, is_heavy) in [
            ("quinn", true),
            ("quinn-proto", true),
            ("libp2p-kad", true),
            ("wasmtime-wasi", true),
            ("quinnish", false),
        ] {
            let manifest = format!("[dependencies]\n{library} = \"1\"");
            assert_eq!(findings(&[("host/exit", &manifest)]).len(), usize::from(is_heavy), "{library}");
        }
        assert!(findings(&[("host/net", "[dependencies]\nquinn-udp = \"1\"")]).is_empty());
        assert_eq!(findings(&[("host/net", "[dependencies]\nquinn = \"1\"")]).len(), 1);
    }
}

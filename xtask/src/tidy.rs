//! `tidy`: the rules of the house that no compiler checks.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

use crate::plugins::workspace;

mod floors;
mod generated;
mod licences;
mod map;
mod modules;
mod sizes;
mod traces;

/// What breaks a rule: one line each.
type Findings = Vec<String>;

/// What is checked: every file that git tracks or would, but for those it ignores.
struct Tree {
    root: PathBuf,
    files: Vec<PathBuf>,
}

impl Tree {
    fn read() -> anyhow::Result<Self> {
        let root = workspace();
        let mut git = Command::new("git");
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(&root);
        let output = git.output().context("cannot start git")?;
        if !output.status.success() {
            bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        let files = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
        let files = files.filter(|file| root.join(file).is_file()).collect();
        Ok(Self { root, files })
    }

    fn text(&self, file: &Path) -> anyhow::Result<String> {
        let path = self.root.join(file);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn with_extension(&self, extension: &'static str) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().filter(move |file| file.extension().is_some_and(|found| found == extension))
    }
}

/// One rule: its name, and what it finds.
type Rule = (&'static str, fn(&Tree) -> anyhow::Result<Findings>);

const RULES: [Rule; 7] = [
    ("the map in ARCHITECTURE.md is the tree", map::check),
    ("crates look down only, and each heavy library has one room", floors::check),
    ("files and functions have their sizes", sizes::check),
    ("nothing tells of the machine it was made on", traces::check),
    ("every dependency has a licence that allows ours", licences::check),
    ("generated code equals its source", generated::check),
    ("plugins import what their world declares", modules::check),
];

/// Checks every rule; answers how many hold and how many do not.
pub(crate) fn check() -> anyhow::Result<(usize, usize)> {
    let tree = Tree::read()?;
    let (mut kept, mut broken) = (0, 0);
    for (name, rule) in RULES {
        let findings = rule(&tree).unwrap_or_else(|error| vec![format!("cannot be checked: {error:#}")]);
        if findings.is_empty() {
            kept += 1;
            println!("tidy: {name}: yes");
        } else {
            broken += 1;
            println!("tidy: {name}: NO");
            findings.iter().for_each(|finding| println!("  {finding}"));
        }
    }
    Ok((kept, broken))
}

/// `cargo xtask tidy`
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let (_, broken) = check()?;
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

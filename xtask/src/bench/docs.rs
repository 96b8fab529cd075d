//! The parts of docs/benchmarks.md that are written by the measurement itself.

use std::fs;

use anyhow::Context;

use super::plot::Chart;
use crate::plugins::workspace;

/// Where plots go, seen from the workspace.
const PLOTS: &str = "docs/plots";
const PAGE: &str = "docs/benchmarks.md";

/// Puts `text` between the marks `<!-- NAME -->` and `<!-- /NAME -->`.
pub(super) fn write(name: &str, text: &str) -> anyhow::Result<()> {
    let path = workspace().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {PAGE}"))?;
    let page = replace(&page, name, text).with_context(|| format!("{PAGE} has no place for {name}"))?;
    fs::write(&path, page).with_context(|| format!("cannot write {PAGE}"))
}

fn replace(page: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{text}{end}{after}"))
}

/// Draws a chart, and answers how the page shows it.
pub(super) fn plot(name: &str, chart: &Chart) -> anyhow::Result<String> {
    let folder = workspace().join(PLOTS);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {PLOTS}"))?;
    fs::write(folder.join(name), chart.svg()).with_context(|| format!("cannot write {PLOTS}/{name}"))?;
    Ok(format!("![{}](plots/{name})\n", chart.title))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n";
        assert_eq!(replace(page, "x", "new\n").unwrap(), "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n");
        assert_eq!(replace(page, "y", "new\n"), None);
    }
}

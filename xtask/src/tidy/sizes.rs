//! How long files and functions may be.

use std::path::Path;

use anyhow::Context;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{Findings, Tree};

/// Lines of a file.
const FILE: usize = 700;
/// Lines of a function, from its `fn` to its last brace.
const FUNCTION: usize = 80;
/// What a generator wrote has the size it has.
const GENERATED: &str = "schemas/src/generated";

pub(super) fn check(tree: &Tree) -> anyhow::Result<Findings> {
    let mut findings = Findings::new();
    for file in tree.with_extension("rs").filter(|file| !file.starts_with(GENERATED)) {
        findings.extend(judge(file, &tree.text(file)?)?);
    }
    Ok(findings)
}

fn judge(file: &Path, text: &str) -> anyhow::Result<Findings> {
    let mut findings = Findings::new();
    let lines = text.lines().count();
    if lines > FILE {
        findings.push(format!("{} has {lines} lines, more than {FILE}", file.display()));
    }
    let syntax = syn::parse_file(text).with_context(|| format!("{} is not Rust", file.display()))?;
    let mut functions = Functions(Vec::new());
    functions.visit_file(&syntax);
    for (name, line, lines) in functions.0.into_iter().filter(|(_, _, lines)| *lines > FUNCTION) {
        findings
            .push(format!("{}:{line}: fn {name} has {lines} lines, more than {FUNCTION}", file.display()));
    }
    Ok(findings)
}

/// Name, first line and number of lines of each function.
struct Functions(Vec<(String, usize, usize)>);

impl Functions {
    fn add(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (first, last) = (signature.span().start().line, block.span().end().line);
        self.0.push((signature.ident.to_string(), first, last + 1 - first));
    }
}

impl Visit<'_> for Functions {
    fn visit_item_fn(&mut self, function: &syn::ItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &syn::ImplItemFn) {
        self.add(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(lines: usize) -> String {
        format!("mod m {{ impl X {{\n/// {{\npub fn f() {{\n{}}}\n}} }}\n", "// }\n".repeat(lines - 2))
    }

    #[test]
    fn functions_and_files_are_measured() {
        let file = Path::new("x.rs");
        assert!(judge(file, &long(FUNCTION)).unwrap().is_empty());
        let found = judge(file, &long(FUNCTION + 1)).unwrap();
        assert_eq!(found, ["x.rs:3: fn f has 81 lines, more than 80"]);
        assert!(judge(file, &"//\n".repeat(FILE)).unwrap().is_empty());
        assert_eq!(judge(file, &"//\n".repeat(FILE + 1)).unwrap().len(), 1);
    }
}

//! Checks the imports between the files of a crate: no circles, and no imports from a module that is built on
//! the importing file.
//!
//! The imports are read from the syntax: `use` trees, paths in code, and paths in the arguments of macros.
//! Unit tests are left out, since a test may use anything. `crates/ARCHITECTURE.md` lists the imports that
//! may run up, with a reason for each.

mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::RandomState;

use petgraph::algo::{has_path_connecting, tarjan_scc};
use petgraph::graphmap::DiGraphMap;

use crate::tidy::file::File;
use crate::tidy::findings::Findings;
use crate::tidy::imports::paths::{Crate, Import};

pub(super) fn check(files: &[File], findings: &mut Findings) {
    let allowed = Allowed::read(files);
    let mut unused = allowed.lines.clone();
    for (source, files) in by_source(files) {
        let parsed = match Crate::parse(source, &files) {
            Ok(parsed) => parsed,
            Err(error) => {
                findings.file(source, &format!("the imports could not be read: {error}"));
                continue;
            }
        };
        let imports = parsed.imports();
        for circle in circles(&imports) {
            findings.file(source, &format!("import each other: {}", circle.join(", ")));
        }
        for import in imports_that_run_up(&imports) {
            let shown = import.to_string();
            if !unused.remove(&shown) && !allowed.lines.contains(&shown) {
                let what = format!(
                    "{} is built on this file: take it from {}, which defines it",
                    import.through, import.defined_in
                );
                findings.file(&shown, &what);
            }
        }
    }
    for line in unused {
        findings.file(ARCHITECTURE, &format!("allows an import that is not there: {line}"));
    }
}

/// Groups files by their `src` folder, whose library or program is one crate. The `main.rs` beside a library, and each file in
/// `bin`, is a crate of one file, which cannot import in a circle.
fn by_source(files: &[File]) -> BTreeMap<&str, Vec<&File>> {
    let mut sources: BTreeMap<&str, Vec<&File>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        if let Some((before, _)) = file.path.split_once("/src/") {
            sources.entry(&file.path[..before.len() + "/src/".len()]).or_default().push(file);
        }
    }
    for files in sources.values_mut() {
        if files.iter().any(|file| file.path.ends_with("/src/lib.rs")) {
            files.retain(|file| !file.path.ends_with("/src/main.rs") && !file.path.contains("/src/bin/"));
        }
    }
    sources
}

/// Returns each circle of files that need each other's definitions, by their names in order.
fn circles(imports: &[Import]) -> Vec<Vec<&str>> {
    let graph: Graph =
        imports.iter().map(|import| (import.from.as_str(), import.defined_in.as_str())).collect();
    let mut circles = tarjan_scc(&graph);
    circles.retain(|files| files.len() > 1);
    for files in &mut circles {
        files.sort_unstable();
    }
    circles.sort_unstable();
    circles
}

/// Returns the imports that name an item through a module that re-exports it and is built on the importing file.
fn imports_that_run_up(imports: &[Import]) -> Vec<&Import> {
    let named = imports.iter().map(|import| (import.from.as_str(), import.through.as_str()));
    let defined = imports.iter().map(|import| (import.from.as_str(), import.defined_in.as_str()));
    let graph: Graph = named.chain(defined).filter(|(from, to)| from != to).collect();
    imports
        .iter()
        .filter(|import| import.through != import.defined_in)
        .filter(|import| has_path_connecting(&graph, &import.through, &import.from, None))
        .collect()
}

type Graph<'a> = DiGraphMap<&'a str, (), RandomState>;

/// The permitted imports that run up, each a line of the list in ARCHITECTURE.md.
struct Allowed {
    lines: BTreeSet<String>,
}

impl Allowed {
    fn read(files: &[File]) -> Self {
        let document = files.iter().find(|file| file.path == ARCHITECTURE);
        let lines = document.map_or("", |document| &document.text).lines();
        let entry = |line: &str| {
            let (import, reason) = line.trim().strip_prefix("- `")?.split_once("`: ")?;
            (import.contains(" -> ") && !reason.is_empty()).then(|| import.to_owned())
        };
        Self { lines: lines.filter_map(entry).collect() }
    }
}

const ARCHITECTURE: &str = "crates/ARCHITECTURE.md";

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<File> =
            files.iter().map(|&(path, text)| File { path: path.to_owned(), text: text.to_owned() }).collect();
        let mut findings = Findings::default();
        check(&files, &mut findings);
        findings.0
    }

    #[track_caller]
    fn check_finds(files: &[(&str, &str)], expected: &[&str]) {
        let found = findings(files);
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}: {expected}");
        }
    }

    #[test]
    fn imports_that_go_down_are_left_alone() {
        check_finds(
            &[
                ("crates/a/src/lib.rs", "mod one; mod two; pub use one::One;"),
                ("crates/a/src/one.rs", "mod part; use crate::two::Two; pub struct One(part::Part, Two);"),
                ("crates/a/src/one/part.rs", "pub(super) struct Part;"),
                ("crates/a/src/two.rs", "pub struct Two;"),
            ],
            &[],
        );
    }

    #[test]
    fn circle_between_siblings_is_found() {
        check_finds(
            &[
                ("crates/a/src/lib.rs", "mod one; mod two;"),
                ("crates/a/src/one.rs", "use crate::two::Two; pub struct One(Option<Two>);"),
                ("crates/a/src/two.rs", "pub struct Two(Box<crate::one::One>);"),
            ],
            &["import each other: crates/a/src/one.rs, crates/a/src/two.rs"],
        );
    }

    #[test]
    fn circle_through_a_re_export_and_a_macro_is_found() {
        check_finds(
            &[
                ("crates/a/src/lib.rs", "pub mod one; pub mod two;"),
                ("crates/a/src/one.rs", "mod part; pub use part::Part; pub fn f() { crate::two::g() }"),
                ("crates/a/src/one/part.rs", "pub struct Part;"),
                ("crates/a/src/two.rs", "pub fn g() { println!(\"{}\", crate::one::f()); }"),
            ],
            &["import each other: crates/a/src/one.rs, crates/a/src/two.rs"],
        );
    }

    #[test]
    fn visibility_in_a_macro_is_no_import() {
        check_finds(
            &[
                ("crates/a/src/lib.rs", "mod one; pub use one::One;"),
                ("crates/a/src/one.rs", "macro_rules! make { () => { pub(crate) struct One; } } make!();"),
            ],
            &[],
        );
    }

    #[test]
    fn re_export_of_a_module_that_is_built_on_the_file_runs_up() {
        check_finds(
            &[
                ("crates/a/src/lib.rs", "mod one; mod two; pub use one::One; pub use two::Two;"),
                ("crates/a/src/one.rs", "use crate::Two; pub struct One(Two);"),
                ("crates/a/src/two.rs", "pub struct Two;"),
            ],
            &[
                "one.rs -> crate::Two: crates/a/src/lib.rs is built on this file: take it from crates/a/src/two.rs",
            ],
        );
    }

    #[test]
    fn parent_that_takes_nothing_from_its_parts_may_define_what_they_share() {
        check_finds(
            &[
                ("crates/a/src/lib.rs", "mod one; mod two; pub use one::part::Part; pub use two::Two;"),
                ("crates/a/src/one.rs", "pub mod part; use crate::two::Two; pub struct All(Two);"),
                ("crates/a/src/one/part.rs", "use super::All; pub struct Part(All);"),
                ("crates/a/src/two.rs", "pub struct Two;"),
            ],
            &[],
        );
        check_finds(
            &[
                ("crates/a/src/lib.rs", "mod one;"),
                ("crates/a/src/one.rs", "mod part; const ALL: u8 = 1; pub fn f() { part::g() }"),
                ("crates/a/src/one/part.rs", "pub fn g() -> u8 { super::ALL }"),
            ],
            &["import each other: crates/a/src/one.rs, crates/a/src/one/part.rs"],
        );
    }

    #[test]
    fn reason_in_the_document_allows_an_import_and_a_stale_one_is_named() {
        let document = "- `crates/a/src/one.rs -> crate::Two`: the name that the documentation uses.\n\
                        - `crates/a/src/gone.rs -> crate::Gone`: it was needed once.\n";
        check_finds(
            &[
                ("crates/ARCHITECTURE.md", document),
                ("crates/a/src/lib.rs", "mod one; mod two; pub use one::One; pub use two::Two;"),
                ("crates/a/src/one.rs", "use crate::Two; pub struct One(Two);"),
                ("crates/a/src/two.rs", "pub struct Two;"),
            ],
            &["allows an import that is not there: crates/a/src/gone.rs -> crate::Gone"],
        );
    }

    #[test]
    fn unit_tests_may_reach_for_anything() {
        check_finds(
            &[
                ("crates/a/src/lib.rs", "mod one; mod two;"),
                ("crates/a/src/one.rs", "use crate::two::g; pub fn f() { g() }"),
                (
                    "crates/a/src/two.rs",
                    "pub fn g() {} #[cfg(test)] mod tests { use super::g; use crate::one::f; }",
                ),
            ],
            &[],
        );
    }

    #[test]
    fn file_that_cannot_be_read_is_a_finding() {
        check_finds(&[("crates/a/src/lib.rs", "mod one")], &["could not be read"]);
    }
}

//! Checks each source file for a purpose on its first line, and against vague file names, banners and left-overs.

use crate::tidy::file::File;
use crate::tidy::findings::Findings;

pub(super) fn check(file: &File, findings: &mut Findings) {
    blanks(file, findings);
    if file.is_rust() {
        rust(file, findings);
    }
}

fn blanks(file: &File, findings: &mut Findings) {
    for (index, line) in file.text.lines().enumerate() {
        if line.ends_with([' ', '\t', '\r']) {
            findings.line(file, index + 1, "trailing blanks");
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        findings.file(&file.path, "no newline at its end");
    }
    if file.text.ends_with("\n\n") {
        findings.file(&file.path, "empty lines at its end");
    }
}

fn rust(file: &File, findings: &mut Findings) {
    if !file.text.starts_with("//! ") {
        findings.file(&file.path, "does not open with its purpose in a //! line");
    }
    if file.name() == "mod.rs" {
        findings.file(&file.path, "modules are named by themselves, not mod.rs");
    }
    if VAGUE_NAMES.contains(&file.name().trim_end_matches(".rs")) {
        findings.file(&file.path, "a drawer: name the file after one noun");
    }
    for (index, line) in file.text.lines().enumerate() {
        let line = line.trim();
        if is_banner(line) {
            findings.line(file, index + 1, "a section banner: split the file instead");
        }
        for (left_over, what) in left_overs() {
            if line.contains(&left_over) {
                findings.line(file, index + 1, what);
            }
        }
    }
}

/// Returns whether a comment draws a line, such as `// ----` or `// == name ==`. Documentation may contain
/// diagrams and tables, so there only a line without words is a banner.
fn is_banner(line: &str) -> bool {
    let Some(comment) = line.strip_prefix("//") else { return false };
    let is_rule = |character| "=-*#~ ".contains(character);
    if let Some(documentation) = comment.strip_prefix(['/', '!']) {
        return documentation.trim().len() >= 3 && documentation.chars().all(is_rule);
    }
    let comment = comment.trim();
    ["===", "---", "***", "###", "~~~"]
        .iter()
        .any(|rule| comment.starts_with(rule) || comment.ends_with(rule))
}

/// The words are written in two pieces, so that this file does not find itself.
fn left_overs() -> [(String, &'static str); 9] {
    [
        (["to", "do!("].concat(), "something left to do"),
        (["TO", "DO"].concat(), "something left to do: finish it or file an issue"),
        (["FIX", "ME"].concat(), "something left to do: finish it or file an issue"),
        (["XX", "X"].concat(), "something left to do: finish it or file an issue"),
        (["unimpl", "emented!("].concat(), "something left to do"),
        (["db", "g!("].concat(), "a left-over of debugging"),
        (["#[ign", "ore"].concat(), "a test that never runs"),
        (["#[should", "_panic"].concat(), "expect the error, not a panic"),
        (
            ["#![al", "low("].concat(),
            "lints are set for the workspace; an exception is #[expect] with a reason",
        ),
    ]
}

const VAGUE_NAMES: [&str; 8] = ["utils", "util", "helpers", "helper", "common", "types", "constants", "misc"];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_banner(line: &str, expected: bool) {
        assert_eq!(is_banner(line), expected, "{line}");
    }

    #[test]
    fn banners_are_told_from_comments() {
        check_banner("// ===== Types =====", true);
        check_banner("// ----------------", true);
        check_banner("//! ---", true);
        check_banner("// a sentence - with a dash", false);
        check_banner("//! | --- | --- |", false);
        check_banner("/// --- ClientHello --->", false);
        check_banner("//! ```", false);
        check_banner("let rule = \"---\";", false);
    }
}

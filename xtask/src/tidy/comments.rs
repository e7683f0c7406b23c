//! Checks comments for the rule that a sentence names its subject, and does not begin with an indefinite pronoun.

use crate::tidy::file::File;
use crate::tidy::findings::Findings;

pub(super) fn check(files: &[File], findings: &mut Findings) {
    for file in files.iter().filter(|file| file.is_rust() && !is_exempt(&file.path)) {
        let mut prose = Prose::default();
        for (index, line) in file.text.lines().enumerate() {
            for pronoun in prose.indefinite_subjects(line) {
                findings.line(
                    file,
                    index + 1,
                    &format!("a sentence that begins with {pronoun}: name its subject"),
                );
            }
        }
    }
}

/// Documentation of the command lines is the text of `--help`, which addresses users.
fn is_exempt(path: &str) -> bool {
    path.contains("/cli.rs") || path.contains("/cli/")
}

/// The comments of a file, read line by line.
#[derive(Default)]
struct Prose {
    /// Whether the last line was a comment that does not end a sentence.
    is_in_sentence: bool,
    /// Whether the last line was in a code block of documentation.
    is_in_code: bool,
}

impl Prose {
    /// The indefinite pronouns that sentences of the comment in `line` begin with.
    fn indefinite_subjects(&mut self, line: &str) -> Vec<&'static str> {
        let Some(comment) = comment(line) else {
            *self = Self::default();
            return Vec::new();
        };
        if comment.starts_with("```") {
            self.is_in_code = !self.is_in_code;
            self.is_in_sentence = false;
            return Vec::new();
        }
        if self.is_in_code {
            return Vec::new();
        }
        let mut found = Vec::new();
        let is_item = comment.starts_with("- ");
        let mut starts_sentence = is_item || !self.is_in_sentence;
        for word in comment.trim_start_matches("- ").split_whitespace() {
            let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
            found.extend(PRONOUNS.into_iter().filter(|pronoun| starts_sentence && *pronoun == bare));
            starts_sentence = word.ends_with(['.', '!', '?']);
        }
        self.is_in_sentence = !comment.is_empty() && !starts_sentence;
        found
    }
}

/// The text of the comment in `line`, which may follow code.
fn comment(line: &str) -> Option<&str> {
    let line = line.trim();
    let text = match line.strip_prefix("//") {
        Some(text) => text.strip_prefix(['/', '!']).unwrap_or(text),
        None => {
            let (code, text) = line.split_once(" // ")?;
            let is_in_string = code.matches('"').count() % 2 == 1;
            (!is_in_string).then_some(text)?
        }
    };
    Some(text.trim())
}

const PRONOUNS: [&str; 4] = ["Whoever", "Which", "Whichever", "Somebody"];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_finds(path: &str, text: &str, expected: &[&str]) {
        let file = File { path: path.to_owned(), text: text.to_owned() };
        let mut findings = Findings::default();
        check(&[file], &mut findings);
        assert_eq!(findings.0.len(), expected.len(), "{:#?}", findings.0);
        for (found, expected) in findings.0.iter().zip(expected) {
            assert!(found.contains(expected), "{found}: {expected}");
        }
    }

    #[test]
    fn sentence_that_begins_with_an_indefinite_pronoun_is_found() {
        check_finds(
            "crates/a/src/lib.rs",
            "//! Which rooms there are.\n",
            &["lib.rs:1: a sentence that begins with Which:"],
        );
        check_finds("crates/a/src/lib.rs", "/// Gives one. Somebody takes it.\nfn f() {}\n", &["lib.rs:1:"]);
        check_finds(
            "crates/a/src/lib.rs",
            "    // It is lost.\n    // Whoever asks knows.\n",
            &["lib.rs:2:"],
        );
        check_finds("crates/a/src/lib.rs", "/// One.\n///\n/// - Whichever is first.\n", &["lib.rs:3:"]);
        check_finds("crates/a/src/lib.rs", "let a = 1; // Which of them.\n", &["lib.rs:1:"]);
        check_finds("crates/a/tests/api.rs", "/// *Which.*\n", &["api.rs:1:"]);
    }

    #[test]
    fn pronoun_within_a_sentence_is_left_alone() {
        check_finds("crates/a/src/lib.rs", "/// The one to\n/// Which leads, and whoever asks.\n", &[]);
        check_finds("crates/a/src/lib.rs", "/// ```text\n/// Which\n/// ```\n", &[]);
        check_finds("crates/a/src/lib.rs", "let a = \"http:// Which\"; let b = \"Whoever\";\n", &[]);
    }

    #[test]
    fn help_texts_are_left_alone() {
        check_finds("crates/a/src/cli.rs", "/// Whoever is given a right has it.\n", &[]);
        check_finds("crates/a/src/cli/allow.rs", "/// Which.\n", &[]);
    }
}

//! Decides which entries of a tree are taken: patterns to include and to exclude, in the form of .gitignore.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// Rules in their order. The last rule that matches an entry decides. What no rule matches is taken, unless the first rule includes:
/// then it is left out, and so are directories, which are still searched for what is included.
///
/// A pattern without `/`, except at its end, matches names at any depth. Others are relative to the directory that was named, whose
/// own name is matched too, as is the name of a file that was named. What is in a directory that is left out is not looked at.
#[derive(Debug, Clone)]
pub struct Filter {
    rules: Gitignore,
    is_selective: bool,
}

/// A rule of a [`Filter`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// What matches the pattern is taken.
    Include(String),
    /// What matches the pattern is left out.
    Exclude(String),
}

/// What a [`Filter`] says of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The entry is taken.
    Take,
    /// It is a directory that is not taken itself, and may contain what is.
    Descend,
    /// It is left out, with all that is in it.
    Leave,
}

/// A pattern that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is no pattern: {reason}")]
pub struct InvalidPattern {
    /// The pattern.
    pub pattern: String,
    /// The reason why the pattern is none.
    pub reason: String,
}

impl Filter {
    /// The filter that takes everything.
    #[must_use]
    pub fn all() -> Self {
        Self { rules: Gitignore::empty(), is_selective: false }
    }

    /// The filter with these rules.
    ///
    /// # Errors
    /// [`InvalidPattern`] for the first one that is no pattern.
    pub fn new(rules: &[Rule]) -> Result<Self, InvalidPattern> {
        let mut builder = GitignoreBuilder::new("");
        builder.allow_unclosed_class(false);
        for rule in rules {
            let (pattern, line) = match rule {
                Rule::Include(pattern) => (pattern, format!("!{pattern}")),
                // These two begin something else in a .gitignore.
                Rule::Exclude(pattern) if pattern.starts_with(['!', '#']) => {
                    (pattern, format!("\\{pattern}"))
                }
                Rule::Exclude(pattern) => (pattern, pattern.clone()),
            };
            let invalid = |reason: String| InvalidPattern { pattern: pattern.clone(), reason };
            if pattern.trim_matches(['/', ' ']).is_empty() {
                return Err(invalid("it is empty".to_owned()));
            }
            if pattern.contains(['\n', '\0']) {
                return Err(invalid("it has a character that no pattern has".to_owned()));
            }
            builder.add_line(None, &line).map_err(|error| invalid(error.to_string()))?;
        }
        let gitignore = builder.build().map_err(|error| InvalidPattern {
            pattern: "all of them".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self { rules: gitignore, is_selective: matches!(rules.first(), Some(Rule::Include(_))) })
    }

    /// What becomes of an entry whose parents are taken or searched. `path` is what is below the directory that was named, or the name of
    /// what was named itself.
    #[must_use]
    pub fn judge(&self, path: &[u8], is_directory: bool) -> Verdict {
        let matched = self.rules.matched(Path::new(OsStr::from_bytes(path)), is_directory);
        if matched.is_whitelist() || (matched.is_none() && !self.is_selective) {
            Verdict::Take
        } else if matched.is_none() && is_directory {
            Verdict::Descend
        } else {
            Verdict::Leave
        }
    }

    /// Whether an entry is taken whose parents have not been judged. `has_root` says that the first name in `path` is that of what was
    /// named.
    #[must_use]
    pub fn takes(&self, path: &[u8], has_root: bool, is_directory: bool) -> bool {
        let root = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
        let mut start = 0;
        if has_root {
            if root == path.len() {
                return self.judge(path, is_directory) == Verdict::Take;
            }
            if self.judge(&path[..root], true) == Verdict::Leave {
                return false;
            }
            start = root + 1;
        }
        let below = &path[start..];
        let parents = below.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        parents.into_iter().all(|(end, _)| self.judge(&below[..end], true) != Verdict::Leave)
            && self.judge(below, is_directory) == Verdict::Take
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(rules: &[&str]) -> Filter {
        let rules: Vec<_> = rules
            .iter()
            .map(|rule| match rule.split_at(1) {
                ("+", pattern) => Rule::Include(pattern.to_owned()),
                (_, pattern) => Rule::Exclude(pattern.to_owned()),
            })
            .collect();
        Filter::new(&rules).unwrap()
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        let filter = filter(&["-*.o", "+keep.o", "-/build", "-cache/"]);
        assert_eq!(filter.judge(b"a/x.o", false), Verdict::Leave);
        assert_eq!(filter.judge(b"a/keep.o", false), Verdict::Take);
        assert_eq!(filter.judge(b"build", true), Verdict::Leave);
        assert_eq!(filter.judge(b"a/build", true), Verdict::Take, "only at the top");
        assert_eq!(filter.judge(b"a/cache", true), Verdict::Leave);
        assert_eq!(filter.judge(b"a/cache", false), Verdict::Take, "only directories");
        assert_eq!(filter.judge(b".hidden", false), Verdict::Take, "hidden files are files");
        assert_eq!(filter.judge(b"odd \xff\n name", false), Verdict::Take);
    }

    #[test]
    fn an_include_at_first_leaves_out_what_no_rule_matches() {
        let filter = filter(&["+*.jpg", "-thumbs/"]);
        assert_eq!(filter.judge(b"a/x.jpg", false), Verdict::Take);
        assert_eq!(filter.judge(b"a/x.txt", false), Verdict::Leave);
        assert_eq!(filter.judge(b"a", true), Verdict::Descend);
        assert_eq!(filter.judge(b"a/thumbs", true), Verdict::Leave);
        assert!(filter.takes(b"photos/a/x.jpg", true, false));
        assert!(!filter.takes(b"photos/thumbs/x.jpg", true, false));
        assert!(!filter.takes(b"photos/a", true, true));
    }

    #[test]
    fn parents_and_the_name_of_the_root_count_as_well() {
        let filter = filter(&["-target/", "-/src"]);
        assert!(!filter.takes(b"target/a/b", true, false));
        assert!(!filter.takes(b"project/a/target/b", true, false));
        assert!(!filter.takes(b"project/src/b", true, false), "relative to what was named");
        assert!(filter.takes(b"project/a/src", true, true));
        assert!(!filter.takes(b"src/a", false, false));
        assert!(!filter.takes(b"src", true, true), "as a root of that name");
        assert!(Filter::all().takes(b"a/b", true, false));
    }

    #[test]
    fn patterns_mean_what_they_say() {
        assert_eq!(filter(&["-#notes"]).judge(b"#notes", false), Verdict::Leave);
        assert_eq!(filter(&["-!odd"]).judge(b"!odd", false), Verdict::Leave);
        assert_eq!(filter(&["-*", "+!odd"]).judge(b"!odd", false), Verdict::Take);
        for pattern in ["", "/", "a{", "a\nb", "["] {
            assert!(Filter::new(&[Rule::Exclude(pattern.to_owned())]).is_err(), "{pattern:?}");
        }
        assert!(Filter::new(&[Rule::Include("a[".to_owned())]).is_err());
    }
}

//! Counts of the tests that passed and failed, over all parts.

use std::fmt;
use std::io::{BufRead as _, BufReader};
use std::ops::AddAssign;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};

use crate::workspace;

/// The counts of one part or of all.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Tally {
    pub(crate) const PASSED: Self = Self { passed: 1, failed: 0, skipped: 0 };
    pub(crate) const FAILED: Self = Self { passed: 0, failed: 1, skipped: 0 };

    /// Returns whether no test failed and at least one passed.
    pub(crate) fn is_good(self) -> bool {
        self.failed == 0 && self.passed > 0
    }

    /// Parses one of cargo test's result lines.
    fn from_result_line(line: &str) -> Option<Self> {
        let counts = line.trim().strip_prefix("test result: ")?.split_once(". ")?.1;
        let count = |what: &str| {
            let before = counts.split(';').find_map(|part| part.trim().strip_suffix(what))?;
            before.trim().parse::<u64>().ok()
        };
        Some(Self { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? })
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl From<Tally> for ExitCode {
    fn from(tally: Tally) -> Self {
        if tally.is_good() { Self::SUCCESS } else { Self::FAILURE }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{} passed, {} failed", self.passed, self.failed);
        if self.skipped > 0 {
            text += &format!(", {} skipped", self.skipped);
        }
        f.pad(&text)
    }
}

/// Runs a command that reports like cargo test, shows its output, and counts the results.
pub(super) fn counting(mut command: Command) -> Result<Tally> {
    let shown = workspace::shown(&command);
    eprintln!("$ {shown}");
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("{shown} did not start"))?;
    let stdout = child.stdout.take().with_context(|| format!("{shown} has no output"))?;

    let mut total = Tally::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.with_context(|| format!("the output of {shown}"))?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        if let Some(tally) = Tally::from_result_line(&line) {
            total += tally;
        }
    }
    let status = child.wait().context(shown.clone())?;
    if !status.success() && total.failed == 0 {
        eprintln!(
            "error: {shown} ended with {status} and no failed test: something did not build, or a bench panicked"
        );
        total += Tally::FAILED;
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<Tally>) {
        assert_eq!(Tally::from_result_line(line), expected, "{line}");
    }

    #[test]
    fn result_lines_are_counted_and_other_lines_are_not() {
        check(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s",
            Some(Tally { passed: 12, failed: 0, skipped: 1 }),
        );
        check(
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            Some(Tally { passed: 1, failed: 2, skipped: 0 }),
        );
        check("test result_line ... ok", None);
        check("running 3 tests", None);
    }

    #[test]
    fn skipped_is_shown_only_where_something_was_skipped() {
        assert_eq!(Tally { passed: 3, failed: 0, skipped: 0 }.to_string(), "3 passed, 0 failed");
        assert_eq!(Tally { passed: 3, failed: 1, skipped: 2 }.to_string(), "3 passed, 1 failed, 2 skipped");
    }
}

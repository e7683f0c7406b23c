//! Collects the findings of the checks.

use anyhow::{Result, bail};

use crate::tidy::file::File;

/// Violations of rules, collected so that one run reports all of them.
#[derive(Default)]
pub(crate) struct Findings(pub(crate) Vec<String>);

impl Findings {
    pub(crate) fn line(&mut self, file: &File, number: usize, what: &str) {
        self.0.push(format!("{}:{number}: {what}", file.path));
    }

    pub(crate) fn file(&mut self, path: &str, what: &str) {
        self.0.push(format!("{path}: {what}"));
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn report(self, files: &[File]) -> Result<()> {
        let mut long: Vec<(usize, &str)> = files
            .iter()
            .filter(|file| file.is_rust())
            .map(|file| (file.text.lines().count(), file.path.as_str()))
            .filter(|&(lines, _)| lines > LONG)
            .collect();
        long.sort_unstable_by(|one, other| other.cmp(one));
        for (lines, path) in long {
            println!("{path}: {lines} lines, aim under {LONG}");
        }
        for finding in &self.0 {
            println!("{finding}");
        }
        match self.0.len() {
            0 => Ok(()),
            count => bail!("{count} findings"),
        }
    }
}

/// Length in lines above which a file is reported. It is no violation, since a split must follow a noun.
const LONG: usize = 400;

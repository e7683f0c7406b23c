//! `cargo xtask tidy`: the house rules that the compiler does not know. All findings are printed, then it fails.

mod boundary;
mod imports;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

pub(crate) fn run() -> Result<()> {
    let root = workspace::root()?;
    let files = text_files(&root)?;
    let mut findings = Findings::default();
    for file in &files {
        source::check(file, &mut findings);
    }
    boundary::check(&files, &mut findings);
    imports::check(&files, &mut findings);
    findings.report(&files)
}

/// A file of the workspace, by its path from the root.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Test code may do what shipped code may not.
    pub(crate) fn is_shipped(&self) -> bool {
        self.path.starts_with("crates/") && self.path.contains("/src/")
    }

    /// The part above the unit tests.
    pub(crate) fn shipped_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .take_while(|line| *line != "#[cfg(test)]")
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }
}

/// What breaks a rule, collected so that one run names everything.
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

    fn report(self, files: &[File]) -> Result<()> {
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

/// Reported, not refused: a split must follow a noun.
const LONG: usize = 400;

/// Every file that git would hold and a person would read.
fn text_files(root: &Path) -> Result<Vec<File>> {
    let mut paths = Vec::new();
    for top in ["crates", "xtask", ".github", ".ci", ".cargo"] {
        walk(&root.join(top), &mut paths)?;
    }
    for top in ["Cargo.toml", "README.md", "deny.toml", "clippy.toml", "rustfmt.toml"] {
        paths.push(root.join(top));
    }
    let mut files = Vec::new();
    for path in paths {
        // A vector file or a corpus may hold anything.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let path = path.strip_prefix(root)?.to_str().context("a path that is not UTF-8")?.to_owned();
        files.push(File { path, text });
    }
    Ok(files)
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    let mut entries: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            if !SKIPPED.iter().any(|skipped| name == *skipped) {
                walk(&path, paths)?;
            }
        } else {
            paths.push(path);
        }
    }
    Ok(())
}

/// Folders that tools fill, and data.
const SKIPPED: [&str; 6] = ["target", "__pycache__", "corpus", "artifacts", "coverage", "vectors"];

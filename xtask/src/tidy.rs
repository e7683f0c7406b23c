//! `cargo xtask tidy`: checks the project's rules that the compiler does not know. It prints all findings, then fails.

mod arrows;
mod boundary;
mod comments;
mod file;
mod findings;
mod imports;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::tidy::file::File;
use crate::tidy::findings::Findings;
use crate::workspace;

pub(crate) fn run() -> Result<()> {
    let root = workspace::root()?;
    let files = text_files(&root)?;
    let mut findings = Findings::default();
    for file in &files {
        source::check(file, &mut findings);
    }
    boundary::check(&files, &mut findings);
    arrows::check(&files, &mut findings);
    imports::check(&files, &mut findings);
    comments::check(&files, &mut findings);
    findings.report(&files)
}

/// Returns all text files of the repository that people write or read.
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
        // A vector or corpus file may not be text.
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

/// Folders that contain the output of tools, or data.
const SKIPPED: [&str; 6] = ["target", "__pycache__", "corpus", "artifacts", "coverage", "vectors"];

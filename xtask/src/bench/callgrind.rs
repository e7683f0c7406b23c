//! Instructions, counted by valgrind's callgrind. They do not hang on what else the machine does, so they compare
//! commits; they say nothing of latency, of memory, or of time in the kernel.
//!
//! Not gungraun, the library for this: it brings a second program, which everyone would install in the version that
//! the library wants, and it does not count programs that talk to one another.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::harness::{Tool, printed};

pub(super) struct Callgrind {
    valgrind: PathBuf,
    scratch: TempDir,
}

impl Callgrind {
    pub(super) fn find() -> Result<Self> {
        let valgrind = Tool::VALGRIND.find()?;
        let scratch = tempfile::Builder::new().prefix("sockseal-").tempdir().context("a scratch folder")?;
        let version = printed(Command::new(&valgrind).arg("--version"))?;
        println!("instructions under {}; {KERNELS}", version.trim());
        Ok(Self { valgrind, scratch })
    }

    /// The words that start a program, to be counted under this name. Its process is the program's own.
    pub(super) fn wrapper(&self, name: &str) -> Vec<String> {
        let output = format!("--callgrind-out-file={}", self.output(name).display());
        vec![self.valgrind.display().to_string(), "--tool=callgrind".to_owned(), output]
    }

    /// What the program under this name has executed, once it has ended.
    pub(super) fn instructions(&self, name: &str) -> Result<u64> {
        let profile =
            fs::read_to_string(self.output(name)).with_context(|| format!("the counts of {name}"))?;
        let total = profile.lines().find_map(|line| line.strip_prefix("totals: "));
        total.and_then(|total| total.trim().parse().ok()).with_context(|| format!("no total of {name}"))
    }

    fn output(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }
}

/// What runs in place of a kernel that valgrind does not know.
const KERNELS: &str =
    "it hides VAES, AVX-512 and SHA, so these are of AES-NI and of SHA-256 without instructions of its own";

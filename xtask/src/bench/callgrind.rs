//! Instructions, counted by valgrind's callgrind. The counts do not depend on the machine's load, so they
//! compare commits. They do not measure latency, memory, or time in the kernel.
//!
//! The library gungraun is not used for this: it needs a second program in exactly the version of the
//! library, and it does not count programs that communicate with each other.

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

    /// The command line prefix that runs a program under callgrind and stores its counts under `name`. The
    /// process runs the program itself, so signals to it reach the program.
    pub(super) fn wrapper(&self, name: &str) -> Vec<String> {
        let output = format!("--callgrind-out-file={}", self.output(name).display());
        vec![self.valgrind.display().to_string(), "--tool=callgrind".to_owned(), output]
    }

    /// The number of instructions that the program counted under `name` has executed. The program must have ended.
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

/// The kernels that run under valgrind in place of those that it does not support.
const KERNELS: &str =
    "it hides VAES, AVX-512 and SHA, so these are of AES-NI and of SHA-256 without instructions of its own";

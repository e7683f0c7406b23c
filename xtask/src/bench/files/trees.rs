//! The files that are moved, and the places that they are moved to.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::harness::noise;

/// A folder with the sources, and the folders that they are moved to.
pub(super) struct Places(tempfile::TempDir);

impl Places {
    pub(super) fn within(directory: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sockseal-bench-").tempdir_in(directory);
        let places = Self(folder.with_context(|| format!("a folder in {}", directory.display()))?);
        for folder in [places.source(), places.goal()] {
            fs::create_dir(folder)?;
        }
        Ok(places)
    }

    /// What is moved is in here.
    pub(super) fn source(&self) -> PathBuf {
        self.0.path().join("source")
    }

    /// Where it is moved to.
    pub(super) fn goal(&self) -> PathBuf {
        self.0.path().join("goal")
    }

    pub(super) fn big(&self) -> PathBuf {
        self.source().join("big")
    }

    pub(super) fn small(&self) -> PathBuf {
        self.source().join("small")
    }

    pub(super) fn arrived(&self, name: &str) -> PathBuf {
        self.goal().join(name)
    }

    pub(super) fn clear_goals(&self) -> Result<()> {
        fs::remove_dir_all(self.goal())?;
        Ok(fs::create_dir(self.goal())?)
    }
}

pub(super) fn make_big_file(path: &Path, mebibytes: u64) -> Result<()> {
    let mut file = File::create(path)?;
    let mut piece = noise(1024 * 1024)?;
    for number in 0..mebibytes {
        piece[..8].copy_from_slice(&number.to_be_bytes());
        file.write_all(&piece)?;
    }
    Ok(())
}

/// Makes files of 1 KiB, a hundred in a directory.
pub(super) fn make_small_files(path: &Path, count: u32) -> Result<()> {
    let content = noise(1024)?;
    for number in 0..count {
        let directory = path.join(format!("{:04}", number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&directory)?;
        }
        let mut content = content.clone();
        content[..4].copy_from_slice(&number.to_be_bytes());
        fs::write(directory.join(format!("file {number}")), content)?;
    }
    Ok(())
}

//! What all files of one build say alike: the version, and the time of the last commit instead of the time of the build.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::harness::printed;

/// The sources of a build, their version and their time.
#[derive(Clone)]
pub(crate) struct Stamp {
    /// The folder of the sources.
    pub(crate) root: PathBuf,
    pub(crate) version: String,
    /// The revision of the package, which grows where the version stays.
    pub(crate) revision: u32,
    /// Seconds since 1970, as in `SOURCE_DATE_EPOCH`.
    pub(crate) epoch: String,
    /// The day of it, as in 2026-11-30.
    pub(crate) date: String,
    /// The same as a changelog of Debian has it.
    pub(crate) changelog_date: String,
}

impl Stamp {
    /// The stamp of the sources in `root`: `SOURCE_DATE_EPOCH` goes before the time of the last commit.
    pub(crate) fn of(root: &Path) -> Result<Self> {
        let epoch = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(epoch) => epoch,
            Err(_) => printed(Command::new("git").current_dir(root).args(["log", "-1", "--format=%ct"]))
                .context("without SOURCE_DATE_EPOCH the time comes from git")?,
        };
        let epoch = epoch.trim().to_owned();
        let shown = |format: &str| -> Result<String> {
            let mut date = Command::new("date");
            date.args(["-u", "-d", &format!("@{epoch}"), format]).env("LC_ALL", "C");
            Ok(printed(&mut date)?.trim().to_owned())
        };
        let manifest = std::fs::read_to_string(root.join("Cargo.toml"))?;
        let version = manifest.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
        Ok(Self {
            root: root.to_owned(),
            version: version.context("Cargo.toml has no version")?.to_owned(),
            revision: 1,
            date: shown("+%Y-%m-%d")?,
            changelog_date: shown("+%a, %d %b %Y %H:%M:%S +0000")?,
            epoch,
        })
    }
}

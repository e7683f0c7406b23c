//! Arguments of the programs, as a command line has them.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::harness::target::Target;

/// A path as an argument.
pub(crate) fn word(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}

/// `0:HOST:PORT`: a port that the system picks, to this target.
pub(crate) fn local(target: &Target) -> String {
    format!("0:{}", target.address())
}

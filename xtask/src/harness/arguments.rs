//! Command-line arguments of the programs.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::harness::target::Target;

/// Converts a path to an argument.
pub(crate) fn word(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}

/// Formats `0:HOST:PORT`, the argument of a forward from a port that the system picks to `target`.
pub(crate) fn local(target: &Target) -> String {
    format!("0:{}", target.address())
}

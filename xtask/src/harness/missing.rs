//! The error for a tool that a scenario needs and this machine lacks.

use std::fmt;

/// A tool that this machine lacks. The scenario is skipped, except in CI, where it fails.
#[derive(Debug)]
pub(crate) struct Missing {
    pub(crate) tool: &'static str,
    pub(crate) reason: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {}: {}", self.tool, self.reason)
    }
}

impl std::error::Error for Missing {}

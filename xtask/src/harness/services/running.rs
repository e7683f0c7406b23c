//! Waits until a service runs, and ends it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::Signal;

use crate::harness::connection::dial;
use crate::harness::deadline::{DEADLINE, until};
use crate::harness::process::Process;

/// Waits until a service accepts connections, and fails as soon as its process has ended.
pub(super) fn listens(process: &mut Process, address: &str) -> Result<()> {
    let mut ended = None;
    let listens = until(DEADLINE, "a service listens", || {
        if process.has_ended()? {
            ended = Some(process.stderr.text());
            return Ok(());
        }
        dial(address).map(drop)
    });
    match ended {
        Some(said) => bail!("a service did not start:\n{said}"),
        None => listens,
    }
}

/// Sends `signal` to a service, and gives it time to clean up.
pub(super) fn end(process: &mut Process, signal: Signal) {
    if process.signal(signal).is_ok() {
        process.wait_for(Duration::from_secs(10)).ok();
    }
}

/// Converts a path to an argument.
pub(super) fn word(path: &Path) -> String {
    path.display().to_string()
}

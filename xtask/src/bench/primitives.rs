//! The benchmarks of handshakes and records next to the raw primitives, as cargo runs them.

use std::process::Command;

use anyhow::Result;

use crate::flags::BenchFlags;
use crate::workspace;

/// Runs the benchmarks of time.
pub(super) fn run(flags: &BenchFlags) -> Result<()> {
    let mut command = benches()?;
    command.arg("--").args(&flags.arguments);
    workspace::run(&mut command)
}

/// The command `cargo bench` for the crates that have benchmarks.
pub(super) fn benches() -> Result<Command> {
    let mut command = workspace::cargo()?;
    command.args(["bench", "-p", "record-kernels", "-p", "crypto-core", "-p", "wire-protocol"]);
    command.args(["--all-features", "--benches"]);
    Ok(command)
}

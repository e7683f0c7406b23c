//! `cargo xtask bench`: handshakes and records, timed next to the raw primitives in the same run.

use anyhow::Result;

use crate::flags::BenchFlags;
use crate::workspace;

pub(crate) fn run(flags: &BenchFlags) -> Result<()> {
    let mut command = workspace::cargo()?;
    command.args(["bench", "-p", "crypto-core", "-p", "wire-protocol", "--all-features", "--benches"]);
    command.arg("--").args(&flags.arguments);
    workspace::run(&mut command)
}

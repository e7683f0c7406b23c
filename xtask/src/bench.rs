//! `cargo xtask bench`: handshakes and records, timed next to the raw primitives in the same run.

use anyhow::Result;

use crate::flags::BenchFlags;
use crate::workspace;

pub(crate) fn run(flags: &BenchFlags) -> Result<()> {
    let mut command = workspace::cargo()?;
    command.args(["bench", "-p", "record-kernels", "-p", "crypto-core", "-p", "wire-protocol"]);
    command.args(["--all-features", "--benches"]);
    command.arg("--").args(&flags.arguments);
    workspace::run(&mut command)
}

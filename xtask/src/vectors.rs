//! `cargo xtask vectors`: writes or checks the test vectors of the protocol with an example program of wire-protocol.

use anyhow::Result;

use crate::flags::VectorsMode;
use crate::workspace;

pub(crate) fn run(mode: VectorsMode) -> Result<()> {
    let mut command = workspace::cargo()?;
    command.args(["run", "--quiet", "-p", "wire-protocol", "--example", "vectors", "--all-features", "--"]);
    command.arg("crates/wire-protocol/tests/vectors");
    if mode == VectorsMode::Check {
        command.arg("--check");
    }
    workspace::run(&mut command)
}

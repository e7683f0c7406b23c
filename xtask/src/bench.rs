//! `cargo xtask bench`: handshakes and records, timed next to the raw primitives in the same run, or counted in
//! instructions; `bench tunnel`: both programs as a tunnel, next to the same load without one, or counted too; `bench admission`:
//! honest clients beside floods.

mod admission;
mod callgrind;
mod counts;
mod tunnel;

use std::process::Command;

use anyhow::Result;

use crate::flags::{BenchFlags, BenchWhat};
use crate::workspace;

pub(crate) fn run(flags: &BenchFlags) -> Result<()> {
    match &flags.what {
        Some(BenchWhat::Tunnel { instructions: true, .. }) => tunnel::counts::run(),
        Some(BenchWhat::Tunnel { peers: Some(harness), peer, .. }) => tunnel::beside(harness, peer),
        Some(BenchWhat::Tunnel { peers: None, .. }) => tunnel::alone(),
        Some(BenchWhat::Admission { seconds, inside: false }) => admission::outside(*seconds),
        Some(BenchWhat::Admission { seconds, inside: true }) => admission::inside(*seconds),
        None if flags.instructions => counts::run(),
        None => primitives(flags),
    }
}

fn primitives(flags: &BenchFlags) -> Result<()> {
    let mut command = benches()?;
    command.arg("--").args(&flags.arguments);
    workspace::run(&mut command)
}

fn benches() -> Result<Command> {
    let mut command = workspace::cargo()?;
    command.args(["bench", "-p", "record-kernels", "-p", "crypto-core", "-p", "wire-protocol"]);
    command.args(["--all-features", "--benches"]);
    Ok(command)
}

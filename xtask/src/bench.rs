//! `cargo xtask bench` measures handshakes and records next to the raw primitives, in time or in
//! instructions. `bench tunnel` measures both programs as a tunnel, next to the same load without one,
//! against another build, or in instructions. `bench files` measures files beside other tools. `bench admission` measures honest clients during floods.

mod admission;
mod callgrind;
mod counts;
mod files;
mod primitives;
mod tunnel;

use anyhow::Result;

use crate::flags::{BenchFlags, BenchWhat};
use crate::workspace;

pub(crate) fn run(flags: &BenchFlags) -> Result<()> {
    match &flags.what {
        Some(BenchWhat::Tunnel { instructions: true, .. }) => tunnel::counts::run(),
        Some(BenchWhat::Tunnel { peers: Some(folder), peer, .. }) => tunnel::beside(folder, peer),
        Some(BenchWhat::Tunnel { against: Some(other), programs, rounds, .. }) => {
            let this = programs.clone().map_or_else(workspace::build_programs, Ok)?;
            tunnel::turns::against(this, other, *rounds)
        }
        Some(BenchWhat::Tunnel { peers: None, against: None, .. }) => tunnel::alone(),
        Some(BenchWhat::Files { directory, size, count, rounds, programs }) => {
            let programs = programs.clone().map_or_else(workspace::build_programs, Ok)?;
            files::run(programs, &files::Work { directory, mebibytes: *size, files: *count, rounds: *rounds })
        }
        Some(BenchWhat::Admission { seconds, inside: false }) => admission::outside(*seconds),
        Some(BenchWhat::Admission { seconds, inside: true }) => admission::inside(*seconds),
        None if flags.instructions => counts::run(),
        None => primitives::run(flags),
    }
}

//! The two sides of a `classic` exchange.

use anyhow::{Context as _, Result};

use crate::harness::deadline::DEADLINE;
use crate::harness::environment::Harness;
use crate::harness::home::Home;
use crate::harness::process::{Outcome, Process};

/// Starts `PROGRAM classic ARGUMENTS --listen` and returns it with its address.
pub(crate) fn listening(
    harness: &Harness,
    program: &str,
    home: &Home,
    arguments: &[&str],
    input: &[u8],
) -> Result<(Process, String)> {
    let mut command = harness.program(program);
    command.arg("--home").arg(home).arg("classic").args(arguments).args(["--listen", "127.0.0.1:0"]);
    let mut process = Process::start(command)?;
    process.feed(std::io::Cursor::new(input.to_vec()))?;
    let address = address(&process)?;
    Ok((process, address))
}

/// Waits for a program's `listening on` line, and returns the address in it.
pub(crate) fn address(process: &Process) -> Result<String> {
    let line = process.stderr.wait_line(DEADLINE, |line| line.contains("listening on "))?;
    let address = line.split_once("listening on ").context("no address")?.1;
    Ok(address.trim().to_owned())
}

/// Runs `PROGRAM classic ARGUMENTS --connect ADDRESS` to its end.
pub(crate) fn connecting(
    harness: &Harness,
    program: &str,
    home: &Home,
    address: &str,
    arguments: &[&str],
    input: &[u8],
) -> Result<Outcome> {
    let arguments = [&["classic"], arguments, &["--connect", address]].concat();
    let run = match program {
        "server" => harness.server(home, &arguments),
        _ => harness.client(home, &arguments),
    };
    run.input(input).run()
}

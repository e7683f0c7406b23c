//! The system calls by which a program brings files to the disk and gives them their names, as `strace` writes them.

use std::process::Command;

use anyhow::Result;

use crate::harness::environment::Harness;
use crate::harness::missing::Missing;
use crate::harness::process::{Exit, Process, wrapped};
use crate::harness::tool::Tool;

/// Returns those of `command` that succeeded, of all its threads, in their order, once it has ended well.
pub(crate) fn disk_calls(harness: &Harness, command: Command) -> Result<Vec<String>> {
    let strace = Tool::STRACE.find()?;
    let place = harness.home()?;
    let trace = place.file("trace");
    let traced = |command: Command| {
        let mut tracer =
            vec![strace.display().to_string(), "-f".to_owned(), "-y".to_owned(), "-o".to_owned()];
        tracer.extend([trace.display().to_string(), "-e".to_owned()]);
        // The pattern matches the beginnings of the calls' names, since not every processor architecture has
        // all of them.
        tracer.push("trace=/^(fsync|fdatasync|rename)".to_owned());
        Process::start(wrapped(&tracer, command))?.finish()
    };
    let tried = traced(Command::new("true"))?;
    if let Err(error) = tried.expect(Exit::Done) {
        return Err(Missing { tool: "strace", reason: format!("it may not trace here: {error}") }.into());
    }
    traced(command)?.expect(Exit::Done)?;
    let calls = std::fs::read_to_string(&trace)?;
    // The number of the thread stands before each call.
    let calls = calls.lines().map(|call| call.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' '));
    Ok(calls.filter(|call| call.ends_with(" = 0")).map(str::to_owned).collect())
}

/// Whether one of the calls has brought the file or directory at `path` to the disk.
pub(crate) fn is_synced(calls: &[String], path: &str) -> bool {
    calls.iter().any(|call| call.contains("sync(") && call.contains(&format!("<{path}>")))
}

//! Notices that the user has not asked for: lines and the log on standard error, events on standard output. A
//! caller never waits for a blocked output.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;
use tunnel::escape::{Escaped, escape_json};

use super::queue::Queue;

/// Writes a line to standard error. It is lost where the output is closed or blocked, since that must not end or
/// delay a program that has other work.
pub fn say(line: impl Display) {
    STANDARD_ERROR.push(format!("{}\n", Escaped(line)).as_bytes());
}

/// Writes a line whose parts from a peer have been escaped already, as [`say`] does.
pub fn say_escaped(line: &str) {
    STANDARD_ERROR.push(format!("{line}\n").as_bytes());
}

/// Writes an event to standard output, as a JSON object on its own line. It is lost where the output is closed or
/// blocked, as with [`say`].
pub fn tell_json(event: &impl Serialize) {
    if let Ok(json) = serde_json::to_string(event) {
        STANDARD_OUTPUT.push(format!("{}\n", escape_json(&json)).as_bytes());
    }
}

/// Waits until all notices, events and log lines are written, but only a second for an output that takes nothing.
pub fn flush() {
    STANDARD_ERROR.flush();
    STANDARD_OUTPUT.flush();
}

/// Returns whether standard error is a terminal.
pub(crate) fn is_terminal() -> bool {
    standard_error().is_terminal()
}

/// Writes bytes to standard error as they are, in order with the notices.
pub(super) fn push(bytes: &[u8]) {
    STANDARD_ERROR.push(bytes);
}

/// The output of the log: the queue of standard error, which loses lines that cannot be written.
#[derive(Debug)]
pub(crate) struct LogOutput;

impl Write for LogOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        STANDARD_ERROR.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that says something")]
fn standard_error() -> io::Stderr {
    io::stderr()
}

/// The queue of standard error, for notices and the log.
static STANDARD_ERROR: Queue = Queue::new(rustix::stdio::stderr, |lines| {
    tracing::warn!(lines, "standard error was not read in time: lines were lost");
});
/// The queue of standard output, for events.
static STANDARD_OUTPUT: Queue = Queue::new(rustix::stdio::stdout, |lines| {
    tracing::warn!(lines, "standard output was not read in time: events were lost");
});

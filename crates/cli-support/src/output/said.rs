//! What a program says without having been asked: lines and the log on standard error, events on standard output. Nobody
//! waits for an output that is not read.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;
use tunnel::escape::{Escaped, escape_json};

use super::queue::Queue;

/// Says a line on standard error. That nobody takes it is no reason to stop or to wait: a program that does something else
/// must not end, or stand still, because its words go nowhere.
pub fn say(line: impl Display) {
    SAID.push(format!("{}\n", Escaped(line)).as_bytes());
}

/// Tells of an event as an object on a line of its own on standard output. As with [`say`], that nobody takes it is no
/// reason to stop or to wait.
pub fn tell_json(event: &impl Serialize) {
    if let Ok(json) = serde_json::to_string(event) {
        TOLD.push(format!("{}\n", escape_json(&json)).as_bytes());
    }
}

/// Waits until what was said, told or logged is written, but not for an output that takes nothing: in that case, for a
/// second.
pub fn flush() {
    SAID.flush();
    TOLD.flush();
}

/// Whether somebody reads standard error as it is written.
pub(crate) fn is_terminal() -> bool {
    standard_error().is_terminal()
}

/// Where the log goes: to standard error, on the same way as what is said, and what cannot be written is lost.
#[derive(Debug)]
pub(crate) struct LogOutput;

impl Write for LogOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        SAID.push(bytes);
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

/// What goes to standard error: what is said, and the log.
static SAID: Queue = Queue::new(rustix::stdio::stderr, |lines| {
    tracing::warn!(lines, "standard error was not read in time: lines were lost");
});
/// What goes to standard output without being what the program was asked for.
static TOLD: Queue = Queue::new(rustix::stdio::stdout, |lines| {
    tracing::warn!(lines, "standard output was not read in time: events were lost");
});

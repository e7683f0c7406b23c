//! Notices that the user has not asked for: lines and the log on standard error, events on standard output. A
//! caller never waits for a blocked output.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;

use serde::Serialize;
use tunnel::escape::Escaped;

use super::journal;
use super::machine;
use super::queue::{Queue, write_line};

/// Writes a line to standard error. It is lost where the output is closed or blocked, since that must not end or
/// delay a program that has other work.
pub fn say(line: impl Display) {
    match FORM.get() {
        // The form has its own escapes.
        Some(form) => STANDARD_ERROR.push(form(&line.to_string()).as_bytes()),
        None => STANDARD_ERROR.push(format!("{}\n", Escaped(line)).as_bytes()),
    }
}

/// Writes a line whose parts from a peer have been escaped already, as [`say`] does.
pub fn say_escaped(line: &str) {
    match FORM.get() {
        Some(form) => STANDARD_ERROR.push(form(line).as_bytes()),
        None => STANDARD_ERROR.push(format!("{line}\n").as_bytes()),
    }
}

/// Has all notices from now on written in this form: a function that makes a whole line, escaped and with its end, of a text.
pub(crate) fn set_form(form: fn(&str) -> String) {
    FORM.set(form).ok();
}

/// Returns whether notices have another form than their text.
pub(super) fn has_form() -> bool {
    FORM.get().is_some()
}

/// Writes an event to standard output, or to standard error where the former has data, as a JSON object on its own line. It
/// is lost where the output is closed or blocked, as with [`say`].
pub fn tell_json(event: &impl Serialize) {
    if let Ok(line) = machine::line(event) {
        let queue = if machine::is_on_error() { &STANDARD_ERROR } else { &STANDARD_OUTPUT };
        queue.push(line.as_bytes());
    }
}

/// Waits until all notices, events and log lines are written, but only a second for an output that takes nothing.
pub fn flush() {
    STANDARD_ERROR.flush();
    STANDARD_OUTPUT.flush();
    journal::flush();
}

/// The number of notices, log lines and events that were lost since an output was not read in time.
#[must_use]
pub fn lost_lines() -> u64 {
    let streams = STANDARD_ERROR.lost_since_start().saturating_add(STANDARD_OUTPUT.lost_since_start());
    streams.saturating_add(journal::lost_since_start())
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

/// The form of notices, where it is not their text.
static FORM: OnceLock<fn(&str) -> String> = OnceLock::new();
/// The queue of standard error, for notices and the log.
static STANDARD_ERROR: Queue = Queue::new(
    b'\n',
    |line| write_line(rustix::stdio::stderr(), line),
    |lines| tracing::warn!(lines, "standard error was not read in time: lines were lost"),
);
/// The queue of standard output, for events.
static STANDARD_OUTPUT: Queue = Queue::new(
    b'\n',
    |line| write_line(rustix::stdio::stdout(), line),
    |lines| tracing::warn!(lines, "standard output was not read in time: events were lost"),
);

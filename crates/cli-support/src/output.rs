//! What a program says to whoever started it: lines on standard error, and what it was asked for on standard output.
//! All text is escaped on its way out, whichever place says it.

mod queue;

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;
use tunnel::escape::{Escaped, escape_json};

use self::queue::Queue;
use crate::error::Error;

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

/// Prints a line on standard output. Whoever has read enough of several, as `head` has, is no fault.
///
/// # Errors
/// [`Error::Stdio`] where it cannot be written for another reason.
pub fn print(line: impl Display) -> Result<(), Error> {
    written(print_as_it_is(&format!("{}\n", Escaped(line))))
}

/// Prints a line of `fields` with tabs between them, as [`print()`] does.
///
/// # Errors
/// Those of [`print()`].
pub fn print_row<T: Display>(fields: impl IntoIterator<Item = T>) -> Result<(), Error> {
    let fields: Vec<String> = fields.into_iter().map(|field| Escaped(field).to_string()).collect();
    written(print_as_it_is(&format!("{}\n", fields.join("\t"))))
}

/// Prints lines, in each of which whatever may come from a peer has been escaped already, as [`print()`] does.
///
/// # Errors
/// Those of [`print()`].
pub fn print_lines(lines: &str) -> Result<(), Error> {
    written(print_as_it_is(&format!("{lines}\n")))
}

/// Prints an object on a line of its own on standard output, as [`print()`] does.
///
/// # Errors
/// [`Error::Stdio`] where it cannot be written, or shown as JSON.
pub fn print_json(object: &impl Serialize) -> Result<(), Error> {
    let json = serde_json::to_string(object).map_err(|error| failed(error.into()))?;
    written(print_as_it_is(&format!("{}\n", escape_json(&json))))
}

/// Writes `text` to standard output, without a change: it is for a file, and our own.
///
/// # Errors
/// [`Error::Stdio`] where not all of it is taken.
pub fn print_as_it_is(text: &str) -> Result<(), Error> {
    // A warning about it stands before it where both are shown.
    flush();
    let mut stdout = standard_output().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(failed)
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that prints")]
fn standard_output() -> io::Stdout {
    io::stdout()
}

fn written(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::Stdio { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

fn failed(source: io::Error) -> Error {
    Error::Stdio { stream: "standard output", source }
}

/// What goes to standard error: what is said, and the log.
static SAID: Queue = Queue::new(rustix::stdio::stderr, |lines| {
    tracing::warn!(lines, "standard error was not read in time: lines were lost");
});
/// What goes to standard output without being what the program was asked for.
static TOLD: Queue = Queue::new(rustix::stdio::stdout, |lines| {
    tracing::warn!(lines, "standard output was not read in time: events were lost");
});

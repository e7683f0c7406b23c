//! Results that the user has asked for, on standard output.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;
use tunnel::escape::{Escaped, escape};

use super::machine;
use super::notice::{flush, push};
use crate::error::Error;

/// Prints a line on standard output. A closed pipe is no error, since a reader such as `head` may have enough.
///
/// # Errors
/// [`Error::Stdio`] where the line cannot be written for another reason.
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

/// Prints lines whose parts from a peer have been escaped already, as [`print()`] does.
///
/// # Errors
/// Those of [`print()`].
pub fn print_lines(lines: &str) -> Result<(), Error> {
    written(print_as_it_is(&format!("{lines}\n")))
}

/// Prints a line of bytes from a peer, such as a file's name: escaped on a terminal, and as they are elsewhere. See
/// [`print()`].
///
/// # Errors
/// Those of [`print()`].
pub fn print_bytes(line: &[u8]) -> Result<(), Error> {
    if standard_output().is_terminal() {
        return print_lines(&escape(line));
    }
    flush();
    let mut stdout = standard_output().lock();
    let all = stdout.write_all(line).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush());
    written(all.map_err(failed))
}

/// Prints an object as one line of JSON on standard output, as [`print()`] does, or on standard error where the former has data.
///
/// # Errors
/// [`Error::Stdio`] where the object cannot be written or encoded as JSON.
pub fn print_json(object: &impl Serialize) -> Result<(), Error> {
    let line = machine::line(object).map_err(|error| failed(error.into()))?;
    if machine::is_on_error() {
        push(line.as_bytes());
        return Ok(());
    }
    written(print_as_it_is(&line))
}

/// Writes `text` to standard output without escaping, since it is this program's own text for a file.
///
/// # Errors
/// [`Error::Stdio`] where the text cannot be written as a whole, also where the pipe is closed.
pub fn print_as_it_is(text: &str) -> Result<(), Error> {
    // Earlier warnings are written first, so that a terminal shows both in order.
    flush();
    let mut stdout = standard_output().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(failed)
}

/// The number of columns of standard output, where that is a terminal which shows colors and characters of any script.
#[must_use]
pub fn terminal_columns() -> Option<usize> {
    let stdout = standard_output();
    if !stdout.is_terminal() || std::env::var_os("TERM").is_none_or(|kind| kind == "dumb") {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
    // One that does not know its size, such as a serial line, says 0.
    Some(if size.ws_col == 0 { USUAL_COLUMNS } else { size.ws_col.into() })
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

/// Columns of a terminal that does not say how many it has.
const USUAL_COLUMNS: usize = 80;

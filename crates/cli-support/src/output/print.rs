//! What a program was asked for, on standard output.

use std::fmt::Display;
use std::io::{self, Write as _};

use serde::Serialize;
use tunnel::escape::{Escaped, escape_json};

use super::said::flush;
use crate::error::Error;

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

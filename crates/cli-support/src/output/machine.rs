//! The form of what a program prints for other programs (`--json`): one object a line, with the version of the form. JSON.md
//! of this crate describes all of them.

use std::sync::atomic::{AtomicU8, Ordering};

use serde::Serialize;
use tunnel::escape::escape_json;

/// Has results and events printed as JSON from now on: on standard output, or where that `has_data` on standard error, which has
/// nothing else then.
pub fn print_as_json(has_data: bool) {
    FORM.store(if has_data { JSON_ON_ERROR } else { JSON }, Ordering::Relaxed);
}

/// Returns whether results and events are printed as JSON.
#[must_use]
pub fn is_json() -> bool {
    FORM.load(Ordering::Relaxed) != TEXT
}

/// Returns whether objects go to standard error, since standard output has data.
pub(crate) fn is_on_error() -> bool {
    FORM.load(Ordering::Relaxed) == JSON_ON_ERROR
}

/// An object as a line. What would move a terminal is escaped.
pub(super) fn line(object: &impl Serialize) -> serde_json::Result<String> {
    let json = serde_json::to_string(object)?;
    Ok(format!("{}\n", escape_json(&with_schema(&json))))
}

/// The text of an object with the version of the form before all else.
fn with_schema(json: &str) -> String {
    match json.strip_prefix('{') {
        Some("}") => format!("{{\"schema\":{SCHEMA}}}"),
        Some(rest) => format!("{{\"schema\":{SCHEMA},{rest}"),
        None => json.to_owned(),
    }
}

static FORM: AtomicU8 = AtomicU8::new(TEXT);
const TEXT: u8 = 0;
const JSON: u8 = 1;
const JSON_ON_ERROR: u8 = 2;
/// The version of the form: of all objects together.
pub const SCHEMA: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_with_the_version_and_moves_no_terminal() {
        let line = line(&serde_json::json!({ "text": "\u{1b}[2J\u{202e}" })).unwrap();
        assert_eq!(line, "{\"schema\":1,\"text\":\"\\u001b[2J\\u202e\"}\n");
        assert_eq!(with_schema("{}"), "{\"schema\":1}");
    }
}

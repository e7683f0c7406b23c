//! The events of a transfer as JSON, for `--json`: one object a line, each with `event` (see the README of this crate).

use std::path::Path;

use ::files::event::Event;
use cli_support::output;
use serde::Serialize;
use wire_protocol::message::FilesCode;

use super::meter::Meter;
use super::names::{hex, shown_path};
use crate::Error;
use crate::files::names::Names;
use crate::files::summary::Summary;

/// A line.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Line<'a> {
    Found {
        #[serde(flatten)]
        path: JsonPath,
        size: u64,
    },
    Started {
        #[serde(flatten)]
        path: JsonPath,
        size: u64,
        held: u64,
        compare: u64,
    },
    Progress {
        found: u64,
        ended: u64,
        total_bytes: u64,
        done_bytes: u64,
        moved_bytes: u64,
        bytes_per_second: u64,
        seconds_left: Option<u64>,
        is_total_known: bool,
    },
    Done {
        #[serde(flatten)]
        path: JsonPath,
        size: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        stored_as: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
    },
    Unchanged {
        #[serde(flatten)]
        path: JsonPath,
        size: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
    },
    Would {
        #[serde(flatten)]
        path: JsonPath,
        size: u64,
    },
    Failed {
        #[serde(flatten)]
        path: JsonPath,
        size: u64,
        /// `server` or `client`.
        side: &'static str,
        code: &'static str,
        reason: String,
        /// What this side's system has said.
        #[serde(skip_serializing_if = "Option::is_none")]
        system_error: Option<String>,
    },
    Summary {
        direction: &'a str,
        dry_run: bool,
        done: u64,
        bytes: u64,
        moved_bytes: u64,
        unchanged: u64,
        failed: u64,
        seconds: f64,
        complete: bool,
    },
}

/// A path; where it is no UTF-8, its bytes as well.
#[derive(Debug, Serialize)]
pub(crate) struct JsonPath {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
}

impl JsonPath {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(path) => Self { path: path.to_owned(), path_hex: None },
            Err(_) => Self { path: shown_path(bytes), path_hex: Some(hex(bytes)) },
        }
    }
}

/// Prints an event of a transfer; bytes that have advanced are told by [`progress`].
pub(super) fn print(event: &Event, names: &Names, summary: &Summary) -> Result<(), Error> {
    let path = |path: &Path| JsonPath::new(&names.of_offer(path));
    let line = match event {
        Event::Found { path: found, size } => Line::Found { path: path(found), size: *size },
        Event::Started { path: started, size, held, compare } => {
            Line::Started { path: path(started), size: *size, held: *held, compare: *compare }
        }
        Event::Done { path: done, size, stored_as, sha256 } => Line::Done {
            path: path(done),
            size: *size,
            stored_as: stored_as.as_ref().map(|name| name.to_string_lossy().into_owned()),
            sha256: sha256.as_ref().map(|hash| hex(hash)),
        },
        Event::Unchanged { path: unchanged, size, sha256 } => Line::Unchanged {
            path: path(unchanged),
            size: *size,
            sha256: sha256.as_ref().map(|hash| hex(hash)),
        },
        Event::Would { path: would, size } => Line::Would { path: path(would), size: *size },
        Event::Failed { path: failed, size, code, system, side } => Line::Failed {
            path: path(failed),
            size: *size,
            side: if summary.direction.is_server(*side) { "server" } else { "client" },
            code: word(*code),
            reason: code.to_string(),
            system_error: system.map(|system| system.to_string()),
        },
        Event::Advanced { .. } | Event::AllFound => return Ok(()),
    };
    Ok(output::print_json(&line)?)
}

/// Prints how far the transfer is.
pub(super) fn progress(meter: &Meter) -> Result<(), Error> {
    Ok(output::print_json(&Line::Progress {
        found: meter.found,
        ended: meter.ended,
        total_bytes: meter.total,
        done_bytes: meter.position(),
        moved_bytes: meter.moved,
        bytes_per_second: meter.rate(),
        seconds_left: meter.time_left().map(|left| left.as_secs()),
        is_total_known: meter.has_found_all,
    })?)
}

/// Prints the last line.
pub(super) fn summary(summary: &Summary, seconds: f64, is_complete: bool) -> Result<(), Error> {
    let direction = match summary.direction {
        crate::files::summary::Direction::Put => "put",
        crate::files::summary::Direction::Get => "get",
    };
    Ok(output::print_json(&Line::Summary {
        direction,
        dry_run: summary.is_dry_run,
        done: summary.done,
        bytes: summary.bytes,
        moved_bytes: summary.moved,
        unchanged: summary.unchanged,
        failed: summary.failed(),
        seconds,
        complete: is_complete && summary.failed() == 0,
    })?)
}

/// The word that stands for a code.
fn word(code: FilesCode) -> &'static str {
    match code {
        FilesCode::Exists => "exists",
        FilesCode::NotFound => "not_found",
        FilesCode::Denied => "denied",
        FilesCode::BadPath => "bad_path",
        FilesCode::NotDirectory => "not_directory",
        FilesCode::IsDirectory => "is_directory",
        FilesCode::UnsupportedKind => "unsupported_kind",
        FilesCode::NoSpace => "no_space",
        FilesCode::Quota => "quota",
        FilesCode::Busy => "busy",
        FilesCode::Changed => "changed",
        FilesCode::Mismatch => "mismatch",
        FilesCode::TooMany => "too_many",
        FilesCode::Io => "io",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_no_text_is_told_byte_by_byte() {
        let json = |bytes: &[u8]| serde_json::to_string(&JsonPath::new(bytes)).unwrap();
        assert_eq!(json("ä\n".as_bytes()), r#"{"path":"ä\n"}"#);
        assert_eq!(json(b"a\xff"), r#"{"path":"a\\xff","path_hex":"61ff"}"#);
    }

    #[test]
    fn a_line_says_what_it_is_first() {
        let line = Line::Would { path: JsonPath::new(b"a/b"), size: 7 };
        assert_eq!(serde_json::to_string(&line).unwrap(), r#"{"event":"would","path":"a/b","size":7}"#);
    }
}

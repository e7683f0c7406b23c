//! `client ls`: which shares there are, and what is in one.

use ::files::listing::Listed;
use cli_support::output;
use jiff::Timestamp;
use serde::Serialize;
use wire_protocol::message::{Entry, EntryKind, FileTime, FilesCode, ShareAccess};

use super::transfer::json::JsonPath;
use super::transfer::names::shown_path;
use crate::cli::Ls;
use crate::connect::Credentials;
use crate::error::Error;
use crate::files::error::FilesError;
use crate::files::list::{list, shares};
use crate::files::remote_path::RemotePath;
use crate::server::Server;

/// Prints what the options name.
///
/// # Errors
/// [`Error`].
pub async fn ls(credentials: &Credentials, server: &Server, options: &Ls) -> Result<(), Error> {
    let Some(location) = &options.location else {
        for (share, access) in shares(credentials, server).await? {
            let access = access_word(access);
            if options.json {
                output::print_json(&ShareLine { share: &share, access })?;
            } else {
                output::print_row([share.as_str(), access])?;
            }
        }
        return Ok(());
    };
    let mut listing = list(credentials, server, location, options.recursive).await?;
    let mut unreadable = 0;
    while let Some(listed) = listing.next().await {
        match listed {
            Listed::Entry(entry) if options.json => output::print_json(&EntryLine::of(location, &entry))?,
            Listed::Entry(entry) => output::print_bytes(&line(location, &entry, options.long))?,
            Listed::Unreadable { path, code } => {
                unreadable += 1;
                if options.json {
                    output::print_json(&FailedLine::of(location, &path, code))?;
                } else {
                    output::say_escaped(&format!(
                        "error: {}:{}: {code}",
                        location.share(),
                        shown_path(&path)
                    ));
                }
            }
        }
    }
    listing.finish().await?;
    if unreadable > 0 {
        return Err(FilesError::Unlisted { count: unreadable }.into());
    }
    Ok(())
}

/// The word for what may be done with a share, as in the options of the server.
fn access_word(access: ShareAccess) -> &'static str {
    match access {
        ShareAccess::ReadOnly => "ro",
        ShareAccess::ReadWrite => "rw",
        ShareAccess::Drop => "drop",
    }
}

/// A line for an entry: its path below what was listed, with `/` behind a directory.
fn line(location: &RemotePath, entry: &Entry, is_long: bool) -> Vec<u8> {
    let path = match entry.path.strip_prefix(location.path()) {
        Some(b"") => location.name().unwrap_or_default(),
        Some(below) => below.strip_prefix(b"/").unwrap_or(below),
        None => &entry.path,
    };
    let mut line = Vec::new();
    if is_long {
        line.extend_from_slice(details(entry).as_bytes());
    }
    line.extend_from_slice(path);
    match &entry.kind {
        EntryKind::Directory => line.push(b'/'),
        EntryKind::Symlink { target } if is_long => {
            line.extend_from_slice(b" -> ");
            line.extend_from_slice(target);
        }
        EntryKind::Symlink { .. } => line.push(b'@'),
        EntryKind::File { .. } => {}
    }
    line
}

/// Kind and permissions, size and time, with a blank behind.
fn details(entry: &Entry) -> String {
    let kind = match entry.kind {
        EntryKind::Directory => 'd',
        EntryKind::Symlink { .. } => 'l',
        EntryKind::File { .. } => '-',
    };
    let permissions: String = (0..9)
        .rev()
        .map(|bit| if entry.mode & (1 << bit) == 0 { '-' } else { ['x', 'w', 'r'][bit % 3] })
        .collect();
    let size = size(entry).map_or_else(|| "-".to_owned(), |size| size.to_string());
    format!("{kind}{permissions} {size:>13} {} ", moment(entry.modified, Precision::Seconds))
}

fn size(entry: &Entry) -> Option<u64> {
    match entry.kind {
        EntryKind::File { size, .. } => size,
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Precision {
    Seconds,
    Nanoseconds,
}

/// A time as RFC 3339 has it, in UTC; where that cannot write it, in seconds since 1970.
fn moment(time: FileTime, precision: Precision) -> String {
    let nanoseconds = match precision {
        Precision::Seconds => Some(0),
        Precision::Nanoseconds => i32::try_from(time.nanoseconds).ok(),
    };
    let moment = nanoseconds.and_then(|nanoseconds| Timestamp::new(time.seconds, nanoseconds).ok());
    moment.map_or_else(|| format!("@{}", time.seconds), |moment| moment.to_string())
}

#[derive(Serialize)]
struct ShareLine<'a> {
    share: &'a str,
    access: &'static str,
}

#[derive(Serialize)]
struct EntryLine<'a> {
    share: &'a str,
    #[serde(flatten)]
    path: JsonPath,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// As in `chmod`.
    mode: String,
    modified: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

impl<'a> EntryLine<'a> {
    fn of(location: &'a RemotePath, entry: &Entry) -> Self {
        let (kind, target) = match &entry.kind {
            EntryKind::Directory => ("directory", None),
            EntryKind::Symlink { target } => ("link", Some(String::from_utf8_lossy(target).into_owned())),
            EntryKind::File { .. } => ("file", None),
        };
        Self {
            share: location.share(),
            path: JsonPath::new(&entry.path),
            kind,
            size: size(entry),
            mode: format!("{:04o}", entry.mode),
            modified: moment(entry.modified, Precision::Nanoseconds),
            target,
        }
    }
}

#[derive(Serialize)]
struct FailedLine<'a> {
    share: &'a str,
    #[serde(flatten)]
    path: JsonPath,
    error: String,
}

impl<'a> FailedLine<'a> {
    fn of(location: &'a RemotePath, path: &[u8], code: FilesCode) -> Self {
        Self { share: location.share(), path: JsonPath::new(path), error: code.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn entry(path: &str, kind: EntryKind) -> Entry {
        let modified = FileTime { seconds: 1_700_000_000, nanoseconds: 5 };
        Entry { path: path.as_bytes().into(), kind, mode: 0o754, modified }
    }

    fn file() -> EntryKind {
        EntryKind::File { size: Some(12_345), allocated: None, source: [0; 32], sha256: None }
    }

    fn shown(location: &str, entry: &Entry, is_long: bool) -> String {
        let location = RemotePath::parse(OsStr::new(location)).unwrap();
        String::from_utf8(line(&location, entry, is_long)).unwrap()
    }

    #[test]
    fn names_are_below_what_was_listed_and_show_their_kind() {
        let link = || EntryKind::Symlink { target: b"../x".as_slice().into() };
        assert_eq!(shown("s:", &entry("a", file()), false), "a");
        assert_eq!(shown("s:a/b", &entry("a/b/c/d", EntryKind::Directory), false), "c/d/");
        assert_eq!(shown("s:a", &entry("a/l", link()), false), "l@");
        assert_eq!(shown("s:a/b", &entry("a/b", file()), false), "b", "a file is listed itself");
        let long = shown("s:a", &entry("a/l", link()), true);
        assert_eq!(long, "lrwxr-xr--             - 2023-11-14T22:13:20Z l -> ../x");
        let long = shown("s:", &entry("f", file()), true);
        assert_eq!(long, "-rwxr-xr--         12345 2023-11-14T22:13:20Z f");
    }

    #[test]
    fn times_that_no_calendar_has_are_told_in_seconds() {
        let time = |seconds| FileTime { seconds, nanoseconds: 0 };
        assert_eq!(moment(time(i64::MAX), Precision::Seconds), format!("@{}", i64::MAX));
        assert_eq!(moment(time(-1), Precision::Nanoseconds), "1969-12-31T23:59:59Z");
        let exact = FileTime { seconds: 0, nanoseconds: 1 };
        assert_eq!(moment(exact, Precision::Nanoseconds), "1970-01-01T00:00:00.000000001Z");
    }

    #[test]
    fn a_program_gets_all_of_an_entry() {
        let location = RemotePath::parse(OsStr::new("s:a")).unwrap();
        let line = serde_json::to_string(&EntryLine::of(&location, &entry("a/f", file()))).unwrap();
        assert_eq!(
            line,
            r#"{"share":"s","path":"a/f","kind":"file","size":12345,"mode":"0754","modified":"2023-11-14T22:13:20.000000005Z"}"#
        );
    }
}

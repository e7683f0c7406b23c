//! What has become of a transfer: how much of it, and what has failed on which side.

use std::fmt;

use ::files::event::{Event, Side};
use bytesize::ByteSize;
use cli_support::report::Exit;
use wire_protocol::message::FilesCode;

/// The direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From here to the server.
    Put,
    /// From the server to here.
    Get,
}

impl Direction {
    /// Whether a side of a transfer is the server.
    #[must_use]
    pub fn is_server(self, side: Side) -> bool {
        match self {
            Self::Put => side == Side::Receiver,
            Self::Get => side == Side::Sender,
        }
    }
}

/// The sum of a transfer's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The direction.
    pub direction: Direction,
    /// Entries that have arrived, and in a dry run those that would move.
    pub done: u64,
    /// Bytes of the content of these.
    pub bytes: u64,
    /// Bytes of content that were moved, also for files that have failed later.
    pub moved: u64,
    /// Entries that were there already.
    pub unchanged: u64,
    /// Entries that the server has refused, or could not read.
    pub refused: u64,
    /// Entries that have changed while they were moved, or have not arrived as they were.
    pub damaged: u64,
    /// Entries that could not be read or written here.
    pub failed_here: u64,
    /// Those among the entries that have failed for which something else has the name.
    pub in_the_way: u64,
    /// Whether nothing was to be changed.
    pub is_dry_run: bool,
}

impl Summary {
    /// That of a transfer in which nothing has happened.
    #[must_use]
    pub fn new(direction: Direction, is_dry_run: bool) -> Self {
        Self {
            direction,
            done: 0,
            bytes: 0,
            moved: 0,
            unchanged: 0,
            refused: 0,
            damaged: 0,
            failed_here: 0,
            in_the_way: 0,
            is_dry_run,
        }
    }

    /// Adds an event.
    pub fn add(&mut self, event: &Event) {
        if let Event::Failed { code: FilesCode::Exists, .. } = event {
            self.in_the_way += 1;
        }
        match event {
            Event::Done { size, .. } | Event::Would { size, .. } => {
                self.done += 1;
                self.bytes = self.bytes.saturating_add(*size);
            }
            Event::Unchanged { .. } => self.unchanged += 1,
            Event::Advanced { bytes, is_moved: true } => self.moved = self.moved.saturating_add(*bytes),
            Event::Failed { code: FilesCode::Mismatch | FilesCode::Changed, .. } => self.damaged += 1,
            Event::Failed { side, .. } if self.direction.is_server(*side) => self.refused += 1,
            Event::Failed { .. } => self.failed_here += 1,
            _ => {}
        }
    }

    /// Entries that have failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.refused + self.damaged + self.failed_here
    }

    /// The exit code of a program whose transfer it is; `None` where nothing has failed.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        if self.refused > 0 {
            Some(Exit::Refused)
        } else if self.damaged > 0 {
            Some(Exit::Integrity)
        } else if self.failed_here > 0 {
            Some(Exit::Network)
        } else {
            None
        }
    }

    /// The first part of the closing line: what was moved.
    pub(crate) fn moved_words(&self) -> String {
        let entries = if self.done == 1 { "1 entry".into() } else { format!("{} entries", self.done) };
        let verb = match (self.direction, self.is_dry_run) {
            (Direction::Put, false) => "sent",
            (Direction::Put, true) => "would be sent",
            (Direction::Get, false) => "received",
            (Direction::Get, true) => "would be received",
        };
        // A part may be there already, or be holes; and of what has failed or was stopped a part may have moved.
        let moved = if self.is_dry_run || self.moved == self.bytes {
            String::new()
        } else {
            format!(" ({} moved)", ByteSize(self.moved))
        };
        format!("{entries}, {} {verb}{moved}", ByteSize(self.bytes))
    }

    /// The second part of the closing line: what was not.
    pub(crate) fn rest_words(&self) -> Option<String> {
        let unchanged = (self.unchanged > 0).then(|| format!("{} unchanged", self.unchanged));
        let failed = (self.failed() > 0).then(|| format!("{} failed", self.failed()));
        let parts: Vec<String> = unchanged.into_iter().chain(failed).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.moved_words())?;
        self.rest_words().map_or(Ok(()), |rest| write!(f, "; {rest}"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;

    fn path() -> Arc<PathBuf> {
        Arc::new("a".into())
    }

    fn failed(code: FilesCode, side: Side) -> Event {
        Event::Failed { path: path(), size: 3, code, system: None, side }
    }

    fn sum(direction: Direction, events: &[Event]) -> Summary {
        let mut summary = Summary::new(direction, false);
        events.iter().for_each(|event| summary.add(event));
        summary
    }

    #[test]
    fn the_exit_code_says_on_which_side_something_has_failed() {
        use FilesCode::{Changed, Denied, Exists, Io, Mismatch, NotFound, Quota};
        use Side::{Receiver, Sender};

        let exit = |direction, failures: &[(FilesCode, Side)]| {
            let events: Vec<Event> = failures.iter().map(|&(code, side)| failed(code, side)).collect();
            sum(direction, &events).exit()
        };
        let (put, get) = (Direction::Put, Direction::Get);
        assert_eq!(exit(put, &[]), None);
        assert_eq!(exit(put, &[(Exists, Receiver)]), Some(Exit::Refused));
        assert_eq!(exit(put, &[(Quota, Receiver)]), Some(Exit::Refused));
        assert_eq!(exit(put, &[(Denied, Sender)]), Some(Exit::Network));
        assert_eq!(exit(put, &[(Changed, Sender)]), Some(Exit::Integrity));
        assert_eq!(exit(put, &[(Mismatch, Receiver)]), Some(Exit::Integrity));
        assert_eq!(exit(get, &[(Exists, Receiver)]), Some(Exit::Network));
        assert_eq!(exit(get, &[(NotFound, Sender)]), Some(Exit::Refused));
        assert_eq!(exit(get, &[(Mismatch, Receiver)]), Some(Exit::Integrity));
        // What the server refuses comes first, then what is damaged.
        assert_eq!(exit(put, &[(Io, Sender), (Changed, Sender), (Exists, Receiver)]), Some(Exit::Refused));
        assert_eq!(exit(put, &[(Io, Sender), (Changed, Sender)]), Some(Exit::Integrity));
    }

    #[test]
    fn the_closing_line_says_what_was_moved_and_what_was_not() {
        let done = |size| Event::Done { path: path(), size, stored_as: None, sha256: None };
        let unchanged = Event::Unchanged { path: path(), size: 9, sha256: None };
        let advanced = |is_moved| Event::Advanced { bytes: 2048, is_moved };
        let events = [
            done(2048),
            done(0),
            unchanged,
            failed(FilesCode::Io, Side::Sender),
            advanced(true),
            advanced(false),
        ];
        let summary = sum(Direction::Put, &events);
        assert_eq!(summary.to_string(), "2 entries, 2.0 KiB sent; 1 unchanged, 1 failed");
        assert_eq!(summary.moved, 2048);
        assert_eq!(sum(Direction::Get, &[done(1)]).to_string(), "1 entry, 1 B received (0 B moved)");
        assert_eq!(
            sum(Direction::Get, &[advanced(true)]).to_string(),
            "0 entries, 0 B received (2.0 KiB moved)"
        );
        let mut dry = Summary::new(Direction::Get, true);
        dry.add(&Event::Would { path: path(), size: 5 });
        assert_eq!(dry.to_string(), "1 entry, 5 B would be received");
    }
}

//! The file of accounts. It is written as a whole, under a lock, and each process adds what it has counted to what is there.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use cli_support::home::Home;
use cli_support::private_file;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// `accounts.toml` of a home.
#[derive(Debug)]
pub(super) struct AccountFile {
    home: Home,
    path: PathBuf,
}

/// The content of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    account: Vec<Entry>,
}

/// Any version of the file.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    client: String,
    received: u64,
    sent: u64,
    streams: u64,
    refused: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_seen: Option<Moment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    window_since: Option<Moment>,
    #[serde(default, skip_serializing_if = "is_zero")]
    window_used: u64,
}

/// A point in time, written as in RFC 3339.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Moment(Timestamp);

impl TryFrom<String> for Moment {
    type Error = jiff::Error;

    fn try_from(text: String) -> Result<Self, jiff::Error> {
        text.parse().map(Self)
    }
}

impl From<Moment> for String {
    fn from(Moment(at): Moment) -> Self {
        at.to_string()
    }
}

/// An account as the file has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) streams: u64,
    pub(crate) refused: u64,
    pub(crate) last_seen: Option<Timestamp>,
    pub(crate) from: Option<String>,
    pub(crate) window: Option<Window>,
}

/// A period of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) since: Timestamp,
    pub(crate) used: u64,
}

/// What is to be added to an account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Increment {
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) streams: u64,
    pub(super) refused: u64,
    pub(super) last_seen: Option<Timestamp>,
    pub(super) from: Option<String>,
    /// When the first of the bytes was moved.
    pub(super) since: Option<Timestamp>,
    /// The period of the client's quota, if it has one.
    pub(super) period: Option<Duration>,
}

impl Increment {
    pub(super) fn bytes(&self) -> u64 {
        self.received.saturating_add(self.sent)
    }

    /// Whether there is nothing to add.
    pub(super) fn is_empty(&self) -> bool {
        Self { period: None, ..self.clone() } == Self::default()
    }

    /// Takes off what was written. What has come since remains.
    pub(super) fn subtract(&mut self, written: &Self) {
        self.received = self.received.saturating_sub(written.received);
        self.sent = self.sent.saturating_sub(written.sent);
        self.streams = self.streams.saturating_sub(written.streams);
        self.refused = self.refused.saturating_sub(written.refused);
        if self.last_seen == written.last_seen {
            self.last_seen = None;
        }
        if self.from == written.from {
            self.from = None;
        }
        self.since = self.last_seen.filter(|_| self.bytes() > 0);
    }
}

impl Stored {
    /// The period that `now` is in, where one has begun.
    pub(crate) fn window_at(&self, period: Duration, now: Timestamp) -> Option<Window> {
        let end = |window: &Window| window.since.checked_add(period).unwrap_or(Timestamp::MAX);
        self.window.filter(|window| now < end(window))
    }

    fn add(&mut self, increment: &Increment, now: Timestamp) {
        let add = |count: &mut u64, more: u64| *count = count.saturating_add(more).min(MOST);
        add(&mut self.received, increment.received);
        add(&mut self.sent, increment.sent);
        add(&mut self.streams, increment.streams);
        add(&mut self.refused, increment.refused);
        if increment.last_seen > self.last_seen {
            self.last_seen = increment.last_seen;
            self.from = increment.from.clone().or_else(|| self.from.take());
        }
        if let Some(period) = increment.period
            && increment.bytes() > 0
        {
            let since = increment.since.unwrap_or(now);
            // What was moved at both sides of the end of a period is of the next one, or it would be of none.
            let last = increment.last_seen.unwrap_or(now);
            let mut window = self.window_at(period, last).unwrap_or(Window { since, used: 0 });
            add(&mut window.used, increment.bytes());
            self.window = Some(window);
        }
    }
}

impl AccountFile {
    pub(super) fn new(home: Home) -> Self {
        Self { path: home.file(NAME), home }
    }

    /// All accounts, by client; `None` where there is no file.
    ///
    /// # Errors
    /// [`Error::AccountFile`] for a file that is not valid, [`Error::AccountVersion`] for one of a newer version, and
    /// [`Error::Program`] for one that cannot be read.
    pub(super) fn read(&self) -> Result<Option<BTreeMap<String, Stored>>, Error> {
        if private_file::is_absent(&self.path)? {
            return Ok(None);
        }
        let text = private_file::read_public_text(&self.path)?;
        let invalid = |source| Error::AccountFile { path: self.path.clone(), source: Box::new(source) };
        if let Ok(Versioned { version }) = toml::from_str(&text)
            && version > VERSION
        {
            return Err(Error::AccountVersion { path: self.path.clone(), version });
        }
        let contents: Contents = toml::from_str(&text).map_err(invalid)?;
        Ok(Some(contents.account.into_iter().map(Entry::into_stored).collect()))
    }

    /// Adds `increments`, and returns what the file says then. `known` is what it has said before, for a file that is gone.
    ///
    /// # Errors
    /// Those of [`AccountFile::read`], and [`Error::Program`] where it cannot be written: it says what it said before then.
    pub(super) fn add(
        &self,
        increments: &BTreeMap<String, Increment>,
        known: impl FnOnce() -> BTreeMap<String, Stored>,
        now: Timestamp,
    ) -> Result<BTreeMap<String, Stored>, Error> {
        let _lock = self.home.lock(NAME)?;
        let mut all = self.read()?.unwrap_or_else(known);
        for (client, increment) in increments.iter().filter(|(_, increment)| !increment.is_empty()) {
            all.entry(client.clone()).or_default().add(increment, now);
        }
        if increments.values().any(|increment| !increment.is_empty()) {
            let account = all.iter().map(|(client, stored)| Entry::new(client, stored)).collect();
            let text = toml::to_string(&Contents { version: VERSION, account });
            let text = text.map_err(|error| Error::Print(io::Error::other(error)))?;
            private_file::replace_long(&self.path, format!("{HEADER}{text}").as_bytes())?;
        }
        Ok(all)
    }
}

impl Entry {
    fn new(client: &str, stored: &Stored) -> Self {
        let Stored { received, sent, streams, refused, last_seen, from, window } = stored.clone();
        Self {
            client: client.to_owned(),
            received,
            sent,
            streams,
            refused,
            last_seen: last_seen.map(Moment),
            from,
            window_since: window.map(|window| Moment(window.since)),
            window_used: window.map_or(0, |window| window.used),
        }
    }

    fn into_stored(self) -> (String, Stored) {
        let Self { client, received, sent, streams, refused, last_seen, from, window_since, window_used } =
            self;
        let window = window_since.map(|Moment(since)| Window { since, used: window_used });
        let last_seen = last_seen.map(|Moment(at)| at);
        (client, Stored { received, sent, streams, refused, last_seen, from, window })
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

const VERSION: u32 = 1;
const NAME: &str = "accounts.toml";
const HEADER: &str = "# Written by the server: what each client has moved, in bytes. Changes by hand belong here while no server runs.\n";
/// The greatest number that TOML has.
const MOST: u64 = i64::MAX.unsigned_abs();

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, AccountFile) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(folder.path().into())).unwrap();
        (folder, AccountFile::new(home))
    }

    fn increment(bytes: u64, at: Timestamp, period: Option<u64>) -> BTreeMap<String, Increment> {
        let period = period.map(Duration::from_secs);
        let increment = Increment {
            received: bytes,
            streams: 1,
            last_seen: Some(at),
            since: Some(at),
            from: Some("192.0.2.1:7".into()),
            period,
            ..Increment::default()
        };
        BTreeMap::from([("psk:laptop".to_owned(), increment)])
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn processes_add_to_what_is_there() {
        let (_folder, file) = file();
        let other = AccountFile::new(file.home.clone());
        assert_eq!(file.read().unwrap(), None);
        file.add(&increment(10, at(0), None), BTreeMap::new, at(1)).unwrap();
        let all = other.add(&increment(5, at(2), None), BTreeMap::new, at(3)).unwrap();
        assert_eq!(file.read().unwrap().as_ref(), Some(&all));
        let account = &all["psk:laptop"];
        assert_eq!((account.received, account.streams, account.last_seen), (15, 2, Some(at(2))));
        assert_eq!((account.from.as_deref(), account.window), (Some("192.0.2.1:7"), None));
        // A file that is gone is written again by what is known of it.
        std::fs::remove_file(&file.path).unwrap();
        let again = file.add(&increment(1, at(4), None), || all.clone(), at(4)).unwrap();
        assert_eq!(again["psk:laptop"].received, 16);
    }

    #[test]
    fn a_period_begins_with_the_first_byte_behind_the_last_one() {
        let (_folder, file) = file();
        let used = |second, bytes| {
            let all =
                file.add(&increment(bytes, at(second), Some(60)), BTreeMap::new, at(second + 1)).unwrap();
            all["psk:laptop"].window.unwrap()
        };
        assert_eq!(used(0, 10), Window { since: at(0), used: 10 });
        assert_eq!(used(59, 10), Window { since: at(0), used: 20 });
        assert_eq!(used(100, 7), Window { since: at(100), used: 7 });
        let mut across = increment(5, at(159), Some(60));
        across.get_mut("psk:laptop").unwrap().last_seen = Some(at(161));
        let all = file.add(&across, BTreeMap::new, at(162)).unwrap();
        assert_eq!(all["psk:laptop"].window, Some(Window { since: at(159), used: 5 }));
        let stored = file.read().unwrap().unwrap().remove("psk:laptop").unwrap();
        assert_eq!(stored.window_at(Duration::from_secs(60), at(218)).map(|window| window.used), Some(5));
        assert_eq!(stored.window_at(Duration::from_secs(60), at(219)), None);
        assert_eq!(stored.received, 32);
    }

    #[test]
    fn a_file_that_is_damaged_or_of_a_newer_version_is_told_of_and_stays_as_it_is() {
        let (_folder, file) = file();
        for text in [
            "version = 1\n[[account]]\nclient = 7\n",
            "version = 1\nsurplus = 1\n",
            "",
            "version = 2\nnew = 1\n",
        ] {
            private_file::replace(&file.path, text.as_bytes()).unwrap();
            let error = file.add(&increment(1, at(0), None), BTreeMap::new, at(0)).unwrap_err();
            match error {
                Error::AccountVersion { version: 2, .. } => assert!(text.contains("new")),
                Error::AccountFile { .. } => {}
                error => panic!("{text:?}: {error}"),
            }
            assert_eq!(std::fs::read_to_string(&file.path).unwrap(), text);
        }
    }

    #[test]
    fn what_comes_while_it_is_written_remains() {
        let mut pending = increment(10, at(0), Some(60)).remove("psk:laptop").unwrap();
        let written = pending.clone();
        pending.received += 5;
        pending.last_seen = Some(at(1));
        pending.subtract(&written);
        assert_eq!((pending.received, pending.streams, pending.since), (5, 0, Some(at(1))));
        assert!(!pending.is_empty());
        pending.subtract(&pending.clone());
        assert!(pending.is_empty(), "{pending:?}");
    }
}

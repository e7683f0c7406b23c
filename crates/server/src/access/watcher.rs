//! The watcher of the file of clients. It reads the file for all sessions, and notifies them of changes.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::access::file::AccessFile;
use crate::access::snapshot::Snapshot;
use crate::audit::Event;

/// The file of clients of a running server. Callers get its current content, and subscribers are notified of
/// changes.
#[derive(Debug)]
pub(crate) struct AccessWatcher {
    file: AccessFile,
    published: watch::Sender<Snapshot>,
    /// The clients and what they may do, as the audit log knows them.
    noted: Mutex<BTreeMap<String, Value>>,
}

impl AccessWatcher {
    pub(crate) fn new(file: AccessFile) -> Self {
        let snapshot = file.consult();
        let noted = Mutex::new(named(&snapshot).unwrap_or_default());
        Self { file, published: watch::Sender::new(snapshot), noted }
    }

    /// Returns the current content of the file, which is checked unless that was done a moment ago.
    pub(crate) fn look(&self) -> Snapshot {
        let mut snapshot = Snapshot::Unusable;
        // The lock is held during the reading, so that an older content never replaces a newer one.
        self.published.send_if_modified(|published| {
            snapshot = self.file.consult();
            let has_changed = !snapshot.is_same(published);
            if has_changed {
                published.clone_from(&snapshot);
                self.note(&snapshot);
            }
            has_changed
        });
        snapshot
    }

    /// Has all subscribers check their sessions again, by the current content of the file.
    pub(crate) fn recheck(&self) {
        self.file.invalidate();
        self.published.send_modify(|published| {
            *published = self.file.consult();
            self.note(published);
        });
    }

    /// Notes in the audit log what has changed, whoever has changed it.
    fn note(&self, snapshot: &Snapshot) {
        // A file that cannot be used has no clients whose rights could be compared.
        let Some(now) = named(snapshot) else { return };
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let lacking = |all: &'_ BTreeMap<String, Value>, others: &BTreeMap<String, Value>| -> Vec<String> {
            all.keys().filter(|name| !others.contains_key(*name)).cloned().collect()
        };
        let (added, removed) = (lacking(&now, &noted), lacking(&noted, &now));
        let is_changed =
            |(name, value): &(&String, &Value)| noted.get(*name).is_some_and(|known| known != *value);
        let changed: Vec<String> = now.iter().filter(is_changed).map(|(name, _)| name.clone()).collect();
        if !(added.is_empty() && removed.is_empty() && changed.is_empty()) {
            let (added, removed, changed) = (&added, &removed, &changed);
            self.file.audit().note(&Event::RightsNoticed { added, removed, changed });
        }
        *noted = now;
    }

    /// Subscribes to all later changes and rechecks.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Snapshot> {
        self.published.subscribe()
    }

    /// The file that is watched.
    pub(crate) fn file(&self) -> &AccessFile {
        &self.file
    }

    /// Checks every ten seconds the file, since it may be edited by hand, and the clock. Where the clock was set,
    /// all subscribers check again, since rights may have expired.
    pub(crate) async fn watch(&self) -> Infallible {
        let mut clock = WallClock::new(Timestamp::now(), Instant::now());
        self.watch_by(|| clock.was_set(Timestamp::now(), Instant::now())).await
    }

    async fn watch_by(&self, mut clock_was_set: impl FnMut() -> bool) -> Infallible {
        loop {
            sleep(CHECK_INTERVAL).await;
            if clock_was_set() {
                self.recheck();
            } else {
                self.file.invalidate();
                self.look();
            }
        }
    }
}

/// The clients of the file by name, each with its key and all that it may do; `None` where the file cannot be used.
fn named(snapshot: &Snapshot) -> Option<BTreeMap<String, Value>> {
    let Snapshot::Known(access) = snapshot else { return None };
    let access = access.clone().unwrap_or_default();
    // A moment at which nothing has expired, so that time alone changes nothing.
    let objects = access.objects(Timestamp::UNIX_EPOCH);
    let by_name = |object: Value| Some((object["name"].as_str()?.to_owned(), object));
    Some(objects.filter_map(by_name).collect())
}

/// Detects that the time of day has jumped.
#[derive(Debug)]
struct WallClock {
    time: Timestamp,
    moment: Instant,
}

impl WallClock {
    fn new(time: Timestamp, moment: Instant) -> Self {
        Self { time, moment }
    }

    /// Returns whether the clock was set since the last call that returned `true`.
    fn was_set(&mut self, time: Timestamp, moment: Instant) -> bool {
        let passed = moment.saturating_duration_since(self.moment);
        let passed = i128::try_from(passed.as_millis()).unwrap_or(i128::MAX);
        let was_set =
            time.duration_since(self.time).as_millis().abs_diff(passed) >= TOLERATED_DEVIATION.as_millis();
        if was_set {
            *self = Self::new(time, moment);
        }
        was_set
    }
}

/// Interval at which the server checks the file without a request.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Deviation of the time of day that is tolerated before rights are checked again.
const TOLERATED_DEVIATION: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use cli_support::home::Home;
    use cli_support::private_file;

    use super::*;

    fn watcher() -> (tempfile::TempDir, AccessWatcher) {
        let folder = tempfile::tempdir().unwrap();
        let file = AccessFile::new(Home::resolve(Some(folder.path().into())).unwrap());
        (folder, AccessWatcher::new(file))
    }

    fn write(watcher: &AccessWatcher, text: &str) {
        private_file::replace(watcher.file.path(), text.as_bytes()).unwrap();
    }

    const PSK: &str = "[[psk]]\nname = \"laptop\"\n";

    /// The content that is published, if any, within the time in which a change by hand must be seen.
    async fn published(
        watcher: &AccessWatcher,
        receiver: &mut watch::Receiver<Snapshot>,
    ) -> Option<Snapshot> {
        tokio::select! {
            never = watcher.watch_by(|| false) => match never {},
            changed = receiver.changed() => {
                changed.unwrap();
                Some(receiver.borrow_and_update().clone())
            }
            () = sleep(CHECK_INTERVAL + Duration::from_secs(1)) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_is_edited_by_hand_is_published_in_ten_seconds_and_only_once() {
        let (_folder, watcher) = watcher();
        let mut receiver = watcher.subscribe();
        assert!(published(&watcher, &mut receiver).await.is_none());
        write(&watcher, PSK);
        let Some(Snapshot::Known(Some(access))) = published(&watcher, &mut receiver).await else {
            panic!("{receiver:?}")
        };
        assert!(access.has_psk("laptop"));
        assert!(published(&watcher, &mut receiver).await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_one_looks_at_is_published_to_all() {
        let (_folder, watcher) = watcher();
        let mut receiver = watcher.subscribe();
        watcher.look();
        assert!(!receiver.has_changed().unwrap());
        write(&watcher, PSK);
        let Snapshot::Known(Some(_)) = watcher.look() else { panic!("{receiver:?}") };
        assert!(matches!(&*receiver.borrow_and_update(), Snapshot::Known(Some(_))));
        // After a recheck all subscribers check again, also where the file has not changed.
        watcher.recheck();
        assert!(receiver.has_changed().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_cannot_be_used_is_unusable_and_one_that_stays_away_is_lost() {
        let (_folder, watcher) = watcher();
        write(&watcher, PSK);
        let mut receiver = watcher.subscribe();
        assert!(matches!(published(&watcher, &mut receiver).await, Some(Snapshot::Known(Some(_)))));
        write(&watcher, "[[psk]\n");
        for _ in 0..2 {
            // The content stays the same, however long that takes.
            published(&watcher, &mut receiver).await;
            assert!(matches!(*receiver.borrow(), Snapshot::Unusable), "{receiver:?}");
        }
        write(&watcher, PSK);
        assert!(matches!(published(&watcher, &mut receiver).await, Some(Snapshot::Known(Some(_)))));
        std::fs::remove_file(watcher.file.path()).unwrap();
        // The file may be about to come back.
        assert!(matches!(published(&watcher, &mut receiver).await, Some(Snapshot::Unusable)));
        assert!(matches!(published(&watcher, &mut receiver).await, Some(Snapshot::Lost)));
        write(&watcher, PSK);
        assert!(matches!(published(&watcher, &mut receiver).await, Some(Snapshot::Known(Some(_)))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_was_set_has_everybody_judge_again() {
        let (_folder, watcher) = watcher();
        let mut receiver = watcher.subscribe();
        let was_set = async {
            tokio::select! {
                never = watcher.watch_by(|| true) => match never {},
                changed = receiver.changed() => changed,
            }
        };
        tokio::time::timeout(CHECK_INTERVAL + Duration::from_secs(1), was_set).await.unwrap().unwrap();
    }

    #[test]
    fn a_clock_that_is_set_is_noticed_and_one_that_goes_is_not() {
        let (time, moment) = (Timestamp::now(), Instant::now());
        let seconds = |count| Duration::from_secs(count);
        let mut clock = WallClock::new(time, moment);
        assert!(!clock.was_set(time + seconds(10), moment + seconds(10)));
        assert!(!clock.was_set(time + Duration::from_millis(20_900), moment + seconds(20)));
        assert!(clock.was_set(time + seconds(3600), moment + seconds(30)));
        assert!(!clock.was_set(time + seconds(3610), moment + seconds(40)));
        assert!(clock.was_set(time, moment + seconds(50)));
        assert!(!clock.was_set(time + seconds(10), moment + seconds(60)));
    }
}

//! The table of the streams that clients have open, which `server status` shows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cli_support::admin::Open;
use jiff::Timestamp;
use tunnel::proxy_header::ProxyHeader;
use wire_protocol::message::Target;

use crate::access::{Action, Principal};

/// The connected clients, and the open stream of each channel.
#[derive(Debug, Default)]
pub(crate) struct OpenSessions(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    all: BTreeMap<u64, Seen>,
}

/// The part of a session that other tasks read.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// The principal, as of the last check.
    pub(crate) principal: Arc<Mutex<Arc<Principal>>>,
    pub(crate) target: Arc<Mutex<Option<OpenTarget>>>,
    /// Counts the bytes of the open stream.
    pub(crate) meter: Meter,
}

/// The open stream of a channel.
#[derive(Debug, Clone)]
pub(crate) struct OpenTarget {
    pub(crate) target: Target,
    pub(crate) since: Timestamp,
    /// The address that the target's host has resolved to.
    pub(crate) address: Option<SocketAddr>,
    /// The header that was sent to the target, once the server has connected to it.
    pub(crate) header: Option<ProxyHeader>,
}

impl OpenTarget {
    pub(crate) fn new(target: Target, since: Timestamp) -> Self {
        Self { target, since, address: None, header: None }
    }

    /// The action for which the client needs a permission.
    pub(crate) fn action(&self) -> Action<'_> {
        Action::Open { target: &self.target, address: self.address, header: self.header }
    }
}

/// Counts bytes, both directions together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter(Arc<AtomicU64>);

impl Meter {
    pub(crate) fn add(&self, bytes: usize) {
        self.0.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The entry of a session, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    sessions: &'a OpenSessions,
    number: u64,
}

impl OpenSessions {
    pub(crate) fn enter(&self, seen: Seen) -> Entry<'_> {
        let mut entries = self.entries();
        let number = entries.next;
        entries.next += 1;
        entries.all.insert(number, seen);
        Entry { sessions: self, number }
    }

    /// Whether nobody is in.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries().all.is_empty()
    }

    /// The open streams by client and target, those with most streams first, as many as fit in an answer. The
    /// second value is the number of pairs of the two that are left out.
    pub(crate) fn list(&self) -> (Vec<Open>, usize) {
        let mut grouped: BTreeMap<(String, String), Open> = BTreeMap::new();
        for seen in self.entries().all.values() {
            let Some(OpenTarget { target, since, .. }) =
                seen.target.lock().unwrap_or_else(PoisonError::into_inner).clone()
            else {
                continue;
            };
            let client = seen.principal.lock().unwrap_or_else(PoisonError::into_inner).name.clone();
            let since = Timestamp::from_second(since.as_second()).unwrap_or(since);
            let (target, since, bytes) = (target.to_string(), since.to_string(), seen.meter.bytes());
            let open = grouped.entry((client.clone(), target.clone())).or_insert_with(|| Open {
                client,
                target,
                streams: 0,
                bytes: 0,
                since: since.clone(),
            });
            open.streams += 1;
            open.bytes = open.bytes.saturating_add(bytes);
            open.since = since.min(std::mem::take(&mut open.since));
        }
        let mut all: Vec<Open> = grouped.into_values().collect();
        all.sort_by_key(|open| std::cmp::Reverse(open.streams));
        let mut room = MAX_LISTED_LEN;
        let is_listed = |open: &Open| {
            let len = serde_json::to_string(open).map_or(usize::MAX, |text| text.len());
            room = room.saturating_sub(len);
            room > 0
        };
        let listed = all.iter().map(is_listed).take_while(|is_listed| *is_listed).count();
        let left_out = all.len() - listed;
        all.truncate(listed);
        (all, left_out)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.sessions.entries().all.remove(&self.number);
    }
}

/// Most bytes of JSON in the list, since an answer has 64 KiB in all.
const MAX_LISTED_LEN: usize = 48 * 1024;

#[cfg(test)]
mod tests {
    use wire_protocol::message::ClientIdentity;

    use super::*;
    use crate::access::{Enrolment, Grant, Rights};

    fn seen(name: &str, target: Option<Target>, since: &str) -> Seen {
        let principal = Principal {
            identity: ClientIdentity::Anonymous,
            name: name.into(),
            grant: Grant::unlimited(Rights::usual()),
            enrolment: Enrolment::Enrolled,
        };
        let open = target.map(|target| OpenTarget::new(target, since.parse().unwrap()));
        Seen {
            principal: Arc::new(Mutex::new(Arc::new(principal))),
            target: Arc::new(Mutex::new(open)),
            meter: Meter::default(),
        }
    }

    fn service(name: &str) -> Option<Target> {
        Some(Target::Service { name: name.into() })
    }

    #[test]
    fn what_is_open_is_told_by_client_and_target_until_it_ends() {
        let sessions = OpenSessions::default();
        let (first, second) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z");
        let all = [
            seen("bob", service("db"), first),
            seen("alice", service("db"), second),
            seen("alice", service("db"), first),
            seen("alice", None, first),
        ];
        let entries: Vec<Entry<'_>> = all.iter().cloned().map(|seen| sessions.enter(seen)).collect();
        for (seen, bytes) in all.iter().zip([1, 20, 300]) {
            seen.meter.add(bytes);
        }
        let (open, left_out) = sessions.list();
        let told: Vec<_> = open
            .iter()
            .map(|open| (open.client.as_str(), open.streams, open.bytes, open.since.as_str()))
            .collect();
        assert_eq!(told, [("alice", 2, 320, first), ("bob", 1, 1, first)]);
        assert!(open.iter().all(|open| open.target.contains("db")));
        assert_eq!(left_out, 0);
        drop(entries);
        assert_eq!(sessions.list(), (Vec::new(), 0));
    }

    #[test]
    fn an_answer_has_an_end_and_says_what_it_leaves_out() {
        let sessions = OpenSessions::default();
        let path = |number: usize| Some(Target::Unix { path: format!("/{}{number}", "\n".repeat(4000)) });
        let entries: Vec<Entry<'_>> = (0..100)
            .map(|number| sessions.enter(seen("alice", path(number), "2026-01-01T00:00:00Z")))
            .collect();
        let (open, left_out) = sessions.list();
        assert_eq!(open.len() + left_out, entries.len());
        assert!(left_out > 0 && serde_json::to_string(&open).unwrap().len() < 60 * 1024);
    }
}

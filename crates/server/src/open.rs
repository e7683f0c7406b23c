//! The table of the streams that clients have open, which `server status` shows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cli_support::admin::Open;
use cli_support::metrics::StreamKind;
use jiff::Timestamp;
use tunnel::proxy_header::ProxyHeader;
use wire_protocol::message::Target;

use crate::access::{Action, Principal};
use crate::counters::Counters;
use crate::meter::Meter;
use crate::room::limit;

/// The connected clients, and the open stream of each channel.
#[derive(Debug, Default)]
pub(crate) struct OpenSessions {
    entries: Mutex<Entries>,
    counters: Arc<Counters>,
}

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
    /// What it has open, which a resumable stream shares that is known beyond its channel.
    pub(crate) target: Arc<Mutex<Option<Arc<OpenTarget>>>>,
    /// Where the channel comes from.
    pub(crate) from: Arc<str>,
    /// When the channel came.
    pub(crate) since: Timestamp,
    /// Counts the bytes of the open stream.
    pub(crate) meter: Meter,
}

/// The open stream of a channel.
#[derive(Debug, Clone)]
pub(crate) struct OpenTarget {
    pub(crate) target: Target,
    pub(crate) kind: StreamKind,
    pub(crate) since: Timestamp,
    /// The address that the target's host has resolved to.
    pub(crate) address: Option<SocketAddr>,
    /// The header that was sent to the target, once the server has connected to it.
    pub(crate) header: Option<ProxyHeader>,
}

impl OpenTarget {
    pub(crate) fn new(target: Target, since: Timestamp) -> Self {
        Self { kind: (&target).into(), target, since, address: None, header: None }
    }

    /// What a parked channel carries that waits for what comes in at `target`.
    pub(crate) fn parked(target: Target, since: Timestamp) -> Self {
        Self { kind: StreamKind::Forwarded, ..Self::new(target, since) }
    }

    /// The action for which the client needs a permission.
    pub(crate) fn action(&self) -> Action<'_> {
        Action::Open { target: &self.target, address: self.address, header: self.header }
    }
}

/// The entry of a session, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    sessions: &'a OpenSessions,
    number: u64,
}

impl Seen {
    /// Counts what was moved since the last call, under the kind of what is open now.
    pub(crate) fn settle(&self, counters: &Counters) {
        let open = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*open {
            let moved = self.meter.settle();
            counters.add_moved(open.kind, moved);
            let principal = Arc::clone(&self.principal.lock().unwrap_or_else(PoisonError::into_inner));
            if let Some(account) = &principal.account.0 {
                account.add(moved, Timestamp::now());
            }
        }
    }

    /// Another stream begins, or none is open any more. What the last one has moved is counted.
    pub(crate) fn note(&self, target: Option<Arc<OpenTarget>>, counters: &Counters) {
        self.settle(counters);
        let mut open = self.target.lock().unwrap_or_else(PoisonError::into_inner);
        self.meter.begin_stream();
        *open = target;
    }
}

impl OpenSessions {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Self { entries: Mutex::default(), counters }
    }

    /// Counts all that was moved up to now.
    pub(crate) fn settle(&self) {
        self.entries().all.values().for_each(|seen| seen.settle(&self.counters));
    }

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

    /// The parts of all sessions that other tasks read.
    pub(crate) fn all(&self) -> Vec<Seen> {
        self.entries().all.values().cloned().collect()
    }

    /// The open streams by client and target, those with most bytes first, as many as fit in so many bytes of JSON. The
    /// second value is the number of pairs of the two that are left out.
    pub(crate) fn list(&self, room: usize) -> (Vec<Open>, usize) {
        let mut grouped: BTreeMap<(String, String), Open> = BTreeMap::new();
        for seen in self.all() {
            let open = seen.target.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let Some(open) = open else { continue };
            let since = open.since;
            let client = seen.principal.lock().unwrap_or_else(PoisonError::into_inner).name.clone();
            let since = Timestamp::from_second(since.as_second()).unwrap_or(since);
            let (target, since, bytes) = (open.target.to_string(), since.to_string(), seen.meter.bytes());
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
        all.sort_by_key(|open| std::cmp::Reverse((open.bytes, open.streams)));
        let left_out = limit(&mut all, room);
        (all, left_out)
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let seen = self.sessions.entries().all.remove(&self.number);
        if let Some(seen) = seen {
            seen.settle(&self.sessions.counters);
        }
    }
}

#[cfg(test)]
mod tests {
    use wire_protocol::message::ClientIdentity;
    use wire_protocol::stream::Direction;

    use super::*;
    use crate::access::{Enrolment, Grant, Rights};
    use crate::accounts::AccountHandle;

    fn seen(name: &str, target: Option<Target>, since: &str) -> Seen {
        let principal = Principal {
            account: AccountHandle::default(),
            identity: ClientIdentity::Anonymous,
            name: name.into(),
            grant: Grant::unlimited(Rights::usual()),
            enrolment: Enrolment::Enrolled,
        };
        let open = target.map(|target| Arc::new(OpenTarget::new(target, since.parse().unwrap())));
        Seen {
            principal: Arc::new(Mutex::new(Arc::new(principal))),
            target: Arc::new(Mutex::new(open)),
            from: "192.0.2.7:1".into(),
            since: since.parse().unwrap(),
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
            seen.meter.add(bytes, Direction::Sent);
        }
        let (open, left_out) = sessions.list(48 * 1024);
        let told: Vec<_> = open
            .iter()
            .map(|open| (open.client.as_str(), open.streams, open.bytes, open.since.as_str()))
            .collect();
        assert_eq!(told, [("alice", 2, 320, first), ("bob", 1, 1, first)]);
        assert!(open.iter().all(|open| open.target.contains("db")));
        assert_eq!(left_out, 0);
        sessions.settle();
        all[0].meter.add(1000, Direction::Received);
        drop(entries);
        assert_eq!(sessions.list(48 * 1024), (Vec::new(), 0));
        let counters = &sessions.counters;
        let moved = (counters.received.get(StreamKind::Service), counters.sent.get(StreamKind::Service));
        assert_eq!((moved, counters.received.sum(), counters.sent.sum()), ((1000, 321), 1000, 321));
    }

    #[test]
    fn an_answer_has_an_end_and_says_what_it_leaves_out() {
        let sessions = OpenSessions::default();
        let path = |number: usize| Some(Target::Unix { path: format!("/{}{number}", "\n".repeat(4000)) });
        let entries: Vec<Entry<'_>> = (0..100)
            .map(|number| sessions.enter(seen("alice", path(number), "2026-01-01T00:00:00Z")))
            .collect();
        let (open, left_out) = sessions.list(48 * 1024);
        assert_eq!(open.len() + left_out, entries.len());
        assert!(left_out > 0 && serde_json::to_string(&open).unwrap().len() < 60 * 1024);
    }
}

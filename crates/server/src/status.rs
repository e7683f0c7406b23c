//! The status of a running server.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use cli_support::admin::{ClientIn, Counts, IdentityState, InviteCounts, Refused, Status};
use cli_support::protection::protection;
use jiff::Timestamp;
use wire_protocol::message::SUITE;

use crate::access::InviteStanding;
use crate::counters::Counters;
use crate::open::Seen;
use crate::room::limit;
use crate::server::Server;
use crate::settings::Identity;

/// How much of its lists a status has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// As much as fits in a line of the admin socket.
    Line,
    /// As much as the status page shows and searches.
    Page,
}

/// The status of `server`.
pub(crate) fn of(server: &Server, detail: Detail) -> Status {
    let (channels, streams) = (server.limits.channels(), server.streams.count());
    let counts = Counts {
        channels,
        streams,
        leases: server.handlers.leases(),
        idle_channels: channels.saturating_sub(streams),
        dropped_datagrams: server.drops.count(),
    };
    let rooms = match detail {
        Detail::Line => LINE,
        Detail::Page => PAGE,
    };
    // What is open has moved something since the last time.
    server.open.settle();
    let (received, sent) = carried(server);
    let (open, open_left_out) = server.open.list(rooms.open);
    let mut clients = clients(&server.open.all());
    let clients_left_out = limit(&mut clients, rooms.clients);
    let mut leased = server.handlers.leased();
    limit(&mut leased, rooms.leased);
    let tasks = server.runtime.metrics().num_alive_tasks();
    Status {
        draining: server.stopping.is_cancelled(),
        traffic: Some(server.history.state(received, sent)),
        resumption: Some(server.resumption()),
        identity: Some(identity(server)),
        listening: server.listening().iter().flat_map(|(_, bound)| bound.clone()).collect(),
        clients,
        clients_left_out,
        open,
        open_left_out,
        refused: refused(server),
        invites: invites(server),
        invites_tried: server.tried_invites.list(),
        leased,
        protection: protection(),
        ..Status::of_this_process("server", server.started, tasks, counts)
    }
}

/// Notes what was carried up to now.
pub(crate) fn note(server: &Server) {
    server.open.settle();
    let (received, sent) = carried(server);
    server.history.note(received, sent, server.streams.count());
}

/// Bytes from clients, and to them.
fn carried(server: &Server) -> (u64, u64) {
    (server.counters.received.sum(), server.counters.sent.sum())
}

fn refused(server: &Server) -> Vec<Refused> {
    let Counters { turned_away, failed, streams, not_dialed, invites_refused, .. } = &*server.counters;
    let connections = Refused::of("connection", turned_away).chain(Refused::of("handshake", failed));
    let targets = Refused::of("target", not_dialed).chain(Refused::of("invite", invites_refused));
    let streams =
        Refused::of("stream", streams.refused()).chain(Refused::new("stream", "failed", streams.failed()));
    let mut all: Vec<Refused> = connections.chain(streams).chain(targets).collect();
    all.sort_by_key(|refused| std::cmp::Reverse(refused.count));
    all
}

/// How the invites stand; `None` where their file cannot be read, which is in the log already. The file is read every few
/// seconds at most.
fn invites(server: &Server) -> Option<InviteCounts> {
    let mut recent = server.invite_counts.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((at, counts)) = *recent
        && at.elapsed() < INVITES_AGE
    {
        return counts;
    }
    let read = server.access.file().invites().read().ok();
    let counts = read.map(|invites| {
        let mut counts = InviteCounts::default();
        for standing in invites.standings(Timestamp::now()) {
            match standing {
                InviteStanding::Pending => counts.open += 1,
                InviteStanding::Taken | InviteStanding::Used => counts.used += 1,
                InviteStanding::Expired => counts.expired += 1,
                InviteStanding::Revoked => counts.revoked += 1,
            }
        }
        counts
    });
    *recent = Some((Instant::now(), counts));
    counts
}

fn identity(server: &Server) -> IdentityState {
    let age = server.key_written_at.and_then(|at| SystemTime::now().duration_since(at).ok());
    let (mode, fingerprint) = match &server.identity {
        Identity::Key(key) => ("rsa", key.public().id().to_string()),
        Identity::Psk(psks) => {
            let names: Vec<&str> = psks.keys().map(String::as_str).collect();
            ("psk", format!("psk:{}", names.join(",")))
        }
    };
    IdentityState {
        mode: mode.into(),
        fingerprint,
        suite: format!("{SUITE:#06x}"),
        key_age_seconds: age.map(|age| age.as_secs()),
    }
}

/// Who is in, those with most streams first.
fn clients(sessions: &[Seen]) -> Vec<ClientIn> {
    let mut by_client: BTreeMap<(String, String), (Timestamp, Timestamp, ClientIn)> = BTreeMap::new();
    for seen in sessions {
        let principal = Arc::clone(&seen.principal.lock().unwrap_or_else(PoisonError::into_inner));
        let is_open = seen.target.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let key = (principal.name.clone(), principal.identity.to_string());
        let (oldest, newest, client) = by_client.entry(key).or_insert_with_key(|(name, identity)| {
            let client = ClientIn { name: name.clone(), identity: identity.clone(), ..ClientIn::default() };
            (seen.since, Timestamp::MIN, client)
        });
        *oldest = seen.since.min(*oldest);
        if seen.since >= *newest {
            *newest = seen.since;
            client.from = seen.from.to_string();
        }
        let (received, sent) = seen.meter.of_channel();
        client.received = client.received.saturating_add(received);
        client.sent = client.sent.saturating_add(sent);
        client.channels += 1;
        client.streams += usize::from(is_open);
    }
    let shown = |(oldest, _, client): (Timestamp, Timestamp, ClientIn)| {
        let since = Timestamp::from_second(oldest.as_second()).unwrap_or(oldest).to_string();
        ClientIn { since, ..client }
    };
    let mut all: Vec<ClientIn> = by_client.into_values().map(shown).collect();
    all.sort_by_key(|client| std::cmp::Reverse(client.streams));
    all
}

/// Shortest time between two readings of the file of invites.
const INVITES_AGE: Duration = Duration::from_secs(3);

/// Most bytes of JSON in each list.
#[derive(Debug, Clone, Copy)]
struct Rooms {
    open: usize,
    clients: usize,
    leased: usize,
}

/// Together with all else that a server says, less than the 64 KiB of an answer.
const LINE: Rooms = Rooms { open: 28 * 1024, clients: 12 * 1024, leased: 6 * 1024 };
/// Enough for a thousand streams to as many targets.
const PAGE: Rooms = Rooms { open: 256 * 1024, clients: 128 * 1024, leased: 32 * 1024 };

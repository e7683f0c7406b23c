//! What a pool knows: its idle channels, how many are wanted, whether the server can be reached, and its limit.
//!
//! Nothing here waits or connects: the time is an argument.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use wire_protocol::stream::Channel;

use crate::backoff::MAX_PAUSE;
use crate::keep_alive::keep_alive_every;

#[derive(Debug)]
pub(super) struct State<S> {
    /// The one that was used last is at the end, and is used next.
    idle: Vec<Idle<S>>,
    wanted: usize,
    /// The fewest that were idle since the last look.
    low_water: usize,
    pub(super) reachability: Reachability,
    limit: Option<AtLimit>,
    /// When the idle ones were dropped last.
    dropped: Option<Instant>,
}

#[derive(Debug)]
struct Idle<S> {
    channel: Channel<S>,
    /// Since it was last known to stand.
    since: Instant,
}

/// The client has as many channels as the server lets it have.
#[derive(Debug, Clone, Copy)]
struct AtLimit {
    /// When to ask for another one.
    next: Instant,
    /// How long to wait after that.
    pause: Duration,
}

/// Whether the server can be reached, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reachability {
    Up,
    /// Only the one task that tries it again and again connects.
    Down,
}

/// Idle channels to look after.
pub(super) struct Aged<S> {
    /// More than are wanted.
    pub(super) surplus: Vec<Channel<S>>,
    /// Idle for so long that they are asked whether they still stand.
    pub(super) doubtful: Vec<Channel<S>>,
}

impl<S> State<S> {
    pub(super) fn new() -> Self {
        Self {
            idle: Vec::new(),
            wanted: MIN_WARM,
            low_water: 0,
            reachability: Reachability::Down,
            limit: None,
            dropped: None,
        }
    }

    pub(super) fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Whether there are so few that more are made. Those that are in use are likely to come back: where many are kept,
    /// some may be missing, or each that is taken would cost a handshake and each that comes back be one too many.
    pub(super) fn is_short(&self) -> bool {
        self.idle.len() < self.wanted - self.wanted / 4
    }

    /// Wants one more from now on: one was asked for, and there was none.
    pub(super) fn want_more(&mut self) {
        self.wanted = (self.wanted + 1).min(MAX_WARM);
    }

    /// Wants only those that there are: the server gives no more.
    pub(super) fn want_fewest(&mut self) {
        self.wanted = MIN_WARM;
    }

    /// Keeps a channel; gives it back where there are too many already.
    pub(super) fn keep(&mut self, channel: Channel<S>, now: Instant) -> Result<(), Channel<S>> {
        if self.idle.len() >= 2 * self.wanted + MIN_KEPT {
            return Err(channel);
        }
        self.idle.push(Idle { channel, since: now });
        Ok(())
    }

    /// Takes all out, unless that was done a moment ago.
    pub(super) fn take_old(&mut self, now: Instant) -> Vec<Channel<S>> {
        if self.dropped.is_some_and(|dropped| now.saturating_duration_since(dropped) < DROP_PAUSE) {
            return Vec::new();
        }
        self.dropped = Some(now);
        self.take_all()
    }

    pub(super) fn take_all(&mut self) -> Vec<Channel<S>> {
        self.idle.drain(..).map(|idle| idle.channel).collect()
    }

    /// Takes out those that are outdated.
    pub(super) fn take_outdated(&mut self, is_outdated: impl Fn(&S) -> bool) -> Vec<Channel<S>> {
        let outdated = self.idle.extract_if(.., |idle| is_outdated(idle.channel.get_ref()));
        outdated.map(|idle| idle.channel).collect()
    }

    /// Takes out those on which something has been left to be said for long enough; and whether there are others on which something
    /// is left to be said.
    pub(super) fn take_unsettled(&mut self, now: Instant) -> (Vec<Channel<S>>, bool) {
        if self.idle.iter().all(|idle| idle.channel.is_settled()) {
            return (Vec::new(), false);
        }
        let is_due = |idle: &mut Idle<S>| !idle.channel.is_settled() && now - idle.since >= SETTLE_AFTER;
        let due = self.idle.extract_if(.., is_due).map(|idle| idle.channel).collect();
        (due, self.idle.iter().any(|idle| !idle.channel.is_settled()))
    }

    /// Often enough that no channel is idle for as long as the server lets it be.
    pub(super) fn look_every(&self) -> Duration {
        let shortest = self.idle.iter().map(|idle| keep_alive_every(&idle.channel)).min();
        shortest.map_or(LOOK_EVERY, |shortest| shortest.min(LOOK_EVERY))
    }

    /// Wants fewer where many lay around, and takes out those that are to be closed, or to be asked whether they still stand.
    pub(super) fn age(&mut self, now: Instant) -> Aged<S> {
        let look_every = self.look_every();
        let unused = self.low_water.saturating_sub(1);
        self.wanted = self.wanted.saturating_sub(unused.div_ceil(2)).max(MIN_WARM);
        let surplus = self.idle.len().saturating_sub(self.wanted);
        let surplus = self.idle.drain(..surplus).map(|idle| idle.channel).collect();
        let (old, recent): (Vec<_>, Vec<_>) = self
            .idle
            .drain(..)
            .partition(|idle| now - idle.since + look_every > keep_alive_every(&idle.channel));
        self.idle = recent;
        self.low_water = self.idle.len() + old.len();
        Aged { surplus, doubtful: old.into_iter().map(|idle| idle.channel).collect() }
    }

    /// Until when to wait, where the client has as many channels as it may; `None` for the one whose turn it is to ask.
    pub(super) fn wait_at_limit(&mut self, now: Instant) -> Option<Instant> {
        let AtLimit { next, pause } = self.limit?;
        if now < next {
            return Some(next);
        }
        self.limit = Some(AtLimit { next: now + pause, pause: (pause * 2).min(MAX_PAUSE) });
        None
    }

    /// Notes that the server lets the client have no more channels. Whether that is new.
    pub(super) fn begin_limit(&mut self, now: Instant) -> bool {
        let is_new = self.limit.is_none();
        if is_new {
            self.limit = Some(AtLimit { next: now + LIMIT_PAUSE, pause: LIMIT_PAUSE * 2 });
        }
        is_new
    }

    pub(super) fn end_limit(&mut self) {
        self.limit = None;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> State<S> {
    /// The idle channel that was used last, of those that still stand.
    pub(super) fn take(&mut self) -> Option<Channel<S>> {
        let taken = loop {
            let Some(Idle { mut channel, .. }) = self.idle.pop() else { break None };
            if channel.is_standing() {
                break Some(channel);
            }
        };
        self.low_water = self.low_water.min(self.idle.len());
        taken
    }
}

/// How long idle channels are not dropped again.
const DROP_PAUSE: Duration = Duration::from_secs(1);

/// How long a channel may have something left to be said: another stream is likely to be opened on it by then, in a program that has
/// much to do, and the server keeps a stream for it.
pub(super) const SETTLE_AFTER: Duration = Duration::from_millis(20);
/// Channels that are kept warm when nothing has been asked for in a while.
pub(super) const MIN_WARM: usize = 2;
/// Channels that are kept warm at most: a burst that is larger waits for handshakes, eight at once.
pub const MAX_WARM: usize = 64;
/// As many as this, and twice as many as are wanted, are taken back in any case: what comes back costs nothing.
const MIN_KEPT: usize = 8;
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long to wait for a channel to come back before asking a server that is at its limit again.
const LIMIT_PAUSE: Duration = Duration::from_millis(200);

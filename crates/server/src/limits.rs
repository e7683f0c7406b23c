//! What strangers may cost: half-open handshakes in all and per source, and a penalty box for sources that fail.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::throttle::Throttle;

/// How long a handshake may take, from the first byte to the last (section 8).
pub(crate) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// RSA operations at once: more than the cores would only make each one slower.
pub(crate) const MAX_RSA: usize = 4;
/// Handshakes under way at once, in all. Each holds less than 32 KiB.
pub(crate) const MAX_HALF_OPEN: usize = 512;
/// Handshakes under way at once from one source: enough for a busy household, not for a flood.
pub(crate) const MAX_HALF_OPEN_PER_SOURCE: usize = 64;
/// Channels of one client at once, unless its rights say otherwise.
pub(crate) const MAX_CHANNELS_PER_CLIENT: usize = 16384;
/// Channels of the strangers of one source at once.
pub(crate) const MAX_CHANNELS_PER_STRANGER: usize = 256;
/// Channels in all, where the system has descriptors for them.
const MAX_CHANNELS: usize = 32768;

/// What a failed handshake costs its source.
pub(crate) const FAILURE: Duration = Duration::from_secs(2);
/// What a handshake with RSA costs its source even if it succeeds: ten a second are free in the long run, and
/// resumption costs nothing.
pub(crate) const RSA_HANDSHAKE: Duration = Duration::from_millis(100);
/// Above this share of the places for handshakes, newcomers get less time.
const CROWDED: usize = MAX_HALF_OPEN / 4 * 3;
/// The time they get: enough for a client that means it.
const CROWDED_DEADLINE: Duration = Duration::from_secs(2);
/// A source is refused while it owes more than this: one failure is a mistake, eight in a row are not.
const TOLERATED: Duration = Duration::from_secs(15);
/// No source owes more than this, so that everybody is forgiven in the end.
const MAX_OWED: Duration = Duration::from_secs(600);
/// Descriptors that are neither of handshakes nor of channels: listeners, the log, files that are read now and then.
const RESERVED_DESCRIPTORS: usize = 64;
/// Sources that are remembered. The first to be forgotten is the one that owes least.
const MAX_SOURCES: usize = 65536;

/// Counts what is under way, by who caused it.
#[derive(Debug)]
pub(crate) struct Limits {
    sources: Mutex<Sources>,
    channels: Mutex<Channels>,
    max_channels: usize,
}

#[derive(Debug, Default)]
struct Channels {
    all: usize,
    by_holder: HashMap<String, usize>,
    /// The pace of each client that has one.
    throttles: HashMap<String, Throttle>,
}

#[derive(Debug, Default)]
struct Sources {
    half_open: usize,
    by_source: HashMap<IpAddr, usize>,
    /// When each source will owe nothing any more.
    penalties: HashMap<IpAddr, Instant>,
}

/// Why a connection is not even listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turned {
    /// Too many handshakes are under way: the client may be told, and come back.
    Busy,
    /// The source has failed too often: it is told nothing.
    Penalized,
}

impl Limits {
    /// Limits for a process that may have `descriptors` open. A channel takes two at most: its socket, and a file
    /// for a long message.
    pub(crate) fn new(descriptors: usize) -> Self {
        let for_channels = descriptors.saturating_sub(MAX_HALF_OPEN + RESERVED_DESCRIPTORS) / 2;
        Self {
            sources: Mutex::default(),
            channels: Mutex::default(),
            max_channels: for_channels.clamp(1, MAX_CHANNELS),
        }
    }

    /// Takes up a place for a handshake, until what is returned is dropped. `source` is `None` for this machine
    /// itself, where one address stands for everybody: only the limit in all holds there.
    pub(crate) fn begin_handshake(
        self: &Arc<Self>,
        source: Option<IpAddr>,
        now: Instant,
    ) -> Result<HalfOpen, Turned> {
        let source = source.map(network);
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(source) = source {
            let owed = sources.penalties.get(&source).map(|until| until.saturating_duration_since(now));
            match owed {
                Some(owed) if owed > TOLERATED => return Err(Turned::Penalized),
                Some(Duration::ZERO) => {
                    sources.penalties.remove(&source);
                }
                _ => {}
            }
        }
        if sources.half_open >= MAX_HALF_OPEN {
            return Err(Turned::Busy);
        }
        if let Some(source) = source {
            let count = sources.by_source.entry(source).or_default();
            if *count >= MAX_HALF_OPEN_PER_SOURCE {
                return Err(Turned::Busy);
            }
            *count += 1;
        }
        sources.half_open += 1;
        let deadline = if sources.half_open > CROWDED { CROWDED_DEADLINE } else { HANDSHAKE_DEADLINE };
        Ok(HalfOpen { limits: Arc::clone(self), source, deadline })
    }

    /// Charges `source` for what it has caused.
    pub(crate) fn charge(&self, source: Option<IpAddr>, cost: Duration, now: Instant) {
        let Some(source) = source.map(network) else { return };
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.penalties.len() >= MAX_SOURCES && !sources.penalties.contains_key(&source) {
            sources.penalties.retain(|_, until| *until > now);
            if sources.penalties.len() >= MAX_SOURCES
                && let Some(least) =
                    sources.penalties.iter().min_by_key(|(_, until)| **until).map(|(ip, _)| *ip)
            {
                sources.penalties.remove(&least);
            }
        }
        let until = sources.penalties.entry(source).or_insert(now);
        *until = ((*until).max(now) + cost).min(now + MAX_OWED);
    }

    /// Takes up a place for a channel of `holder`, until what is returned is dropped: `most` of them at once, where
    /// that is given, and `in_all` with all others.
    pub(crate) fn begin_channel(
        self: &Arc<Self>,
        holder: &Holder<'_>,
        most: Option<usize>,
        in_all: Option<usize>,
    ) -> Option<OpenChannel> {
        let (holder, usual) = match holder {
            Holder::Client(name) => (format!("client {name}"), MAX_CHANNELS_PER_CLIENT),
            Holder::Stranger(Some(source)) => {
                (format!("source {}", network(*source)), MAX_CHANNELS_PER_STRANGER)
            }
            Holder::Stranger(None) => ("this machine".to_owned(), MAX_CHANNELS_PER_STRANGER),
        };
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if channels.all >= in_all.unwrap_or(usize::MAX).min(self.max_channels) {
            return None;
        }
        let count = channels.by_holder.entry(holder.clone()).or_default();
        if *count >= most.unwrap_or(usual) {
            if *count == 0 {
                channels.by_holder.remove(&holder);
            }
            return None;
        }
        *count += 1;
        channels.all += 1;
        Some(OpenChannel { limits: Arc::clone(self), holder })
    }

    /// Channels that stand.
    pub(crate) fn channels(&self) -> usize {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).all
    }

    /// The pace of a client, which all its channels share.
    pub(crate) fn throttle(&self, client: &str) -> Throttle {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(throttle) = channels.throttles.get(client) {
            return throttle.clone();
        }
        // Those of clients that are gone go with the next that comes.
        channels.throttles.retain(|_, throttle| throttle.is_shared());
        channels.throttles.entry(client.to_owned()).or_default().clone()
    }
}

/// Whose channels are counted together: a stranger could make up as many names as it likes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Holder<'a> {
    /// A client that has been allowed, by its name.
    Client(&'a str),
    /// Anybody else, by where it comes from.
    Stranger(Option<IpAddr>),
}

/// A handshake under way.
#[derive(Debug)]
pub(crate) struct HalfOpen {
    limits: Arc<Limits>,
    source: Option<IpAddr>,
    deadline: Duration,
}

impl HalfOpen {
    /// How long it may take.
    pub(crate) fn deadline(&self) -> Duration {
        self.deadline
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        let mut sources = self.limits.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.half_open -= 1;
        if let Some(source) = self.source
            && let Some(count) = sources.by_source.get_mut(&source)
        {
            *count -= 1;
            if *count == 0 {
                sources.by_source.remove(&source);
            }
        }
    }
}

/// A channel that stands.
#[derive(Debug)]
pub(crate) struct OpenChannel {
    limits: Arc<Limits>,
    holder: String,
}

impl Drop for OpenChannel {
    fn drop(&mut self) {
        let mut channels = self.limits.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.all -= 1;
        if let Some(count) = channels.by_holder.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                channels.by_holder.remove(&self.holder);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or the /64 that an IPv6 host can take any address of.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_source_that_keeps_failing_is_turned_away_and_forgiven_in_time() {
        let limits = Arc::new(Limits::new(100_000));
        let now = Instant::now();
        let source = ip("192.0.2.1");
        for _ in 0..7 {
            limits.charge(source, FAILURE, now);
            assert!(limits.begin_handshake(source, now).is_ok());
        }
        limits.charge(source, FAILURE, now);
        assert_eq!(limits.begin_handshake(source, now).unwrap_err(), Turned::Penalized);
        assert!(limits.begin_handshake(ip("192.0.2.2"), now).is_ok());
        assert!(limits.begin_handshake(None, now).is_ok());
        assert!(limits.begin_handshake(source, now + Duration::from_secs(2)).is_ok());

        for _ in 0..10_000 {
            limits.charge(source, FAILURE, now);
        }
        assert!(limits.begin_handshake(source, now + MAX_OWED).is_ok());
    }

    #[test]
    fn an_ipv6_source_is_its_network() {
        let limits = Arc::new(Limits::new(100_000));
        let now = Instant::now();
        for host in 0..8 {
            limits.charge(ip(&format!("2001:db8::{host}")), FAILURE, now);
        }
        assert_eq!(limits.begin_handshake(ip("2001:db8::ffff"), now).unwrap_err(), Turned::Penalized);
        assert!(limits.begin_handshake(ip("2001:db8:0:1::1"), now).is_ok());
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let limits = Arc::new(Limits::new(100_000));
        let now = Instant::now();
        let source = ip("192.0.2.1");
        let places: Vec<_> =
            (0..MAX_HALF_OPEN_PER_SOURCE).map(|_| limits.begin_handshake(source, now).unwrap()).collect();
        assert_eq!(limits.begin_handshake(source, now).unwrap_err(), Turned::Busy);
        assert!(limits.begin_handshake(ip("192.0.2.2"), now).is_ok());
        drop(places);
        assert!(limits.begin_handshake(source, now).is_ok());

        let all: Vec<_> = (0..MAX_HALF_OPEN).map(|_| limits.begin_handshake(None, now).unwrap()).collect();
        assert_eq!(limits.begin_handshake(None, now).unwrap_err(), Turned::Busy);
        drop(all);
        assert!(limits.sources.lock().unwrap().by_source.is_empty());
    }

    #[test]
    fn channels_of_a_client_are_bounded() {
        let limits = Arc::new(Limits::new(100_000));
        let alice = Holder::Client("alice");
        let begin = |holder| limits.begin_channel(&holder, None, None);
        let all: Vec<_> = (0..MAX_CHANNELS_PER_CLIENT).map(|_| begin(alice).unwrap()).collect();
        assert!(begin(alice).is_none());
        assert!(begin(Holder::Client("bob")).is_some());
        drop(all);
        assert!(begin(alice).is_some());

        let three: Vec<_> = (0..3).map(|_| limits.begin_channel(&alice, Some(3), None).unwrap()).collect();
        assert!(limits.begin_channel(&alice, Some(3), None).is_none());
        assert!(limits.begin_channel(&Holder::Client("bob"), None, Some(3)).is_none());
        assert_eq!(limits.channels(), 3);
        drop(three);
        assert!(limits.begin_channel(&alice, Some(0), None).is_none());
        assert!(limits.channels.lock().unwrap().by_holder.is_empty());
    }

    #[test]
    fn strangers_are_counted_by_where_they_come_from() {
        let limits = Arc::new(Limits::new(100_000));
        let near = Holder::Stranger(ip("2001:db8::1"));
        let _all: Vec<_> = (0..MAX_CHANNELS_PER_STRANGER)
            .map(|_| limits.begin_channel(&near, None, None).unwrap())
            .collect();
        assert!(limits.begin_channel(&Holder::Stranger(ip("2001:db8::2")), None, None).is_none());
        assert!(limits.begin_channel(&Holder::Stranger(ip("2001:db8:0:1::2")), None, None).is_some());
        assert!(limits.begin_channel(&Holder::Stranger(None), None, None).is_some());
    }

    #[test]
    fn channels_in_all_are_bounded_by_the_descriptors() {
        let limits = Arc::new(Limits::new(MAX_HALF_OPEN + RESERVED_DESCRIPTORS + 4));
        let _first = limits.begin_channel(&Holder::Client("a"), None, None).unwrap();
        let _second = limits.begin_channel(&Holder::Client("b"), None, None).unwrap();
        assert!(limits.begin_channel(&Holder::Client("c"), None, None).is_none());
    }

    #[test]
    fn newcomers_to_a_crowd_get_less_time() {
        let limits = Arc::new(Limits::new(100_000));
        let now = Instant::now();
        let crowd: Vec<_> = (0..CROWDED).map(|_| limits.begin_handshake(None, now).unwrap()).collect();
        assert!(crowd.iter().all(|place| place.deadline() == HANDSHAKE_DEADLINE));
        assert_eq!(limits.begin_handshake(None, now).unwrap().deadline(), CROWDED_DEADLINE);
    }

    #[test]
    fn sources_that_are_remembered_are_bounded() {
        let limits = Limits::new(100_000);
        let now = Instant::now();
        for host in 0..=u32::try_from(MAX_SOURCES).unwrap() {
            limits.charge(Some(IpAddr::V4(host.into())), FAILURE, now);
        }
        assert_eq!(limits.sources.lock().unwrap().penalties.len(), MAX_SOURCES);
    }
}

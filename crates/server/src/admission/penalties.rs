//! Penalties of sources for garbage and failed proofs, and the sources that allowed clients have come from.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Time that a failure adds to the debt of its source.
const FAILURE: Duration = Duration::from_secs(2);
/// Debt above which a source is banned: one failure is a mistake, eight in a row are not.
const TOLERATED: Duration = Duration::from_secs(15);
/// Debt of a source that is banned for the first time. Each further ban doubles it, since at a constant price a
/// thousand sources that fail forever would keep all processors busy.
const BAN: Duration = Duration::from_secs(60);
/// Greatest debt of a source, so that every ban ends. The number of bans is remembered for as long after the debt
/// has been paid.
const MAX_OWED: Duration = Duration::from_secs(600);
/// Most sources with a debt. Each takes about 50 bytes.
const MAX_SOURCES: usize = 65536;
/// Time for which a source stays known after an allowed client has connected from it.
const KNOWN_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Most known sources. Only allowed clients add any.
const MAX_KNOWN: usize = 8192;
/// Number of sources of which the least important one is forgotten for a new one. Searching all of them would take
/// longer than a handshake.
const SAMPLE: usize = 16;

/// What earlier connections from a source say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reputation {
    /// An allowed client has connected from the source, and the source has no debt.
    Known,
    /// The source has no debt.
    Clean,
    /// The source has failed recently.
    Owing,
    /// The source has failed too often.
    Banned,
}

/// The debts and the known sources, by address.
#[derive(Debug, Default)]
pub(super) struct Penalties {
    debts: HashMap<IpAddr, Debt>,
    known: HashMap<IpAddr, Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Debt {
    /// The time at which the debt is paid.
    until: Instant,
    /// Number of times that the source was banned.
    bans: u32,
}

impl Penalties {
    /// Adds to the debt of `source`, and returns whether it is banned by that.
    pub(super) fn charge(&mut self, source: IpAddr, now: Instant) -> bool {
        make_room(&mut self.debts, MAX_SOURCES, source, |debt| debt.until);
        let debt = self.debts.entry(source).or_insert(Debt { until: now, bans: 0 });
        if debt.until + MAX_OWED < now {
            debt.bans = 0;
        }
        debt.until = (debt.until.max(now) + FAILURE).min(now + MAX_OWED);
        let is_banned = debt.until - now > TOLERATED;
        if is_banned {
            let ban = BAN.saturating_mul(1 << debt.bans.min(8)).min(MAX_OWED);
            debt.until = debt.until.max(now + ban);
            debt.bans += 1;
        }
        is_banned
    }

    /// How many sources are banned.
    pub(super) fn banned(&self, now: Instant) -> usize {
        let is_banned = |source: &&IpAddr| self.reputation(**source, now) == Reputation::Banned;
        self.debts.keys().filter(is_banned).count()
    }

    pub(super) fn note_known(&mut self, source: IpAddr, now: Instant) {
        make_room(&mut self.known, MAX_KNOWN, source, |since| *since);
        self.known.insert(source, now);
    }

    /// Whether an allowed client has connected from `source` lately.
    pub(super) fn is_known(&self, source: IpAddr, now: Instant) -> bool {
        self.known.get(&source).is_some_and(|since| now.saturating_duration_since(*since) < KNOWN_FOR)
    }

    pub(super) fn reputation(&self, source: IpAddr, now: Instant) -> Reputation {
        let owed =
            self.debts.get(&source).map_or(Duration::ZERO, |debt| debt.until.saturating_duration_since(now));
        match (self.is_known(source, now), owed) {
            (true, Duration::ZERO) => Reputation::Known,
            (false, Duration::ZERO) => Reputation::Clean,
            // A known source is never banned, since allowed clients share the address with the one that fails. It
            // waits behind all others, but is served.
            (false, owed) if owed > TOLERATED => Reputation::Banned,
            _ => Reputation::Owing,
        }
    }
}

/// Makes room for `key` in a full `map`: of a few entries, the one with the earliest moment is removed.
fn make_room<T>(map: &mut HashMap<IpAddr, T>, most: usize, key: IpAddr, moment: impl Fn(&T) -> Instant) {
    if map.len() >= most && !map.contains_key(&key) {
        let sample = map.iter().take(SAMPLE);
        if let Some(least) = sample.min_by_key(|(_, value)| moment(value)).map(|(key, _)| *key) {
            map.remove(&least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn failed(times: usize, now: Instant) -> Penalties {
        let mut penalties = Penalties::default();
        for _ in 0..times {
            penalties.charge(SOURCE, now);
        }
        penalties
    }

    #[test]
    fn eight_failures_in_a_row_are_too_many_and_are_forgiven() {
        let now = Instant::now();
        assert_eq!(failed(0, now).reputation(SOURCE, now), Reputation::Clean);
        assert_eq!(failed(7, now).reputation(SOURCE, now), Reputation::Owing);
        let penalties = failed(8, now);
        assert_eq!(penalties.reputation(SOURCE, now), Reputation::Banned);
        assert_eq!(penalties.reputation(SOURCE, now + BAN - TOLERATED), Reputation::Owing);
        assert_eq!(penalties.reputation(SOURCE, now + BAN), Reputation::Clean);
        let penalties = failed(10_000, now);
        assert_eq!(penalties.reputation(SOURCE, now + MAX_OWED), Reputation::Clean);
    }

    #[test]
    fn a_source_that_keeps_failing_is_banned_for_longer_and_longer() {
        let mut now = Instant::now();
        let mut penalties = Penalties::default();
        let mut failures = 0;
        let end = now + Duration::from_secs(3600);
        while now < end {
            if penalties.reputation(SOURCE, now) != Reputation::Banned {
                penalties.charge(SOURCE, now);
                failures += 1;
            }
            now += Duration::from_millis(100);
        }
        assert!(failures < 20, "{failures} failures in an hour");
    }

    #[test]
    fn a_known_source_is_served_even_while_one_of_its_clients_fails() {
        let now = Instant::now();
        let mut penalties = failed(0, now);
        penalties.note_known(SOURCE, now);
        assert_eq!(penalties.reputation(SOURCE, now), Reputation::Known);
        assert_eq!(penalties.reputation(SOURCE, now + KNOWN_FOR), Reputation::Clean);
        for _ in 0..100 {
            penalties.charge(SOURCE, now);
        }
        assert_eq!(penalties.reputation(SOURCE, now), Reputation::Owing);
    }

    #[test]
    fn sources_that_are_remembered_are_bounded() {
        let now = Instant::now();
        let mut penalties = Penalties::default();
        for host in 0..=u32::try_from(MAX_SOURCES).unwrap() {
            penalties.charge(IpAddr::V4(host.into()), now);
            penalties.note_known(IpAddr::V4(host.into()), now);
        }
        assert_eq!(penalties.debts.len(), MAX_SOURCES);
        assert_eq!(penalties.known.len(), MAX_KNOWN);
    }
}

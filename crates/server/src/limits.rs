//! Limits on channels, in all and by client, and the throttles of clients.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wire_protocol::message::ClientIdentity;
use wire_protocol::stream::RetentionBudget;

use crate::quota::QuotaKey;
use crate::throttle::Throttle;

/// Most channels of one client at once, unless its rights set another limit.
const MAX_CHANNELS_PER_CLIENT: usize = 16384;
/// Most channels of the anonymous clients of one source at once.
const MAX_CHANNELS_PER_SOURCE: usize = 256;
/// The share of all channels that anonymous clients may have together: one of so many. The others stay free for
/// allowed clients.
const ANONYMOUS_SHARE: usize = 2;

/// The numbers of channels, by quota key.
#[derive(Debug)]
pub(crate) struct Limits {
    channels: Mutex<Channels>,
    max_channels: usize,
}

#[derive(Debug, Default)]
struct Channels {
    all: usize,
    /// The number of channels of anonymous clients.
    anonymous: usize,
    by_key: HashMap<QuotaKey, usize>,
    /// The throttle of each connected client.
    throttles: BTreeMap<ClientIdentity, Throttle>,
    /// What the resumable streams of each client may keep.
    budgets: BTreeMap<ClientIdentity, RetentionBudget>,
}

impl Limits {
    /// Creates the limits, with room for `max_channels` channels.
    pub(crate) fn new(max_channels: usize) -> Self {
        Self { channels: Mutex::default(), max_channels }
    }

    /// Counts a channel of `key` until the result is dropped. `None` where `key` has `most` channels already, if
    /// that is given, or all clients together have `in_all`.
    pub(crate) fn begin_channel(
        self: &Arc<Self>,
        key: QuotaKey,
        most: Option<usize>,
        in_all: Option<usize>,
    ) -> Option<OpenChannel> {
        let usual = if key.is_enrolled() { MAX_CHANNELS_PER_CLIENT } else { MAX_CHANNELS_PER_SOURCE };
        let mut channels = self.counted();
        let in_all = in_all.unwrap_or(usize::MAX).min(self.max_channels);
        let is_full = channels.all >= in_all
            || !key.is_enrolled() && channels.anonymous >= in_all.div_ceil(ANONYMOUS_SHARE)
            || channels.by_key.get(&key).copied().unwrap_or_default() >= most.unwrap_or(usual);
        if is_full {
            return None;
        }
        *channels.by_key.entry(key.clone()).or_default() += 1;
        channels.all += 1;
        channels.anonymous += usize::from(!key.is_enrolled());
        Some(OpenChannel { limits: Arc::clone(self), key })
    }

    /// The number of established channels.
    pub(crate) fn channels(&self) -> usize {
        self.counted().all
    }

    /// The throttle of a client, which all its channels share with no other client: a client whose rights change
    /// while it is connected gets another rate, which must not affect others from the same source.
    pub(crate) fn throttle(&self, client: &ClientIdentity) -> Throttle {
        let mut channels = self.counted();
        if let Some(throttle) = channels.throttles.get(client) {
            return throttle.clone();
        }
        // Throttles of clients that have left are removed here.
        channels.throttles.retain(|_, throttle| throttle.is_shared());
        channels.throttles.entry(client.clone()).or_default().clone()
    }

    /// What the resumable streams of a client may keep, which all its channels share: `new` where it has none.
    pub(crate) fn retention_budget(
        &self,
        client: &ClientIdentity,
        new: impl FnOnce() -> RetentionBudget,
    ) -> RetentionBudget {
        let mut channels = self.counted();
        if let Some(budget) = channels.budgets.get(client) {
            return budget.clone();
        }
        // Budgets of clients that have left, and have nothing held any more, are removed here.
        channels.budgets.retain(|_, budget| budget.is_shared());
        channels.budgets.entry(client.clone()).or_insert_with(new).clone()
    }

    fn counted(&self) -> MutexGuard<'_, Channels> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The count of an established channel, which ends when this is dropped.
#[derive(Debug)]
pub(crate) struct OpenChannel {
    limits: Arc<Limits>,
    key: QuotaKey,
}

impl Drop for OpenChannel {
    fn drop(&mut self) {
        let mut channels = self.limits.counted();
        channels.all -= 1;
        channels.anonymous -= usize::from(!self.key.is_enrolled());
        if let Some(count) = channels.by_key.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                channels.by_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use crypto_core::identity::KeyId;
    use wire_protocol::stream::Pace as _;

    use super::*;

    fn client(name: &str) -> QuotaKey {
        QuotaKey::Client(name.into())
    }

    fn source(text: &str) -> QuotaKey {
        QuotaKey::anonymous(Some(text.parse().unwrap()))
    }

    #[test]
    fn channels_of_a_client_are_bounded() {
        let limits = Arc::new(Limits::new(30_000));
        let alice = || client("alice");
        let begin = |key| limits.begin_channel(key, None, None);
        let all: Vec<_> = (0..MAX_CHANNELS_PER_CLIENT).map(|_| begin(alice()).unwrap()).collect();
        assert!(begin(alice()).is_none());
        assert!(begin(client("bob")).is_some());
        drop(all);
        assert!(begin(alice()).is_some());

        let three: Vec<_> = (0..3).map(|_| limits.begin_channel(alice(), Some(3), None).unwrap()).collect();
        assert!(limits.begin_channel(alice(), Some(3), None).is_none());
        assert!(limits.begin_channel(client("bob"), None, Some(3)).is_none());
        assert_eq!(limits.channels(), 3);
        drop(three);
        assert!(limits.begin_channel(alice(), Some(0), None).is_none());
        assert!(limits.channels.lock().unwrap().by_key.is_empty());
    }

    #[test]
    fn anonymous_clients_are_counted_by_where_they_come_from() {
        let limits = Arc::new(Limits::new(30_000));
        let near = source("2001:db8::1");
        let _all: Vec<_> = (0..MAX_CHANNELS_PER_SOURCE)
            .map(|_| limits.begin_channel(near.clone(), None, None).unwrap())
            .collect();
        assert!(limits.begin_channel(source("2001:db8::2"), None, None).is_none());
        assert!(limits.begin_channel(source("2001:db8:0:1::2"), None, None).is_some());
        assert!(limits.begin_channel(QuotaKey::ThisMachine, None, None).is_some());
    }

    #[test]
    fn a_client_that_gets_a_rate_while_it_is_in_shares_it_with_no_other() {
        let limits = Arc::new(Limits::new(100));
        let (allowed, other) = (ClientIdentity::Key(KeyId([1; 32])), ClientIdentity::Key(KeyId([2; 32])));
        let [one, two, neighbor] = [&allowed, &allowed, &other].map(|client| limits.throttle(client));
        let is_limited = |throttle: &Throttle| throttle.records() == 1;
        one.set_rate(NonZeroU64::new(1024));
        assert!(is_limited(&one) && is_limited(&two) && !is_limited(&neighbor));
        neighbor.set_rate(None);
        assert!(is_limited(&two));
        drop((one, two));
        drop(limits.throttle(&ClientIdentity::Anonymous));
        assert!(!is_limited(&limits.throttle(&allowed)));
    }

    #[test]
    fn channels_in_all_are_bounded() {
        let limits = Arc::new(Limits::new(2));
        let _first = limits.begin_channel(client("a"), None, None).unwrap();
        let _second = limits.begin_channel(client("b"), None, None).unwrap();
        assert!(limits.begin_channel(client("c"), None, None).is_none());
    }

    #[test]
    fn anonymous_clients_leave_channels_to_those_that_were_allowed() {
        let limits = Arc::new(Limits::new(100));
        let anonymous: Vec<_> = (0..100)
            .filter_map(|host| limits.begin_channel(source(&format!("192.0.2.{host}")), None, None))
            .collect();
        assert_eq!(anonymous.len(), 50);
        let allowed: Vec<_> =
            (0..100).filter_map(|_| limits.begin_channel(client("alice"), None, None)).collect();
        assert_eq!(allowed.len(), 50);
        drop((anonymous, allowed));
        let few = || limits.begin_channel(QuotaKey::ThisMachine, None, Some(1));
        assert!(few().is_some() && few().is_some());
    }
}

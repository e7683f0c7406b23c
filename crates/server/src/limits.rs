//! How many channels there may be at once, by whom.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::admission::host;
use crate::throttle::Throttle;

/// Channels of one client at once, unless its rights say otherwise.
pub(crate) const MAX_CHANNELS_PER_CLIENT: usize = 16384;
/// Channels of the strangers of one source at once.
pub(crate) const MAX_CHANNELS_PER_STRANGER: usize = 256;
/// What part of all channels strangers may have together: where anyone may come in, those who were allowed still can.
const STRANGERS_SHARE: usize = 2;

/// Counts channels, by whose they are.
#[derive(Debug)]
pub(crate) struct Limits {
    channels: Mutex<Channels>,
    max_channels: usize,
}

#[derive(Debug, Default)]
struct Channels {
    all: usize,
    /// Those of strangers among them.
    strangers: usize,
    by_holder: HashMap<String, usize>,
    /// The pace of each client that has one.
    throttles: HashMap<String, Throttle>,
}

impl Limits {
    /// With room for so many channels.
    pub(crate) fn new(max_channels: usize) -> Self {
        Self { channels: Mutex::default(), max_channels }
    }

    /// Takes up a place for a channel of `holder`, until what is returned is dropped: `most` of them at once, where
    /// that is given, and `in_all` with all others.
    pub(crate) fn begin_channel(
        self: &Arc<Self>,
        holder: &Holder<'_>,
        most: Option<usize>,
        in_all: Option<usize>,
    ) -> Option<OpenChannel> {
        let is_stranger = matches!(holder, Holder::Stranger(_));
        let (holder, usual) = match holder {
            Holder::Client(name) => (format!("client {name}"), MAX_CHANNELS_PER_CLIENT),
            Holder::Stranger(Some(source)) => {
                (format!("source {}", host(*source)), MAX_CHANNELS_PER_STRANGER)
            }
            Holder::Stranger(None) => ("this machine".to_owned(), MAX_CHANNELS_PER_STRANGER),
        };
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let in_all = in_all.unwrap_or(usize::MAX).min(self.max_channels);
        if channels.all >= in_all || is_stranger && channels.strangers >= in_all.div_ceil(STRANGERS_SHARE) {
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
        channels.strangers += usize::from(is_stranger);
        Some(OpenChannel { limits: Arc::clone(self), holder, is_stranger })
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

/// A channel that stands.
#[derive(Debug)]
pub(crate) struct OpenChannel {
    limits: Arc<Limits>,
    holder: String,
    is_stranger: bool,
}

impl Drop for OpenChannel {
    fn drop(&mut self) {
        let mut channels = self.limits.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.all -= 1;
        channels.strangers -= usize::from(self.is_stranger);
        if let Some(count) = channels.by_holder.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                channels.by_holder.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn channels_of_a_client_are_bounded() {
        let limits = Arc::new(Limits::new(30_000));
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
        let limits = Arc::new(Limits::new(30_000));
        let near = Holder::Stranger(ip("2001:db8::1"));
        let _all: Vec<_> = (0..MAX_CHANNELS_PER_STRANGER)
            .map(|_| limits.begin_channel(&near, None, None).unwrap())
            .collect();
        assert!(limits.begin_channel(&Holder::Stranger(ip("2001:db8::2")), None, None).is_none());
        assert!(limits.begin_channel(&Holder::Stranger(ip("2001:db8:0:1::2")), None, None).is_some());
        assert!(limits.begin_channel(&Holder::Stranger(None), None, None).is_some());
    }

    #[test]
    fn channels_in_all_are_bounded() {
        let limits = Arc::new(Limits::new(2));
        let _first = limits.begin_channel(&Holder::Client("a"), None, None).unwrap();
        let _second = limits.begin_channel(&Holder::Client("b"), None, None).unwrap();
        assert!(limits.begin_channel(&Holder::Client("c"), None, None).is_none());
    }

    #[test]
    fn strangers_leave_channels_to_those_who_were_allowed() {
        let limits = Arc::new(Limits::new(100));
        let strangers: Vec<_> = (0..100)
            .filter_map(|host| {
                limits.begin_channel(&Holder::Stranger(ip(&format!("192.0.2.{host}"))), None, None)
            })
            .collect();
        assert_eq!(strangers.len(), 50);
        let allowed: Vec<_> =
            (0..100).filter_map(|_| limits.begin_channel(&Holder::Client("alice"), None, None)).collect();
        assert_eq!(allowed.len(), 50);
        drop((strangers, allowed));
        let few = || limits.begin_channel(&Holder::Stranger(None), None, Some(1));
        assert!(few().is_some() && few().is_some());
    }
}

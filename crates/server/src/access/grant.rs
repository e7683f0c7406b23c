//! Grants: rights, with the time and the networks that they are limited to.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use cli_support::duration;
use jiff::Timestamp;
use jiff::civil::{Date, date};
use jiff::fmt::temporal::Pieces;

use crate::access::network::Network;
use crate::access::permission::{difference, union};
use crate::access::rights::Rights;
use crate::access::text::option;
use crate::error::Error;

/// The rights that a client was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The rights.
    pub rights: Arc<Rights>,
    /// The time from which the client is refused; `None` for no limit.
    pub expires: Option<Timestamp>,
    /// The networks that the client must connect from; `None` for any.
    pub from: Option<Vec<Network>>,
}

impl Grant {
    /// Grants these rights at any time and from anywhere.
    #[must_use]
    pub fn unlimited(rights: Rights) -> Self {
        Self { rights: Arc::new(rights), expires: None, from: None }
    }

    /// The rights and the limits in the words of the options of `server allow`.
    pub(crate) fn options(&self, now: Timestamp) -> String {
        self.option_list(now).join(" ")
    }

    /// The options of [`Grant::options`], one by one.
    fn option_list(&self, now: Timestamp) -> Vec<String> {
        let mut options = Vec::new();
        options.extend(self.rights.is_none().then(|| "(no rights)".to_owned()));
        options.extend(self.rights.all_words());
        options.extend(self.from.iter().flatten().map(|network| option("--from", network)));
        options
            .extend(self.from.as_ref().filter(|from| from.is_empty()).map(|_| "(from nowhere)".to_owned()));
        options.extend(self.expires.map(|expires| option("--expires", expires)));
        options.extend(self.has_expired(now).then(|| "(expired)".to_owned()));
        options
    }

    /// The options of [`Grant::options`] in at most `limit` bytes. Where they have more, the last ones are left out, and
    /// dots stand for them.
    pub(crate) fn options_within(&self, limit: usize, now: Timestamp) -> String {
        let all = self.options(now);
        if all.len() <= limit {
            return all;
        }
        let mut text = String::new();
        for option in self.option_list(now) {
            if text.len() + option.len() + LEFT_OUT.len() + 1 > limit {
                break;
            }
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(&option);
        }
        text + LEFT_OUT
    }

    /// The limits, each in the words of the options of `server allow`.
    pub(super) fn limit_words(&self) -> Vec<String> {
        let mut words = self.rights.limit_words();
        words.extend(self.from.iter().flatten().map(|network| option("--from", network)));
        words.extend(self.expires.map(|expires| option("--expires", expires)));
        words
    }

    /// Adds the rights of `more`, whose limits replace the limits of this grant.
    pub(super) fn with(&self, more: &Self) -> Self {
        let from = match (&self.from, &more.from) {
            (Some(ones), Some(others)) => Some(union(ones, others)),
            (ones, others) => others.clone().or_else(|| ones.clone()),
        };
        Self {
            rights: Arc::new(self.rights.with(&more.rights)),
            expires: more.expires.or(self.expires),
            from,
        }
    }

    /// Removes the rights and the networks of `less`, all of which this grant must have.
    pub(super) fn without(&self, less: &Self) -> Result<Self, Error> {
        let held = self.from.as_deref().unwrap_or_default();
        let gone = less.from.as_deref().unwrap_or_default();
        if let Some(network) = gone.iter().find(|network| !held.contains(network)) {
            return Err(Error::NotHeld { right: option("--from", network) });
        }
        Ok(Self {
            rights: Arc::new(self.rights.without(&less.rights)?),
            expires: self.expires,
            from: self.from.as_deref().map(|from| difference(from, gone)),
        })
    }

    /// Returns whether a client that comes from `source` is within the networks. One on a unix socket has no address,
    /// and so is in none of them.
    pub(super) fn is_from(&self, source: Option<IpAddr>) -> bool {
        let is_near = |ip| self.from.iter().flatten().any(|network| network.covers(ip));
        self.from.is_none() || source.is_some_and(is_near)
    }

    pub(crate) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// The end of rights, as an argument of `server allow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// The end after this time.
    After(Duration),
    /// The end at this point in time.
    At(Timestamp),
}

impl Expiry {
    /// The point in time, in whole seconds.
    #[must_use]
    pub fn moment(self, now: Timestamp) -> Timestamp {
        let moment = match self {
            Self::After(duration) => now.checked_add(duration).unwrap_or(Timestamp::MAX),
            Self::At(moment) => moment,
        };
        Timestamp::from_second(moment.as_second()).unwrap_or(moment)
    }
}

impl FromStr for Expiry {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(duration) = duration::parse(text) {
            return Ok(Self::After(duration));
        }
        moment(text).map(Self::At).ok_or(Error::Rule {
            text: text.into(),
            problem: "is neither a duration such as 90d nor a moment such as 2027-02-22T10:00:00Z",
        })
    }
}

/// Parses a point in time. The end of the year 9999, which other programs write for never, is beyond the range of
/// computations, and becomes the last time within it.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    if let Ok(moment) = text.parse() {
        return Some(moment);
    }
    let pieces = Pieces::parse(text).ok()?;
    let is_never = pieces.date() >= LAST_DAY && pieces.time().is_some() && pieces.offset().is_some();
    Timestamp::from_second(Timestamp::MAX.as_second()).ok().filter(|_| is_never)
}

/// Stands for options that are left out.
const LEFT_OUT: &str = " ...";
/// The first day of which some points in time are beyond the range of computations.
const LAST_DAY: Date = date(9999, 12, 30);

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(duration) => write!(f, "{}s", duration.as_secs()),
            Self::At(moment) => moment.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_that_is_too_long_is_cut_at_an_option() {
        let tcp = (0..200).map(|port| format!("10.0.0.1:{}", 8000 + port).parse().unwrap()).collect();
        let grant = Grant::unlimited(Rights { messages: true, tcp, ..Rights::none() });
        let now = Timestamp::now();
        let all = grant.options(now);
        assert_eq!(grant.options_within(all.len(), now), all);
        for limit in [all.len() - 1, 2048, 100, 31, 16] {
            let cut = grant.options_within(limit, now);
            let kept = cut.strip_suffix(" ...").unwrap();
            assert!(cut.len() <= limit && all.starts_with(kept), "{limit}: {cut}");
            assert!(all[kept.len()..].starts_with(" --tcp "), "{limit}: {cut}");
        }
    }
}

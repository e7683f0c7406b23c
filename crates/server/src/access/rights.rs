//! The set of rights of a client.

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};

use cli_support::rate::Rate;

use crate::access::files_rule::FilesRule;
use crate::access::name::Name;
use crate::access::permission::{Held, Permission, with_permissions};
use crate::access::proxied::Proxied;
use crate::access::rule::{ListenRule, SocketPath, TargetRule};
use crate::access::text::option;
use crate::error::Error;
use crate::traffic_quota::TrafficQuota;

macro_rules! rights {
    ($($(#[$_:meta])* $key:ident: $held:ty, $permission:ident;)*) => {
        /// The set of rights of a client. An action that is not in the set is refused.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Rights {
            $(pub(crate) $key: $held,)*
            pub(crate) max_channels: Option<NonZeroUsize>,
            pub(crate) max_rate: Option<Rate>,
            pub(crate) quota: Option<TrafficQuota>,
        }

        impl Rights {
            /// The empty set.
            #[must_use]
            pub fn none() -> Self {
                Self { $($key: Held::nothing(),)* max_channels: None, max_rate: None, quota: None }
            }

            /// Each right in the words of the options of `server allow`.
            pub(super) fn words(&self) -> Vec<String> {
                [$(self.$key.words(Permission::$permission)),*].concat()
            }

            /// The rights one by one, each as a set of its own, with its words.
            pub(super) fn each(&self) -> Vec<(String, Self)> {
                let mut each = Vec::new();
                $(for $key in self.$key.each() {
                    let words = $key.words(Permission::$permission).concat();
                    each.push((words, Self { $key, ..Self::none() }));
                })*
                each
            }

            /// Adds the rights of `more`. Limits of `more` replace those of this set.
            pub(super) fn with(&self, more: &Self) -> Self {
                Self {
                    $($key: self.$key.with(&more.$key),)*
                    max_channels: more.max_channels.or(self.max_channels),
                    max_rate: more.max_rate.or(self.max_rate),
                    quota: more.quota.or(self.quota),
                }
            }

            /// Removes the rights of `less`, all of which must be in this set. Limits are unchanged.
            pub(super) fn without(&self, less: &Self) -> Result<Self, Error> {
                let held = self.words();
                if let Some(right) = less.words().into_iter().find(|right| !held.contains(right)) {
                    return Err(Error::NotHeld { right });
                }
                Ok(Self {
                    $($key: self.$key.without(&less.$key),)*
                    max_channels: self.max_channels,
                    max_rate: self.max_rate,
                    quota: self.quota,
                })
            }
        }
    };
}

with_permissions!(rights);

impl Rights {
    /// Messages and the pipe: the rights of a client for which no right was named.
    #[must_use]
    pub fn usual() -> Self {
        Self { messages: true, pipe: true, ..Self::none() }
    }

    /// Only the right to send messages.
    #[must_use]
    pub fn messages_alone() -> Self {
        Self { messages: true, ..Self::none() }
    }

    /// Returns whether the set is empty. Limits are no rights.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.words().is_empty()
    }

    /// Most channels that the client may have at once; `None` where only the server's own limit holds.
    #[must_use]
    pub fn max_channels(&self) -> Option<usize> {
        self.max_channels.map(NonZeroUsize::get)
    }

    /// Most bytes that the client may transfer per second; `None` for no limit.
    #[must_use]
    pub fn max_rate(&self) -> Option<NonZeroU64> {
        self.max_rate.map(Rate::bytes_per_second)
    }

    /// The rights and limits, each in the words of the options of `server allow`.
    pub(super) fn all_words(&self) -> Vec<String> {
        [self.words(), self.limit_words()].concat()
    }

    /// Each limit in the words of the options of `server allow`.
    pub(super) fn limit_words(&self) -> Vec<String> {
        let mut options = Vec::new();
        options.extend(self.max_channels.map(|count| option("--max-channels", count)));
        options.extend(self.max_rate.map(|rate| option("--max-rate", rate)));
        options.extend(self.quota.map(|quota| option("--quota", quota)));
        options
    }
}

/// Prints the rights and limits in the words of the options of `server allow`.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.all_words().join(" "))
    }
}

//! What a client may do.

use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};

use crate::access::name::Name;
use crate::access::permission::{Held, Permission, with_permissions};
use crate::access::proxied::Proxied;
use crate::access::rate::Rate;
use crate::access::rule::{ListenRule, SocketPath, TargetRule};
use crate::access::text::option;
use crate::error::Error;

macro_rules! rights {
    ($($(#[$_:meta])* $key:ident: $held:ty, $permission:ident;)*) => {
        /// What a client may do. Whatever is not in it is refused.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Rights {
            $(pub(crate) $key: $held,)*
            pub(crate) max_channels: Option<NonZeroUsize>,
            pub(crate) max_rate: Option<Rate>,
        }

        impl Rights {
            /// None at all.
            #[must_use]
            pub fn none() -> Self {
                Self { $($key: Held::nothing(),)* max_channels: None, max_rate: None }
            }

            /// Each right in the words of the options of `server allow`.
            pub(super) fn words(&self) -> Vec<String> {
                [$(self.$key.words(Permission::$permission)),*].concat()
            }

            /// These, and those of `more`; the limits of `more` where it has any.
            pub(super) fn with(&self, more: &Self) -> Self {
                Self {
                    $($key: self.$key.with(&more.$key),)*
                    max_channels: more.max_channels.or(self.max_channels),
                    max_rate: more.max_rate.or(self.max_rate),
                }
            }

            /// These without those of `less`, whose limits do not count. All of `less` has to be there.
            pub(super) fn without(&self, less: &Self) -> Result<Self, Error> {
                let held = self.words();
                if let Some(right) = less.words().into_iter().find(|right| !held.contains(right)) {
                    return Err(Error::NotHeld { right });
                }
                Ok(Self {
                    $($key: self.$key.without(&less.$key),)*
                    max_channels: self.max_channels,
                    max_rate: self.max_rate,
                })
            }
        }
    };
}

with_permissions!(rights);

impl Rights {
    /// Messages and the pipe: those of a client for whom no right was named.
    #[must_use]
    pub fn usual() -> Self {
        Self { messages: true, pipe: true, ..Self::none() }
    }

    /// Messages alone.
    #[must_use]
    pub fn messages_alone() -> Self {
        Self { messages: true, ..Self::none() }
    }

    /// Whether there is no right in it. Limits are none.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.words().is_empty()
    }

    /// Most channels that it may have at once; `None` where only the server's own limit holds.
    #[must_use]
    pub fn max_channels(&self) -> Option<usize> {
        self.max_channels.map(NonZeroUsize::get)
    }

    /// Most bytes that it may move in a second; `None` where there is no limit.
    #[must_use]
    pub fn max_rate(&self) -> Option<NonZeroU64> {
        self.max_rate.map(Rate::bytes_per_second)
    }

    /// Each limit in the words of the options of `server allow`.
    pub(super) fn limit_words(&self) -> Vec<String> {
        let mut options = Vec::new();
        options.extend(self.max_channels.map(|count| option("--max-channels", count)));
        options.extend(self.max_rate.map(|rate| option("--max-rate", rate)));
        options
    }
}

/// In the words of the options of `server allow`.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [self.words(), self.limit_words()].concat();
        f.write_str(&words.join(" "))
    }
}

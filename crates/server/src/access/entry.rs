//! The entries of `clients.toml`, and the grants in those of `invites.toml`.

use std::num::NonZeroUsize;
use std::sync::Arc;

use cli_support::rate::Rate;
use crypto_core::identity::KeyId;
use crypto_core::invite::InviteId;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::access::client_name::ClientName;
use crate::access::files_rule::FilesRule;
use crate::access::grant::{Grant, moment};
use crate::access::name::Name;
use crate::access::network::Network;
use crate::access::permission::{Held, with_permissions};
use crate::access::proxied::Proxied;
use crate::access::rights::Rights;
use crate::access::rule::{ListenRule, SocketPath, TargetRule};
use crate::access::text::Text;
use crate::traffic_quota::TrafficQuota;

/// Defines all kinds of entries, with a key for each permission of the table. With serde's `flatten` they could
/// share fields, but then unknown keys would be accepted and errors would lose their line.
macro_rules! entries {
    ($($(#[$_:meta])* $key:ident: $held:ty, $permission:ident;)*) => {
        entry! {
            /// `[[client]]`: a client with a key.
            ClientEntry {
                name: Text<ClientName>,
                key: Text<KeyId>,
                #[serde(default, skip_serializing_if = "Option::is_none")]
                invite: Option<WholeId>
            }
            $($key: $held,)*
        }

        entry! {
            /// `[[psk]]`: a pre-shared key that was made or used here.
            PskEntry {
                name: Text<Name>,
                #[serde(default, skip_serializing_if = "std::ops::Not::not")]
                revoked: bool
            }
            $($key: $held,)*
        }

        entry! {
            /// `[invite.grant]`: what an invite grants.
            GrantEntry {}
            $($key: $held,)*
        }
    };
}

macro_rules! entry {
    (
        $(#[$documentation:meta])* $entry:ident { $($(#[$attribute:meta])* $own:ident: $kind:ty),* }
        $($key:ident: $held:ty,)*
    ) => {
        $(#[$documentation])*
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $entry {
            $(
                $(#[$attribute])*
                pub(super) $own: $kind,
            )*
            $(
                #[serde(skip_serializing_if = "Option::is_none")]
                $key: Option<<$held as Held>::Entry>,
            )*
            #[serde(skip_serializing_if = "Option::is_none")]
            max_channels: Option<NonZeroUsize>,
            #[serde(skip_serializing_if = "Option::is_none")]
            max_rate: Option<Text<Rate>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            quota: Option<Text<TrafficQuota>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            expires: Option<Moment>,
            #[serde(skip_serializing_if = "Option::is_none")]
            from: Option<Vec<Text<Network>>>,
        }

        impl $entry {
            /// Writes a key for every right that the client has. A client without any right gets `messages =
            /// false`.
            pub(super) fn new($($own: $kind,)* grant: &Grant) -> Self {
                let rights = &*grant.rights;
                let mut entry = Self {
                    $($own,)*
                    $($key: rights.$key.to_entry(),)*
                    max_channels: rights.max_channels,
                    max_rate: rights.max_rate.map(Text),
                    quota: rights.quota.map(Text),
                    expires: grant.expires.map(Moment),
                    from: grant.from.as_ref().map(|from| from.iter().copied().map(Text).collect()),
                };
                if rights.is_none() {
                    entry.messages = Some(false);
                }
                entry
            }

            /// Reads the grant. A client for which no right is named has the usual ones.
            pub(super) fn grant(self) -> Grant {
                let is_named = $(self.$key.is_some())||*;
                let limits = Rights {
                    max_channels: self.max_channels,
                    max_rate: self.max_rate.map(|Text(rate)| rate),
                    quota: self.quota.map(|Text(quota)| quota),
                    ..if is_named { Rights::none() } else { Rights::usual() }
                };
                let rights = Rights {
                    $($key: self.$key.map_or(limits.$key, Held::from_entry),)*
                    ..limits
                };
                Grant {
                    rights: Arc::new(rights),
                    expires: self.expires.map(|Moment(expires)| expires),
                    from: self.from.map(Held::from_entry),
                }
            }
        }
    };
}

with_permissions!(entries);

/// The id of an invite, as a whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct WholeId(pub(super) InviteId);

impl<'de> Deserialize<'de> for WholeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(de::Error::custom)
    }
}

impl Serialize for WholeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_text())
    }
}

/// A point in time, written as a string or as a date and time of TOML.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(pub(super) Timestamp);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => text,
            toml::Value::Datetime(moment) => moment.to_string(),
            _ => return Err(de::Error::custom("expected a moment such as 2027-02-22T10:00:00Z")),
        };
        moment(&text).map(Self).ok_or_else(|| {
            de::Error::custom(format!(
                "{text:?} is no moment such as 2027-02-22T10:00:00Z, with its time and zone"
            ))
        })
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

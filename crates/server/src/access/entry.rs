//! A client as it stands in `clients.toml`.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::Arc;

use crypto_core::identity::KeyId;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::access::client_name::ClientName;
use crate::access::grant::{Grant, moment};
use crate::access::name::Name;
use crate::access::network::Network;
use crate::access::proxied::Proxied;
use crate::access::rate::Rate;
use crate::access::rights::Rights;
use crate::access::rule::{ListenRule, SocketPath, TargetRule};

/// Both kinds of clients have the same rights. serde could share them with `flatten`, but then unknown keys would pass
/// and errors would lose their line.
macro_rules! entry {
    ($(#[$documentation:meta])* $entry:ident { name: $name:ty, $(#[$attribute:meta])* $own:ident: $kind:ty }) => {
        $(#[$documentation])*
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $entry {
            pub(super) name: Text<$name>,
            $(#[$attribute])*
            pub(super) $own: $kind,
            #[serde(skip_serializing_if = "Option::is_none")]
            messages: Option<bool>,
            #[serde(skip_serializing_if = "Option::is_none")]
            pipe: Option<bool>,
            #[serde(skip_serializing_if = "Option::is_none")]
            tcp: Option<Vec<Text<Proxied<TargetRule>>>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            udp: Option<Vec<Text<TargetRule>>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            unix: Option<Vec<Text<Proxied<SocketPath>>>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            service: Option<Vec<Text<Name>>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            listen: Option<Vec<Text<ListenRule>>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            max_channels: Option<NonZeroUsize>,
            #[serde(skip_serializing_if = "Option::is_none")]
            max_rate: Option<Text<Rate>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            expires: Option<Moment>,
            #[serde(skip_serializing_if = "Option::is_none")]
            from: Option<Vec<Text<Network>>>,
        }

        impl $entry {
            /// Every right that is there is named, and where there is none, that one is not.
            pub(super) fn new(name: $name, $own: $kind, grant: &Grant) -> Self {
                let rights = &*grant.rights;
                Self {
                    name: Text(name),
                    $own,
                    messages: (rights.messages || rights.is_none()).then_some(rights.messages),
                    pipe: rights.pipe.then_some(true),
                    tcp: written(&rights.tcp),
                    udp: written(&rights.udp),
                    unix: written(&rights.unix),
                    service: written(&rights.services),
                    listen: written(&rights.listen),
                    max_channels: rights.max_channels,
                    max_rate: rights.max_rate.map(Text),
                    expires: grant.expires.map(Moment),
                    from: grant.from.as_ref().map(|from| from.iter().copied().map(Text).collect()),
                }
            }

            pub(super) fn grant(self) -> Grant {
                let is_named = self.messages.is_some()
                    || self.pipe.is_some()
                    || self.tcp.is_some()
                    || self.udp.is_some()
                    || self.unix.is_some()
                    || self.service.is_some()
                    || self.listen.is_some();
                let rights = Rights {
                    messages: self.messages.unwrap_or(!is_named),
                    pipe: self.pipe.unwrap_or(!is_named),
                    tcp: read(self.tcp.into_iter().flatten()),
                    udp: read(self.udp.into_iter().flatten()),
                    unix: read(self.unix.into_iter().flatten()),
                    services: read(self.service.into_iter().flatten()),
                    listen: read(self.listen.into_iter().flatten()),
                    max_channels: self.max_channels,
                    max_rate: self.max_rate.map(|Text(rate)| rate),
                };
                Grant {
                    rights: Arc::new(rights),
                    expires: self.expires.map(|Moment(expires)| expires),
                    from: self.from.map(read),
                }
            }
        }
    };
}

entry! {
    /// `[[client]]`: a client with a key.
    ClientEntry {
        name: ClientName,
        key: Text<KeyId>
    }
}

entry! {
    /// `[[psk]]`: a pre-shared key that was made or used here.
    PskEntry {
        name: Name,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        revoked: bool
    }
}

/// A value in a string, checked as the file is read, so that the error has its line.
#[derive(Debug, Clone)]
pub(super) struct Text<T>(pub(super) T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(de::Error::custom)
    }
}

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A moment, as a string or as a date and time of TOML itself.
#[derive(Debug, Clone, Copy)]
struct Moment(Timestamp);

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

fn read<T>(values: impl IntoIterator<Item = Text<T>>) -> Vec<T> {
    values.into_iter().map(|Text(value)| value).collect()
}

fn written<T: Clone>(values: &[T]) -> Option<Vec<Text<T>>> {
    (!values.is_empty()).then(|| values.iter().cloned().map(Text).collect())
}

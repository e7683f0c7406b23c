//! The text form of values, in strings of `clients.toml` and in options of `server allow`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A value in a string, parsed while the file is read, so that the error has its line.
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

/// An option with its value, quoted for a shell.
pub(super) fn option(name: &str, value: impl fmt::Display) -> String {
    let value = value.to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:/@,".contains(c);
    if value.chars().all(is_plain) {
        format!("{name} {value}")
    } else {
        format!("{name} '{}'", value.replace('\'', r"'\''"))
    }
}

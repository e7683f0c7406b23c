//! Names of clients, pre-shared keys and services: short, and safe to print anywhere.

use std::fmt;
use std::str::FromStr;

use crypto_core::psk::is_valid_id;

use crate::error::Error;

/// A name of 1 to 64 characters out of `A-Z a-z 0-9 . _ -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if is_valid_id(text) { Ok(Self(text.into())) } else { Err(Error::BadName { name: text.into() }) }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

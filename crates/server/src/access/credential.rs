//! Credentials, which clients are recognized by.

use std::fmt;
use std::str::FromStr;

use crypto_core::identity::KeyId;

use crate::access::name::Name;
use crate::error::Error;

/// The credential that a client is recognized by: `SHA256:...` or `psk:NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A key, by its fingerprint.
    Key(KeyId),
    /// A pre-shared key, by its name.
    Psk(Name),
}

impl FromStr for Credential {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.strip_prefix("psk:") {
            Some(name) => name.parse().map(Self::Psk),
            None => text.parse().map(Self::Key).map_err(|_| Error::Rule {
                text: text.into(),
                problem: match format!("SHA256:{text}").parse::<KeyId>() {
                    Ok(_) => "is a fingerprint without the SHA256: that belongs before it",
                    Err(_) => "is neither a fingerprint, SHA256:..., nor psk:NAME",
                },
            }),
        }
    }
}

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(id) => id.fmt(f),
            Self::Psk(name) => write!(f, "psk:{name}"),
        }
    }
}

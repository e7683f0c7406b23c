//! Names of clients with a key: short, in any script, and safe to print anywhere.

use std::fmt;
use std::str::FromStr;

use cli_support::name::normalized;

use crate::error::Error;

/// A name as [`cli_support::name`] has them.
///
/// Names of pre-shared keys and of services are [`Name`](super::Name)s, since they are part of the protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientName(String);

impl ClientName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The suggested name of a client that has not been allowed yet, made from its fingerprint.
    pub(crate) fn suggested(fingerprint: &str) -> String {
        let letters = fingerprint.trim_start_matches("SHA256:").chars().filter(char::is_ascii_alphanumeric);
        format!("client-{}", letters.take(SUGGESTED_LETTERS).collect::<String>())
    }
}

impl FromStr for ClientName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        normalized(text).map(Self).ok_or_else(|| Error::BadClientName { name: text.into() })
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Number of letters of a fingerprint in the suggested name of its client.
const SUGGESTED_LETTERS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_are_one_name_and_what_is_none_is_said() {
        assert_eq!("Ju\u{308}rgen".parse::<ClientName>().unwrap().as_str(), "Jürgen");
        assert!(matches!("a b".parse::<ClientName>(), Err(Error::BadClientName { .. })));
    }

    #[test]
    fn a_suggested_name_is_one() {
        let name = ClientName::suggested("SHA256:a+b/CdEfGhIjKl");
        assert_eq!(name, "client-abCdEfGh");
        assert!(name.parse::<ClientName>().is_ok());
    }
}

//! How a person says which server is meant: by an address, or by the name that this client has for the server.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use cli_support::name::{MAX_LEN, normalized};
use tunnel::address::{Address, AddressError};

/// The name of a server: one as [`cli_support::name`] has them, which begins with a letter or a digit, and is no address of an
/// IP network. So nothing is both a name and an [`Address`], which has a colon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerName(String);

impl ServerName {
    /// The name of a server of which nothing better is known.
    pub(crate) const DEFAULT: &str = "server";

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name for a server that is reached at `address`: the first part of its host's name, or the name of its socket's file.
    #[must_use]
    pub fn suggested(address: &Address) -> Self {
        let text = match address {
            Address::Passed(_) => None,
            Address::Tcp { host, .. } if host.parse::<IpAddr>().is_ok() => None,
            Address::Tcp { host, .. } => host.split('.').next().map(str::to_owned),
            Address::Unix(path) => path.file_stem().map(|stem| stem.to_string_lossy().into_owned()),
        };
        text.and_then(|text| text.parse().ok()).unwrap_or_else(|| Self(Self::DEFAULT.into()))
    }

    /// This name with a number behind it, as the `number`th of several servers that would have the same.
    #[must_use]
    pub fn numbered(&self, number: usize) -> Self {
        let end = format!("-{number}");
        let kept = MAX_LEN - end.len();
        Self(self.0.chars().take(kept).chain(end.chars()).collect())
    }
}

impl FromStr for ServerName {
    type Err = ServerNameError;

    fn from_str(text: &str) -> Result<Self, ServerNameError> {
        let is_name =
            |name: &String| name.starts_with(char::is_alphanumeric) && name.parse::<IpAddr>().is_err();
        normalized(text).filter(is_name).map(Self).ok_or_else(|| ServerNameError { text: text.into() })
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no name of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no name for a server: it has 1 to 64 letters, digits, '.', '_' and '-', begins with a letter or a digit, and \
     is no IP address"
)]
#[expect(clippy::exhaustive_structs, reason = "there is nothing more to say of it")]
pub struct ServerNameError {
    /// The text as it was given.
    pub text: String,
}

/// A server as the command line and the configuration name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "an address has a colon and a name has none: there is no third form"
)]
pub enum ServerSpec {
    /// The one at this address.
    Address(Address),
    /// The one that has this name here.
    Name(ServerName),
}

impl FromStr for ServerSpec {
    type Err = AddressError;

    /// Reads an address, or a name, which has no colon.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.parse() {
            Ok(address) => Ok(Self::Address(address)),
            Err(error) => match text.parse() {
                Ok(name) => Ok(Self::Name(name)),
                Err(ServerNameError { .. }) => Err(error),
            },
        }
    }
}

impl From<Address> for ServerSpec {
    fn from(address: Address) -> Self {
        Self::Address(address)
    }
}

impl fmt::Display for ServerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_port_is_an_address_and_the_rest_a_name() {
        for address in ["a:1", "[::1]:1", "unix:/x", "unix:x", "127.0.0.1:1"] {
            assert!(matches!(address.parse(), Ok(ServerSpec::Address(_))), "{address}");
        }
        for name in ["gate", "gate.example.org", "localhost", "Tür-2_x", "5000", "unix", "a."] {
            assert_eq!(name.parse::<ServerSpec>().unwrap().to_string(), name);
            assert!(matches!(name.parse(), Ok(ServerSpec::Name(_))), "{name}");
        }
        assert_eq!("Tu\u{308}r".parse::<ServerName>().unwrap().as_str(), "Tür");
        for neither in [
            "",
            ":",
            "gate:",
            ":1",
            "gate:x",
            "unix:",
            "a/b",
            "../a",
            ".a",
            "-a",
            "--forget",
            "a b",
            "a\nb",
            "a\u{1b}[2J",
            "a\u{202e}b",
            "a\u{200b}",
            "*",
            "@a",
            "127.0.0.1",
            "::1",
            "\u{301}a",
            "a,b",
        ] {
            assert!(neither.parse::<ServerSpec>().is_err(), "{neither:?}");
            assert!(neither.parse::<ServerName>().is_err(), "{neither:?}");
        }
        assert!("a".repeat(65).parse::<ServerName>().is_err());
    }

    #[test]
    fn a_server_is_called_after_its_host() {
        for (address, name) in [
            ("gate.example.org:5000", "gate"),
            ("localhost:5000", "localhost"),
            ("192.0.2.1:5000", "server"),
            ("[::1]:5000", "server"),
            ("[fe80::1%eth0]:5000", "server"),
            ("unix:/run/sockseal.sock", "sockseal"),
            ("unix:/", "server"),
            ("_x.example:1", "server"),
        ] {
            let suggested = ServerName::suggested(&address.parse().unwrap());
            assert_eq!(suggested.as_str(), name, "{address}");
            assert_eq!(suggested.as_str().parse(), Ok(suggested));
        }
        let long: ServerName = "ä".repeat(64).parse().unwrap();
        assert_eq!(long.numbered(12).as_str(), format!("{}-12", "ä".repeat(61)));
    }
}

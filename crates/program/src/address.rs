//! Addresses as people write them: `host:port`, `[::1]:port`, `unix:/path`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Error;

/// Where to connect or listen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP port of a host.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// The port; 0 lets the system choose where one listens.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).ok_or_else(|| Error::Address { text: text.into() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn parse(text: &str) -> Option<Address> {
    if let Some(path) = text.strip_prefix("unix:") {
        return (!path.is_empty()).then(|| Address::Unix(path.into()));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once("]:")?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port)
        }
        None => text.split_once(':').filter(|(_, port)| !port.contains(':'))?,
    };
    let valid = |c: char| c.is_alphanumeric() || ".-_:%".contains(c);
    if host.is_empty() || !host.chars().all(valid) || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Address::Tcp { host: host.into(), port: port.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_are_written() {
        for text in ["127.0.0.1:0", "localhost:65535", "[::1]:5000", "unix:/tmp/x", "db_1.example-2.org:1"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":",
            "host",
            "host:",
            ":80",
            "host:65536",
            "host:+1",
            "::1:80",
            "[::1]",
            "[x]:1",
            "unix:",
            "a b:1",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}

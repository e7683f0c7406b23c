//! Addresses as people write them: `host:port`, `[::1]:port`, `[fe80::1%eth0]:port`, `unix:/path`, and `*:port` to listen on.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// An address to connect to or to listen on: a TCP port of a host, or a unix socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP port of a host.
    Tcp {
        /// A name or an address, without brackets, with the interface behind `%` where it has one; [`EVERYWHERE`] where one
        /// listens on all addresses of both families.
        host: String,
        /// The port; 0 lets the system choose where one listens.
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
    /// A socket that listens already, and that a service manager has passed to the process under this name.
    Passed(String),
}

/// The host that means all addresses of a machine, to listen on.
pub const EVERYWHERE: &str = "*";
/// What stands before the name of a socket that a service manager passes.
const PASSED: &str = "systemd:";

impl Address {
    /// Reads an address to listen on, which may be `*:port`.
    ///
    /// # Errors
    /// An [`AddressError`] that says what is wrong with the text.
    pub fn listening(text: &str) -> Result<Self, AddressError> {
        match text.strip_prefix(EVERYWHERE).and_then(|rest| rest.strip_prefix(':')) {
            Some(port) => parse_port(port).map(|port| Self::Tcp { host: EVERYWHERE.into(), port }),
            None => parse(text),
        }
        .map_err(|problem| AddressError { text: text.into(), problem })
    }
}

impl Address {
    /// Reads an address to listen on, which may be `*:port`, or `systemd:NAME` for a socket that a service manager passes.
    ///
    /// # Errors
    /// An [`AddressError`] that says what is wrong with the text.
    pub fn listening_or_passed(text: &str) -> Result<Self, AddressError> {
        match text.strip_prefix(PASSED) {
            Some("") => Err(AddressError { text: text.into(), problem: AddressProblem::NoName }),
            Some(name) => Ok(Self::Passed(name.into())),
            None => Self::listening(text),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    /// Reads an address to connect to.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse(text).map_err(|problem| AddressError { text: text.into(), problem })
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V6(address) if address.scope_id() != 0 => {
                format!("{}%{}", address.ip(), address.scope_id())
            }
            _ => address.ip().to_string(),
        };
        Self::Tcp { host, port: address.port() }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Passed(name) => write!(f, "{PASSED}{name}"),
        }
    }
}

/// A text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address: {problem}")]
#[expect(clippy::exhaustive_structs, reason = "a text and what is wrong with it are all there is to say")]
pub struct AddressError {
    /// The text as it was given.
    pub text: String,
    /// What is wrong with it.
    pub problem: AddressProblem,
}

/// The reason why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressProblem {
    /// There is nothing behind the host.
    #[error("it has no port")]
    NoPort,
    /// There is nothing in front of the port.
    #[error("it has no host")]
    NoHost,
    /// The port has a name, or is anything else but a number.
    #[error("its port is no number")]
    PortName,
    /// The port is a number above 65535.
    #[error("there is no port above 65535")]
    PortRange,
    /// An address of IPv6 cannot be told from its port.
    #[error("an IPv6 address has to stand in brackets")]
    NoBrackets,
    /// There is something else than an IPv6 address in brackets.
    #[error("what stands in brackets is no IPv6 address")]
    Brackets,
    /// There is nothing behind the percent sign, or something that no interface is called.
    #[error("what stands behind % is no interface")]
    Interface,
    /// A host has blanks or other signs in it.
    #[error("its host has signs in it that no host has")]
    Host,
    /// `*`, and not in order to listen.
    #[error("* is where one listens, and nobody's address")]
    Everywhere,
    /// A socket that is passed, without its name.
    #[error("it has no name of a socket")]
    NoName,
    /// A unix socket without a path.
    #[error("it has no path")]
    NoPath,
}

/// An address as it is, without an interface.
pub(crate) fn parse_ip(host: &str) -> Option<IpAddr> {
    host.parse().ok()
}

fn parse(text: &str) -> Result<Address, AddressProblem> {
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.is_empty() { Err(AddressProblem::NoPath) } else { Ok(Address::Unix(path.into())) };
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(AddressProblem::Brackets)?;
            check_ipv6(host)?;
            (host, rest.strip_prefix(':').ok_or(AddressProblem::NoPort)?)
        }
        None if text.matches(':').count() > 1 => return Err(AddressProblem::NoBrackets),
        None => {
            let (host, port) = text.split_once(':').ok_or(AddressProblem::NoPort)?;
            check_name(host)?;
            (host, port)
        }
    };
    Ok(Address::Tcp { host: host.into(), port: parse_port(port)? })
}

fn parse_port(text: &str) -> Result<u16, AddressProblem> {
    match text {
        "" => Err(AddressProblem::NoPort),
        _ if !text.bytes().all(|byte| byte.is_ascii_digit()) => Err(AddressProblem::PortName),
        _ => text.parse().map_err(|_| AddressProblem::PortRange),
    }
}

fn check_name(host: &str) -> Result<(), AddressProblem> {
    let valid = |c: char| c.is_alphanumeric() || ".-_".contains(c);
    match host {
        "" => Err(AddressProblem::NoHost),
        EVERYWHERE => Err(AddressProblem::Everywhere),
        _ if host.chars().all(valid) => Ok(()),
        _ => Err(AddressProblem::Host),
    }
}

fn check_ipv6(text: &str) -> Result<(), AddressProblem> {
    let (ip, interface) = match text.split_once('%') {
        Some((ip, interface)) => (ip, Some(interface)),
        None => (text, None),
    };
    let valid = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if ip.parse::<Ipv6Addr>().is_err() {
        Err(AddressProblem::Brackets)
    } else if interface
        .is_some_and(|name| name.is_empty() || name.len() > MAX_INTERFACE_LEN || !name.chars().all(valid))
    {
        Err(AddressProblem::Interface)
    } else {
        Ok(())
    }
}

/// Of the name of an interface, without the zero byte behind it.
const MAX_INTERFACE_LEN: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_are_written() {
        for text in [
            "127.0.0.1:0",
            "localhost:65535",
            "[::1]:5000",
            "[fe80::1%eth0]:5000",
            "[fe80::1%br-1.2_x]:5000",
            "[fe80::1%2]:5000",
            "unix:/tmp/x",
            "db_1.example-2.org:1",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
            assert_eq!(Address::listening(text).unwrap().to_string(), text);
        }
        assert_eq!(Address::listening("*:5000").unwrap().to_string(), "*:5000");
        for text in ["127.0.0.1:1", "[::1]:1", "[fe80::1%7]:1"] {
            assert_eq!(Address::from(text.parse::<SocketAddr>().unwrap()).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        use AddressProblem::*;

        for (text, expected) in [
            ("", NoPort),
            (":", NoHost),
            ("host", NoPort),
            ("host:", NoPort),
            (":80", NoHost),
            ("host:65536", PortRange),
            ("host:99999999999999999999", PortRange),
            ("host:+1", PortName),
            ("host:http", PortName),
            ("::1:80", NoBrackets),
            ("http://host:80", NoBrackets),
            ("[::1]", NoPort),
            ("[::1]80", NoPort),
            ("[::1", Brackets),
            ("[x]:1", Brackets),
            ("[127.0.0.1]:1", Brackets),
            ("[fe80::1%]:1", Interface),
            ("[fe80::1%a/b]:1", Interface),
            ("[fe80::1%abcdefghijklmnop]:1", Interface),
            ("[host%eth0]:1", Brackets),
            ("unix:", NoPath),
            ("a b:1", Host),
            ("host%eth0:1", Host),
            ("host:1 ", PortName),
        ] {
            for result in [text.parse::<Address>(), Address::listening(text)] {
                let Err(AddressError { problem, .. }) = result else { panic!("{text:?}: {result:?}") };
                assert_eq!(problem, expected, "{text:?}");
            }
        }
        for text in ["*:80", "*:0"] {
            let Err(AddressError { problem, .. }) = text.parse::<Address>() else { panic!("{text:?}") };
            assert_eq!(problem, Everywhere);
        }
        for text in ["*", "*:", "*:http", "**:80", "*.example.org:80"] {
            assert!(Address::listening(text).is_err(), "{text:?}");
        }
    }
}

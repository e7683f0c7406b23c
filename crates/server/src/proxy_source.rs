//! Proxies in front of a server that are trusted to name the origins of connections.

use std::net::IpAddr;
use std::str::FromStr;

use crate::access::Network;
use crate::error::Error;

/// The source of connections that must begin with a header of the PROXY protocol, and are refused without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxySource {
    /// A network, or a single address.
    Network(Network),
    /// The unix sockets that the server listens on.
    Unix,
}

impl ProxySource {
    /// Returns whether the source covers a connection from `source`, `None` for a unix socket.
    pub(crate) fn covers(self, source: Option<IpAddr>) -> bool {
        match (self, source) {
            (Self::Network(network), Some(ip)) => network.covers(ip),
            (Self::Unix, None) => true,
            _ => false,
        }
    }
}

impl FromStr for ProxySource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "unix" { Ok(Self::Unix) } else { text.parse().map(Self::Network) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, source: Option<&str>, expected: bool) {
        let proxy: ProxySource = text.parse().unwrap();
        assert_eq!(proxy.covers(source.map(|ip| ip.parse().unwrap())), expected, "{text} {source:?}");
    }

    #[test]
    fn proxies_are_networks_and_unix_sockets() {
        check("10.0.0.0/8", Some("10.1.2.3"), true);
        check("10.0.0.0/8", Some("::ffff:10.1.2.3"), true);
        check("10.0.0.0/8", Some("11.1.2.3"), false);
        check("127.0.0.1", Some("127.0.0.1"), true);
        check("10.0.0.0/8", None, false);
        check("unix", None, true);
        check("unix", Some("127.0.0.1"), false);
        for text in ["", "Unix", "unix:/run/x", "10.0.0.0/33", "proxy.example"] {
            assert!(text.parse::<ProxySource>().is_err(), "{text}");
        }
    }
}

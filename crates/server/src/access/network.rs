//! Networks and single addresses in rules, with IPv4-mapped IPv6 addresses treated as IPv4.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::error::Error;

/// A network such as `10.0.0.0/8`, or a single address. An IPv4-mapped IPv6 address counts as the IPv4 address, so
/// `::/0` covers no IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    pub(crate) fn covers(self, ip: IpAddr) -> bool {
        self.0.contains(&ip.to_canonical())
    }

    /// The first address of the network.
    pub(crate) fn first(self) -> IpAddr {
        self.0.network()
    }

    /// Returns whether the network contains a loopback address.
    pub(super) fn has_loopback(self) -> bool {
        LOOPBACK.iter().any(|loopback| self.0.contains(loopback) || loopback.contains(&self.0))
    }

    /// Returns whether all of the network is multicast, broadcast or reserved.
    pub(super) fn takes_no_connection(self) -> bool {
        NO_CONNECTION.iter().any(|network| network.contains(&self.0))
    }

    /// The address, where the network is a single one that a machine can have.
    pub(super) fn single(self) -> Option<IpAddr> {
        let is_single = self.0.prefix_len() == self.0.max_prefix_len() && !self.0.addr().is_unspecified();
        is_single.then(|| self.0.addr())
    }

    /// Returns whether the network is written with colons.
    pub(super) fn is_ipv6(self) -> bool {
        self.0.addr().is_ipv6()
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let error = |problem| Error::Rule { text: text.into(), problem };
        let (ip, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((ip, prefix)) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => (ip, Some(prefix)),
            Some(_) => return Err(error(NO_NETWORK)),
        };
        let ip: IpAddr = ip.parse().map_err(|_| error(NO_NETWORK))?;
        let len = match prefix {
            None if ip.is_ipv4() => u8::try_from(Ipv4Addr::BITS).expect("32 fits"),
            None => u8::try_from(Ipv6Addr::BITS).expect("128 fits"),
            Some(prefix) => prefix.parse().map_err(|_| error(NO_NETWORK))?,
        };
        let (ip, len) = match (ip.to_canonical(), len.checked_sub(MAPPED_PREFIX)) {
            (canonical @ IpAddr::V4(_), Some(len)) if ip.is_ipv6() => (canonical, len),
            _ => (ip, len),
        };
        let network = IpNet::new(ip, len).map_err(|_| error(NO_NETWORK))?;
        // A user who writes 10.1.2.3/8 may mean either, so the text is refused rather than guessed at.
        if network.addr() != network.network() {
            return Err(error("has bits set behind its prefix: write the network's first address"));
        }
        Ok(Self(network))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

const NO_CONNECTION: [IpNet; 2] = [
    IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 3),
    IpNet::new_assert(IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
];
const NO_NETWORK: &str = "is neither an address nor a network such as 10.0.0.0/8";
/// Number of bits before the IPv4 address in `::ffff:0:0/96`.
const MAPPED_PREFIX: u8 = 96;
const LOOPBACK: [IpNet; 2] = [
    IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    IpNet::new_assert(IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(network: &str, covered: &[&str], others: &[&str]) {
        let parsed: Network = network.parse().unwrap();
        for (ips, expected) in [(covered, true), (others, false)] {
            for ip in ips {
                assert_eq!(parsed.covers(ip.parse().unwrap()), expected, "{network} and {ip}");
            }
        }
    }

    #[test]
    fn a_network_ends_at_its_edges() {
        check(
            "10.1.0.0/16",
            &["10.1.0.0", "10.1.255.255", "::ffff:10.1.2.3"],
            &["10.0.255.255", "10.2.0.0", "::a01:203"],
        );
        check("10.1.2.3", &["10.1.2.3"], &["10.1.2.2", "10.1.2.4"]);
        check("0.0.0.0/0", &["0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"], &["::", "::1"]);
        check("fd00::/8", &["fd00::", "fdff:ffff::1"], &["fc00::", "fe00::"]);
        check("::/0", &["::", "::1", "ffff::"], &["127.0.0.1", "::ffff:127.0.0.1"]);
        check("::ffff:10.0.0.0/104", &["10.255.0.1", "::ffff:10.0.0.1"], &["11.0.0.0", "9.255.255.255"]);
        check("::ffff:10.0.0.1", &["10.0.0.1"], &["10.0.0.2"]);
    }

    #[test]
    fn networks_print_as_they_are_written() {
        for text in ["10.1.0.0/16", "10.1.2.3", "0.0.0.0/0", "fd00::/8", "::1"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!("::ffff:127.0.0.1".parse::<Network>().unwrap().to_string(), "127.0.0.1");
        assert_eq!("10.1.2.3/32".parse::<Network>().unwrap().to_string(), "10.1.2.3");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "",
            "/",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "10.0.0.0/256",
            "10.0.0/8",
            "010.0.0.0/8",
            "10.0.0.1/8",
            "fd00::1/8",
            "::/129",
            "[::1]",
            "localhost",
            "fe80::1%lo",
            " 10.0.0.1",
            "::ffff:10.0.0.1/104",
        ] {
            assert!(text.parse::<Network>().is_err(), "{text:?}");
        }
    }
}

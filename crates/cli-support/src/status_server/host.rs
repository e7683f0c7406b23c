//! The hosts that requests may be for. A web page elsewhere can have its own name lead to this machine, and would be of the
//! same origin then; but its requests carry that name.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hyper::http::uri::Authority;
use tunnel::address::{Address, EVERYWHERE};

/// A host as it stands in a URL, without a port: a name, or an address, with brackets if it is one of IPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let no_host = || format!("{text:?} is not a host such as status.example.org, without a port");
        if text.contains(['@', '*']) {
            return Err(no_host());
        }
        let bracketed = if text.parse::<std::net::Ipv6Addr>().is_ok() { &format!("[{text}]") } else { text };
        let authority: Authority = bracketed.parse().map_err(|_| no_host())?;
        // A port that is empty leaves a colon behind the host.
        if authority.host().is_empty() || authority.host().len() != bracketed.len() {
            return Err(no_host());
        }
        Ok(Self(canonical(authority.host())))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The hosts that a status server answers for: this machine's own names for itself, the addresses that it listens on, and
/// those that were given.
///
/// Ports are not compared: a browser that asks for `localhost:9000` goes by a forward, and no page can make it say so.
#[derive(Debug)]
pub(super) struct AllowedHosts {
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    any_address: bool,
}

impl AllowedHosts {
    /// For a server that was told to listen on `given`, listens on `addresses`, and has the `names` besides.
    pub(super) fn new(given: &Address, addresses: &[Address], names: &[HostName]) -> Self {
        let mut allowed: Vec<String> = names.iter().map(|HostName(name)| name.clone()).collect();
        allowed.push("localhost".into());
        if let Address::Tcp { host, .. } = given
            && host != EVERYWHERE
        {
            allowed.push(canonical(host));
        }
        let addresses: Vec<IpAddr> = addresses
            .iter()
            .filter_map(|address| match address {
                Address::Tcp { host, .. } => ip(host),
                Address::Unix(_) | Address::Passed(_) => None,
            })
            .collect();
        let any_address = addresses.iter().any(IpAddr::is_unspecified);
        Self { names: allowed, addresses, any_address }
    }

    /// Whether `text`, the value of a Host header, names one of them.
    pub(super) fn admit(&self, text: &str) -> bool {
        let Ok(authority) = text.parse::<Authority>() else { return false };
        if text.contains('@') {
            return false;
        }
        let host = canonical(authority.host());
        match ip(&host) {
            Some(ip) => {
                // No name can be rebound to what is no name.
                ip.is_loopback()
                    || self.any_address
                    || self.addresses.contains(&ip)
                    || self.names.contains(&host)
            }
            None => self.names.contains(&host),
        }
    }
}

/// The address that `host` is, with or without brackets.
pub(super) fn ip(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

/// The one way to write a host.
fn canonical(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(given: &str, addresses: &[&str], names: &[&str]) -> AllowedHosts {
        let addresses: Vec<Address> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let names: Vec<HostName> = names.iter().map(|name| name.parse().unwrap()).collect();
        AllowedHosts::new(&Address::listening(given).unwrap(), &addresses, &names)
    }

    #[test]
    fn a_server_on_loopback_answers_for_this_machine_alone() {
        for hosts in [
            hosts("127.0.0.1:9100", &["127.0.0.1:9100"], &[]),
            hosts("localhost:0", &["127.0.0.1:4711", "[::1]:4711"], &[]),
            hosts("unix:/run/status", &["unix:/run/status"], &[]),
        ] {
            for good in [
                "127.0.0.1:9100",
                "127.0.0.1",
                "127.8.9.10:1",
                "localhost:9000",
                "LocalHost",
                "localhost.:9100",
                "[::1]:9100",
                "[::ffff:127.0.0.1]:9100",
            ] {
                assert!(hosts.admit(good), "{good}");
            }
            for bad in [
                "",
                ":9100",
                "evil.example",
                "evil.example:9100",
                "localhost.evil.example",
                "127.0.0.1.evil.example",
                "localhost@evil.example",
                "evil.example@localhost",
                "192.0.2.7:9100",
                "0.0.0.0:9100",
                "[::]:9100",
                "localhost,evil.example",
                "localhost evil",
                "localhost/",
                "2130706433",
                "0x7f.1",
            ] {
                assert!(!hosts.admit(bad), "{bad}");
            }
        }
    }

    #[test]
    fn what_is_listened_on_and_what_is_named_counts_too() {
        let named = hosts("127.0.0.1:9100", &["127.0.0.1:9100"], &["Status.example.org", "fd00::7"]);
        assert!(named.admit("status.example.org") && named.admit("STATUS.example.ORG.:443"));
        assert!(named.admit("[fd00::7]:80") && !named.admit("[fd00::8]:80"));
        assert!(!named.admit("other.status.example.org"));
        let one = hosts("192.0.2.7:80", &["192.0.2.7:80"], &[]);
        assert!(one.admit("192.0.2.7") && !one.admit("192.0.2.8"));
        let by_name = hosts("gate.example:80", &["192.0.2.7:80"], &[]);
        assert!(by_name.admit("gate.example:80") && !by_name.admit("gate.example.evil"));
        let everywhere = hosts("*:80", &["[::]:80", "0.0.0.0:80"], &[]);
        assert!(everywhere.admit("198.51.100.1") && everywhere.admit("[2001:db8::1]:80"));
        assert!(!everywhere.admit("evil.example") && !everywhere.admit("*"));
    }

    #[test]
    fn a_host_has_neither_a_port_nor_a_user() {
        for good in ["a", "a.example", "192.0.2.7", "[::1]", "::1"] {
            assert!(good.parse::<HostName>().is_ok(), "{good}");
        }
        for bad in ["", "a:80", "a:", "u@a", "a b", "http://a", "a/b", "*", "*.example", "[::1]:80", "[::1"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }
}

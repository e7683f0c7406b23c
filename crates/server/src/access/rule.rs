//! Rules: targets by host and ports, listening addresses by address and ports, and paths of unix sockets.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use wire_protocol::message::ListenAddress;

use crate::access::host::{Host, HostRule, LOCALHOST};
use crate::access::ports::Ports;
use crate::access::special::is_own;
use crate::error::Error;

/// The protocol between the server and a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// The targets that a client may connect to: `HOST:PORT`, `HOST:LO-HI` or `HOST:*`. HOST is a name, `*.NAME`, `*`,
/// an address or a network, those of IPv6 in brackets; `localhost` stands for the loopback addresses.
/// [`Proxied`](super::Proxied) adds whether a target is told which client connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetRule {
    host: HostRule,
    ports: Ports,
}

impl TargetRule {
    /// Returns whether the rule permits this address itself, and not only as an address of a name.
    pub(super) fn covers(&self, address: SocketAddr) -> bool {
        self.ports.cover(address.port()) && self.host.covers(address.ip())
    }

    /// Returns whether the rule permits this host, whatever its addresses are.
    pub(super) fn matches(&self, host: &Host, port: u16) -> bool {
        self.ports.cover(port) && self.host.matches(host)
    }

    /// Returns whether the rule can permit any address of this name.
    pub(super) fn may_resolve(&self, name: &Host, port: u16) -> bool {
        self.ports.cover(port) && self.host.may_resolve(name)
    }

    /// The reason why the rule permits no target at all, where that is certain.
    pub(super) fn reaches_nothing(&self, transport: Transport) -> Option<&'static str> {
        match &self.host {
            HostRule::Name(name) | HostRule::Subdomains(name) if is_below_localhost(name) => {
                Some("the name leads to this machine alone, where no rule by name leads: write localhost")
            }
            HostRule::Network(network) if transport == Transport::Tcp && network.takes_no_connection() => {
                Some("nobody takes a connection at a multicast or broadcast address")
            }
            _ => None,
        }
    }

    /// The single name that the rule applies to, with one of its ports.
    pub(super) fn named(&self) -> Option<(&str, u16)> {
        match &self.host {
            HostRule::Name(name) if !is_below_localhost(name) => Some((name, self.ports.first())),
            _ => None,
        }
    }
}

/// Returns whether the name is below `localhost`, which every resolver takes for this machine (RFC 6761, section
/// 6.3). The name in a rule for subdomains begins with a dot.
fn is_below_localhost(name: &str) -> bool {
    name.rsplit('.').next() == Some(LOCALHOST)
}

impl FromStr for TargetRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.ends_with(",proxy") {
            return Err(problem(
                text,
                "has ,proxy where no header can be written: it goes with TCP and unix sockets",
            ));
        }
        let expected = "is not HOST:PORT, HOST:LO-HI or HOST:*";
        let Some((host, ports)) = split(text)? else { return Err(problem(text, expected)) };
        let ports = ports.parse::<Ports>().map_err(|_| problem(text, expected))?;
        Ok(Self { host: HostRule::parse(host)?, ports })
    }
}

impl fmt::Display for TargetRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.ports)
    }
}

/// An address on which the server may listen for a client: `[ADDR:]PORT`, `[ADDR:]LO-HI`, `[ADDR:]*` or
/// `unix:/PATH`. ADDR is an address, a network, or `*`; the default is loopback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenRule(Listen);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Listen {
    Port { host: HostRule, ports: Ports },
    Unix(SocketPath),
}

impl ListenRule {
    pub(super) fn permits(&self, address: &ListenAddress) -> bool {
        match (&self.0, address) {
            (Listen::Unix(rule), ListenAddress::Unix { path }) => rule.0 == *path,
            (Listen::Port { host: rule, ports }, ListenAddress::Port { host, port }) => {
                let permitted = match (rule, Host::parse(host)) {
                    (_, None) => false,
                    (HostRule::Loopback, Some(Host::Name(name))) => name == LOCALHOST,
                    (_, Some(Host::Address(ip))) if rule.covers(ip) => true,
                    (_, Some(host)) => rule.matches(&host),
                };
                // With port 0 the server may choose any port.
                permitted && if *port == 0 { matches!(ports, Ports::All) } else { ports.cover(*port) }
            }
            _ => false,
        }
    }
}

impl ListenRule {
    /// The reason why the server cannot listen on any address of the rule, where that is certain now.
    pub(super) fn binds_nothing(&self) -> Option<&'static str> {
        match &self.0 {
            Listen::Unix(path) if path.is_too_long() => Some(TOO_LONG),
            Listen::Port { host: HostRule::Network(network), .. } => {
                let is_foreign = network.single().is_some_and(|ip| !is_own(ip));
                is_foreign.then_some("no interface of this machine has the address")
            }
            _ => None,
        }
    }
}

impl FromStr for ListenRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self(Listen::Unix(path.parse()?)));
        }
        let (host, ports) = match split(text)? {
            Some((host, ports)) => (HostRule::parse(host)?, ports),
            None => (HostRule::Loopback, text),
        };
        if matches!(host, HostRule::Name(_) | HostRule::Subdomains(_)) {
            return Err(problem(text, "has a name where the address of an interface, or *, is needed"));
        }
        let expected = "is not [ADDR:]PORT, [ADDR:]LO-HI, [ADDR:]* or unix:/PATH";
        let ports = ports.parse().map_err(|_| problem(text, expected))?;
        Ok(Self(Listen::Port { host, ports }))
    }
}

impl fmt::Display for ListenRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Listen::Port { host: HostRule::Loopback, ports } => ports.fmt(f),
            Listen::Port { host, ports } => write!(f, "{host}:{ports}"),
            Listen::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// The absolute path of a unix socket in its normal form, so that each path has a single spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketPath(String);

impl SocketPath {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the path does not fit in a socket's address, which has room for 107 bytes and a zero byte.
    pub(super) fn is_too_long(&self) -> bool {
        self.0.len() > MAX_PATH
    }
}

impl FromStr for SocketPath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(char::is_control);
        match text.strip_prefix('/') {
            Some(parts) if parts.split('/').all(is_plain) => Ok(Self(text.into())),
            _ => Err(problem(text, "is not an absolute path without . and .. in it")),
        }
    }
}

impl fmt::Display for SocketPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Splits a rule at its last colon into the host, without brackets, and the ports; `None` where there is no host.
fn split(text: &str) -> Result<Option<(&str, &str)>, Error> {
    let brackets = "has brackets where there is no IPv6 address";
    if let Some(rest) = text.strip_prefix('[') {
        let (host, ports) =
            rest.split_once("]:").ok_or_else(|| problem(text, "has no port behind its brackets"))?;
        return if host.contains(':') { Ok(Some((host, ports))) } else { Err(problem(text, brackets)) };
    }
    match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => {
            Err(problem(text, "has an IPv6 address without brackets: write [::1]:80"))
        }
        split => Ok(split),
    }
}

/// Longest path of a unix socket in bytes.
const MAX_PATH: usize = 107;
pub(super) const TOO_LONG: &str = "no socket has a path of more than 107 bytes";

fn problem(text: &str, problem: &'static str) -> Error {
    Error::Rule { text: text.into(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<T: FromStr<Err = Error> + fmt::Display>(text: &str, canonical: &str) {
        let rule = text.parse::<T>().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(rule.to_string(), canonical);
        assert_eq!(rule.to_string().parse::<T>().unwrap().to_string(), canonical);
    }

    #[test]
    fn target_rules_print_as_they_are_written() {
        for text in [
            "127.0.0.1:5432",
            "10.0.0.0/8:443",
            "[::1]:80",
            "[fd00::/8]:443",
            "db.example.org:1-65535",
            "*.example.org:*",
            "*:*",
            "localhost:80",
            "my_host-1:8080",
        ] {
            check::<TargetRule>(text, text);
        }
        check::<TargetRule>("DB.Example.ORG.:80-80", "db.example.org:80");
        check::<TargetRule>("LOCALHOST.:080", "localhost:80");
        check::<TargetRule>("[::ffff:10.0.0.1]:1", "10.0.0.1:1");
        check::<TargetRule>("[0:0::1/128]:1", "[::1]:1");
        check::<TargetRule>("10.0.0.1/32:1", "10.0.0.1:1");
    }

    #[test]
    fn listen_rules_print_as_they_are_written() {
        for text in ["8080", "8000-8100", "*", "0.0.0.0:80", "[::]:80", "*:80", "*:*", "unix:/run/x.sock"] {
            check::<ListenRule>(text, text);
        }
        check::<ListenRule>("localhost:80", "80");
        check::<ListenRule>("127.0.0.1:80", "127.0.0.1:80");
    }

    #[track_caller]
    fn check_refused<T: FromStr<Err = Error> + fmt::Debug>(texts: &[&str]) {
        for text in texts {
            assert!(matches!(text.parse::<T>(), Err(Error::Rule { .. })), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        check_refused::<TargetRule>(&[
            "",
            ":",
            "host",
            "host:",
            ":80",
            "*",
            "80",
            "host:0",
            "host:0-80",
            "host:80-0",
            "host:90-80",
            "host:65536",
            "host:1-65536",
            "host:+80",
            "host:-80",
            "host:80-",
            "host:8 0",
            "host:80 ",
            " host:80",
            "host:**",
            "ho st:80",
            "host..x:80",
            ".host:80",
            "host..:80",
            "*.:80",
            "*host:80",
            "*.*.x:80",
            "x.*:80",
            "**:80",
            "::1:80",
            "::1",
            "[::1]",
            "[::1]80",
            "[::1",
            "[]:80",
            "[127.0.0.1]:80",
            "[x]:80",
            "[a:b]:80",
            "[fe80::1%lo]:80",
            "fe80::1%lo:80",
            "10.0.0.1/8:80",
            "10.0.0.0/33:80",
            "[fd00::1/8]:80",
            "x/8:80",
            "127.1:80",
            "0x7f000001:80",
            "2130706433:80",
            "0177.0.0.1:80",
            "1.2.3.4.5:80",
            "*.1:80",
            "x.0x1f:80",
            "h\u{f6}st:80",
            "host\n:80",
            "host\0:80",
            "unix:/x",
            "a@b:80",
        ]);
        check_refused::<ListenRule>(&[
            "",
            ":",
            "0",
            "0.0.0.0:0",
            "80-",
            "90-80",
            "host:80",
            "*.x:80",
            "::1:80",
            "[::1]",
            "10.0.0.1/8:80",
            "unix:",
            "unix:x",
            "unix:/",
            "unix:/a/../b",
            "/x",
            "*:",
            ":80",
            "127.1:80",
        ]);
        check_refused::<SocketPath>(&[
            "", "/", "x", "./x", "/x/", "//x", "/x//y", "/./x", "/x/.", "/../x", "/x/..", "/x\n", "/x\0",
            "/x\u{9b}",
        ]);
    }

    #[test]
    fn whatever_is_wrong_is_said() {
        for (text, problem) in [
            ("::1:80", "brackets"),
            ("10.1.2.3/8:80", "behind its prefix"),
            ("127.1:80", "looks like an address"),
            ("db.example.org", "HOST:PORT"),
        ] {
            let error = text.parse::<TargetRule>().unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}

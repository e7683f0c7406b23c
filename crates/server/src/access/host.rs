//! Hosts in the requests of clients, and hosts in rules.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::access::network::Network;
use crate::error::Error;

/// The host of a client's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// An address, as IPv4 where it is IPv4-mapped.
    Address(IpAddr),
    /// A name in lower case, without a dot at its end. Other forms that a resolver may take for an address, such as
    /// `127.1` or `0x7f000001`, count as names too.
    Name(String),
}

impl Host {
    /// Parses a host; `None` where it is neither an address nor a name that a rule could match.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Ok(ip) = without_interface(text).parse::<IpAddr>() {
            return Some(Self::Address(ip.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        is_name(name).then(|| Self::Name(name.to_ascii_lowercase()))
    }
}

/// Removes the interface of a link-local address, since rules apply to the address on every interface.
fn without_interface(text: &str) -> &str {
    match text.split_once('%') {
        Some((ip, _)) if ip.parse().is_ok_and(|ip: Ipv6Addr| ip.is_unicast_link_local()) => ip,
        _ => text,
    }
}

/// The hosts that a rule applies to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HostRule {
    /// All hosts: `*`.
    Any,
    /// The host of this name.
    Name(String),
    /// All names below this one, which begins with a dot: `*.example.org`.
    Subdomains(String),
    /// The loopback addresses of this machine: `localhost`.
    Loopback,
    /// The addresses of a network.
    Network(Network),
}

impl HostRule {
    /// Parses the host of a rule, without brackets.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let error = |problem| Error::Rule { text: text.into(), problem };
        if text == "*" {
            return Ok(Self::Any);
        }
        if text.contains('/') || text.parse::<IpAddr>().is_ok() {
            return text.parse().map(Self::Network);
        }
        let (wildcard, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if !is_name(&name) {
            return Err(error("is neither a name, nor *.NAME, nor an address, nor a network"));
        }
        if ends_in_number(&name) {
            return Err(error("looks like an address but is none: write it in full"));
        }
        Ok(match (wildcard, name.as_str()) {
            (true, _) => Self::Subdomains(format!(".{name}")),
            (false, LOCALHOST) => Self::Loopback,
            (false, _) => Self::Name(name),
        })
    }

    /// Returns whether the rule permits this address itself, and not only as an address of a name.
    pub(super) fn covers(&self, ip: IpAddr) -> bool {
        match self {
            Self::Network(network) => network.covers(ip),
            Self::Loopback => ip.to_canonical().is_loopback(),
            Self::Any | Self::Name(_) | Self::Subdomains(_) => false,
        }
    }

    /// Returns whether the rule permits this host, whatever its addresses are.
    pub(super) fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Name(name), Host::Name(host)) => name == host,
            // A name has no empty label, so that at least one label precedes the suffix.
            (Self::Subdomains(suffix), Host::Name(host)) => host.ends_with(suffix),
            _ => false,
        }
    }

    /// Returns whether the rule can permit any address of this name.
    pub(super) fn may_resolve(&self, name: &Host) -> bool {
        let is_localhost = matches!(name, Host::Name(name) if name == LOCALHOST);
        match self {
            Self::Loopback => is_localhost,
            Self::Network(network) => is_localhost && network.has_loopback(),
            Self::Any | Self::Name(_) | Self::Subdomains(_) => self.matches(name),
        }
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Name(name) => f.write_str(name),
            Self::Subdomains(suffix) => write!(f, "*{suffix}"),
            Self::Loopback => f.write_str(LOCALHOST),
            Self::Network(network) if network.is_ipv6() => write!(f, "[{network}]"),
            Self::Network(network) => network.fmt(f),
        }
    }
}

/// Returns whether a resolver may be asked for the name: its labels consist of letters, digits, `-` and `_`.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    text.len() <= MAX_NAME && text.split('.').all(is_label)
}

/// Returns whether the last label is a number. No top-level domain is one, but resolvers take `127.1`, `2130706433`
/// and `0x7f.1` as IPv4 addresses.
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    last.bytes().all(|byte| byte.is_ascii_digit()) || last.strip_prefix("0x").is_some_and(is_hex)
}

pub(super) const LOCALHOST: &str = "localhost";
/// Longest name, and below it longest label, in bytes (RFC 1035, section 2.3.4), without the dot at the end.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

//! Hosts: as a client asks for one, and as a rule names them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use crate::access::network::Network;
use crate::error::Error;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// An address, IPv4 where it is IPv4-mapped.
    Address(IpAddr),
    /// A name in lower case, without a dot at its end. So is whatever else a resolver may take for an address,
    /// such as `127.1` or `0x7f000001`.
    Name(String),
}

impl Host {
    /// `None` where it is neither an address nor a name that any rule could mean.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Ok(ip) = without_interface(text).parse::<IpAddr>() {
            return Some(Self::Address(ip.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        is_name(name).then(|| Self::Name(name.to_ascii_lowercase()))
    }
}

/// A link-local address is asked for together with the interface behind which it is, and rules mean it behind whichever.
fn without_interface(text: &str) -> &str {
    match text.split_once('%') {
        Some((ip, _)) if ip.parse().is_ok_and(|ip: Ipv6Addr| ip.is_unicast_link_local()) => ip,
        _ => text,
    }
}

/// Which hosts a rule means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HostRule {
    /// All: `*`.
    Any,
    /// This name.
    Name(String),
    /// The names below this one, which begins with a dot: `*.example.org`.
    Subdomains(String),
    /// This machine by its loopback addresses: `localhost`.
    Loopback,
    /// Addresses.
    Network(Network),
}

impl HostRule {
    /// `text` is without brackets.
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

    /// Whether the rule means this address as such, and not because a name has led to it.
    pub(super) fn covers(&self, ip: IpAddr) -> bool {
        match self {
            Self::Network(network) => network.covers(ip),
            Self::Loopback => ip.to_canonical().is_loopback(),
            Self::Any | Self::Name(_) | Self::Subdomains(_) => false,
        }
    }

    /// Whether the rule means this host whatever its address is.
    pub(super) fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Name(name), Host::Name(host)) => name == host,
            // A name has no empty label, so there is something in front of the suffix.
            (Self::Subdomains(suffix), Host::Name(host)) => host.ends_with(suffix),
            _ => false,
        }
    }

    /// Whether something could come of looking this name up.
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

/// Whether a resolver may be asked for it: labels of letters, digits, `-` and `_`.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    text.len() <= MAX_NAME && text.split('.').all(is_label)
}

/// No top-level domain is a number, but resolvers read `127.1`, `2130706433` and `0x7f.1` as IPv4 addresses.
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    last.bytes().all(|byte| byte.is_ascii_digit()) || last.strip_prefix("0x").is_some_and(is_hex)
}

pub(super) const LOCALHOST: &str = "localhost";
/// Bytes of a name and of each of its labels (RFC 1035, 2.3.4), without the dot at the end.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

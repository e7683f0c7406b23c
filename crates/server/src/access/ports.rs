//! Ports in rules.

use std::fmt;
use std::str::FromStr;

/// A set of ports, without port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ports {
    All,
    /// All ports between these two, both included.
    Range(u16, u16),
}

impl Ports {
    /// The lowest port of the set.
    pub(super) fn first(self) -> u16 {
        match self {
            Self::All => 1,
            Self::Range(low, _) => low,
        }
    }

    /// Returns whether the port is in the set.
    pub(super) fn cover(self, port: u16) -> bool {
        match self {
            Self::All => port != 0,
            Self::Range(low, high) => (low..=high).contains(&port),
        }
    }
}

/// The error of a text that is not a set of ports. The caller knows the expected form.
pub(super) struct NoPorts;

impl FromStr for Ports {
    type Err = NoPorts;

    fn from_str(text: &str) -> Result<Self, NoPorts> {
        if text == "*" {
            return Ok(Self::All);
        }
        let port = |text: &str| match text.parse::<u16>() {
            Ok(port) if port != 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
            _ => Err(NoPorts),
        };
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let (low, high) = (port(low)?, port(high)?);
        if low <= high { Ok(Self::Range(low, high)) } else { Err(NoPorts) }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Range(low, high) if low == high => low.fmt(f),
            Self::Range(low, high) => write!(f, "{low}-{high}"),
        }
    }
}

//! Quota keys: the clients whose use of limited resources is counted together.

use std::net::IpAddr;

use crate::access::{Enrolment, Principal};
use crate::admission::host;

/// The clients whose use is counted together. It is a type, so that a client's name cannot be confused with a
/// source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum QuotaKey {
    /// An allowed client, by its name.
    Client(String),
    /// Anonymous clients, by the source that they come from, since each could make up any number of names.
    Source(IpAddr),
    /// Anonymous clients without a source, on this machine.
    ThisMachine,
}

impl QuotaKey {
    /// The key for `principal`. `source` counts for an anonymous client.
    pub(crate) fn of(principal: &Principal, source: Option<IpAddr>) -> Self {
        match principal.enrolment {
            Enrolment::Enrolled => Self::Client(principal.name.clone()),
            _ => Self::anonymous(source),
        }
    }

    /// The key for anonymous clients from `source`.
    pub(crate) fn anonymous(source: Option<IpAddr>) -> Self {
        source.map_or(Self::ThisMachine, |source| Self::Source(host(source)))
    }

    /// Returns whether the key is that of an allowed client.
    pub(crate) fn is_enrolled(&self) -> bool {
        matches!(self, Self::Client(_))
    }
}

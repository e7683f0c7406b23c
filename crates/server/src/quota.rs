//! Whose use of what there is only so much of is counted together.

use std::net::IpAddr;

use crate::access::{Enrolment, Principal};
use crate::admission::host;

/// Whose use is counted together. Typed, so that no name of a client can be taken for a source, or the other way around.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum QuotaKey {
    /// A client that somebody has allowed, by its name.
    Client(String),
    /// Clients that nobody has allowed, by the source that they come from: each could make up as many names as it likes.
    Source(IpAddr),
    /// Those of them for whom no source answers: they come from this machine.
    ThisMachine,
}

impl QuotaKey {
    /// `source` is the address that answers for a client that nobody has allowed.
    pub(crate) fn of(principal: &Principal, source: Option<IpAddr>) -> Self {
        match principal.enrolment {
            Enrolment::Enrolled => Self::Client(principal.name.clone()),
            _ => Self::anonymous(source),
        }
    }

    /// Of clients that nobody has allowed.
    pub(crate) fn anonymous(source: Option<IpAddr>) -> Self {
        source.map_or(Self::ThisMachine, |source| Self::Source(host(source)))
    }

    /// Whether somebody has allowed the client.
    pub(crate) fn is_enrolled(&self) -> bool {
        matches!(self, Self::Client(_))
    }
}
